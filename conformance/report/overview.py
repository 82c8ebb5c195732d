"""The first page: the headline in words, and the table of implementations and checks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from conformance.gate.outputs.checks import OUTCOMES, OUTPUTS
from conformance.model.results import ImplementationRecord, Run
from conformance.report.groups import Group
from conformance.report.tally import Count
from conformance.runs import summary

CHECKS = [name.replace("_", " ") for name in ("y_train", "y_infer", *OUTPUTS, OUTCOMES)]
State = Literal["conforms", "explained", "departs", "nothing compared", "not judged"]
SIGNS: dict[str, str] = {
    "conforms": "✓",
    "explained": "▲",
    "departs": "✗",
    "nothing compared": "–",
    "not judged": "–",
}

_ORDER: dict[State, int] = {"departs": 0, "explained": 1}


class CheckSummary(msgspec.Struct):
    """One check of one implementation.

    anchor: that of its first group of failures.
    seen: whether each output was judged.
    """

    judged: int = 0
    failed: int = 0
    unexplained: int = 0
    worst: float = -1.0
    refusals: int = 0
    anchor: str = ""
    seen: dict[str, bool] = {}

    @property
    def state(self) -> State:
        """The state of the check, from its counts."""
        if self.failed:
            return "departs" if self.unexplained else "explained"
        return "conforms" if self.judged and all(self.seen.values()) else "nothing compared"

    def take(self, count: Count) -> None:
        """Add the results of one kind."""
        kind, n = count.kind, count.number
        if kind.verdict != "UNSUPPORTED" and kind.column != "outcome":
            judged = kind.verdict != "INCONCLUSIVE"
            self.seen[kind.column] = judged or self.seen.get(kind.column, False)
        if kind.verdict in ("PASS", "FAIL", "ERROR"):
            self.judged += n
            self.worst = max(self.worst, count.worst)
        if kind.verdict in ("FAIL", "ERROR"):
            self.failed += n
            self.unexplained += n if kind.standing != "explained" else 0


class OverviewRow(msgspec.Struct):
    """One implementation: what became of each of its checks."""

    record: ImplementationRecord
    cells: dict[str, CheckSummary]
    classes: list[str]
    class_a: summary.Rho
    whole: CheckSummary
    cases: int

    @property
    def state(self) -> State:
        """The state of the implementation, from those of its checks."""
        return self.whole.state if self.record.available else "not judged"


def lines(run: Run, rows: Iterable[summary.Row], counts: Iterable[Count], groups: Iterable[Group]) -> list[OverviewRow]:
    """Return a line for each implementation: those that depart first, then in the run's order."""
    known = {row.id: row for row in rows}
    found = {
        r.id: OverviewRow(r, {}, known[r.id].classes, known[r.id].class_a, CheckSummary(), known[r.id].cases)
        for r in run.implementations
    }
    for count in counts:
        line = found.get(count.kind.implementation)
        if line:
            line.cells.setdefault(count.kind.check, CheckSummary()).take(count)
            line.whole.take(count)
    for group in groups:
        line = found.get(group.kind.implementation)
        cell = line.cells.get(group.kind.check) if line and group.kind.standing else None
        if cell and not cell.anchor:
            cell.anchor = group.anchor
    return sorted(found.values(), key=lambda line: _ORDER.get(line.state, len(_ORDER)))


class Headline(msgspec.Struct):
    """How many implementations are in which state, and the failures of each standing."""

    states: dict[str, list[str]]
    failures: int
    explained: int
    divergences: int

    @property
    def unexplained(self) -> int:
        """Failures that no known divergence explains."""
        return self.failures - self.explained


def headline(found: list[OverviewRow], counts: Iterable[Count]) -> Headline:
    """Return the headline of these lines."""
    states: dict[str, list[str]] = {state: [] for state in SIGNS}
    for line in found:
        states[line.state].append(line.record.id)
    failing = [c for c in counts if c.kind.standing]
    explained = [c for c in failing if c.kind.standing == "explained"]
    names = {name for c in explained for name in c.kind.divergences.split(", ")}
    return Headline(states, sum(c.number for c in failing), sum(c.number for c in explained), len(names))
