"""The first page: known divergences are told once each, the worst first, and what gave no arrays in words."""

from __future__ import annotations

from datetime import date

import msgspec
import pytest

from conformance.gate.divergences import Divergence, Prediction
from conformance.model.results import Deviation, Result
from conformance.report import overview
from conformance.report.entries import ReportedResult
from conformance.report.groups import groups
from conformance.report.overview import CheckSummary
from conformance.report.tally import tally

NAMES = ("far", "near", "refuses")


def divergence(name):
    """Return a divergence of this name."""
    day = date(2026, 1, 1)
    words = {"reason": "why", "link": "unreported", "owner": "us", "since": day, "review_by": day, "witness": "w"}
    return Divergence(id=name, implementations=["*"], kind="defect", predicts=Prediction(), rule="BN-1", **words)


def entry(implementation, output, rho, name, outcome=""):
    """Return a failure that a divergence of this name explains."""
    off = msgspec.UNSET if outcome else Deviation("trajectory", [0], 1.0, 2.0, 0.1)
    number = msgspec.UNSET if outcome else rho
    result = Result("c", implementation, "FAIL", 0, "train", output, rho=number, deviation=off, outcome=outcome)
    standing = "explained" if name else "unexplained"
    return ReportedResult(result, standing, (name,) if name else ())


@pytest.fixture
def counts():
    """Return the counts of three divergences of two implementations, and of a failure that nothing explains."""
    found = [
        *(entry("a@cpu", "dx", rho, "near") for rho in (5.0, 7.0)),
        *(entry("a@cpu", "dx", rho, "far") for rho in (900.0, 3.0)),
        entry("b@cpu", "dx", 40.0, "near"),
        *(entry("b@cpu", "outcome", 0, "refuses", outcome="Refused") for _ in range(3)),
        entry("b@cpu", "y", 2.0, ""),
    ]
    return tally(found, lambda _: "float32")


def test_known_divergences_are_told_once_each_the_worst_first(counts):
    """What each explains is counted over all, and leads to its worst; what has no arrays is last."""
    made = groups(counts)
    found = overview.departures(made, [divergence(name) for name in (*NAMES, "unseen")])
    told = [(one.divergence.id, one.number, one.implementations, one.worst) for one in found]
    assert told == [
        ("far", 2, ["a@cpu"], 900.0),
        ("near", 3, ["a@cpu", "b@cpu"], 40.0),
        ("refuses", 3, ["b@cpu"], -1.0),
    ]
    by_anchor = {group.anchor: group for group in made}
    assert [by_anchor[one.anchor].worst.result.size for one in found[:2]] == [900.0, 40.0]


def test_failures_without_arrays_are_counted_in_words():
    """One word for what ended alike, and failures where ends differ."""
    assert CheckSummary(outcomes=3, kinds={"Refused"}).said == "3 refusals"
    assert CheckSummary(outcomes=1, kinds={"TimedOut"}).said == "1 timeout"
    assert CheckSummary(outcomes=2, kinds={"Refused", "Crashed"}).said == "2 failures"
