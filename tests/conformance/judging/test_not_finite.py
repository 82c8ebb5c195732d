"""What must not be finite is judged: NaN where NaN is promised, an infinity where one is, and shapes of nothing."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from conformance.hosts.roster import ADAPTERS, from_target
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import trajectory
from conformance.judging.judgment import judge
from conformance.judging.not_finite import NAN_TOO
from conformance.judging.promise import Promise
from conformance.model.case import Case, Derivative, Step, case_id
from conformance.model.outcome import Outputs, Reply
from conformance.model.rules import Rule
from reference import Spec

STATEMENT = from_target(str(ADAPTERS / "numpy.py"))[0].statement
TRAIN, INFER = Step("train", derivatives=(Derivative(),)), Step("infer", derivatives=(Derivative(),))
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered", "ignore:Mean of empty slice")


def promising(**semantics):
    """Return the statement of a layer that promises these semantics."""
    return msgspec.structs.replace(STATEMENT, rules=[*STATEMENT.rules, Rule("this test", semantics=semantics)])


def asked(steps, shape=(4, 2), spec=None, **tensors):
    """Return a case of these steps, with inputs of this shape and moving statistics; None takes a tensor away."""
    rng, single = np.random.default_rng(0), np.float32
    found = {f"{t}.{name}": rng.normal(size=shape).astype(single) for t in range(len(steps)) for name in ("x", "dy")}
    found |= {name: np.full(shape[1], value, single) for name, value in _STATE.items()}
    found |= {name.replace("0_", "0."): array for name, array in tensors.items()}
    return Case(spec or Spec(), tuple(steps), tensors={name: a for name, a in found.items() if a is not None})


_STATE = {"gamma": 2.0, "beta": 0.5, "moving_mean": 0.25, "moving_variance": 1.5}


def exact(case, statement):
    """Return the outcomes of an implementation that rounds the exact answers."""
    with np.errstate(all="ignore"):
        answers = trajectory(Promise.of(ExactCase(case), statement))
        arrays = [{name: np.asarray(e.value).astype(e.dtype) for name, e in step.items()} for step in answers]
    return [Outputs(tensors) for tensors in arrays]


def verdicts(case, outcomes, statement):
    """Judge outcomes and return the results by (step, output)."""
    found = judge(case_id(case), ExactCase(case), statement, Reply(0, "i@cpu", tuple(outcomes)))
    return {(r.step, r.output): r for r in found}


def answered(case, statement, t, output, element, value):
    """Return the result of one output where one element of it is answered so, and all else is exact."""
    outcomes = exact(case, statement)
    outcomes[t].tensors[output][element] = value
    return verdicts(case, outcomes, statement)[t, output]


def nan_by_rule(kind):
    """Return a case in which a rule promises NaN, and the statement that does so."""
    if kind == "empty batch":
        nothing = np.zeros((0, 2), np.float32)
        case = asked([TRAIN, INFER], **{"0_x": nothing})
        return msgspec.structs.replace(case, tensors=case.tensors | {"0.dy": nothing}), promising(empty_batch="nan")
    if kind == "single value":
        case = asked([TRAIN, INFER], shape=(1, 2))
        return case, promising(single_value="nan", stored_variance="unbiased")
    case = asked([TRAIN, INFER], **{"0_mask": np.zeros(4, bool)})
    return case, promising(all_masked="nan", mask="boolean")


@pytest.mark.parametrize("value", [0.0, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("kind", "step", "output"),
    [
        *(("empty batch", t, o) for t, o in [(0, "moving_mean"), (0, "moving_variance"), (0, "mean"), (1, "y")]),
        *(("empty batch", 1, o) for o in ("dx", "dgamma", "moving_mean")),
        *(("single value", t, o) for t, o in [(0, "moving_variance"), (1, "y"), (1, "dx"), (1, "dgamma")]),
        *(("all masked", 0, o) for o in ("y", "dx", "dgamma", "moving_mean", "moving_variance", "variance")),
        *(("all masked", 1, o) for o in ("y", "dx", "dgamma", "moving_variance")),
    ],
)
def test_where_a_rule_promises_nan_anything_else_fails(kind, step, output, value):
    """An empty batch, one value, all masked: a number fails, an infinity fails, and NaN is a PASS, not nothing."""
    case, statement = nan_by_rule(kind)
    right = verdicts(case, exact(case, statement), statement)[step, output]
    assert (right.verdict, right.rho, right.vacuous) == ("PASS", 0.0, 0)
    wrong = answered(case, statement, step, output, (0,) if output in _KEPT else (0, 0), value)
    assert (wrong.verdict, wrong.rho) == ("FAIL", "inf")
    assert "must be NaN" in wrong.reason


_KEPT = ("moving_mean", "moving_variance", "mean", "variance", "dgamma")


@pytest.mark.parametrize("kind", ["empty batch", "single value", "all masked"])
def test_what_is_finite_beside_a_promised_nan_stays_finite(kind):
    """dbeta is a sum of cotangents, and so is finite; where it is NaN it fails."""
    case, statement = nan_by_rule(kind)
    assert answered(case, statement, 0, "dbeta", 0, np.nan).verdict == "FAIL"
    assert verdicts(case, exact(case, statement), statement)[0, "dbeta"].verdict == "PASS"


def test_an_infinity_less_an_infinity_is_nan():
    """Inference at x = inf with a moving mean of inf: NaN; a number or an infinity fails."""
    x = np.ones((4, 2), np.float32)
    x[1, 1] = np.inf
    case = asked([INFER], moving_mean=np.array([0, np.inf], np.float32), **{"0_x": x})
    statement = promising()
    for value, verdict in ((np.nan, "PASS"), (0.0, "FAIL"), (np.inf, "FAIL")):
        assert answered(case, statement, 0, "y", (1, 1), value).verdict == verdict


@pytest.mark.parametrize(("gamma", "right"), [(2.0, np.inf), (-2.0, -np.inf), (0.0, np.nan)])
def test_an_infinity_in_inference_has_its_sign(gamma, right):
    """An infinite input of inference comes out as one, of the sign that gamma gives it; 0 times it is NaN."""
    x = np.ones((4, 2), np.float32)
    x[1, 1] = np.inf
    case = asked([INFER], gamma=np.array([1, gamma], np.float32), **{"0_x": x})
    for value in (np.inf, -np.inf, np.nan, 0.0):
        same = np.array_equal(value, right, equal_nan=True)
        assert answered(case, promising(), 0, "y", (1, 1), value).verdict == ("PASS" if same else "FAIL")


def test_an_infinity_in_training_promises_no_more_than_that_its_channel_is_not_finite():
    """NaN or infinite, y and the state; the next inference's dx may be 0, as 1 / sqrt(inf) is (BN-31)."""
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    x[1, 1] = np.inf
    case, statement = asked([TRAIN, INFER], **{"0_x": x}), promising()
    for value, verdict in ((np.nan, "PASS"), (np.inf, "PASS"), (-np.inf, "PASS"), (0.0, "FAIL")):
        for t, output, element in ((0, "y", (0, 1)), (0, "dx", (0, 1)), (0, "moving_variance", 1), (1, "y", (0, 1))):
            assert answered(case, statement, t, output, element, value).verdict == verdict
    assert answered(case, statement, 1, "dx", (0, 1), 0.0).verdict == "PASS"
    assert answered(case, statement, 1, "dx", (0, 0), np.nan).verdict == "FAIL"


def test_a_gradient_that_a_mask_leaves_out_is_not_promised_to_be_nan():
    """Where a value does not count, dx is gamma dy / s alone: 0 where s is infinite."""
    x, mask = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32), np.array([1, 1, 1, 0], bool)
    x[1, 1] = np.inf
    case, statement = asked([TRAIN], **{"0_x": x, "0_mask": mask}), promising(mask="boolean")
    assert answered(case, statement, 0, "dx", (3, 1), 0.0).verdict == "PASS"
    assert answered(case, statement, 0, "dx", (2, 1), 0.0).verdict == "FAIL"


def test_what_may_overflow_is_no_promise():
    """Squares beyond the largest float32: an infinity, NaN and a number are all allowed, and nothing was compared."""
    case = asked([TRAIN])
    case.tensors["0.x"][...] *= np.float32(1e30)
    for value in (np.inf, np.nan, 1e30):
        found = answered(case, promising(), 0, "moving_variance", 0, value)
        assert found.verdict == "INCONCLUSIVE"
        assert found.reason.startswith("every bound is infinite: an intermediate")


@pytest.mark.parametrize("step", [TRAIN, INFER])
def test_an_empty_array_is_judged_by_its_shape_and_its_dtype(step):
    """There is nothing else to compare: the right ones pass, others fail."""
    case, statement = asked([step], shape=(0, 2)), promising(empty_batch="keep")
    outcomes = exact(case, statement)
    for output in ("y", "dx"):
        right = verdicts(case, outcomes, statement)[0, output]
        assert (right.verdict, right.rho, right.elements) == ("PASS", 0.0, 0)
        for wrong in (np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float64)):
            changed = Outputs(outcomes[0].tensors | {output: wrong})
            assert verdicts(case, [changed], statement)[0, output].verdict == "FAIL"


@pytest.mark.parametrize("empty_batch", ["keep", "nan", "zero"])
@pytest.mark.parametrize("output", ["dgamma", "dbeta"])
def test_gradients_of_no_rows_are_exactly_0(output, empty_batch):
    """A sum of nothing is 0; times 1 / sqrt(NaN), where the statistics of nothing are that, it may be NaN instead."""
    case, statement = asked([TRAIN], shape=(0, 2)), promising(empty_batch=empty_batch)
    assert verdicts(case, exact(case, statement), statement)[0, output].verdict == "PASS"
    of_nan = output == "dgamma" and empty_batch != "zero"
    for value, verdict in ((1e-30, "FAIL"), (np.nan, "PASS" if of_nan else "FAIL"), (np.inf, "FAIL")):
        assert answered(case, statement, 0, output, 0, value).verdict == verdict


NOTHING = np.zeros((0, 2), np.float32)
TWICE = (Derivative(), Derivative(2))
OF_THE_STATE = [(0, "moving_mean"), (0, "moving_variance"), (1, "y"), (1, "dx"), (1, "dgamma"), (1, "moving_mean")]


def after_no_rows(momentum, **tensors):
    """Return a case of inference after a training step of no rows."""
    case = asked([TRAIN, INFER], spec=Spec(momentum=momentum), **{"0_x": NOTHING})
    return msgspec.structs.replace(case, tensors=case.tensors | {"0.dy": NOTHING} | tensors)


@pytest.mark.parametrize(("t", "output"), OF_THE_STATE)
def test_a_batch_that_enters_with_fraction_0_leaves_the_state_or_nan(t, output):
    """0 times NaN is NaN, or is left out: both are right after an empty batch under momentum 1, and nothing else."""
    case, nan = after_no_rows(1.0), promising(empty_batch="nan")
    left = exact(case, promising(empty_batch="keep"))
    assert {r.verdict for r in verdicts(case, left, nan).values()} == {"PASS"}
    right = left[t].tensors[output].flat[0]
    for value, verdict in ((np.nan, "PASS"), (right + 1, "FAIL"), (np.inf, "FAIL")):
        outcomes = exact(case, nan)
        for step, name in OF_THE_STATE[: OF_THE_STATE.index((t, output))]:
            outcomes[step].tensors[name][...] = np.nan
        outcomes[t].tensors[output].flat[0] = value
        found = verdicts(case, outcomes, nan)[t, output]
        assert found.verdict == verdict, value
        assert not found.not_finite or value == np.inf


def test_who_leaves_the_state_alone_has_no_nan_later():
    """What may be NaN must be what follows from the state that was returned."""
    case, nan = after_no_rows(1.0), promising(empty_batch="nan")
    assert answered(case, nan, 1, "y", (0, 0), np.nan).failed


def test_a_derivative_along_a_tangent_may_be_nan_as_the_state_may_be():
    """What no state enters, dbeta, must be a number all the same."""
    case = after_no_rows(1.0)
    steps = (case.steps[0], msgspec.structs.replace(case.steps[1], derivatives=(Derivative(mode="forward"), *TWICE)))
    case = msgspec.structs.replace(case, steps=steps, tensors=case.tensors | {"1.tangent": case.tensors["1.x"]})
    answers = trajectory(Promise.of(ExactCase(case), promising(empty_batch="nan")))[1]
    for output in ("y_tangent", "dx_tangent", "dgamma_tangent"):
        assert (answers[output].kinds == NAN_TOO).all()
    assert answers["dbeta"].kinds is None


def test_a_batch_that_enters_promises_nan():
    """With any other momentum an empty batch makes the state NaN, and who keeps it is wrong."""
    case, nan = after_no_rows(0.5), promising(empty_batch="nan")
    kept = verdicts(case, exact(case, promising(empty_batch="keep")), nan)
    assert {output for (t, output), r in kept.items() if t == 0 and r.failed} == {"moving_mean", "moving_variance"}
    assert not any(r.failed for r in verdicts(case, exact(case, nan), nan).values())


def test_a_sum_of_fractional_weights_near_1_may_be_rounded():
    """W / (W - 1) is as far off as the rounding of W makes 1 / (W - 1); where W may be 1 nothing is promised."""
    statement, rng = promising(stored_variance="unbiased", mask="weights"), np.random.default_rng(0)
    x = rng.normal(size=(40, 1)).astype(np.float32)
    for over, verdict in ((0.01, "PASS"), (0.0, "INCONCLUSIVE")):
        weights = rng.uniform(size=40)
        weights = (weights * (1 + over) / weights.sum()).astype(np.float32)
        spec = Spec(center=False, scale=False, momentum=0.0)
        state = {name: np.ones(1, np.float32) for name in ("moving_mean", "moving_variance")}
        case = Case(spec, (Step("train"),), tensors={"0.x": x, "0.mask": weights, **state})
        outcomes, total = exact(case, statement), np.float32(0)
        for weight in weights:  # in float32, one after the other
            total += weight
        if over:
            right, wide = np.float64(total), weights.astype(np.float64).sum()
            outcomes[0].tensors["moving_variance"] *= np.float32(right / (right - 1) / (wide / (wide - 1)))
        found = verdicts(case, outcomes, statement)[0, "moving_variance"]
        assert found.verdict == verdict, found


def test_who_normalizes_by_the_state_that_a_batch_has_entered_may_be_nan():
    """Where the moving statistics normalize a training step, an infinity that enters them with fraction 0 does too."""
    case = asked([TRAIN], spec=Spec(momentum=1.0))
    case.tensors["0.x"][1, 0] = np.inf
    moving = promising(training_statistics="moving")
    kinds = trajectory(Promise.of(ExactCase(case), moving))[0]["y"].kinds
    assert (kinds[[0, 2, 3], 0] == NAN_TOO).all()
    assert (kinds[:, 1] == 0).all()


def test_a_sum_of_one_infinity_may_be_compensated():
    """Kahan's sum makes NaN of an infinity, which a plain one keeps; a number is wrong."""
    case = asked([TRAIN])
    case.tensors["0.dy"][1, 0] = np.inf
    for value, verdict in ((np.inf, "PASS"), (np.nan, "PASS"), (1.0, "FAIL")):
        assert answered(case, STATEMENT, 0, "dbeta", 0, value).verdict == verdict


def test_a_gradient_of_no_rows_in_inference_may_be_nan_as_its_statistics_may():
    """Zero-debiased averages under momentum 1 are divided by 0: r times an empty sum is NaN, or 0, and nothing else."""
    case = asked([INFER], spec=Spec(momentum=1.0), shape=(0, 2))
    case = msgspec.structs.replace(case, batches=3)
    debiased = promising(average="zero_debiased")
    for value, verdict in ((0.0, "PASS"), (np.nan, "PASS"), (1e-30, "FAIL")):
        assert answered(case, debiased, 0, "dgamma", 0, value).verdict == verdict
    assert answered(case, STATEMENT, 0, "dgamma", 0, np.nan).failed
