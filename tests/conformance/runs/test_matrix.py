"""The matrix of the roster: counts of a run, and a reason where there is none."""

from __future__ import annotations

import msgspec
import pytest

from conformance.cases.cells import SMOKE
from conformance.hosts import roster
from conformance.model.results import Result
from conformance.model.statement import COLUMNS
from conformance.runs import matrix

ENTRIES = {entry.id: entry for entry in roster.built_in()}


def test_counts_are_those_of_the_run(run, adapter):
    """Each judged array is counted once for what it is, and once for each feature its case asks for."""
    found = run(adapter("reference_subject:Subject"), cases=SMOKE)
    (line,) = matrix.lines(found)
    judged = [r for r in found.results if r.verdict in ("PASS", "FAIL") and r.output != "outcome"]
    own = ("train", "infer", "gradient", "forward", "second order")
    assert sum(line.judged[column] for column in own) == len(judged) == sum(line.ranks.values())
    masked = {c.case for c in found.cases.values() if "mask" in c.recipe["signature"].get("feature", "")}
    assert line.judged["mask"] == sum(r.case in masked for r in judged) > 0
    once = ("y_tangent", "moving_mean_tangent", "moving_variance_tangent")
    assert line.judged["second order"] == sum("_tangent" in r.output and r.output not in once for r in judged) > 0
    assert line.empty == {}


def test_named_cases_count_as_generated_ones_do_and_are_told(run, adapter):
    """What the corpus alone asks for is no gap: its arrays are counted, by the facts of its steps, and told."""
    found = run(adapter("reference_subject:Subject"), cases=4, corpus=True)
    (line,) = matrix.lines(found)
    judged = [r for r in found.results if r.verdict in ("PASS", "FAIL") and r.output != "outcome"]
    named = {c.case for c in found.cases.values() if c.name}
    own = ("train", "infer", "gradient", "forward", "second order")
    assert sum(line.judged[column] for column in own) == len(judged) == sum(line.ranks.values())
    assert sum(line.named[column] for column in own) == sum(r.case in named for r in judged)
    assert line.named["mask"] == line.judged["mask"] > 0
    assert line.named["train"] < line.judged["train"]
    assert f"| {line.judged['mask']} named |" in matrix.as_markdown([line], found)


def test_masks_of_replicas_are_masks(run, adapter):
    """A case of masked replicas counts in the column of masks, as a masked one does."""
    found = run(adapter("reference_subject:Subject"), cases=SMOKE)
    identity, case = next((k, c) for k, c in found.cases.items() if c.recipe["signature"].get("feature") == "mask")
    signature = case.recipe["signature"] | {"feature": "masked replicas"}
    of_replicas = msgspec.structs.replace(case, recipe=case.recipe | {"signature": signature})
    changed = msgspec.structs.replace(found, cases=found.cases | {identity: of_replicas})
    assert matrix.lines(changed) == matrix.lines(found)


def test_an_empty_cell_needs_a_reason(run):
    """An implementation without masks says why, or is a gap; what it offers and was not reached is a gap too."""
    found = run("numpy.two_pass", cases=SMOKE)
    statement = ENTRIES["numpy.two_pass@cpu"].statement
    (line,) = matrix.lines(found)
    assert line.empty["mask"] == statement.lacks["mask"] != ""
    assert matrix.gaps([line]) == []
    line.empty["mask"] = ""
    assert matrix.gaps([line]) == ["numpy.two_pass@cpu: nothing judged for mask, and its statement does not say why"]


def test_a_column_whose_steps_all_failed_is_no_gap(run):
    """Where every step of second order fails as a whole there is no array to count, and the cell says so."""
    found = run("numpy.two_pass", cases=SMOKE)
    case = next(c for c in found.cases.values() if c.recipe["signature"].get("feature") == "second order")
    statement = msgspec.structs.replace(
        ENTRIES["numpy.two_pass@cpu"].statement, supports={"differentiation": ["reverse_over_reverse"]}, lacks={}
    )
    stated = msgspec.to_builtins(statement)
    records = [msgspec.structs.replace(r, statement=stated) for r in found.implementations]
    steps = [Result(case.case, records[0].id, "FAIL", step=t, outcome="Refused") for t in (0, 1)]

    def empty(*more: Result) -> str:
        changed = msgspec.structs.replace(found, results=[*found.results, *more], implementations=records)
        return matrix.lines(changed)[0].empty["second order"]

    assert empty(*steps) == "2 steps were asked, and failed as a whole"
    assert empty() == ""


def test_training_that_is_always_refused_is_no_gap(run):
    """Where no step of training gives an array, since all are refused, as stated or not, the cell says how many."""
    found = run("numpy.two_pass", cases=4)
    identity, case = found.implementations[0].id, next(iter(found.cases))
    steps = [
        Result(case, identity, v, step=0, mode="train", output="outcome", outcome="Refused") for v in ("PASS", "FAIL")
    ]
    changed = msgspec.structs.replace(found, results=[*(r for r in found.results if r.mode == "infer"), *steps])
    (line,) = matrix.lines(changed)
    assert line.empty["train"] == "2 steps were asked, and none gave an array"
    assert not [gap for gap in matrix.gaps([line]) if "for train" in gap]


def test_the_page_shows_counts_failures_and_notes(run, adapter):
    """Each line is a row; failures are counted beside, empty cells lead to their note."""
    found = run("numpy.two_pass", adapter("wrong:MomentumSwapped"), cases=SMOKE)
    page = matrix.as_markdown(matrix.lines(found), found)
    assert page.count("\n| `") == 2
    assert "FAIL)" in page
    assert "[1](#why-a-cell-is-empty)" in page


@pytest.mark.parametrize("identity", ENTRIES)
def test_every_statement_says_why_it_lacks_a_column(identity):
    """A column that an implementation cannot be asked for has a reason, and one that it can has none."""
    statement = ENTRIES[identity].statement
    assert set(statement.lacks) == {column for column in COLUMNS if not statement.offers(column)}
