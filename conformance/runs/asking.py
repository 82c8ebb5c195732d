"""Implementations asked one case after the other, as an adaptive search does."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from conformance.hosts import availability, going_on
from conformance.hosts import environment as env
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.participants import Participants
from conformance.hosts.roster import RosterEntry
from conformance.model.case import Case
from conformance.model.errors import Incomplete
from conformance.model.outcome import Reply
from conformance.model.results import ImplementationRecord
from conformance.model.statement import Statement, recorded

Ask = Callable[[Case], Reply]


def each(who: Participants) -> Generator[tuple[RosterEntry, ImplementationRecord, Ask]]:
    """Yield every implementation with its record and a function that asks it, valid until the next.

    Each environment is started once. Raise Incomplete where an implementation is not available.
    """
    with tempfile.TemporaryDirectory() as folder:
        for host in who.environments():
            entries, log = who.hosted(host), Path(folder) / f"{host.name}.log"
            started = availability.hosting(host, entries, who.limits, log, in_process=who.in_process)
            with started as (worker, records, _):
                for entry, record in zip(entries, records, strict=True):
                    if worker is None or not record.available:
                        raise Incomplete(f"{entry.id} is not available: {record.reason}")
                    here = msgspec.structs.replace(entry, statement=recorded(record))
                    yield here, record, functools.partial(_ask, worker, entry.id, here.statement)


def _ask(worker: env.Worker | LocalWorker, identity: str, statement: Statement, case: Case) -> Reply:
    return next(going_on.ask(worker, [going_on.AskedCase(0, case, [identity])], {identity: statement}))
