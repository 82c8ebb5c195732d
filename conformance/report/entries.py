"""The results of a run as the report shows them: with what the gate makes of each, and how another run had it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from conformance.gate.explanation import Explanation
from conformance.gate.outputs.checks import group
from conformance.model.results import Result, Run
from conformance.runs import summary

Change = Literal["", "regressed", "still failing", "fixed"]
Identity = tuple[str, str, int, str]
"""What identifies a failure from run to run: case, implementation, step, output."""
Pair = tuple[str, str]
"""A case, and an implementation that was asked it."""

CHANGES: dict[str, str] = {
    "regressed": "fails, and did not in the other run",
    "still failing": "fails, as in the other run",
    "fixed": "failed in the other run, and does no longer",
}
STANDINGS: dict[str, str] = {
    "unexplained": "nothing is known of it",
    "changed": "a known divergence speaks of it, and predicts something else",
    "spread": "it behaves as a known divergence, where that is not predicted",
    "explained": "as a known divergence predicts",
}


class ReportedResult(msgspec.Struct, frozen=True):
    """One result.

    standing: one of `STANDINGS`; empty where the result does not fail.
    change: one of `CHANGES`; empty where there is none.
    """

    result: Result
    standing: str = ""
    divergences: tuple[str, ...] = ()
    change: Change = ""

    @property
    def column(self) -> str:
        """The output, and the mode where it matters."""
        return summary.key(self.result)

    @property
    def check(self) -> str:
        """The group of checks, in words."""
        return group(self.result).replace("_", " ")

    @property
    def fails(self) -> bool:
        """Whether it counts against the implementation in this run."""
        return self.result.failed and self.change != "fixed"


def identity(result: Result) -> Identity:
    """Return what identifies a result from run to run.

    >>> identity(Result("c", "i", "FAIL", step=1, output="dx"))
    ('c', 'i', 1, 'dx')
    """
    return result.case, result.implementation, result.step, result.output


def entries(run: Run, explanations: Iterable[Explanation], other: Run | None = None) -> Iterator[ReportedResult]:
    """Yield every result of a run, and the failures of the other run that are gone."""
    said = {identity(e.result): e for e in explanations}
    known = _Changes(run, other) if other else None
    for result in run.results:
        e = said.get(identity(result)) if result.failed else None
        standing = e.kind if e else "unexplained" if result.failed else ""
        yield ReportedResult(result, standing, e.divergences if e else (), known.of(result) if known else "")
    if known:
        yield from (ReportedResult(result, change=change) for result, change in known.gone())


def changes(run: Run, other: Run) -> dict[Change, int]:
    """Return how many results are in each state of `CHANGES`, over what both runs asked."""
    known = _Changes(run, other)
    found: dict[Change, int] = {"regressed": 0, "still failing": 0, "fixed": 0}
    states: list[Change] = [known.of(result) for result in run.results]
    states.extend(change for _, change in known.gone())
    for change in states:
        if change:
            found[change] += 1
    return found


class _Changes:
    """Failures by identity, here and in another run, of what both asked."""

    def __init__(self, run: Run, other: Run) -> None:
        self.common = asked(run) & asked(other)
        self.gone_from = [r for r in other.results if r.failed and (r.case, r.implementation) in self.common]
        self.before = {identity(r) for r in self.gone_from}
        self.here = {identity(r) for r in run.results}

    def of(self, result: Result) -> Change:
        """Return how a result has changed since the other run."""
        if (result.case, result.implementation) not in self.common:
            return ""
        known = identity(result) in self.before
        if not result.failed:
            return "fixed" if known else ""
        return "still failing" if known else "regressed"

    def gone(self) -> Iterator[tuple[Result, Change]]:
        """Yield the other run's failures that have no result here, though their case was asked again."""
        for result in self.gone_from:
            if identity(result) not in self.here:
                yield result, "fixed"


def asked(run: Run) -> set[Pair]:
    """Return what was asked: pairs of a case and an implementation."""
    return {(r.case, r.implementation) for r in run.results if r.verdict != "UNSUPPORTED"}
