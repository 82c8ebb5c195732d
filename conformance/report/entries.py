"""The results of a run as the report shows them: with what the gate makes of each, and how another run had it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from conformance.gate.explanation import Explanation
from conformance.gate.outputs.checks import group
from conformance.model.results import Result, Run
from conformance.runs import summary

Change = Literal["", "new", "regressed", "still failing", "fixed", "vanished"]
Identity = tuple[str, str, int, str]
"""What identifies a failure from run to run: case, implementation, step, output."""

CHANGES: dict[str, str] = {
    "new": "fails, and was not asked in the other run",
    "regressed": "fails, and did not in the other run",
    "still failing": "fails, as in the other run",
    "fixed": "failed in the other run, and does no longer",
    "vanished": "failed in the other run, and is not asked here",
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
        return self.result.failed and self.change not in ("fixed", "vanished")


def identity(result: Result) -> Identity:
    """Return what identifies a result from run to run.

    >>> identity(Result("c", "i", "FAIL", step=1, output="dx"))
    ('c', 'i', 1, 'dx')
    """
    return result.case, result.implementation, result.step, result.output


def entries(run: Run, explanations: Iterable[Explanation], other: Run | None = None) -> list[ReportedResult]:
    """Return every result of a run, and the failures of the other run that were not asked again."""
    said = {identity(e.result): e for e in explanations}
    changes = _Changes(run, other) if other else None
    found: list[ReportedResult] = []
    for result in run.results:
        e = said.get(identity(result)) if result.failed else None
        standing = e.kind if e else "unexplained" if result.failed else ""
        found.append(
            ReportedResult(result, standing, e.divergences if e else (), changes.of(result) if changes else "")
        )
    return found + [ReportedResult(result, change=change) for result, change in (changes.gone() if changes else ())]


class _Changes:
    """Failures by identity, here and in another run."""

    def __init__(self, run: Run, other: Run) -> None:
        self.other = other
        self.before = {identity(r) for r in other.results if r.failed}
        self.asked_before, self.asked = _asked(other), _asked(run)
        self.here = {identity(r) for r in run.results}

    def of(self, result: Result) -> Change:
        """Return how a result has changed since the other run."""
        known = identity(result) in self.before
        if not result.failed:
            return "fixed" if known else ""
        if known:
            return "still failing"
        return "regressed" if (result.case, result.implementation) in self.asked_before else "new"

    def gone(self) -> Iterator[tuple[Result, Change]]:
        """Yield the other run's failures that are none here: `fixed`, or `vanished` where they were not asked again."""
        for result in self.other.results:
            if result.failed and identity(result) not in self.here:
                asked = (result.case, result.implementation) in self.asked
                yield result, "fixed" if asked else "vanished"


def _asked(run: Run) -> set[tuple[str, str]]:
    return {(r.case, r.implementation) for r in run.results if r.verdict != "UNSUPPORTED"}
