"""Whether implementations can run here, asked of the workers that would host them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import msgspec

from conformance.hosts import sources
from conformance.hosts.environment import Environment, Limits, Listing, NotCreated, Worker, WorkerDied
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.roster import EXTRAS, RosterEntry, environments
from conformance.hosts.targets import elsewhere, is_target
from conformance.model.results import ImplementationRecord
from conformance.model.spelling import Misspelt
from conformance.model.statement import Statement

Said = Listing | WorkerDied | str
"""What a worker said of an implementation, or why it said nothing."""


class Hosted(NamedTuple):
    """What hosts the implementations of one environment, and what is known of each.

    worker: None if it died.
    absent: the ids of those that a run is complete without, provided that they were not asked for.
    """

    worker: Worker | LocalWorker | None
    records: list[ImplementationRecord]
    absent: set[str]


@contextlib.contextmanager
def hosting(
    host: Environment, entries: list[RosterEntry], limits: Limits, log: Path, *, in_process: bool = False
) -> Generator[Hosted]:
    """Start an environment; yield its worker with what is known of its implementations."""
    try:
        worker = LocalWorker(host) if in_process else Worker(host, limits, log)
    except WorkerDied as error:
        yield _hosted(None, [(entry, error) for entry in entries])
        return
    announced = {listing.id: listing for listing in worker.hello.implementations}
    try:
        yield _hosted(worker, [(e, announced.get(e.id, e.fault or "its worker does not know it")) for e in entries])
    finally:
        worker.close()


def _hosted(worker: Worker | LocalWorker | None, told: list[tuple[RosterEntry, Said]]) -> Hosted:
    versions = worker.hello.versions if worker else {}
    records = [record(entry, said, versions) for entry, said in told]
    return Hosted(worker, records, {entry.id for entry, said in told if is_absent(entry, said)})


def missing(hosted: Hosted, *, requested: bool) -> dict[str, str]:
    """Return, by id, why implementations cannot be asked that were asked for or should be there."""
    gone = [one for one in hosted.records if not one.available]
    return {one.id: one.reason for one in gone if requested or one.id not in hosted.absent}


def record(entry: RosterEntry, said: Said, versions: dict[str, str]) -> ImplementationRecord:
    """Return a run's record of an implementation, with what the version that is installed supports."""
    reason, about = (said.reason, said.about) if isinstance(said, Listing) else (str(said), {})
    try:
        statement = _narrowed(entry.statement, said, versions)
    except Misspelt as error:
        statement, reason = entry.statement, f"its worker says what is narrower, and means nothing: {error}"
    packages = ("python", "numpy", *statement.packages)
    return ImplementationRecord(
        entry.id,
        statement.framework,
        entry.device,
        not reason,
        advice(reason, entry.environment),
        {name: found for name, found in versions.items() if name in packages},
        statement.documentation,
        statement.calibration,
        statement=msgspec.to_builtins(statement),
        named=entry.named,
        about=about,
        options=list(entry.options),
        directory=str(Path.cwd()) if is_target(entry.named) else "",
        sources=sources.digest(entry.target),
    )


def _narrowed(statement: Statement, said: Said, versions: dict[str, str]) -> Statement:
    if not isinstance(said, Listing) or not said.narrower:
        return statement
    named = next((f"{name} {versions[name]}" for name in statement.packages if name in versions), "this version")
    return statement.narrowed(said.narrower, named)


def advice(reason: str, environment: str) -> str:
    """Return the reason and, where a package is missing, the command that installs it.

    >>> advice("ModuleNotFoundError: No module named 'torch'", "torch")
    "ModuleNotFoundError: No module named 'torch'; pip install 'batchnorm-conformance[torch]'"
    """
    if "ModuleNotFoundError" in reason and environment in EXTRAS:
        return f"{reason}; pip install 'batchnorm-conformance[{EXTRAS[environment]}]'"
    return elsewhere(reason) if environment.startswith("user") else reason


def is_absent(entry: RosterEntry, said: Said) -> bool:
    """Return whether a package of its statement is not installed, or its environment is not made.

    A run is complete without it, provided that it was not asked for. What is installed and does not work is not absent.
    """
    return said.absent in entry.statement.packages if isinstance(said, Listing) else isinstance(said, NotCreated)


def check(entries: list[RosterEntry], interpreters: dict[str, str]) -> list[ImplementationRecord]:
    """Start each environment's worker once and return what it says of its implementations."""
    found: list[ImplementationRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        for host in environments(entries, interpreters):
            hosted = [entry for entry in entries if entry.host == host.name]
            with hosting(host, hosted, Limits(), Path(folder) / f"{host.name}.log") as hosted_here:
                found += hosted_here.records
    return found
