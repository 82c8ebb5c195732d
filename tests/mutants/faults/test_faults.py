"""The suite's own score: faults that are ones, subjects that are right, rules as published, shares that add up."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from curve import MARKS, point
from layer import CLASSES, Subject
from named_faults import FAULTS, Fault
from rules import DTYPES, RULES, TOLERANCES
from study import Alarm, Row, apply, by, by_fault, by_rule, detection
from trial import BOUNDS, WITHOUT_RESIDUAL, leaning, moderate_trials, trials

from conformance.hosts import worker


@pytest.fixture(scope="module")
def some():
    """Return a few trials of a kind."""
    return {
        (dtype, data): list(trials(11, dtype, data, 12))
        for dtype in ("float32", "float64")
        for data in ("easy", "hard")
    }


def test_at_least_forty_named_faults():
    """The list is long enough, no name comes twice, and every category has several."""
    assert len(FAULTS) >= 40
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert min(sum(f.category == g.category for f in FAULTS) for g in FAULTS) >= 3


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_touches_what_it_says(fault, some):
    """On some case or other each output that a fault names is another than it should be, and never any other."""
    touched = set()
    for trial in itertools.chain(*some.values()):
        touched |= trial.changed(trial.answer(fault.at), fault)
        if touched == set(fault.touches):
            return
    assert touched == set(fault.touches)


@pytest.mark.parametrize("name", CLASSES)
def test_without_a_fault_the_layer_is_the_calibration_subject(name, some):
    """The same bits in every output of every step."""
    trial = next(t for t in some["float32", "easy"] if not any(n.endswith("mask") for n in t.item.case.tensors))
    plain = type(trial)(trial.item, Subject(name), "float32", "easy")
    _, tensors = worker.run(CLASSES[name]("cpu"), plain.asked())
    got = {f"{t}.{n}": a for t, step in enumerate(plain.right) for n, a in step.items()}
    assert got.keys() == tensors.keys()
    assert all(np.array_equal(got[n], tensors[n]) for n in got)


@pytest.mark.parametrize("data", ["easy", "hard"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_right_answer_is_within_the_bounds(dtype, data):
    """No false alarm, in any class and dtype, with masks, unbiased variances and zero-debiased averages."""
    assert [t.item.origin for t in trials(12, dtype, data, 6) if BOUNDS in t.alarms] == []


@pytest.mark.parametrize("output", MARKS)
def test_small_changes_are_detected(output):
    """1e-6 of y, 1e-4 of moving statistics and gradients whose sums add up; README.md says what larger samples miss."""
    trials = [leaning(t) if output in {"dgamma", "dbeta"} else t for t in moderate_trials(1, "float32", 10)]
    found = point(1, trials, output, MARKS[output])
    assert found.of >= 5
    assert found.detected == found.of


def test_the_residual_check_sees_what_the_others_do_not():
    """A scale error of 1e-6 in y, on some case whose mean is so far away that its own error hides it."""
    fault = next(fault for fault in FAULTS if fault.name == "y × (1 + 1e-6)")
    failed = [trial.failed(trial.answer(fault.at)) for trial in trials(1, "float32", "hard", 12)]
    assert any(BOUNDS in rules and WITHOUT_RESIDUAL not in rules for rules in failed)


def test_faults_of_rounding_show_in_the_answer_itself(some):
    """In exact arithmetic one pass is as good as two, so that the subject's own bits decide."""
    (one_pass,) = (fault for fault in FAULTS if fault.name == "one-pass variance")
    trial = next(t for t in some["float32", "easy"] if t.subject.numerical_class == "A·S")
    answer = trial.answer(one_pass.at)
    assert trial.changed(answer, one_pass)
    assert not trial.changed(answer, Fault("", "variance", "", (), one_pass.at))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_rules_accept_the_best_answer_and_refuse_a_bad_one(rule, dtype):
    """The exact answer rounded once passes, infinities and NaN too; a hundredth more, NaN, or infinity does not."""
    exact = np.array([1 / 3, -2e3, 1e9, np.nan, np.inf], np.longdouble)
    with np.errstate(over="ignore"):
        got = exact.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    assert RULES[rule](got, exact)
    for wrong in (got[0] * got.dtype.type(1.1), np.nan, np.inf):
        changed = got.copy()
        changed[0] = wrong
        assert not RULES[rule](changed, exact)


def test_six_ulp_are_six_numbers_of_the_dtype():
    """Across zero, too."""
    exact, step = np.zeros(1), np.finfo(np.float32).smallest_subnormal
    passes = RULES["WebNN 6 ulp"]
    assert [passes(np.float32([k * step]), exact) for k in (6, 7, -6, -7)] == [True, False, True, False]


@pytest.mark.framework("torch")
def test_tolerances_of_torch():
    """As installed."""
    import torch
    from torch.testing import _comparison

    published = _comparison._DTYPE_PRECISIONS
    assert {name: published[getattr(torch, name)] for name in DTYPES} == TOLERANCES["torch.testing"]


@pytest.mark.framework("jax")
def test_tolerances_of_jax():
    """As installed."""
    from jax._src.public_test_util import default_tolerance

    dtypes = {name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in DTYPES}
    assert {name: (default_tolerance()[d],) * 2 for name, d in dtypes.items()} == TOLERANCES["JAX"]


def test_shares_add_up():
    """A rule is credited where it tells the fault from the right answer, and charged where it fails that."""
    rows = [
        Row("gamma ignored", "float32", "easy", "A·S", True, {BOUNDS, "ONNX"}),
        Row("gamma ignored", "float32", "easy", "B·S", False, set()),
        Row("gamma ignored", "float16", "hard", "A·S", True, {BOUNDS}),
    ]
    alarms = [Alarm("float32", "easy", "A·S", {"JAX"}), Alarm("float32", "easy", "B·S", set())]
    assert detection(rows) == {"of": 3, "detected": 2, "of_visible": 2, "detected_visible": 2}
    rules = {entry["rule"]: entry["easy"] for entry in by_rule(rows, alarms)}
    assert (rules[BOUNDS]["detected"], rules["ONNX"]["detected"], rules["JAX"]["detected"]) == (1, 1, 0)
    assert (rules["JAX"]["alarms"], rules["JAX"]["of_alarms"], rules[BOUNDS]["alarms"]) == (1, 2, 0)
    (entry,) = (e for e in by_fault(rows) if (e["name"], e["dtype"]) == ("gamma ignored", "float32"))
    assert (entry["easy"]["applied"], entry["easy"]["detected"], entry["hard"]["applied"]) == (2, 1, 0)
    assert [e["easy"]["of"] for e in by(rows, "numerical_class", CLASSES)] == [1, 0, 0, 1, 0]


def test_a_rule_that_alarms_has_told_nothing_apart(some):
    """What fails the right answer too is not credited with the faulty one."""
    trial = next(t for t in some["float32", "hard"] if "NumPy assert_allclose" in t.alarms)
    rows = apply(trial, FAULTS[:3])
    assert rows
    assert not any("NumPy assert_allclose" in row.detected for row in rows)
