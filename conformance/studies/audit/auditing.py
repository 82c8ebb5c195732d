"""An audit: every implementation asked what may settle its fields, and more, each environment started once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from conformance.gate.divergences import Divergence
from conformance.hosts import availability, going_on
from conformance.hosts import environment as env
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.participants import Participants
from conformance.hosts.roster import RosterEntry
from conformance.judging.exact_case import ExactCase
from conformance.model.codec import encode_case
from conformance.model.outcome import Reply
from conformance.studies.audit.blame import OtherNumerics, Unexplained
from conformance.studies.audit.cells import FOLDER, FieldFinding, Inapplicable, Settling
from conformance.studies.audit.dimensions import Beyond
from conformance.studies.audit.subject import Subject, Try

SCHEMA = 1


class Audit(msgspec.Struct):
    """What an audit found.

    missing: why implementations could not be asked, by id.
    numerics, unexplained: what contradicts a statement without being due to one field.
    """

    schema: int = SCHEMA
    cells: list[FieldFinding] = []
    inapplicable: list[Inapplicable] = []
    versions: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    numerics: list[OtherNumerics] = []
    unexplained: list[Unexplained] = []

    @property
    def contradicted(self) -> bool:
        """Whether an answer contradicts what is promised."""
        refuted = any(cell.status == "refuted" for cell in self.cells)
        return refuted or bool(self.numerics) or bool(self.unexplained)


class Auditor:
    """An audit in progress; each case that is asked is kept in a folder in `out`.

    Implementations that are asked the same case share its `ExactCase`.
    """

    def __init__(self, who: Participants, out: Path, known: list[Divergence], tell: Callable[[str], None]) -> None:
        self.who, self.known, self.tell, self.found = who, known, tell, Audit()
        self._exact_cases: dict[str, ExactCase] = {}
        self._cases = out / FOLDER

    def run(self) -> Audit:
        """Audit one environment after the other; findings come in the order in which implementations were named."""
        self._cases.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            for host in self.who.environments():
                self._host(host, self.who.hosted(host), Path(folder) / f"{host.name}.log")
        order = {entry.id: n for n, entry in enumerate(self.who.entries)}
        self.found.cells.sort(key=lambda cell: order[cell.implementation])
        self.found.inapplicable.sort(key=lambda one: order[one.implementation])
        return self.found

    def _host(self, host: env.Environment, entries: list[RosterEntry], log: Path) -> None:
        started = availability.hosting(host, entries, self.who.limits, log, in_process=self.who.in_process)
        with started as there:
            worker, records, _ = there
            self.found.missing |= availability.missing(there, requested=self.who.requested)
            if worker:
                there_are = [record for record in records if record.available]
                subjects = [Subject.of(record, self.known) for record in there_are]
                beyond = [Beyond(*both, self.known) for both in zip(there_are, subjects, strict=True)]
                self.found.versions |= {record.id: record.versions for record in there_are}
                asked = {s.id: [*s.tries(), *b.tries()] for s, b in zip(subjects, beyond, strict=True)}
                self._settle(subjects, beyond, self._ask(worker, asked))
                self.tell(f"{host.name}: {len(subjects)} implementations audited")

    def _ask(self, worker: env.Worker | LocalWorker, asked: dict[str, list[Try]]) -> dict[str, dict[str, Reply]]:
        """Return the replies by implementation and case."""
        tries: dict[str, Try] = {}
        wanted: dict[str, list[str]] = {}
        for identity, t in ((identity, t) for identity, its in asked.items() for t in its):
            tries[t.id] = t
            if identity not in wanted.setdefault(t.id, []):
                wanted[t.id].append(identity)
        for identity, t in tries.items():
            self._exact_cases.setdefault(identity, ExactCase(t.case))
            (self._cases / f"{identity}.safetensors").write_bytes(encode_case(t.case, sealed=True))
        replies: dict[str, dict[str, Reply]] = {identity: {} for identity in asked}
        order = list(tries)  # an answer ends where a step is refused: what a mask means to the next is another field
        ones = (going_on.AskedCase(number, tries[one].case, wanted[one]).request() for number, one in enumerate(order))
        for reply in worker.ask(ones):
            replies[reply.implementation][order[reply.request]] = reply
        return replies

    def _settle(self, subjects: list[Subject], beyond: list[Beyond], replies: dict[str, dict[str, Reply]]) -> None:
        for subject, more in zip(subjects, beyond, strict=True):
            settling = Settling(subject, replies[subject.id], self._exact_cases)
            cells, blame = settling.cells(), settling.blame
            contradicted = blame.mismatches or blame.unexplained or any(c.status == "refuted" for c in cells)
            observed = blame.observed if contradicted else None
            self.found.cells += [*cells, *more.cells(replies[subject.id], self._exact_cases, observed)]
            self.found.inapplicable += [*settling.inapplicable(), *more.inapplicable]
            self.found.numerics += settling.blame.mismatches
            self.found.unexplained += settling.blame.unexplained.values()
