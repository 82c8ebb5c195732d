"""What families of implementations do with cases of the corpus, release by release."""

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
from conformance.studies.bisecting.effects import Effect
from conformance.studies.bisecting.trying import Experiment, Trial

PLAN = Path(__file__).with_name("history.toml")


class HistoryFamily(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Implementations of one package, and the releases that are asked.

    everything: the whole corpus is asked, and not the cases of the plan alone.
    said: what a reader is to know of how they were asked.
    """

    name: str
    package: str
    implementations: list[str]
    versions: list[str]
    everything: bool = False
    said: str = ""


class HistoryPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked: names of the corpus, of each family; news: what nobody had published before, as Markdown."""

    cases: list[str]
    news: list[str]
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


class HistoryQuestions:
    """The releases of a family, each asked the same cases."""

    def __init__(self, family: HistoryFamily, names: list[str], say: Callable[[str], None]) -> None:
        """Look the releases up; names: the cases that every family is asked."""
        cases = {case.name: case.case for case in corpus.read() if family.everything or case.name in names}
        who = Participants(roster.select(tuple(family.implementations)), requested=True)
        self._experiment = Experiment(family.package, list(cases.values()), who, releases.index())
        self._known = releases.of(family.package, self._experiment.where)
        self._family, self._names, self._say = family, list(cases), say

    def column(self, version: str) -> HistoryColumn:
        """Ask one release."""
        release = releases.named(self._known, self._family.name, version)
        afresh = msgspec.structs.replace(self._experiment, beyond=[])  # what one release lacks is no other's concern
        return _column(trying.ask(afresh, release, self._say), self._names)


def _column(trial: Trial, names: list[str]) -> HistoryColumn:
    cells = [HistoryCell(who, names[n], a) for (who, n), a in trial.answers.items() if a.state != "not supported"]
    day = trial.release.date
    return HistoryColumn(str(trial.release.version), str(day or ""), trial.python, trial.versions, cells)


def rows(told: FamilyHistory) -> list[HistoryRow]:
    """Return the history of each implementation and case."""
    by = [{(cell.implementation, cell.case): cell.answer for cell in column.cells} for column in told.columns]
    keys = dict.fromkeys(key for column in by for key in column)
    return [HistoryRow(*key, [column.get(key) for column in by]) for key in keys]
