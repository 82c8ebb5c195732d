"""What families of implementations do with cases of the corpus, release by release, as a page."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from conformance.cases import corpus
from conformance.hosts import releases, roster
from conformance.hosts.participants import Participants
from conformance.studies.bisecting import trying
from conformance.studies.bisecting.trying import Effect, Experiment, State, Trial

PLAN = Path(__file__).with_name("history.toml")
_MARKS: dict[State, str] = {
    "passes": "✓",
    "fails": "✗",
    "refuses": "refuses",
    "crashes": "crashes",
    "not compared": "·",
    "cannot run here": "–",
    "cannot be built": "not built",
    "not supported": "·",
}
_HEAD = """# What changed from release to release

Made by `make history`: {columns} releases of {families} families on a CPU, each in an environment of its own, asked the
same cases of the corpus, and judged by what is promised of the newest. A row is shown where a release answers otherwise
than the last before it that answered: ✓ as promised today; ✗ not so, with ρ of the worst output; – the release lacks
what is called; · not compared. Ask further with `bnconf bisect CASE -i ID --package NAME`.
"""
MEANINGS = (
    "✓ as promised today; ✗ not so, with ρ of the worst output; – the release lacks what is called; · not compared"
)


class HistoryFamily(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Implementations of one package, and the releases that are asked."""

    name: str
    package: str
    implementations: list[str]
    versions: list[str]


class HistoryPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked: names of the corpus, of each family."""

    cases: list[str]
    family: list[HistoryFamily]


class HistoryCell(msgspec.Struct, frozen=True):
    """What a release did with one case of one implementation."""

    implementation: str
    case: str
    answer: Effect


class HistoryColumn(msgspec.Struct, frozen=True):
    """One release: its date, what it ran on and with, and what it did."""

    version: str
    date: str
    python: str
    versions: dict[str, str]
    cells: list[HistoryCell]


class FamilyHistory(msgspec.Struct, frozen=True):
    """The history of one family, as it is kept between runs."""

    family: HistoryFamily
    columns: list[HistoryColumn]


class HistoryRow(NamedTuple):
    """One case of one implementation, release by release; None where the release was not asked it."""

    implementation: str
    case: str
    answers: list[Effect | None]

    @property
    def changes(self) -> Iterator[tuple[int, int]]:
        """The pairs of columns that follow one another among those that answered, and differ."""
        known = [n for n, answer in enumerate(self.answers) if answer is not None and answer.decisive]
        for old, new in itertools.pairwise(known):
            if _state(self.answers[old]) != _state(self.answers[new]):
                yield old, new


def _state(answer: Effect | None) -> str:
    return answer.state if answer else ""


def plan(file: Path = PLAN) -> HistoryPlan:
    """Return what is to be asked."""
    return msgspec.convert(tomllib.loads(file.read_text()), HistoryPlan)


def ask(family: HistoryFamily, names: list[str], say: Callable[[str], None]) -> FamilyHistory:
    """Ask every release of a family."""
    cases = {case.name: case.case for case in corpus.read() if case.name in names}
    where = releases.index()
    who = Participants(roster.select(tuple(family.implementations)), requested=True)
    experiment = Experiment(family.package, list(cases.values()), who, where)
    known = releases.of(family.package, where)
    wanted = [releases.named(known, family.name, version) for version in family.versions]
    return FamilyHistory(family, [_column(trying.ask(experiment, one, say), list(cases)) for one in wanted])


def _column(trial: Trial, names: list[str]) -> HistoryColumn:
    cells = [HistoryCell(who, names[n], a) for (who, n), a in trial.answers.items() if a.state != "not supported"]
    day = trial.release.date
    return HistoryColumn(str(trial.release.version), str(day or ""), trial.python, trial.versions, cells)


def rows(told: FamilyHistory) -> list[HistoryRow]:
    """Return the history of each implementation and case."""
    by = [{(cell.implementation, cell.case): cell.answer for cell in column.cells} for column in told.columns]
    keys = dict.fromkeys(key for column in by for key in column)
    return [HistoryRow(*key, [column.get(key) for column in by]) for key in keys]


def page(found: list[FamilyHistory]) -> str:
    """Return the history of all families as Markdown."""
    columns = sum(len(told.columns) for told in found)
    head = _HEAD.format(columns=columns, families=len(found))
    return head + "".join(f"{line}\n" for told in found for line in _of_family(told))


def _of_family(told: FamilyHistory) -> Iterator[str]:
    found = rows(told)
    changing = [row for row in found if any(row.changes)]
    yield from ("", f"## {told.family.name}", "")
    yield "| | " + " | ".join(f"{c.version}<br>{c.date}" for c in told.columns) + " |"
    yield "|---" * (len(told.columns) + 1) + "|"
    yield from _absent(told, found)
    for row in changing:
        yield f"| `{row.implementation}` `{row.case}` | {' | '.join(map(_mark, row.answers))} |"
    yield ""
    same = len(found) - len(changing)
    yield f"{same} further rows are the same in all releases that answer: {_alike(found, changing)}."
    if changing:
        yield ""
    for row in changing:
        yield from (f"- {_sentence(told, row, old, new)}" for old, new in row.changes)


def _absent(told: FamilyHistory, found: list[HistoryRow]) -> Iterator[str]:
    """Yield a row for each implementation that some release cannot be asked at all, with why."""
    for who in dict.fromkeys(row.implementation for row in found):
        of_one = [row for row in found if row.implementation == who]
        silent = [not any(r.answers[n] and r.answers[n].decisive for r in of_one) for n in range(len(told.columns))]  # type: ignore[union-attr]
        if any(silent):
            yield f"| `{who}` | {' | '.join('–' if one else '' for one in silent)} |"


def _mark(answer: Effect | None) -> str:
    if answer is None:
        return ""
    rho = answer.failing.partition("(ρ ")[2].partition(")")[0]
    return f"{_MARKS[answer.state]} {rho}" if answer.state == "fails" else _MARKS[answer.state]


def _alike(found: list[HistoryRow], changing: list[HistoryRow]) -> str:
    known = [row for row in found if row not in changing]
    passing = sum(all(a is None or a.state != "fails" for a in row.answers) for row in known)
    return f"{passing} as promised, {len(known) - passing} not"


def _sentence(told: FamilyHistory, row: HistoryRow, old: int, new: int) -> str:
    before, after = told.columns[old], told.columns[new]
    said = f"{told.family.package} {before.version} {row.answers[old]}; {after.version} {row.answers[new]}"
    return f"`{row.implementation}`, `{row.case}`: {said}"
