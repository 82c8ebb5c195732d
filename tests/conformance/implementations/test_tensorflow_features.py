"""What TensorFlow, Keras and dm-sonnet do with masks, renorm, virtual batches, adjustment and more derivatives."""

from __future__ import annotations

import dataclasses
import functools

import msgspec
import numpy as np
import pytest

from conformance.cases.building import build
from conformance.cases.cells import CELLS
from conformance.cases.strategies import recipes
from conformance.hosts import roster
from conformance.hosts.environment import Limits, Request, Worker
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Actions, Dtypes, case_id
from conformance.model.case_facts import step_facts
from conformance.model.codec import encode_case
from conformance.model.outcome import Outputs, Refused
from reference import Clipping

pytestmark = [
    pytest.mark.framework("tensorflow", "tf_keras", "sonnet", "keras", "torch", "jax"),
    pytest.mark.xdist_group("tensorflow"),  # one worker of each environment serves them all
]
ENTRIES = {entry.id.removesuffix("@cpu"): entry for entry in roster.built_in()}
KERAS = [f"keras.BatchNormalization+{backend}" for backend in ("tensorflow", "torch", "numpy", "jax+jit")]
SEED = 7
V1 = "tf.compat.v1.layers.batch_normalization"


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """Return a function that gives the worker of an implementation, started when first asked for."""
    started, folder = {}, tmp_path_factory.mktemp("workers")

    def of(name):
        entry = ENTRIES[name]
        if entry.environment not in started:
            hosted = [other for other in ENTRIES.values() if other.environment == entry.environment]
            (host,) = roster.environments(hosted, {})
            started[entry.environment] = Worker(host, Limits(), folder / entry.environment)
        return started[entry.environment]

    yield of
    for worker in started.values():
        worker.close()


@pytest.fixture
def answers(workers):
    """Ask an implementation cases; return, for each, the outcomes and the results of judging them."""

    def ask(name, cases):
        requests = [Request(i, functools.partial(encode_case, c), [f"{name}@cpu"]) for i, c in enumerate(cases)]
        replies = list(workers(name).ask(requests))
        judged = [
            judge(case_id(c), ExactCase(c), ENTRIES[name].statement, r) for c, r in zip(cases, replies, strict=True)
        ]
        return [(reply.outcomes, results) for reply, results in zip(replies, judged, strict=True)]

    return ask


def cases(feature, name, keep=lambda _case: True):
    """Return a case of each of the feature's cells that the implementation supports."""
    drawn = [build(recipe, SEED) for cell in CELLS if cell.feature == feature for recipe in recipes(cell, SEED, 2)]
    found = [case for case in drawn if not ENTRIES[name].statement.unsupported(step_facts(case, 0)) and keep(case)]
    assert found
    return found


def is_exact(case):
    """Tell a case of float64, where no bound is wide."""
    return case.dtypes.x == "float64"


CONFORM = [
    ("mask", "tf.nn.batch_normalization", "y"),
    ("mask without last", "tf_keras.BatchNormalization", "moving_mean"),
    ("mask without last", "tf_keras.BatchNormalization+fused_false", "dx"),
    ("mask without last", "keras.BatchNormalization+tensorflow", "moving_variance"),
    ("renorm", "tf_keras.BatchNormalization", "renorm_mean"),
    ("renorm", "tf_keras.BatchNormalization+v1", "renorm_stddev"),
    ("renorm", "tf_keras.BatchNormalization+graph", "dx"),
    ("renorm", V1, "moving_stddev"),
    ("virtual", "tf_keras.BatchNormalization", "y"),
    ("virtual", "tf_keras.BatchNormalization+v1", "dx"),
    ("virtual", f"{V1}+bool", "moving_variance"),
    ("virtual renorm", "tf_keras.BatchNormalization", "renorm_stddev"),
    ("adjustment", "tf_keras.BatchNormalization", "y"),
    ("adjustment", "tf_keras.BatchNormalization+graph", "dx"),
    ("adjustment", V1, "y"),
    ("update", V1, "moving_mean"),
    ("frozen", "tf_keras.BatchNormalization", "y"),
    ("frozen", "tf_keras.BatchNormalization+v1", "moving_mean"),
    ("forward", "tf.raw_ops.FusedBatchNormV3", "y_tangent"),
    ("forward", "tf.nn.batch_normalization", "y_tangent"),
    ("forward", "tf_keras.BatchNormalization", "y_tangent"),
    ("forward", "sonnet.BatchNorm", "y_tangent"),
    *[("forward", f"keras.ops.batch_normalization+{backend}", "y_tangent") for backend in ("torch", "jax+jit")],
    ("second order", "tf.raw_ops.FusedBatchNormV3", "dx_tangent"),
    ("second order", "tf_keras.BatchNormalization+synchronized", "dgamma_tangent"),
    *[("second order", f"keras.ops.batch_normalization+{backend}", "dx_tangent") for backend in ("torch", "jax+jit")],
    *[("half parameters", name, "moving_variance") for name in KERAS],
]


@pytest.mark.proof
@pytest.mark.parametrize(("feature", "name", "output"), CONFORM, ids=str)
def test_the_feature_conforms(answers, asked_of_a_feature, feature, name, output):
    """Every case of the feature passes, and the output that the feature is about was compared."""
    passes(asked_of_a_feature(feature, f"{name}@cpu") or asked(answers, feature, name), output)


def test_the_gradient_of_a_scale_conforms_with_renorm_in_a_graph(answers):
    """Likewise, where no small run of seed 0 has a layer with renorm and a scale."""
    passes(asked(answers, "renorm", "tf_keras.BatchNormalization+graph"), "dgamma")


def asked(answers, feature, name):
    """Return the results of an implementation in every case of a feature."""
    return [result for _, results in answers(name, cases(feature, name)) for result in results]


def passes(found, output):
    """Assert that nothing failed, and that the output was compared."""
    assert [(r.case, r.output, r.rho, r.reason) for r in found if r.verdict == "FAIL"] == []
    assert output in {r.output for r in found if r.verdict == "PASS"}


# --- departures from what is documented, and what they are ----------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "tf.nn.batch_normalization",
        "tf_keras.BatchNormalization+fused_false",
        "sonnet.BatchNorm",
        "keras.ops.batch_normalization+tensorflow",
    ],
)
def test_the_second_derivative_through_moments_is_off_by_a_constant(answers, name):
    """`tf.nn.moments` takes the mean in the variance as a constant: only dx_tangent fails, by a shift per channel."""
    drawn = [case for case in cases("second order", name, is_exact) if len(case.shape) < 4]
    for case, (outcomes, results) in zip(drawn, answers(name, drawn), strict=True):
        failed = {(r.mode, r.output) for r in results if r.verdict == "FAIL"}
        assert failed == {("train", "dx_tangent")}
        t = next(t for t, step in enumerate(case.steps) if step.mode == "train")
        reduced = tuple(i for i in range(len(case.shape)) if i != case.spec.axis % len(case.shape))
        shift = outcomes[t].tensors["dx_tangent"].sum(reduced)  # of the right one the sum is 0
        assert np.abs(shift).max() > 1e-6


def test_a_mask_of_the_inputs_rank_is_refused_though_it_broadcasts(answers):
    """tf_keras documents masks that broadcast to the input, and adds an axis to each: those of its rank do not fit."""
    name = "tf_keras.BatchNormalization+fused_false"
    for outcomes, _ in answers(name, cases("mask", name)):
        assert any(isinstance(o, Refused) and o.error == "InvalidArgumentError" for o in outcomes)


@pytest.mark.parametrize("name", KERAS)
def test_keras_3_refuses_a_mask_of_the_inputs_rank(answers, name):
    """Keras 3 takes masks without the last axis only, says so, and that is what its statement says."""
    verdicts = {(r.verdict, r.outcome) for _, results in answers(name, cases("mask", name)) for r in results}
    assert ("PASS", "Refused") in verdicts
    assert "FAIL" not in {verdict for verdict, _ in verdicts}


@pytest.mark.parametrize("name", ["tf_keras.BatchNormalization+graph", V1])
def test_virtual_batches_are_not_there_where_training_is_a_tensor(answers, name):
    """One batch of all rows is what is normalized: the reference without virtual batches gives the same y."""
    case = next(case for case in cases("virtual", name, is_exact) if case.steps[0].mode == "train")
    whole = dataclasses.replace(case.spec, virtual_batch_size=None)
    plain = msgspec.structs.replace(case, spec=whole, tensors=_flat(case.tensors), steps=case.steps[:1])
    ((outcomes, results),) = answers(name, [case])
    ((one_batch, _),) = answers("tf_keras.BatchNormalization", [plain])
    assert ("y", "FAIL") in {(r.output, r.verdict) for r in results}
    assert np.allclose(outcomes[0].tensors["y"], one_batch[0].tensors["y"], rtol=1e-12)


def _flat(tensors):
    """Return the tensors of step 0, the statistics and parameters without the axes of size 1."""
    return {n: a.ravel() if n[0].isalpha() else a for n, a in tensors.items() if n[0].isalpha() or n.startswith("0.")}


def test_the_floor_of_keras_3_renorm_is_float32(answers, small_case):
    """`keras.ops.cast` of a Python float goes through float32: where epsilon is the floor, float64 is off by that."""
    case = small_case(renorm=True, epsilon=0.1)
    tensors = {name: array.astype(np.float64) for name, array in case.tensors.items()}
    tensors["moving_variance"] *= 1e-3
    case = msgspec.structs.replace(case, tensors=tensors, dtypes=Dtypes("float64", "float64", "float64"))
    found = {}
    for name in ("keras.BatchNormalization+tensorflow", "tf_keras.BatchNormalization"):
        ((_, results),) = answers(name, [case])
        found[name] = {(r.mode, r.output) for r in results if r.verdict == "FAIL"}
    failed = {("train", output) for output in ("y", "dx", "dgamma")}
    assert found == {"keras.BatchNormalization+tensorflow": failed, "tf_keras.BatchNormalization": set()}


@pytest.mark.parametrize("name", [V1, f"{V1}+bool"])
def test_call_sites_share_one_scope(answers, small_case, name):
    """Two call sites of one scope move one state, as the reference says."""
    case = small_case(modes="train train infer")
    steps = tuple(msgspec.structs.replace(step, site=t % 2) for t, step in enumerate(case.steps))
    ((_, results),) = answers(name, [msgspec.structs.replace(case, steps=steps, actions=Actions(sites=2))])
    assert {r.verdict for r in results} == {"PASS"}


@pytest.mark.parametrize("how", ["config", "state"])
@pytest.mark.parametrize("name", ["tf_keras.BatchNormalization", *KERAS[:3]])
def test_a_layer_survives_its_round_trip(answers, small_case, name, how):
    """Rebuilt from its configuration, or made anew and given its weights, a renorm layer is what it was."""
    clipping = Clipping(rmin=0.5, rmax=2.0, dmax=1.0)
    case = small_case(modes="train train infer", renorm=True, renorm_momentum=0.5, renorm_clipping=clipping)
    ((_, results),) = answers(name, [msgspec.structs.replace(case, actions=Actions(round_trip=how))])
    assert {r.verdict for r in results} == {"PASS"}


def test_virtual_batches_are_lost_in_the_configuration(answers):
    """keras#16713: the configuration has the axes moved by one for the virtual batches, and they are moved again."""
    name = "tf_keras.BatchNormalization"
    drawn = [msgspec.structs.replace(c, actions=Actions(round_trip="config")) for c in cases("virtual", name)]
    for _, results in answers(name, drawn):
        assert (results[0].verdict, results[0].outcome) == ("FAIL", "Refused")


# --- without some of them -------------------------------------------------------------------------------------------


def test_without_tf_keras_and_sonnet_the_rest_of_tensorflow_works(tmp_path, small_case):
    """What needs a missing package says which one, in words that make it optional; the others answer."""
    for package in ("tf_keras", "sonnet"):
        text = f"raise ModuleNotFoundError(\"No module named '{package}'\", name='{package}')\n"
        (tmp_path / f"{package}.py").write_text(text)
    (host,) = roster.environments([e for e in ENTRIES.values() if e.environment == "tensorflow"], {})
    variables = host.variables | {"PYTHONPATH": str(tmp_path)}
    worker = Worker(msgspec.structs.replace(host, variables=variables), Limits(), tmp_path / "log")
    reasons = {listing.id.removesuffix("@cpu"): listing.reason for listing in worker.hello.implementations}
    case, remaining = small_case(), ["tf.nn.batch_normalization@cpu", "keras.BatchNormalization+tensorflow@cpu"]
    replies = list(worker.ask([Request(0, functools.partial(encode_case, case), remaining)]))
    worker.close()
    wanted = {name: "tf_keras" for name in reasons if name.startswith(("tf_keras.", V1))}
    wanted["sonnet.BatchNorm"] = "sonnet"
    missing = {name: f"ModuleNotFoundError: No module named '{package}'" for name, package in wanted.items()}
    assert {name: reason for name, reason in reasons.items() if reason} == missing
    assert [isinstance(o, Outputs) for reply in replies for o in reply.outcomes] == [True] * 4
