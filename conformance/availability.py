"""Whether implementations can run here, asked of the workers that would host them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from conformance.environment import Environment, Limits, Listing, Worker, WorkerDied
from conformance.results import ImplementationRecord
from conformance.roster import EXTRAS, Entry, environments


def record(entry: Entry, listing: Listing | str, versions: dict[str, str]) -> ImplementationRecord:
    """Return what a run says of an implementation; `listing` is a worker's word on it, or why there is none."""
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
    )


def advice(reason: str, environment: str) -> str:
    """Return the reason with what to do about it, where a package is missing.

    >>> advice("ModuleNotFoundError: No module named 'torch'", "torch")
    "ModuleNotFoundError: No module named 'torch'; pip install 'batchnorm-conformance[torch]'"
    """
    if "ModuleNotFoundError" in reason and environment in EXTRAS:
        return f"{reason}; pip install 'batchnorm-conformance[{EXTRAS[environment]}]'"
    return reason


def is_optional(reason: str, packages: list[str]) -> bool:
    """Return whether a run is complete without what is missing for this reason, unless it was asked for.

    What is not installed is optional; what is there and does not work is not.

    >>> is_optional("ModuleNotFoundError: No module named 'torch'; pip install …", ["torch"])
    True
    >>> is_optional("ModuleNotFoundError: No module named 'torch._C'", ["torch"])
    False
    """
    absent = (f"ModuleNotFoundError: No module named '{package}'" for package in packages)
    return reason.startswith(("not created", *absent))


def check(entries: list[Entry], interpreters: dict[str, str]) -> list[ImplementationRecord]:
    """Start each environment's worker once and return what it says of its implementations."""
    found: list[ImplementationRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        for host in environments(entries, interpreters):
            hosted = [entry for entry in entries if entry.host == host.name]
            found += _ask(host, hosted, Path(folder))
    return found


def _ask(host: Environment, entries: list[Entry], folder: Path) -> list[ImplementationRecord]:
    try:
        worker = Worker(host, Limits(), folder / f"{host.name}.log")
    except WorkerDied as error:
        return [record(entry, str(error), {}) for entry in entries]
    worker.close()
    announced = {listing.id: listing for listing in worker.hello.implementations}
    return [record(e, announced.get(e.id, "its worker does not know it"), worker.hello.versions) for e in entries]
