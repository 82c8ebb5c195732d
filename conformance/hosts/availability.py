"""Whether implementations can run here, asked of the workers that would host them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path

import msgspec

from conformance.hosts.environment import Environment, Limits, Listing, Worker, WorkerDied
from conformance.hosts.in_process import LocalWorker
from conformance.hosts.roster import EXTRAS, RosterEntry, environments
from conformance.hosts.targets import elsewhere, is_target
from conformance.model.results import ImplementationRecord


@contextlib.contextmanager
def hosting(
    host: Environment, entries: list[RosterEntry], limits: Limits, log: Path, *, in_process: bool = False
) -> Generator[tuple[Worker | LocalWorker | None, list[ImplementationRecord]]]:
    """Start an environment; yield its worker, or None if it died, with what is known of its implementations."""
    try:
        worker = LocalWorker(host) if in_process else Worker(host, limits, log)
    except WorkerDied as error:
        yield None, [record(entry, str(error), {}) for entry in entries]
        return
    announced = {listing.id: listing for listing in worker.hello.implementations}
    try:
        yield (
            worker,
            [
                record(e, announced.get(e.id, e.fault or "its worker does not know it"), worker.hello.versions)
                for e in entries
            ],
        )
    finally:
        worker.close()


def missing(entries: list[RosterEntry], records: list[ImplementationRecord], *, requested: bool) -> dict[str, str]:
    """Return, by id, why implementations cannot be asked that were asked for or should be there."""
    packages = {entry.id: entry.statement.packages for entry in entries}
    return {
        one.id: one.reason
        for one in records
        if not one.available and (requested or not is_optional(one.reason, packages[one.id]))
    }


def record(entry: RosterEntry, listing: Listing | str, versions: dict[str, str]) -> ImplementationRecord:
    """Return a run's record of an implementation; `listing` is what the worker said of it, or why it said nothing."""
    statement = entry.statement
    reason, about = (listing, {}) if isinstance(listing, str) else (listing.reason, listing.about)
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
    )


def advice(reason: str, environment: str) -> str:
    """Return the reason and, where a package is missing, the command that installs it.

    >>> advice("ModuleNotFoundError: No module named 'torch'", "torch")
    "ModuleNotFoundError: No module named 'torch'; pip install 'batchnorm-conformance[torch]'"
    """
    if "ModuleNotFoundError" in reason and environment in EXTRAS:
        return f"{reason}; pip install 'batchnorm-conformance[{EXTRAS[environment]}]'"
    return elsewhere(reason) if environment.startswith("user") else reason


def is_optional(reason: str, packages: list[str]) -> bool:
    """Return whether a run is complete without what is missing for this reason, provided that it was not asked for.

    A package that is not installed is optional; one that is installed and does not work is not.

    >>> is_optional("ModuleNotFoundError: No module named 'torch'; pip install …", ["torch"])
    True
    >>> is_optional("ModuleNotFoundError: No module named 'torch._C'", ["torch"])
    False
    """
    absent = (f"ModuleNotFoundError: No module named '{package}'" for package in packages)
    return reason.startswith(("not created", *absent))


def check(entries: list[RosterEntry], interpreters: dict[str, str]) -> list[ImplementationRecord]:
    """Start each environment's worker once and return what it says of its implementations."""
    found: list[ImplementationRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        for host in environments(entries, interpreters):
            hosted = [entry for entry in entries if entry.host == host.name]
            with hosting(host, hosted, Limits(), Path(folder) / f"{host.name}.log") as (_, records):
                found += records
    return found
