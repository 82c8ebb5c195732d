"""Every result counted, and some of them chosen: counters stay exact whatever the size of a run, rows are samples."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from conformance.model.results import Result
from conformance.report.entries import ReportedResult

KEPT_FAILURES = 12_000
"""How many failures are kept as rows at most; the worst of each kind first."""
KEPT_OTHERS = 2
"""How many of each kind that does not fail are kept as rows."""


NOT_ASKED = "not asked"
"""Instead of a verdict: a failure of another run that this one says nothing of."""


class ResultGroup(NamedTuple):
    """Results that the page's filters do not tell apart."""

    implementation: str
    column: str
    check: str
    dtype: str
    verdict: str
    standing: str
    change: str
    divergences: str


class Count(NamedTuple):
    """How many results are of one kind, the largest ρ among them, and those kept as rows."""

    kind: ResultGroup
    number: int
    worst: float
    rows: list[ReportedResult]


def kind(entry: ReportedResult, dtype: str) -> ResultGroup:
    """Return the group that a result belongs to."""
    r = entry.result
    gone = entry.change == "fixed" and r.failed
    divergences = ", ".join(entry.divergences)
    verdict = NOT_ASKED if gone else r.verdict
    return ResultGroup(
        r.implementation, entry.column, entry.check, dtype, verdict, entry.standing, entry.change, divergences
    )


class _Tally:
    """One kind while it is counted: all that fail, and of the others the worst, which are all that is ever kept."""

    def __init__(self, key: ResultGroup) -> None:
        self.number, self.worst, self.counts = 0, -1.0, _counts(key)
        self.rows: list[ReportedResult] = []
        self._least = -1.0  # what is smaller is not kept

    def add(self, entry: ReportedResult) -> None:
        """Count one result."""
        self.number += 1
        size = entry.result.size
        self.worst = max(self.worst, size)
        if size < self._least and not self.counts:
            return
        self.rows.append(entry)
        if not self.counts and len(self.rows) > 2 * KEPT_OTHERS:
            self.rows = heapq.nlargest(KEPT_OTHERS, self.rows, key=_order)
            self._least = self.rows[-1].result.size


def tally(entries: Iterable[ReportedResult], dtype: Callable[[Result], str]) -> list[Count]:
    """Return the groups of results in a stable order, each counted, with the rows that are kept of it."""
    found: dict[ResultGroup, _Tally] = {}
    for entry in entries:
        key = kind(entry, dtype(entry.result))
        if key not in found:
            found[key] = _Tally(key)
        found[key].add(entry)
    share = _share([one.number for one in found.values() if one.counts])
    return [
        Count(key, one.number, one.worst, _chosen(one.rows, share if one.counts else 0))
        for key, one in sorted(found.items())
    ]


def _counts(key: ResultGroup) -> bool:
    return key.verdict in ("FAIL", "ERROR", NOT_ASKED) or bool(key.change)


def _share(sizes: list[int]) -> int:
    """Return how many rows each group may keep, so that all together keep no more than `KEPT_FAILURES`."""
    left, kinds = KEPT_FAILURES, len(sizes)
    for size in sorted(sizes):
        if size * kinds > left:
            return max(left // kinds, 1)
        left, kinds = left - size, kinds - 1
    return max(sizes, default=0)


def _chosen(of_kind: list[ReportedResult], share: int) -> list[ReportedResult]:
    if len(of_kind) <= max(share, KEPT_OTHERS):
        return of_kind
    return heapq.nlargest(max(share, KEPT_OTHERS), of_kind, key=_order)


def _order(entry: ReportedResult) -> tuple[float, int]:
    return order(entry.result)


def order(result: Result) -> tuple[float, int]:
    """Return what to sort by: ρ, then a hash, so that the rows of a group do not all come from one case."""
    return result.size, zlib.crc32(f"{result.case} {result.step}".encode())
