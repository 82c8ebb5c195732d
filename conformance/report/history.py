"""Runs in few numbers: what is kept of each, so that many can be compared without reading them again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from conformance.model.errors import InvalidInput
from conformance.model.results import Rho, Run
from conformance.runs import counts, run_file, summary

FILE = "summary.json"
"""What a run's folder keeps of it."""
HISTORY = "history"
"""The folder beside runs that holds summaries of those which were accepted."""


class Implementation(msgspec.Struct, omit_defaults=True):
    """One implementation in one run.

    worst: the worst ρ; inside: the worst of those that are within the bound.
    judged: how many arrays.
    failed: how many failures, of arrays and outcomes (`counts`).
    """

    versions: dict[str, str]
    worst: Rho = None
    inside: Rho = None
    judged: int = 0
    failed: int = 0


class Summary(msgspec.Struct, omit_defaults=True):
    """One run.

    decision: what the gate said of it; empty if the gate was not asked.
    name: that of its folder or file.
    """

    started: str
    seed: int
    cases: int
    version: str
    complete: bool
    judged: int
    failed: int
    implementations: dict[str, Implementation]
    decision: str = ""
    status: int | None = None
    name: str = ""
    report: str = ""

    @property
    def conforming(self) -> int:
        """How many implementations have no failure."""
        return sum(bool(i.judged) and not i.failed for i in self.implementations.values())


def of(run: Run, decision: str = "", status: int | None = None) -> Summary:
    """Return a run's summary."""
    found = {r.id: Implementation(r.versions) for r in run.implementations}
    for result in run.results:
        line = found.get(result.implementation)
        if line is None or result.verdict not in ("PASS", "FAIL", "ERROR"):
            continue
        line.judged += counts.is_judged(result)
        line.failed += result.failed
        if isinstance(result.rho, float | str):
            line.worst = _larger(line.worst, result.rho)
            line.inside = _larger(line.inside, result.rho) if result.verdict == "PASS" else line.inside
    h, lines = run.header, found.values()
    judged, failed = sum(i.judged for i in lines), sum(i.failed for i in lines)
    return Summary(h.started, h.seed, len(run.cases), h.version, run.complete, judged, failed, found, decision, status)


def _larger(one: Rho, other: Rho) -> Rho:
    return other if summary.as_number(other) > summary.as_number(one) else one


def keep(found: Summary, folder: Path) -> Path:
    """Write a summary into a run's folder."""
    path = folder / FILE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return path


def runs(reports: Path, *, read_all: bool = False) -> list[Summary]:
    """Return the runs kept in a folder, the oldest first: its run folders, and the summaries in its history.

    A run folder counts once it has a summary, which a report leaves there. With read_all, the others are read too.
    """
    kept = [(path.stem, read(path)) for path in sorted((reports / HISTORY).glob("*.json"))]
    folders = run_file.folders(reports)
    kept += [(folder.name, _of_folder(folder)) for folder in folders if read_all or (folder / FILE).exists()]
    named = [msgspec.structs.replace(one, name=name) for name, one in kept]
    return sorted(_distinct(named), key=lambda s: s.started)


def _distinct(found: Iterable[Summary]) -> list[Summary]:
    """Return one summary of each run; that of a folder, which has a report, is preferred to that of the history."""
    return list({(s.started, s.seed, s.cases, s.judged, s.failed): s for s in found}.values())


def _of_folder(folder: Path) -> Summary:
    """Return the summary of a run folder; if the run itself is newer, one made from it."""
    path, run = folder / FILE, run_file.path_of(folder)
    fresh = path.exists() and path.stat().st_mtime >= run.stat().st_mtime
    found = read(path) if fresh else of(run_file.read(folder))
    report = f"{folder.name}/report.html" if (folder / "report.html").exists() else ""
    return msgspec.structs.replace(found, report=report)


def read(path: Path) -> Summary:
    """Return a summary from its file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path}: is no summary of a run ({error}); remove it, and write the report again"
        ) from error
