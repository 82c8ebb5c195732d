"""The baseline counts what became of steps, beside arrays: a framework that refuses all that it answered is told."""

from __future__ import annotations

import types

import msgspec
import pytest

from conformance.gate import baseline
from conformance.gate.baseline import Baseline, behaviour_changed, of, worsened
from conformance.model.results import CANNOT, Result


def told(run, base):
    """Return what has changed, in words."""
    return [says for _, says in behaviour_changed(run, base)]


def instead(run, **fields):
    """Return a run that had these results in place of its arrays, one for each case."""
    (record,) = run.implementations
    return msgspec.structs.replace(run, results=[Result(case, record.id, **fields) for case in run.cases])


def with_a_refusal(run):
    """Return a run that refuses one more step, as it promises."""
    (record,), case = run.implementations, next(iter(run.cases))
    return msgspec.structs.replace(run, results=[*run.results, Result(case, record.id, "PASS", outcome="Refused")])


def test_refusals_are_rows_of_the_baseline(run):
    """What is refused as promised is counted beside the arrays, and nothing has changed of the same run."""
    found = with_a_refusal(run("numpy.two_pass", cases=20))
    rows = {row.output: row for row in of(found)}
    assert (rows["refused"].steps, rows["refused"].judged, rows["refused"].failed) == (1, 0, 0)
    assert (rows["refused"].rho, rows["refused"].numerics) == (None, "")
    assert told(found, Baseline(of(found))) == []


@pytest.mark.parametrize(("compiled", "more", "told"), [(False, 1, True), (True, 0, True), (True, 1, False)])
def test_a_worst_error_that_grew_is_told(monkeypatch, run, compiled, more, told):
    """It is told of whoever is asked the cases of the baseline; who compiles is asked others where they are fewer."""
    found = run("numpy.two_pass", cases=20)
    monkeypatch.setattr(baseline, "recorded", lambda _: types.SimpleNamespace(compiled=compiled))
    before = [
        msgspec.structs.replace(row, rho=row.rho / 3 if row.rho else row.rho, judged=row.judged + more)
        for row in of(found)
    ]
    outputs = [output for _, output, _, _ in worsened(found, Baseline(before))]
    assert ("y train A·S" in outputs) is told
    assert told or not outputs


def test_an_output_that_the_baseline_has_not_is_no_worse(run):
    """What was judged for the first time has nothing that it could have grown from."""
    assert list(worsened(run("numpy.two_pass", cases=20), Baseline([]))) == []


def test_a_framework_that_refuses_everything_is_told(run):
    """Where arrays were judged and every case is refused now, both are said, with how many."""
    before = with_a_refusal(run("numpy.two_pass", cases=20))
    after = instead(before, verdict="FAIL", outcome="Refused", reason="TypeError: no")
    assert told(after, Baseline(of(before))) == [
        "nothing is judged any longer",
        "refused: 20 steps now, 20 of them wrongly; 1 in the baseline, 0 wrongly",
    ]


def test_what_cannot_be_asked_any_longer_is_told(run):
    """An adapter that calls what is not there is no refusal, and counts as what it is."""
    before = run("numpy.two_pass", cases=20)
    after = instead(before, verdict="UNSUPPORTED", reason=f"{CANNOT}AttributeError: no attribute")
    assert told(after, Baseline(of(with_a_refusal(before)))) == [
        "nothing is judged any longer",
        "cannot run here: 20 steps now, 0 of them wrongly; 0 in the baseline, 0 wrongly",
    ]


def test_an_implementation_that_is_gone_is_told(run):
    """What was judged in the baseline and cannot run now is named with the reason."""
    before = run("numpy.two_pass", cases=20)
    (record,) = before.implementations
    gone = msgspec.structs.replace(record, available=False, reason="ModuleNotFoundError: no")
    after = msgspec.structs.replace(before, implementations=[gone], results=[])
    assert told(after, Baseline(of(before))) == ["it is not available now: ModuleNotFoundError: no"]


def test_a_baseline_without_outcomes_says_that_it_counts_none(run):
    """One of before outcomes were counted claims nothing of them, and what fails now is said all the same."""
    before = run("numpy.two_pass", cases=20)
    old = Baseline([row for row in of(before) if row.output != "refused"])
    assert told(before, old) == []
    after = instead(before, verdict="FAIL", outcome="Crashed", reason="exit code 7")
    assert told(after, old)[-1].endswith("the baseline counts none")
