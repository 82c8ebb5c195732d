"""Who of an environment can answer, and which cases each is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from conformance.cases import corpus
from conformance.cases.recipe import Signature
from conformance.hosts import availability, going_on
from conformance.hosts.environment import Worker
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.participants import Participants
from conformance.hosts.roster import RosterEntry
from conformance.model import excluded, results
from conformance.model.results import Result
from conformance.model.statement import recorded
from conformance.model.stopwatch import part
from conformance.runs.dealing import Deal
from conformance.runs.gathering import Gathered
from conformance.runs.ledger import Ledger
from conformance.runs.progress import Progress
from conformance.runs.run_case import RunCase
from conformance.runs.taking_over import Earlier
from conformance.runs.turns import Turns


class Planning:
    """The plan of one run.

    deal: how it deals cases.
    incomplete: called with why the run is incomplete, and whose fault that is.
    answered: cases and implementations that an earlier run of the folder judged.
    earlier: another run, whose results are taken over where nothing has changed; out: the folder of this one.
    records: what is recorded of each implementation.
    """

    def __init__(
        self,
        who: Participants,
        deal: Deal,
        ledger: Ledger,
        progress: Progress,
        incomplete: Callable[[str, str], None],
        out: Path,
        earlier: Earlier | None = None,
    ) -> None:
        self.who, self._deal, self.ledger, self.progress, self._incomplete = who, deal, ledger, progress, incomplete
        self.answered, self.records = set[tuple[str, str]](), dict[str, results.ImplementationRecord]()
        self._out, self._earlier, self._unchanged = out, earlier, set[str]()

    @part("plan")
    def planned(self, worker: Worker | LocalWorker, turns: Turns, gathered: Gathered) -> list[going_on.AskedCase]:
        """Return what the implementations of an environment are asked, those that its worker can host.

        The environment's are then those that support what the installed versions do.
        """
        turns.entries, entries = self._told(turns.entries, worker)
        items = gathered.items
        pool = {entry.id: self._deal.pooled(entry.id, entry.statement, gathered.signatures) for entry in entries}
        asked = {i: [e.id for e in entries if self._is_asked(item, e, pool[e.id])] for i, item in items.items()}
        self.progress.started(turns.name, Counter(identity for ids in asked.values() for identity in ids))
        self._tell_unasked(entries, {identity for ids in asked.values() for identity in ids})
        self._tell_taken(turns.name, entries)
        return [going_on.AskedCase(i, items[i].case, ids) for i, ids in asked.items() if ids]

    def _told(
        self, entries: list[RosterEntry], worker: Worker | LocalWorker
    ) -> tuple[list[RosterEntry], list[RosterEntry]]:
        """Record the implementations; return all with what is supported here, and those that the worker can host."""
        announced = {listing.id: listing for listing in worker.hello.implementations}
        here: list[RosterEntry] = []
        ready: set[str] = set()
        for entry in entries:
            listing = announced.get(entry.id, "its worker does not know it")
            record = self.listed(entry, listing, worker.hello.versions)
            here.append(msgspec.structs.replace(entry, statement=recorded(record)))
            ready |= {entry.id} if record.available else set[str]()
        return here, [entry for entry in here if entry.id in ready]

    def listed(
        self, entry: RosterEntry, said: availability.Said, versions: dict[str, str]
    ) -> results.ImplementationRecord:
        """Record whether an implementation is available, and say so if it is not."""
        record = availability.record(entry, said, versions)
        self.ledger.write(record)
        self.ledger.took({record.id: 0.0})  # whoever answers nothing costs nothing, which the next run wants to know
        self.records[record.id] = record
        if record.available:
            if self._earlier and self._earlier.unchanged(record):
                self._unchanged.add(record.id)
            return record
        named = self.who.requested or entry.environment in self.who.interpreters
        message = f"{record.id} is not available: {record.reason}"
        if availability.is_absent(entry, said) and not named:
            self.progress.note(message)
        else:
            self._incomplete(message, record.id)
        return record

    def _tell_unasked(self, entries: list[RosterEntry], asked: set[str]) -> None:
        """Report each implementation that is asked no case, and which facts exclude it."""
        why = list(self.ledger.counted.excluded())
        answered = {identity for _, identity in self.answered} | self.ledger.taken.keys()
        for entry in entries:
            if entry.id not in asked | answered:
                own = excluded.brief((name, reason) for name, reason in why if name == entry.id)
                none = "no case of its signatures" if entry.statement.compiled else "no case that it is dealt"
                self.progress.note(f"{entry.id} is asked nothing: {own or none}; ask more cases")

    def _is_asked(self, item: RunCase, entry: RosterEntry, pooled: list[Signature]) -> bool:
        """Return whether an implementation gets a case that it supports: what it is dealt, and what is named for it."""
        if (item.id, entry.id) in self.answered:
            return False
        named = isinstance(item.origin, corpus.Named) and item.origin.about.asks(entry.id)
        if entry.statement.compiled and not (item.signature or named):
            return False
        reason = entry.statement.unsupported(*item.facts)
        if reason:
            self.ledger.write(Result(item.id, entry.id, "UNSUPPORTED", reason=reason))
        asked = not reason and (named or self._is_dealt(item, entry, pooled))
        return asked and not self._is_taken(item, entry)

    def _is_dealt(self, item: RunCase, entry: RosterEntry, pooled: list[Signature]) -> bool:
        if entry.statement.compiled:
            return item.signature in pooled
        return isinstance(item.origin, corpus.Named) or self._deal.gives(item.index, entry.id)

    def _is_taken(self, item: RunCase, entry: RosterEntry) -> bool:
        """Take over what the earlier run judged, if nothing has changed since; return whether there was anything."""
        if self._earlier is None or entry.id not in self._unchanged:
            return False
        found = self._earlier.take(item.id, entry.id, self._out)
        self.ledger.take(entry.id, found)
        return bool(found)

    def _tell_taken(self, environment: str, entries: list[RosterEntry]) -> None:
        if self._earlier is None:
            return
        taken = sum(self.ledger.taken[entry.id] for entry in entries)
        changed = sum(entry.id not in self._unchanged for entry in entries)
        self.progress.note(
            f"{environment}: {taken} results taken over from {self._earlier.folder}; "
            f"{changed} of {len(entries)} implementations are not what they were"
        )
