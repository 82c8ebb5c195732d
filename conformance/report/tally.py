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


def tally(entries: Iterable[ReportedResult], dtype: Callable[[Result], str]) -> list[Count]:
    """Return the groups of results in a stable order, each counted, with the rows that are kept of it."""
    found: dict[ResultGroup, list[ReportedResult]] = {}
    for entry in entries:
        found.setdefault(kind(entry, dtype(entry.result)), []).append(entry)
    share = _share([len(of_kind) for key, of_kind in found.items() if _counts(key)])
    return [
        Count(key, len(of_kind), max(e.result.size for e in of_kind), _chosen(of_kind, share if _counts(key) else 0))
        for key, of_kind in sorted(found.items())
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
    """Return what to sort by: ρ, then a hash, so that the rows of a group do not all come from one case."""
    r = entry.result
    return r.size, zlib.crc32(f"{r.case} {r.step}".encode())
