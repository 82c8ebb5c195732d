"""The runs that a site keeps, in few numbers: what became of each implementation in each of them, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from conformance.gate.decision import GateDecision
from conformance.model.errors import InvalidInput
from conformance.model.results import Rho, Run
from conformance.report import save
from conformance.report.overview import State
from conformance.report.site.facts import SitePage

FILE = "runs.json"
"""What a site's folder keeps of its runs."""


class SiteRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One implementation in one run.

    judged: how many arrays; failed: how many failures, and known: those that known divergences explain.
    inside: the worst ρ within the bound.
    """

    state: State
    versions: str = ""
    cases: int = 0
    judged: int = 0
    failed: int = 0
    known: int = 0
    inside: Rho = None


class SiteRun(msgspec.Struct, frozen=True):
    """One run. decision: what the gate said of it; cases: how many it asked."""

    started: str
    seed: int
    cases: int
    version: str
    complete: bool
    decision: str
    implementations: dict[str, SiteRow]


def of(run: Run, pages: Sequence[SitePage], decision: GateDecision) -> SiteRun:
    """Return what is kept of a run."""
    rows = {
        page.id: SiteRow(page.state, page.versions, page.cases, page.judged, page.failed, page.known, page.inside)
        for page in pages
    }
    h = run.header
    return SiteRun(h.started, h.seed, len(run.cases), h.version, run.complete, decision.verdict, rows)


def added(runs: Sequence[SiteRun], run: SiteRun) -> list[SiteRun]:
    """Return the runs with another, the oldest first; the same run again takes its own place."""
    others = [one for one in runs if (one.started, one.seed) != (run.started, run.seed)]
    return sorted([*others, run], key=lambda one: one.started)


def last(runs: Sequence[SiteRun]) -> dict[str, tuple[SiteRun, SiteRow]]:
    """Return the last run in which each implementation was, and what became of it there."""
    return {name: (run, row) for run in runs for name, row in run.implementations.items()}


def since(runs: Sequence[SiteRun], identity: str) -> SiteRun:
    """Return the first of the runs since when an implementation is in the state that it is in."""
    mine = [run for run in runs if identity in run.implementations]
    state = mine[-1].implementations[identity].state
    first = len(mine) - 1
    while first and mine[first - 1].implementations[identity].state == state:
        first -= 1
    return mine[first]


def read(folder: Path) -> list[SiteRun]:
    """Return the runs that a folder keeps; none where it keeps nothing yet."""
    path = folder / FILE
    if not path.exists():
        return []
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[SiteRun])
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{path}: is no history of a site ({error}); mend it, or remove it and lose what it keeps"
        ) from error


def write(runs: Sequence[SiteRun], folder: Path) -> Path:
    """Write the runs that a folder keeps."""
    return save(folder / FILE, msgspec.json.format(msgspec.json.encode(runs), indent=1).decode() + "\n")
