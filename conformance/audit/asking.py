"""Implementations asked one case after the other, as an adaptive search does."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from conformance import environment as env
from conformance.campaign import Options
from conformance.case import Case
from conformance.codec import encode_case
from conformance.errors import Incomplete
from conformance.in_process import LocalWorker
from conformance.outcome import Reply
from conformance.roster import Entry, environments

Ask = Callable[[Case], Reply]


def each(options: Options) -> Iterator[tuple[Entry, Ask]]:
    """Yield every implementation with a function that asks it, valid until the next; each environment started once."""
    with tempfile.TemporaryDirectory() as folder:
        for host in environments(options.entries, options.interpreters):
            worker = _worker(host, options, Path(folder) / f"{host.name}.log")
            listings = {listing.id: listing for listing in worker.hello.implementations}
            try:
                for entry in (entry for entry in options.entries if entry.host == host.name):
                    _check(entry, listings)
                    yield entry, functools.partial(_ask, worker, entry.id)
            finally:
                worker.close()


def _worker(host: env.Environment, options: Options, log: Path) -> env.Worker | LocalWorker:
    try:
        return LocalWorker(host) if options.in_process else env.Worker(host, options.limits, log)
    except env.WorkerDied as error:
        raise Incomplete(f"{host.name} cannot be asked: {error}") from error


def _check(entry: Entry, listings: dict[str, env.Listing]) -> None:
    listing = listings.get(entry.id)
    if listing is None or not listing.available:
        raise Incomplete(f"{entry.id} is not available: {listing.reason if listing else 'its worker does not know it'}")


def _ask(worker: env.Worker | LocalWorker, identity: str, case: Case) -> Reply:
    return next(iter(worker.ask([env.Request(0, functools.partial(encode_case, case), [identity])])))
