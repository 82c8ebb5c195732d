"""Facts of a step decide for that step, a step is judged by what it asks, and y is stored as its semantics say."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from conformance.cases import corpus
from conformance.hosts.environment import Environment, Request
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.roster import select
from conformance.hosts.worker import Case as WorkersCase
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.model import codec
from conformance.model.case import Actions, Case, Derivative, Step, case_id
from conformance.model.case_facts import every_step
from conformance.model.errors import InvalidInput
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.statement import Statement, stated
from reference import Spec

MINE: dict[str, Any] = {"id": "mine", "packages": [], "documentation": "", "conventions": {}}


@pytest.fixture
def ranks() -> Case:
    """Return a case whose batches have rank 2, 3, 4, and 2 again, the channels second."""
    rng, tensors = np.random.default_rng(7), dict[str, Any]()
    for name in ("gamma", "moving_variance"):
        tensors[name] = rng.uniform(0.5, 2, 3).astype(np.float32)
    for name in ("beta", "moving_mean"):
        tensors[name] = rng.normal(size=3).astype(np.float32)
    for t, shape in enumerate([(4, 3), (4, 3, 2), (4, 3, 2, 2), (1, 3)]):
        tensors[f"{t}.x"] = rng.normal(size=shape).astype(np.float32)
        tensors[f"{t}.dy"] = rng.normal(size=shape).astype(np.float32)
    steps = tuple(Step(mode, derivatives=(Derivative(),)) for mode in ("train", "train", "train", "infer"))
    return Case(Spec(axis=1), steps, tensors=tensors)


def judged(case: Case, pattern: str) -> list[Any]:
    """Return the results of one implementation, asked in this process."""
    (entry,) = select((pattern,))
    worker = LocalWorker(Environment("here", (entry.target,), (entry.id,)))
    (reply,) = worker.ask([Request(0, lambda extra: codec.encode_case(case, extra), [entry.id])])
    return judge(case_id(case), ExactCase(case), entry.statement, reply)


def test_an_exact_layer_takes_each_rank_as_it_comes(ranks):
    """Every output of every step is compared, and none fails, for each way of computing in NumPy."""
    for name in ("two_pass", "folded", "fast", "pairwise", "welford"):
        found = judged(ranks, f"numpy.{name}")
        assert {r.step for r in found} == {0, 1, 2, 3}
        assert {r.verdict for r in found} == {"PASS"}, [r for r in found if r.verdict != "PASS"]


def test_facts_are_those_of_each_step(ranks):
    """Rank, the place of the channels, and whether the rank changed; a negative axis is another one in each rank."""
    about = every_step(ranks)
    assert [f.rank for f in about] == [2, 3, 4, 2]
    assert [f.reranked for f in about] == [False, True, True, False]
    assert [f.n for f in about] == ["many", "many", "many", "1"]
    last = msgspec.structs.replace(ranks, spec=Spec(axis=-1))
    assert [f.channel for f in every_step(last)] == ["second", "last", "last", "second"]
    fields = {"spec": {"axis": -1, "scale": True, "center": True, "epsilon": 0.0, "momentum": 0.9}, "layout": "C"}
    fields |= {
        "dtypes": {},
        "actions": {},
        "steps": [{"mode": "train", "update": True, "site": 0, "derivatives": []}] * 3,
    }
    steps = WorkersCase(fields, ranks.tensors, {"conventions": {}}).steps
    assert [(step.rank, step.axis, step.reduced) for step in steps] == [
        (2, (1,), (0,)),
        (3, (2,), (0, 1)),
        (4, (3,), (0, 1, 2)),
    ]


def test_support_must_hold_for_every_step(ranks):
    """A layer of ranks 2 and 3 is not asked, the reason names the step and the rank; one of ranks 2 to 4 is asked."""
    promised = Statement("mine", [], "", {}, supports={"rank": [2, 3]})
    assert promised.unsupported(*every_step(ranks)) == "rank is 4 in step 2; supported: 2, 3"
    assert not msgspec.structs.replace(promised, supports={"rank": [2, 3, 4]}).unsupported(*every_step(ranks))


@pytest.mark.parametrize(
    ("rule", "label"),
    [
        ({"when": {"rank": [4]}, "numerics": {"variance": "fast"}}, ["A·S", "A·S", "B·S"]),
        ({"when": {"reranked": [True]}, "numerics": {"affine": "folded"}}, ["A·S", "A′·S", "A′·S"]),
    ],
)
def test_a_promise_holds_for_the_steps_that_it_names(ranks, rule, label):
    """A kernel that is chosen by the rank is held to its own class, step by step."""
    statement = stated(MINE | {"rules": [{"cite": "x", **rule}]}, "it")
    promise = Promise.of(ExactCase(ranks), statement)
    assert [promise.label(t, "y") for t in range(3)] == label


def test_stored_variance_is_that_of_the_kernel_of_each_step(ranks):
    """TensorFlow's fused kernel takes rank 4, and alone stores the unbiased variance."""
    rules = [{"cite": "x", "when": {"rank": [4]}, "semantics": {"stored_variance": "unbiased"}}]
    statement = stated(MINE | {"rules": rules}, "it")
    promise = Promise.of(ExactCase(ranks), statement)
    assert [promise.at(t).semantics.stored_variance for t in range(4)] == ["biased", "biased", "unbiased", "biased"]


@pytest.mark.parametrize(
    "pattern",
    ["haiku.BatchNorm+jit", "keras.BatchNormalization+numpy", "tf_keras.BatchNormalization", "sonnet.BatchNorm"],
)
def test_a_documented_refusal_of_another_rank_conforms(ranks, pattern):
    """The promise to refuse is found for the step that is refused."""
    (entry,) = select((pattern,))
    about = every_step(ranks)
    assert entry.statement.refusal(about[0]) is None
    assert "ValueError" in entry.statement.refusal(about[1]).error


@pytest.mark.parametrize("wrt", [("gamma",), ("x",), ("beta", "gamma"), ("x", "gamma", "beta")])
def test_a_step_is_judged_by_what_it_asks_gradients_of(small_case, wrt):
    """Of gradients that are not asked for nothing is expected, returned or not; the others are judged."""
    case = small_case()
    steps = tuple(msgspec.structs.replace(s, derivatives=(Derivative(wrt=wrt),)) for s in case.steps)
    found = judged(msgspec.structs.replace(case, steps=steps), "numpy.two_pass")
    assert {r.verdict for r in found} == {"PASS"}
    assert {r.output for r in found if r.output.startswith("d")} == {f"d{name}" for name in wrt}


@pytest.mark.parametrize(
    ("derivative", "says"),
    [
        (Derivative(of=("mean",)), "step 0 asks for a derivative of mean; name y too"),
        (Derivative(of=("y", "variance")), "of variance; add a tensor named 0.dvariance"),
        (Derivative(wrt=()), "with respect to nothing; name x, gamma or beta"),
    ],
)
def test_a_derivative_that_nobody_takes_is_refused(small_case, derivative, says):
    """What would be ignored is an error of the case."""
    case = small_case()
    steps = (msgspec.structs.replace(case.steps[0], derivatives=(derivative,)), *case.steps[1:])
    with pytest.raises(ValueError, match=says):
        codec.check(msgspec.structs.replace(case, steps=steps))


@pytest.mark.parametrize(
    "changes",
    [
        {"actions": Actions(backward="twice")},
        {"spec": Spec(axis=1, renorm=True)},
        {"steps": (Step("infer", derivatives=(Derivative(of=("y", "mean")),)), Step("infer"))},
        {"steps": (Step("train", derivatives=(Derivative(of=("y", "mean"), order=2),)), Step("infer"))},
    ],
)
def test_derivatives_of_returned_statistics_are_of_plain_training_alone(small_case, changes):
    """What no bound holds for is an error of the case."""
    case = small_case()
    steps = (msgspec.structs.replace(case.steps[0], derivatives=(Derivative(of=("y", "mean")),)), *case.steps[1:])
    case = msgspec.structs.replace(case, steps=steps, tensors=case.tensors | {"0.dmean": np.ones(3, np.float32)})
    codec.check(case)
    with pytest.raises(ValueError, match=r"of mean: of plain training alone"):
        codec.check(msgspec.structs.replace(case, **changes))


@pytest.mark.parametrize(
    ("dtype", "output_dtype", "wanted"),
    [
        ("float16", "input", "float16"),
        ("float16", "float32", "float32"),
        ("bfloat16", "at_least_float32", "float32"),
        ("float64", "at_least_float32", "float64"),
        ("float64", "float32", "float32"),
    ],
)
def test_output_dtype_is_a_promise(small_case, dtype, output_dtype, wanted):
    """y is expected in the dtype that semantics give it; numerics may say otherwise for places of their own."""
    case = small_case()
    case = msgspec.structs.replace(case, dtypes=msgspec.structs.replace(case.dtypes, x=dtype))
    rules: list[Any] = [{"cite": "x", "semantics": {"output_dtype": output_dtype}}]
    promise = Promise.of(ExactCase(case), stated(MINE | {"rules": rules}, "it"))
    assert promise.dtype(promise.numerics("train", "y").stored) == wanted
    assert promise.dtype(promise.numerics("train", "dx").stored) == dtype
    rules.append({"cite": "x", "when": {"mode": ["infer"]}, "numerics": {"stored": "float64"}})
    promise = Promise.of(ExactCase(case), stated(MINE | {"rules": rules}, "it"))
    assert [promise.dtype(promise.numerics(mode, "y").stored) for mode in ("train", "infer")] == [wanted, "float64"]


def test_two_dtypes_for_one_output_are_refused():
    """`output_dtype` and `stored` that say different things of the same places."""
    both = {"cite": "x", "semantics": {"output_dtype": "float32"}, "numerics": {"stored": "input"}}
    with pytest.raises(InvalidInput, match=r"rules\[0\].semantics.output_dtype: float32 contradicts rules\[0\].*input"):
        stated(MINE | {"rules": [both]}, "it")


def test_who_only_infers_may_refuse_a_batch_of_more_channels_than_its_statistics():
    """The step that shows a size is one that it lacks: to refuse is right, and to broadcast is judged by nothing."""
    (named,) = [named for named in corpus.read() if named.name == "one-channel-then-two"]
    only = stated(MINE | {"modes": ("infer",), "outputs": ("y",)}, "mine")
    answers = {"PASS": Refused("ValueError", "two channels"), "INCONCLUSIVE": Outputs({"y": named.case.x(1)})}
    for verdict, answer in answers.items():
        (found,) = judge("case", ExactCase(named.case), only, Reply(0, "mine@cpu", (Outputs({}), answer)))
        assert (found.step, found.output, found.verdict) == (1, "outcome", verdict)


@pytest.mark.parametrize(("channels", "verdict"), [(0, "PASS"), (3, "PASS"), (2, "FAIL")])
def test_who_only_infers_may_have_been_built_for_the_first_batch(channels, verdict):
    """Its parameters are its own, of as many channels as the step that it lacks: another number may be refused."""
    steps, batches = (Step("train"), Step("infer")), (np.ones((4, 2), np.float32), np.ones((4, channels), np.float32))
    case = Case(Spec(axis=1), steps, tensors={f"{t}.x": x for t, x in enumerate(batches)})
    only = stated(MINE | {"modes": ("infer",), "outputs": ("y",)}, "mine")
    answers = (Outputs({}), Refused("ValueError", "of other channels"))
    (found,) = judge("case", ExactCase(case), only, Reply(0, "mine@cpu", answers))
    assert (found.step, found.verdict) == (1, verdict)


def test_who_only_infers_is_judged_where_no_axis_is_kept():
    """An axis that the input has not is refused, whoever lacks the step before."""
    steps, x = (Step("train"), Step("infer")), np.ones((4, 2), np.float32)
    case = Case(Spec(axis=3), steps, tensors={"0.x": x, "1.x": x})
    only = stated(MINE | {"modes": ("infer",), "outputs": ("y",)}, "mine")
    (found,) = judge("case", ExactCase(case), only, Reply(0, "mine@cpu", (Outputs({}), Refused("ValueError", "axis"))))
    assert (found.step, found.verdict) == (1, "PASS")


def test_a_layer_of_no_channels_conforms_in_numpy():
    """Empty arrays have a shape and a dtype, and no value of theirs is divided by how many channels there are."""
    step = (Step("train", derivatives=(Derivative(),)), Step("infer", derivatives=(Derivative(),)))
    empty = np.zeros((5, 0), np.float32)
    case = Case(Spec(axis=1), step, tensors={f"{t}.{name}": empty for t in (0, 1) for name in ("x", "dy")})
    for name in ("two_pass", "folded", "fast", "pairwise", "welford", "welford+lanes"):
        assert {r.verdict for r in judged(case, f"numpy.{name}")} == {"PASS"}, name


def test_who_only_trains_is_judged_by_training_alone(ranks):
    """Its inference steps leave no result, whatever it answers to them, and training is judged as ever."""
    (entry,) = select(("numpy.two_pass",))
    only = msgspec.structs.replace(entry.statement, modes=("train",))
    worker = LocalWorker(Environment("here", (entry.target,), (entry.id,)))
    (reply,) = worker.ask([Request(0, lambda extra: codec.encode_case(ranks, extra), [entry.id])])
    said = (*reply.outcomes[:3], Outputs({"y": np.zeros(7)}))
    found = judge("case", ExactCase(ranks), only, msgspec.structs.replace(reply, outcomes=said))
    assert {r.step for r in found} == {0, 1, 2}
    assert {r.verdict for r in found} == {"PASS"}
