"""Whether a run sees what is publicly known: the recall list, each entry found, not found, or not applicable here."""

from __future__ import annotations

import dataclasses
import fnmatch
import threading
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from conformance.gate import divergences
from conformance.hosts.roster import RosterEntry
from conformance.judging.judgment import judge
from conformance.model import vocabulary
from conformance.model.errors import InvalidInput
from conformance.model.numerics import Numerics
from conformance.model.outcome import Reply
from conformance.model.results import ImplementationRecord, Record, Result, Rho
from conformance.model.rules import Rule
from conformance.model.spelling import Misspelt
from conformance.model.statement import Statement
from conformance.runs import run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress
from conformance.runs.run_case import RunCase
from reference import Semantics

FILE = Path(__file__).with_name("recall.toml")
Status = Literal["found", "not found", "not applicable"]


class Instead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody would have expected instead: other semantics, another numerical class, or no refusal."""

    semantics: dict[str, Any] = {}
    numerics: dict[str, Any] = {}
    answers: bool = False

    @classmethod
    def of_words(cls, words: dict[str, Any]) -> Instead:
        """Return what is expected in the words of a statement, whichever of its two tables they are of."""
        known = {
            "semantics": {f.name for f in dataclasses.fields(Semantics)},
            "numerics": {*Numerics.__struct_fields__},
        }
        if stray := [name for name in words if not any(name in names for names in known.values())]:
            known_words = ", ".join(sorted(known["semantics"] | known["numerics"]))
            raise InvalidInput(f"{stray[0]}: is no word of a statement; use one of {known_words}")
        found = {of: {n: value for n, value in words.items() if n in names} for of, names in known.items()}
        try:
            vocabulary.check_semantics("semantics", found["semantics"])
            vocabulary.check_numerics("numerics", found["numerics"])
        except Misspelt as error:
            raise InvalidInput(f"what is expected is not valid: {error}") from error
        return cls(found["semantics"], found["numerics"])

    def of(self, statement: Statement) -> Statement:
        """Return the statement that would have been expected."""
        rules = [*statement.rules, Rule("the recall list", semantics=self.semantics, numerics=self.numerics)]
        return msgspec.structs.replace(statement, rules=rules, refusals=[] if self.answers else statement.refusals)


class KnownReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that is publicly known. Its fields are described in `recall.toml`."""

    id: str
    title: str
    reference: str
    implementations: list[str]
    case: str
    instead: Instead | None = None
    divergence: str = ""
    outputs: tuple[str, ...] = ()
    unshown: str = ""

    def names(self, identity: str) -> bool:
        """Return whether it is about an implementation."""
        return any(fnmatch.fnmatchcase(identity.partition("@")[0], pattern) for pattern in self.implementations)


class Recalled(msgspec.Struct, frozen=True):
    """An entry, and what became of it; case: the worst failure that shows it, by its name in the corpus or its id."""

    id: str
    status: Status
    title: str
    reference: str
    case: str = ""
    implementation: str = ""
    output: str = ""
    rho: Rho = None
    reason: str = ""


def read(path: Path = FILE) -> list[KnownReport]:
    """Return the recall list."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text())["entry"], list[KnownReport])
    except (KeyError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{path}: {error}; mend it there") from error


def recalled(options: Options, progress: Progress, entries: list[KnownReport]) -> list[Recalled]:
    """Make a run, and return every entry with what became of it."""
    recall = Recall(entries)
    Campaign(options, progress, recall.note).run()
    found = run_file.read(options.out)
    return recall.recalled([*found.implementations, *found.results])


class Recall:
    """Judges every answer of a run by what somebody would have expected, too, and keeps what shows an entry."""

    def __init__(self, entries: list[KnownReport]) -> None:
        self.entries, self._lock = entries, threading.Lock()
        self._known = {divergence.id: divergence for divergence in divergences.read()}
        self._shown: dict[str, tuple[RunCase, Result]] = {}

    def note(self, item: RunCase, entry: RosterEntry, reply: Reply, found: list[Result]) -> None:
        """Note the entries that an answer shows."""
        for wanted in (e for e in self.entries if e.names(entry.id)):
            for result in self._showing(wanted, item, entry.statement, reply, found):
                self._keep(wanted, item, result)

    def _keep(self, wanted: KnownReport, item: RunCase, result: Result) -> None:
        with self._lock:  # another environment may show the same entry
            before = self._shown.get(wanted.id)
            if before is None or result.size > before[1].size:
                self._shown[wanted.id] = item, result

    def _showing(
        self, wanted: KnownReport, item: RunCase, statement: Statement, reply: Reply, own: list[Result]
    ) -> list[Result]:
        """Return the failures that show an entry: against what was expected, or predicted by a known divergence."""
        if wanted.instead is None:
            known = self._known.get(wanted.divergence)
            failed = [result for result in own if result.verdict == "FAIL" and result.step >= 0]
            return [r for r in failed if known and known.covers(item.facts[r.step], r.output)]
        right = {(result.step, result.output) for result in own if result.verdict == "PASS"}
        expected = judge(item.id, item.exact_case, wanted.instead.of(statement), reply)
        return [
            result
            for result in expected
            if result.verdict == "FAIL"
            and result.output in wanted.outputs
            and ((result.step, result.output) in right or (result.step, "outcome") in right)
        ]

    def recalled(self, records: Sequence[Record]) -> list[Recalled]:
        """Return every entry with what became of it in a run of these records."""
        return [self._recalled(entry, records) for entry in self.entries]

    def _recalled(self, entry: KnownReport, records: Sequence[Record]) -> Recalled:
        about = (entry.title, entry.reference)
        if entry.id in self._shown:
            item, result = self._shown[entry.id]
            rho = None if result.rho is msgspec.UNSET else result.rho
            name = item.record().name or item.id
            return Recalled(entry.id, "found", *about, name, result.implementation, result.output, rho, result.reason)
        if entry.unshown:
            return Recalled(entry.id, "not applicable", *about, reason=entry.unshown)
        asked = [record for record in records if isinstance(record, ImplementationRecord) and entry.names(record.id)]
        if why := _nothing_judged(asked, [record for record in records if isinstance(record, Result)]):
            return Recalled(entry.id, "not applicable", *about, reason=why)
        return Recalled(entry.id, "not found", *about, reason=f"{len(asked)} implementations were asked")


def _nothing_judged(asked: list[ImplementationRecord], found: list[Result]) -> str:
    """Return why nothing was judged of whoever could show an entry, empty where something was."""
    if not any(record.available for record in asked):
        return "; ".join(sorted({f"{record.id}: {record.reason}" for record in asked})) or "nobody was asked"
    ids = {record.id for record in asked}
    judged = any(r.implementation in ids and r.verdict in ("PASS", "FAIL") for r in found)
    return "" if judged else f"nothing was judged of {', '.join(sorted(ids))}"
