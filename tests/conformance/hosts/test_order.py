"""No answer depends on what was asked before; and what a case leaves to a layer is as its user would have it.

`make prove-order` asks the whole roster 300 pairs each.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from conformance.hosts import roster
from conformance.hosts.environment import Limits, Request, Worker
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case, Derivative, Dtypes, Step, case_id
from conformance.model.case_facts import step_facts
from conformance.model.codec import encode_case
from conformance.model.outcome import Outputs
from reference import Spec

KEEPING = [  # those that keep something between cases, by what they keep
    pytest.param(patterns, marks=[pytest.mark.framework(*packages), pytest.mark.xdist_group(group), *marks], id=group)
    for group, patterns, packages, *marks in (
        ("jax", ("flax.linen.BatchNorm+jit", "haiku.BatchNorm+jit"), ("jax",)),
        ("equinox", ("equinox.BatchNorm+batch+jit",), ("jax", "equinox"), pytest.mark.proof),
        ("keras-jax", ("keras.BatchNormalization+jax+jit",), ("jax", "keras"), pytest.mark.proof),
        ("torch", ("torch.F.batch_norm+export", "torch.F.batch_norm+script"), ("torch",), pytest.mark.proof),
        (
            "tensorflow",
            ("tf.nn.batch_normalization+graph", "tf.compat.v1.layers.*"),
            ("tensorflow", "tf_keras"),
            pytest.mark.proof,
        ),
    )
]
GIVEN = {"gamma": [1.5, -0.5], "beta": [0.25, 1.0], "moving_mean": [0.5, 0.0], "moving_variance": [1.0, 2.0]}
GRADIENTS = (Derivative(),)


def asked(names=(), *, gradients=False, rank=2, modes="train", dtypes=None, **spec):
    """Return a case of two channels that gives the parameters and statistics of these names."""
    dtypes = dtypes or Dtypes()
    shape = (5, 2) + (1,) * (rank - 2)
    tensors = {name: np.array(GIVEN[name], dtypes.of(name)) for name in names}
    for t, _ in enumerate(modes.split()):
        x = np.array([[1, -2], [4, 3], [-3, 7], [0, 5], [2, 2]], dtypes.x).reshape(shape)
        tensors |= {f"{t}.x": x + t} | ({f"{t}.dy": np.roll(x, 3)} if gradients else {})
    steps = tuple(Step(mode, derivatives=GRADIENTS if gradients else ()) for mode in modes.split())
    arguments = {"axis": 1, "epsilon": 1e-3, "momentum": 0.5} | spec
    return Case(spec=Spec(**arguments), steps=steps, dtypes=dtypes, tensors=tensors)


NEAR = [asked(GIVEN), asked(), asked(scale=False, center=False), asked(GIVEN, gradients=True)]


@pytest.fixture
def answers(tmp_path):
    """Ask implementations cases, in this order, in one process; return the replies by case and implementation."""

    def ask(entries, cases):
        (environment,) = roster.environments(entries, {})
        worker = Worker(environment, Limits(), tmp_path / "log")
        try:
            ids = [[e.id for e in entries if not e.statement.unsupported(step_facts(case, 0))] for case in cases]
            requests = [
                Request(n, functools.partial(encode_case, case), list(ids[n])) for n, case in enumerate(cases) if ids[n]
            ]
            return {(case_id(cases[r.request]), r.implementation): r for r in worker.ask(requests)}
        finally:
            worker.close()

    return ask


def told(reply):
    """Return what a reply says, its arrays as bytes."""
    arrays = [o.tensors if isinstance(o, Outputs) else {} for o in reply.outcomes]
    return [
        (type(o), {n: (a.dtype, a.shape, a.tobytes()) for n, a in found.items()} or o)
        for o, found in zip(reply.outcomes, arrays, strict=True)
    ]


@pytest.mark.parametrize("patterns", KEEPING)
def test_cases_that_differ_in_one_fact_are_answered_the_same_in_any_order(answers, patterns):
    """Asked one way and the other, each adapter that keeps programs gives each case the same bits, and they conform."""
    entries = roster.select(patterns)
    forward, back = answers(entries, NEAR), answers(entries, NEAR[::-1])
    assert {key: told(reply) for key, reply in forward.items()} == {key: told(reply) for key, reply in back.items()}
    assert {identity for _, identity in forward} == {entry.id for entry in entries}
    by_id, cases = {entry.id: entry for entry in entries}, {case_id(case): case for case in NEAR}
    assert [r for key, reply in forward.items() for r in failures(cases[key[0]], by_id[key[1]], reply)] == []


@pytest.mark.framework("jax", "flax")
@pytest.mark.xdist_group("jax")
def test_a_program_that_jax_keeps_on_disk_answers_the_same(answers, tmp_path, monkeypatch):
    """Compiled and kept, read back, and compiled again where what was kept is damaged, it gives the same bits."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    entries = roster.select(("flax.linen.BatchNorm+jit",))
    compiled, kept = answers(entries, NEAR), sorted((tmp_path / "kept").glob("*-cache"))
    times = [path.stat().st_mtime_ns for path in kept]
    read = answers(entries, NEAR)
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "kept").glob("*-cache"))] == times != []
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    damaged = answers(entries, NEAR)
    assert "Error reading persistent compilation cache entry" in (tmp_path / "log").read_text()
    told_of = [{key: told(reply) for key, reply in found.items()} for found in (compiled, read, damaged)]
    assert told_of[0] == told_of[1] == told_of[2]


def failures(case, entry, reply):
    """Return what is wrong with an answer."""
    found = judge(case_id(case), ExactCase(case), entry.statement, reply)
    return [(r.implementation, r.output, r.verdict, r.reason, r.rho) for r in found if r.verdict in ("FAIL", "ERROR")]


LAYERS = [
    pytest.param(patterns, marks=[pytest.mark.framework(*packages), pytest.mark.xdist_group(group)], id=group)
    for group, patterns, packages in (
        ("numpy", ("numpy.two_pass", "numpy.renorm"), ()),
        ("torch", ("torch.nn.*1d*", "torch.F.batch_norm", "torch.F.batch_norm+func"), ("torch",)),
        ("tensorflow", ("tf_keras.BatchNormalization", "keras.*+tensorflow", "sonnet.*"), ("tensorflow", "tf_keras")),
        (
            "jax",
            (
                "flax.linen.BatchNorm",
                "flax.nnx.BatchNorm",
                "haiku.BatchNorm",
                "equinox.BatchNorm+batch",
                "jax.nn.standardize",
            ),
            ("jax",),
        ),
    )
]


@pytest.mark.parametrize("patterns", LAYERS)
def test_parameters_that_the_case_leaves_to_a_layer_are_the_layers_own(answers, patterns):
    """A layer that begins with its own scale and offset has them, and their gradients, as its user would have them."""
    entries = roster.select(patterns)
    cases = [asked(gradients=True, modes="train infer"), asked(("moving_mean", "moving_variance"), gradients=True)]
    found, by_id = answers(entries, cases), {entry.id: entry for entry in entries}
    assert set(found) == {(case_id(case), entry.id) for case in cases for entry in entries}
    for case in cases:
        for (which, identity), reply in found.items():
            if which == case_id(case):
                assert failures(case, by_id[identity], reply) == []
                assert {"dgamma", "dbeta"} <= reply.outcomes[0].tensors.keys()


@pytest.mark.framework("torch")
@pytest.mark.xdist_group("torch")
def test_a_layer_for_no_channels_may_be_refused_as_torch_does(answers):
    """torch.nn.BatchNorm2d(0), made as its user would, raises IndexError: no channels are odd, and may be refused."""
    (entry,) = entries = roster.select(("torch.nn.BatchNorm2d",))
    none = np.zeros((1, 0, 2, 2), np.float32)
    case = Case(Spec(axis=1, momentum=0.9), (Step("train"), Step("infer")), tensors={"0.x": none, "1.x": none})
    (reply,) = answers(entries, [case]).values()
    (found, *_) = judge(case_id(case), ExactCase(case), entry.statement, reply)
    assert (found.output, found.verdict) == ("outcome", "PASS")
    assert found.reason.startswith("IndexError: select(): index 0 out of range")
