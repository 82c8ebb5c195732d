"""Mistakes that only certain values show: the cases of their feature see them, and no others of a default run."""

from __future__ import annotations

import functools

import msgspec
import pytest
from test_asking import fails
from trial import Trial
from value_faults import VALUE_FAULTS
from value_subjects import SUBJECTS

from conformance.cases import cells, strategies
from conformance.cases.building import build
from conformance.cases.chance import CHANCE
from conformance.cases.values import VALUES
from conformance.judging.judgment import judge
from conformance.model.case_facts import every_step
from conformance.model.outcome import Outputs, Reply
from conformance.model.statement import stated
from conformance.runs.run_case import RunCase

FEATURES = VALUES | CHANCE
SUPPORTS = {
    "dtype": ["float32", "float64", "float16", "bfloat16"],
    "parameters": ["float32", "float64"],
    "no_rows": [False],
    "resized": [False],
    "reranked": [False],
    "mask": [False, "full", "spread", "without_last"],
    "weights": [False, True],
    "begun": [False, True],
    "dy_layout": ["C", "F", "strided", "channels_last"],
    "layer_layout": ["C", "strided", "offset", "reversed"],
}


def promised(subject):
    """Return the statement of a subject that is asked more than those of the other faults are."""
    return msgspec.structs.replace(subject.statement, supports=SUPPORTS)


@functools.cache
def asked(feature, subject):
    """Return the trials of the first seed's cases of a feature that a subject can be asked; all others for None."""
    chosen = [
        cell for cell in cells.CELLS if (cell.feature not in FEATURES if feature is None else cell.feature == feature)
    ]
    items = [RunCase(0, r, build(r, 0)) for cell in chosen for r in strategies.recipes(cell, 0, 3)]
    able = [item for item in items if not promised(subject).unsupported(*every_step(item.case))]
    return [Trial(item, subject, item.case.dtypes.x, "easy") for item in able]


def seen(trial, answer):
    """Return whether an answer that is not the right one to the bit fails."""
    pairs = [(got[n], a) for got, right in zip(answer, trial.right, strict=True) for n, a in right.items()]
    if all(got.tobytes() == a.tobytes() for got, a in pairs):
        return False
    return failed(trial, answer)


def failed(trial, answer):
    """Return whether an array of an answer fails."""
    statement = promised(trial.subject)
    reply = Reply(0, statement.id, tuple(map(Outputs, answer)))
    return any(r.verdict == "FAIL" for r in judge("case", trial.item.exact_case, statement, reply))


@pytest.mark.parametrize("fault", VALUE_FAULTS, ids=lambda fault: fault.name)
def test_the_right_answer_is_within_the_bounds(fault):
    """No false alarm on the values themselves."""
    trials = asked(fault.feature, fault.subject)
    assert trials
    assert not [trial.item.origin for trial in trials if failed(trial, trial.right)]


@pytest.mark.parametrize("fault", VALUE_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_values_is_seen_by_its_feature(fault):
    """Some case of the feature fails."""
    assert any(seen(trial, trial.answer(fault.at)) for trial in asked(fault.feature, fault.subject))


@pytest.mark.proof
@pytest.mark.parametrize("fault", VALUE_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_values_is_seen_by_its_feature_alone(fault):
    """No case of a run without such features fails."""
    others = asked(None, fault.subject)
    assert not [trial.item.origin.cell for trial in others if seen(trial, trial.answer(fault.at))]


@functools.cache
def drawn(cell, count):
    """Return the first cases of a cell."""
    return [build(recipe, 0) for recipe in strategies.recipes(cell, 0, count)]


def asked_of(subject, feature):
    """Return the cases of the first seed that a subject is asked of a feature."""
    return [case for cell in cells.CELLS if cell.feature == feature for case in able(subject, drawn(cell, 3))]


def able(subject, cases):
    """Return those of the cases that a subject can be asked."""
    statement = stated(subject.statement, "a subject")
    return [case for case in cases if not statement.unsupported(*every_step(case))]


@pytest.mark.parametrize(("right", "wrong", "feature"), SUBJECTS, ids=[wrong.__name__ for _, wrong, _ in SUBJECTS])
def test_a_subject_that_is_wrong_of_values_is_seen_by_their_feature(right, wrong, feature):
    """The right one passes the feature's cases, the wrong one fails one of them."""
    found = asked_of(right, feature)
    assert found
    assert not any(fails(right, case) for case in found)
    assert any(fails(wrong, case) for case in found)


@pytest.mark.proof
@pytest.mark.parametrize(("right", "wrong", "feature"), SUBJECTS, ids=[wrong.__name__ for _, wrong, _ in SUBJECTS])
def test_a_subject_that_is_wrong_of_values_is_seen_by_their_feature_alone(right, wrong, feature):
    """It fails one case of no other cell that the right one passes."""
    others = [case for cell in cells.CELLS if cell.feature != feature for case in able(right, drawn(cell, 1))]
    assert not [case for case in others if fails(wrong, case) and not fails(right, case)]
