"""The first page: the headline in words, and the table of implementations and checks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from conformance.gate.divergences import Divergence
from conformance.gate.outputs.checks import OUTCOMES, OUTPUTS
from conformance.model.results import ImplementationRecord, Run
from conformance.report.groups import Group
from conformance.report.tally import Count
from conformance.runs import summary
from conformance.runs.failures.groups import FailureGroup

CHECKS = [name.replace("_", " ") for name in ("y_train", "y_infer", *OUTPUTS, OUTCOMES)]
State = Literal["conforms", "explained", "departs", "nothing compared", "not judged"]
SIGNS: dict[str, str] = {
    "conforms": "✓",
    "explained": "▲",
    "departs": "✗",
    "nothing compared": "–",
    "not judged": "–",
}

_WORDS = {
    "Refused": ("refusal", "refusals"),
    "Crashed": ("crash", "crashes"),
    "TimedOut": ("timeout", "timeouts"),
    "Outputs": ("answer to what makes no sense", "answers to what makes no sense"),
    "": ("failure", "failures"),
}
"""How a step ended that gave no arrays to judge, of one and of many."""
_ORDER: dict[State, int] = {"departs": 0, "explained": 1}


class CheckSummary(msgspec.Struct):
    """One check of one implementation.

    worst: the largest ρ of its arrays; -1 where none has one.
    outcomes: how many failures are no arrays: refusals, crashes and the like.
    anchor: that of the group of failures with the worst of all, to which the cell leads.
    opens: the size of that worst.
    seen: whether each output was judged.
    """

    judged: int = 0
    failed: int = 0
    unexplained: int = 0
    worst: float = -1.0
    outcomes: int = 0
    kinds: set[str] = set()
    anchor: str = ""
    opens: float = -1.0
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
            self.worst = self.worst if kind.column == "outcome" else max(self.worst, count.worst)
        if kind.verdict in ("FAIL", "ERROR"):
            self.failed += n
            self.unexplained += n if kind.standing != "explained" else 0
            if kind.column == "outcome":
                self.outcomes += n
                self.kinds |= _kinds(count)

    @property
    def said(self) -> str:
        """What failed where no array has a ρ: `5 refusals`.

        >>> CheckSummary(outcomes=1, kinds={"Crashed"}).said, CheckSummary(outcomes=5, kinds={"Refused"}).said
        ('1 crash', '5 refusals')
        """
        one, many = _WORDS[next(iter(self.kinds))] if len(self.kinds) == 1 else _WORDS[""]
        return f"{self.outcomes} {one if self.outcomes == 1 else many}"


def _kinds(count: Count) -> set[str]:
    """Return how failures without arrays ended; where not all of them are kept, nothing that would hold for all."""
    return {row.result.outcome for row in count.rows} if len(count.rows) == count.number else {""}


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
        if cell and (not cell.anchor or group.worst.result.size > cell.opens):
            cell.anchor, cell.opens = group.anchor, group.worst.result.size
    return sorted(found.values(), key=lambda line: _ORDER.get(line.state, len(_ORDER)))


class Departure(msgspec.Struct):
    """One known divergence as the run shows it.

    number: of failures that it explains, alone or with others; worst: their largest ρ, -1 where all are without arrays.
    anchor: where the worst is listed.
    """

    divergence: Divergence
    number: int = 0
    implementations: list[str] = []
    worst: float = -1.0
    anchor: str = ""


def departures(groups: Iterable[Group], known: Iterable[Divergence]) -> list[Departure]:
    """Return the known divergences that the run shows, the worst first."""
    found = {divergence.id: Departure(divergence) for divergence in known}
    for group in groups:
        if group.kind.standing == "explained":
            for name in group.kind.divergences.split(", "):
                _add(found[name], group)
    return sorted((one for one in found.values() if one.number), key=lambda one: (-one.worst, -one.number))


def _add(departure: Departure, group: Group) -> None:
    size = -1.0 if group.kind.column == "outcome" else group.worst.result.size
    departure.number += group.number
    if group.kind.implementation not in departure.implementations:
        departure.implementations = [*departure.implementations, group.kind.implementation]
    if not departure.anchor or size > departure.worst:
        departure.worst, departure.anchor = size, group.anchor


class NewFailures(msgspec.Struct, frozen=True):
    """Failures of one implementation with one cause that nothing known explains; anchor: where the worst is listed."""

    failures: FailureGroup
    anchor: str


def unexplained(groups: Iterable[Group], told: Iterable[FailureGroup]) -> list[NewFailures]:
    """Return what the gate found of failures that nothing explains, the most failures first."""
    places = {(g.kind.implementation, row.result.output): g.anchor for g in groups if g.kind.standing for row in g.rows}
    found = [NewFailures(one, places.get((one.implementation, one.witness.output), "failures")) for one in told]
    return sorted(found, key=lambda one: -one.failures.results)


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


def packages(record: ImplementationRecord) -> str:
    """Return the versions of what an implementation is made of, without those of Python and NumPy that all have.

    >>> packages(ImplementationRecord("a@cpu", "a", "cpu", True, versions={"python": "3.11.7", "a": "1.0"}))
    'a 1.0'
    """
    own = {name: version for name, version in record.versions.items() if name not in ("python", "numpy")}
    return ", ".join(f"{name} {version}" for name, version in own.items())
