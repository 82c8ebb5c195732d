"""Implementations asked one case after the other, as an adaptive search does."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from conformance import availability, going_on
from conformance import environment as env
from conformance.campaign import Options
from conformance.case import Case
from conformance.errors import Incomplete
from conformance.in_process import LocalWorker
from conformance.outcome import Reply
from conformance.results import ImplementationRecord
from conformance.roster import Entry, environments
from conformance.statement import Statement

Ask = Callable[[Case], Reply]


def each(options: Options) -> Iterator[tuple[Entry, ImplementationRecord, Ask]]:
    """Yield every implementation with its record and a function that asks it, valid until the next.

    Each environment is started once. Raise Incomplete where an implementation is not available.
    """
    with tempfile.TemporaryDirectory() as folder:
        for host in environments(options.entries, options.interpreters):
            entries, log = [e for e in options.entries if e.host == host.name], Path(folder) / f"{host.name}.log"
            started = availability.hosting(host, entries, options.limits, log, in_process=options.in_process)
            with started as (worker, records):
                for entry, record in zip(entries, records, strict=True):
                    if worker is None or not record.available:
                        raise Incomplete(f"{entry.id} is not available: {record.reason}")
                    yield entry, record, functools.partial(_ask, worker, entry.id, entry.statement)


def _ask(worker: env.Worker | LocalWorker, identity: str, statement: Statement, case: Case) -> Reply:
    return next(going_on.ask(worker, [going_on.Asked(0, case, [identity])], {identity: statement}))
