"""Baselines: the worst ρ of an accepted run by implementation, output and class; JSON lines in `reports/baseline/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from conformance.model.errors import InvalidInput
from conformance.model.results import Run
from conformance.runs import commands, summary

WORSE = 2.0
"""The factor by which a worst ρ may grow inside the bound before the gate warns."""


class BaselineRow(msgspec.Struct, frozen=True):
    """The worst ρ of one implementation, output and class, with how many arrays were judged and how many failed."""

    implementation: str
    output: str
    numerics: str
    rho: summary.Rho
    judged: int
    failed: int
    versions: dict[str, str]


class Baseline(msgspec.Struct, frozen=True):
    """A baseline, read back."""

    lines: list[BaselineRow]


def of(run: Run) -> list[BaselineRow]:
    """Return the baseline of a run, in a stable order."""
    versions = {record.id: record.versions for record in run.implementations}
    found: dict[tuple[str, str, str], summary.Worst] = {}
    for result in run.results:
        if result.rho is not msgspec.UNSET:
            key = result.implementation, summary.key(result), result.numerics
            found.setdefault(key, summary.Worst()).add(result)
    return [
        BaselineRow(*key, worst.rho, worst.judged, worst.failed, versions.get(key[0], {}))
        for key, worst in sorted(found.items())
    ]


def write(run: Run, path: Path) -> Path:
    """Write the baseline of a run, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in of(run)))
    return path


def read(path: Path) -> Baseline:
    """Return a baseline from its file."""
    try:
        lines = [line for line in path.read_bytes().splitlines() if line.strip()]
        return Baseline([msgspec.json.decode(line, type=BaselineRow) for line in lines])
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path}: is no baseline ({error}); write one from a run: "
            + commands.line("gate", "reports/latest", "--write-baseline", commands.file(path))
        ) from error


def versions_changed(run: Run, base: Baseline) -> Iterator[tuple[str, str, str]]:
    """Yield each implementation that runs on other versions than in the baseline, with both."""
    before = {line.implementation: line.versions for line in base.lines}
    for record in run.implementations:
        old = before.get(record.id, record.versions)
        differ = [name for name in sorted(record.versions) if old.get(name) != record.versions[name]]
        if record.available and differ:
            yield record.id, _listed(old, differ), _listed(record.versions, differ)


def behaviour_changed(run: Run, base: Baseline) -> Iterator[tuple[str, str]]:
    """Yield what fails now and did not in the baseline, or the reverse: implementation, and output in words."""
    before = {(line.implementation, line.output): line.failed for line in base.lines if line.failed}
    now = {(line.implementation, line.output): line.failed for line in of(run) if line.failed}
    judged = {(line.implementation, line.output) for line in of(run)}
    yield from ((identity, f"{output} fails now") for identity, output in sorted(now.keys() - before.keys()))
    gone = (before.keys() - now.keys()) & judged
    yield from ((identity, f"{output} fails no longer") for identity, output in sorted(gone))


def _listed(versions: dict[str, str], names: list[str]) -> str:
    return ", ".join(f"{name} {versions.get(name, 'absent')}" for name in names)


def worsened(run: Run, base: Baseline) -> Iterator[tuple[str, str, float, float]]:
    """Yield outputs whose worst ρ grew by more than `WORSE` and is still at most 1: implementation, output, both."""
    before = {(line.implementation, line.output, line.numerics): line for line in base.lines}
    for line in of(run):
        old = before.get((line.implementation, line.output, line.numerics))
        was, now = summary.as_number(old.rho) if old else -1.0, summary.as_number(line.rho)
        if 0 < was * WORSE < now <= 1:
            yield line.implementation, f"{line.output} {line.numerics}", was, now
