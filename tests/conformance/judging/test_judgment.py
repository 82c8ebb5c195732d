"""Verdicts: each is reachable, and means what it says."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from conformance.hosts.roster import ADAPTERS, from_target
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import trajectory
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.model.case import Case, Derivative, Dtypes, Step, case_id
from conformance.model.case_facts import step_facts
from conformance.model.outcome import Crashed, Outputs, Refused, Reply, TimedOut
from conformance.model.rules import Rule, StatedRefusal
from conformance.runs import wording
from reference import Spec

STATEMENT = from_target(str(ADAPTERS / "numpy.py"))[0].statement


def exact(case):
    """Return the outcomes of an implementation that rounds the exact answers."""
    with np.errstate(all="ignore"):
        answers = trajectory(Promise.of(ExactCase(case), STATEMENT))
    return [Outputs({name: np.asarray(e.value).astype(e.dtype) for name, e in step.items()}) for step in answers]


def verdicts(case, outcomes, statement=STATEMENT):
    """Judge outcomes and return the results by (step, output)."""
    found = judge(case_id(case), ExactCase(case), statement, Reply(0, "i@cpu", tuple(outcomes)))
    return {(r.step, r.output): r for r in found}


def test_correct_rounding_passes_everything(small_case):
    """The exact answers, rounded to float32, pass every output of every step, by more than one check."""
    found = verdicts(small_case(modes="train train infer"), exact(small_case(modes="train train infer")))
    assert {r.verdict for r in found.values()} == {"PASS"}
    assert set(found[1, "moving_mean"].checks) == {"trajectory", "step", "residual"}
    assert all(set(found[1, output].checks) == {"trajectory", "residual"} for output in ("y", "dx", "dgamma"))
    assert set(found[2, "y"].checks) == {"trajectory", "step"}


@pytest.mark.parametrize("output", ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance", "mean", "variance"])
def test_one_wrong_element_fails_that_output_only(small_case, output):
    """One element off by 1e-3 of its size is found, and named."""
    case = small_case()
    outcomes = exact(case)
    array = outcomes[0].tensors[output]
    array.flat[-1] *= np.float32(1.001)
    found = verdicts(case, outcomes)
    result = found[0, output]
    assert (result.verdict, result.deviation.index) == ("FAIL", list(np.unravel_index(array.size - 1, array.shape)))
    tied = {"moving_mean": {"y", "dx", "dgamma"}, "moving_variance": {"y", "dx", "dgamma"}}
    tied |= {name: {"y", "dx", "dgamma", f"moving_{name}"} for name in ("mean", "variance")}
    others = {o for (_, o), r in found.items() if r.verdict == "FAIL"} - {output}
    assert others <= tied.get(output, set())


@pytest.mark.parametrize(
    ("output", "off"), [("y", 1e-4), ("dx", 3e-3), ("dgamma", 5e-3), ("moving_mean", 2e-5), ("moving_variance", 1e-4)]
)
def test_what_the_returned_statistics_say_is_held_to_them(output, off):
    """A serial mean of 2,000 values at 1000 may be off by 0.1: all that follows from it is held to the mean used."""
    rng = np.random.default_rng(0)
    tensors = {"0.x": (1000 + rng.normal(size=(2000, 1))).astype(np.float32), "gamma": np.ones(1, np.float32)}
    tensors |= {"0.dy": rng.normal(size=(2000, 1)).astype(np.float32)}
    steps = (Step("train", derivatives=(Derivative(),)),)
    case = Case(Spec(center=False, momentum=0.5), steps, tensors=tensors)
    outcomes = exact(case)
    outcomes[0].tensors[output].flat[0] *= np.float32(1 + off)
    checks = verdicts(case, outcomes)[0, output].checks
    assert checks["trajectory"] < 1 < checks["residual"]


def test_a_state_error_is_blamed_on_the_step_that_made_it(small_case):
    """An error in step 0's state fails step 0; later steps that follow from it fail only the trajectory."""
    case = small_case(modes="train train infer")
    outcomes = exact(case)
    outcomes[0].tensors["moving_mean"][0] += 1
    for t in (1, 2):
        outcomes[t].tensors["moving_mean"][0] += 0.9
    found = verdicts(case, outcomes)
    assert found[1, "moving_mean"].checks["step"] < 1 < found[1, "moving_mean"].checks["trajectory"]


@pytest.mark.parametrize(
    "still",
    [{"steps": (Step(mode="train"), Step(mode="train", update=False))}, {"spec": Spec(axis=1, trainable=False)}],
)
def test_state_that_must_stay_is_held_to_stay(small_case, still):
    """Update ops that do not run, and a layer frozen as TF 1 freezes: the state stays, by both checks."""
    case = msgspec.structs.replace(small_case(modes="train train"), **still)
    frozen = {"cite": "tf 1", "semantics": {"frozen": "batch"}}
    statement = msgspec.structs.replace(STATEMENT, rules=[*STATEMENT.rules, msgspec.convert(frozen, Rule)])
    answers = trajectory(Promise.of(ExactCase(case), statement))
    outcomes = [Outputs({name: np.asarray(e.value).astype(e.dtype) for name, e in step.items()}) for step in answers]
    found = verdicts(case, outcomes, statement)
    assert {r.verdict for r in found.values()} == {"PASS"}
    assert found[1, "moving_mean"].checks["step"] == 0
    outcomes[1].tensors["moving_mean"][0] += np.float32(0.01)
    assert verdicts(case, outcomes, statement)[1, "moving_mean"].verdict == "FAIL"


@pytest.mark.parametrize(
    ("outcome", "verdict", "says"),
    [
        (Crashed("the worker died"), "FAIL", "the worker died"),
        (TimedOut(3.0), "FAIL", "no answer within 3 s"),
        (Refused("ValueError", "no"), "FAIL", "ValueError: no"),
    ],
)
def test_no_answer_is_a_failure_and_ends_the_case(small_case, outcome, verdict, says):
    """A crash, a hang and an unexpected refusal are results; the steps after them are inconclusive."""
    found = verdicts(small_case(), [outcome])
    assert (found[0, "outcome"].verdict, found[0, "outcome"].reason) == (verdict, says)
    assert (found[1, "outcome"].verdict, found[1, "outcome"].reason) == ("INCONCLUSIVE", "the step was not reached")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda a: a[:1], "shape (1, 3), expected (5, 3)"),
        (lambda a: a.astype(np.float64), "dtype float64, promised float32"),
    ],
)
def test_wrong_form_fails_before_any_comparison(small_case, spoil, says):
    """A wrong shape or dtype fails even where the numbers would agree."""
    outcomes = exact(small_case())
    outcomes[0].tensors["y"] = spoil(outcomes[0].tensors["y"])
    found = verdicts(small_case(), outcomes)[0, "y"]
    assert (found.verdict, found.reason, found.rho) == ("FAIL", says, "inf")


def test_a_missing_output_fails(small_case):
    """What a statement promises must be there."""
    outcomes = exact(small_case())
    del outcomes[0].tensors["dx"]
    assert verdicts(small_case(), outcomes)[0, "dx"].reason == "the output is missing"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_against_finite_is_infinitely_wrong(small_case, value):
    """NaN and infinity never pass where the reference is finite."""
    outcomes = exact(small_case())
    outcomes[1].tensors["y"][0, 0] = value
    assert verdicts(small_case(), outcomes)[1, "y"].rho == "inf"


def test_vacuous_bounds_are_inconclusive_and_counted(small_case):
    """Where every bound is infinite there is no verdict, whatever the answer."""
    case = small_case(modes="train")
    case.tensors["0.x"] *= np.float32(1e38)
    wild = {n: a for n, a in exact(small_case(modes="train"))[0].tensors.items() if n not in ("mean", "variance")}
    found = verdicts(case, [Outputs(wild)])
    assert found[0, "y"].verdict == "INCONCLUSIVE"
    assert found[0, "y"].vacuous == 15


def test_what_must_be_refused_must_be_refused(small_case):
    """A smaller last batch on the kept axis has to be refused: refusing passes, answering fails."""
    case = small_case(shape=(7, 6), modes="train train", axis=0)
    case.tensors["1.x"], case.tensors["1.dy"] = case.tensors["1.x"][:2], case.tensors["1.dy"][:2]
    good = exact(small_case(shape=(7, 6), modes="train train", axis=0))
    assert verdicts(case, [good[0], Refused("ValueError", "7 against 2")])[1, "outcome"].verdict == "PASS"
    accepted = verdicts(case, good)[1, "outcome"]
    assert accepted.verdict == "FAIL"
    assert "accepted what must be refused" in accepted.reason
    assert "KEPT" in accepted.reason


def test_a_documented_refusal_conforms(small_case):
    """A refusal that the statement documents passes, and answering instead fails."""
    cite = {"cite": "here", "when": {"n": ["1"], "mode": ["train"]}, "error": ["ValueError"]}
    statement = msgspec.structs.replace(STATEMENT, refusals=[msgspec.convert(cite, StatedRefusal)])
    case = small_case(shape=(1, 3), modes="train")
    assert verdicts(case, [Refused("ValueError", "one value")], statement)[0, "outcome"].verdict == "PASS"
    assert verdicts(case, exact(case), statement)[0, "outcome"].verdict == "FAIL"
    other = verdicts(case, [Refused("TypeError", "something else")], statement)[0, "outcome"]
    assert (other.verdict, other.reason) == ("FAIL", "TypeError: something else; promised ValueError, here")


def test_the_judge_never_raises(small_case):
    """A fault of ours is a verdict of its own, so that it can neither pass nor stop a run."""
    found = judge("c", ExactCase(small_case()), STATEMENT, Reply(0, "i@cpu", (Outputs({"y": "not an array"}),)))
    assert [r.verdict for r in found] == ["ERROR"]
    assert "the judge failed" in found[0].reason


def test_unasked_questions_are_unsupported_with_a_reason(small_case):
    """Third derivatives, shared layers, round trips: a statement that does not claim them is not asked."""
    case = small_case()
    deep = msgspec.structs.replace(case, steps=(Step(mode="train", derivatives=(Derivative(order=3),)),))
    assert STATEMENT.unsupported(step_facts(case, 0)) == ""
    assert STATEMENT.unsupported(step_facts(deep, 0)) == "differentiation is third; supported: none, reverse"


def poisoned(small_case, value, modes):
    """Return a case with one value of channel 1 of the first step that is not finite."""
    case = small_case(modes=modes)
    case.tensors["0.x"][2, 1] = value
    return case


def test_an_infinite_variance_may_leave_no_gradient_in_inference(small_case):
    """An infinity may make a variance infinite, not NaN: then r is 0, and so is dx of a later inference; y is NaN."""
    case = poisoned(small_case, np.inf, "train infer")
    outcomes = exact(case)
    bad = ~np.isfinite(outcomes[0].tensors["moving_mean"])
    outcomes[0].tensors["moving_variance"][bad] = np.inf
    outcomes[1].tensors["moving_variance"][bad] = np.inf
    outcomes[1].tensors["dx"][:, bad] = 0
    found = verdicts(case, outcomes)
    assert not [r for r in found.values() if r.verdict == "FAIL"]
    outcomes[1].tensors["y"][:, bad] = 0
    assert verdicts(case, outcomes)[1, "y"].verdict == "FAIL"


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_nan_in_training_must_show_in_its_channel_and_nowhere_else(small_case, value):
    """What comes out as it went in passes; swallowed it fails, in every output; in another channel it fails too."""
    case = poisoned(small_case, value, "train infer")
    assert {r.verdict for r in verdicts(case, exact(case)).values()} == {"PASS"}
    for t, output in ((0, "y"), (0, "dx"), (0, "moving_mean"), (0, "variance"), (1, "y"), (1, "moving_variance")):
        swallowed, spread = exact(case), exact(case)
        channel = (..., 1)
        assert not np.isfinite(swallowed[t].tensors[output][channel]).any()
        swallowed[t].tensors[output][channel] = 0
        spread[t].tensors[output][..., 0] = np.nan
        for outcomes in (swallowed, spread):
            found = verdicts(case, outcomes)[t, output]
            assert (found.verdict, found.rho) == ("FAIL", "inf")
    assert np.isfinite(exact(case)[0].tensors["dbeta"]).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_nan_in_inference_must_show_in_its_element_and_nowhere_else(small_case):
    """The element that was NaN is NaN; its neighbours in the channel are judged as ever."""
    case = poisoned(small_case, np.nan, "infer")
    assert verdicts(case, exact(case))[0, "y"].verdict == "PASS"
    for element, value in (((2, 1), 0.0), ((3, 1), np.nan)):
        outcomes = exact(case)
        outcomes[0].tensors["y"][element] = value
        assert verdicts(case, outcomes)[0, "y"].rho == "inf"


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_nan_where_every_element_must_be_is_a_pass(small_case):
    """Where every channel is NaN, as it must be, that was compared; a number among them fails."""
    case = small_case(modes="train")
    case.tensors["0.x"][0] = np.nan
    outcomes = exact(case)
    found = verdicts(case, outcomes)[0, "y"]
    assert (found.verdict, found.rho, found.vacuous) == ("PASS", 0.0, 0)
    outcomes[0].tensors["y"][1, 1] = 0
    assert verdicts(case, outcomes)[0, "y"].verdict == "FAIL"


def test_answers_that_are_not_finite_are_counted_where_the_exact_ones_are_ordinary(small_case):
    """Vacuous bound or not: NaN where the exact value is 1 is counted, an overflow of the dtype itself is not."""
    case = small_case(modes="train")
    case.tensors["0.x"] *= np.float32(1e30)
    with np.errstate(over="ignore"):
        outcomes = exact(case)
    outcomes[0].tensors["y"][...] = np.nan
    outcomes[0].tensors["moving_variance"][...] = np.inf
    found = verdicts(case, outcomes)
    assert (found[0, "y"].verdict, found[0, "y"].vacuous, found[0, "y"].not_finite) == ("INCONCLUSIVE", 15, 15)
    assert found[0, "moving_variance"].not_finite == 0
    assert "15 of 15 answers are not finite where the exact values are" in wording.describe(found[0, "y"])
    assert verdicts(small_case(modes="train"), outcomes)[0, "y"].not_finite == 15


def test_gradients_are_rounded_when_they_are_taken_in(small_case):
    """Who computes float64 in float32 rounds dy first: a sum of two has that error, and the bound has room for it."""
    promised = Rule("a promise", numerics={"accumulate": "float32", "stored": "float32"})
    statement = msgspec.structs.replace(STATEMENT, rules=[*STATEMENT.rules, promised])
    case, wide = small_case(shape=(2, 3), modes="infer"), Dtypes("float64", "float64", "float64")
    for seed in range(20):
        x, dy = np.random.default_rng(seed).normal(size=(2, 2, 3))
        tensors = {n: a.astype(np.float64) for n, a in case.tensors.items()} | {"0.x": x, "0.dy": dy}
        asked = msgspec.structs.replace(case, dtypes=wide, tensors=tensors)
        dbeta = dy.astype(np.float32).sum(0)
        assert verdicts(asked, [Outputs({"dbeta": dbeta})], statement)[0, "dbeta"].verdict == "PASS"


def of_two_then_of_one_channel(small_case):
    """Return a case whose middle training step has one channel of two, and the answers to it."""
    case = small_case(modes="train train infer")
    narrow = {name: case.tensors[name][:, :1] for name in ("1.x", "1.dy")}
    case = msgspec.structs.replace(case, tensors=case.tensors | narrow)
    answers = exact(msgspec.structs.replace(case, steps=(case.steps[0], case.steps[2]), tensors=_without_step_1(case)))
    return case, [answers[0], answers[0], answers[1]]


def _without_step_1(case):
    left = {name: array for name, array in case.tensors.items() if not name.startswith("1.")}
    return {name.replace("2.", "1.") if name.startswith("2.") else name: array for name, array in left.items()}


def test_a_training_step_that_makes_no_sense_fails_where_it_is_answered(small_case):
    """The step fails, and the next is judged as if it had not been."""
    found = verdicts(*of_two_then_of_one_channel(small_case))
    assert "accepted what must be refused" in found[1, "outcome"].reason
    assert found[1, "outcome"].verdict == "FAIL"
    assert {r.verdict for (step, _), r in found.items() if step == 2} == {"PASS"}


def test_nobody_knows_what_is_right_after_a_step_that_made_no_sense_and_may_be_answered(small_case):
    """Whoever says that it answers such a step is held to nothing after it, since its state is what it made of it."""
    statement = msgspec.structs.replace(STATEMENT, accepts=[{"resized": ["fewer"]}])
    found = verdicts(*of_two_then_of_one_channel(small_case), statement)
    later = {r.verdict: r.reason for (step, _), r in found.items() if step}
    assert set(later) == {"INCONCLUSIVE"}
    assert later["INCONCLUSIVE"] == "an earlier step was answered that made no sense"


def test_of_a_function_without_parameters_any_batch_fits_and_the_next_is_judged():
    """With no gamma, no beta and no averages there is nothing whose size a training batch must fit."""
    averageless = Rule("this test", semantics={"average": "none"})
    statement = msgspec.structs.replace(STATEMENT, rules=[*STATEMENT.rules, averageless], outputs=("y",))
    rng = np.random.default_rng(0)
    batches = {f"{t}.x": rng.normal(size=(4, 2 + t)).astype(np.float32) for t in range(2)}
    statistics = {name: np.ones(2, np.float32) for name in ("moving_mean", "moving_variance")}  # of inference alone
    case = Case(Spec(center=False, scale=False), (Step("train"),) * 2, tensors=batches | statistics)
    wrong = [Outputs({"y": np.zeros((4, 2), np.float32)}), Outputs({"y": np.zeros((4, 3), np.float32)})]
    found = verdicts(case, wrong, statement)
    assert found[0, "y"].verdict == "FAIL"
    assert found[1, "outcome"].verdict == "INCONCLUSIVE"


def test_a_negative_variance_is_rounded_too():
    """A fast variance may be negative, and little be left of it and epsilon: float32 on float64 is off by epsilon's."""
    single = Rule("this test", numerics={"variance": "fast", "accumulate": "float32"})
    statement = msgspec.structs.replace(STATEMENT, rules=[*STATEMENT.rules, single], outputs=("y",))
    x, variance = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([-0.09998576, -0.0999])
    statistics = {"moving_mean": np.zeros(2), "moving_variance": variance}
    spec = Spec(epsilon=0.1, center=False, scale=False)
    case = Case(spec, (Step("infer"),), Dtypes(*["float64"] * 3), tensors={"0.x": x, **statistics})
    f = np.float32
    y = x.astype(f) * (f(1) / np.sqrt(variance.astype(f) + f(0.1)))
    assert verdicts(case, [Outputs({"y": y.astype(np.float64)})], statement)[0, "y"].verdict == "PASS"


def test_an_output_by_a_wrong_name_is_told_the_right_one(small_case):
    """What is missing under its name is there under another that means nothing."""
    case = small_case(modes="train")
    given = dict(exact(case)[0].tensors)
    given["moving_var"] = given.pop("moving_variance")
    found = verdicts(case, [Outputs(given)])[0, "moving_variance"]
    assert (found.verdict, found.reason) == (
        "FAIL",
        'the output is missing; "moving_var" is no output; did you mean moving_variance?',
    )


def test_more_outcomes_than_steps_are_no_answer(small_case):
    """One outcome for each step is the protocol; which of them belongs to which step nobody knows otherwise."""
    case = small_case(modes="train")
    (found,) = verdicts(case, [*exact(case), *exact(case)]).values()
    assert (found.verdict, found.reason) == ("FAIL", "it gave 2 outcomes for 1 steps; give one for each")
