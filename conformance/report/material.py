"""What a report is made of: a run, what the gate makes of it, another run, the runs kept, audits and scores."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec

from conformance.gate import baseline, divergences
from conformance.gate.decision import GateDecision, decide
from conformance.gate.divergences import Divergence
from conformance.gate.explanation import Explanation, ExplanationKind
from conformance.model.errors import InvalidInput
from conformance.model.results import Run
from conformance.report import history, promises, score
from conformance.report.since import SinceBaseline, SinceRun, beside, explained_there, since_baseline, since_run
from conformance.report.thinning import Thinning
from conformance.runs import run_file

_KINDS: dict[str, ExplanationKind] = {
    "unexplained": "unexplained",
    "fault": "unexplained",
    "changed": "changed",
    "spread": "spread",
}


class Material(msgspec.Struct):
    """Everything that a report is made of.

    run, folder: the run, and where it is.
    known: the known divergences.
    decision: what the gate decided; undecided: why it could not decide.
    baseline: the name of the baseline's file.
    accepted: what has changed since the baseline.
    other, against: the run that this one is compared with, and its name; since: what has changed since then.
    runs: summaries of all runs that are kept.
    scores: what the suite noticed of injected faults.
    audited: what an audit of this run left.
    """

    run: Run
    folder: Path
    known: list[Divergence] = []
    decision: GateDecision | None = None
    undecided: str = ""
    baseline: str = ""
    other: Run | None = None
    against: str = ""
    since: SinceRun | None = None
    accepted: SinceBaseline | None = None
    runs: list[history.Summary] = []
    scores: list[score.Score] = []
    audited: promises.Audited = msgspec.field(default_factory=promises.Audited)

    @property
    def explanations(self) -> list[Explanation]:
        """The gate's explanation of each failure."""
        if self.decision is None:
            return []
        red = [
            Explanation(failure, _KINDS[finding.kind], finding.divergences)
            for finding in self.decision.findings
            if finding.kind in _KINDS
            for failure in finding.failures
        ]
        return [*self.decision.explained, *red]


def gather(
    path: Path,
    *,
    against: Path | None = None,
    manifests: Path = divergences.FOLDER,
    base: Path | None = None,
    today: date | None = None,
) -> Material:
    """Return the material for a report of the run in a folder; the run's summary is written into the folder.

    base: the baseline; without one, that of the run's device beside the folder, `baseline/cpu.jsonl`, if it is there.
    """
    thinned = None if against else Thinning()  # what is fixed since another run is shown too
    run, folder = run_file.read(path, thinned=thinned), path if path.is_dir() else path.parent
    base = base or beside(folder, run)
    found = Material(run, folder, divergences.read(manifests), baseline=base.name if base else "")
    lines = baseline.read(base) if base else None
    found.accepted = since_baseline(run, lines) if lines else None
    try:
        found.decision = decide(folder, run, found.known, lines, today)
    except InvalidInput as error:  # answers may be gone from a folder that was copied; the judgments are still there
        found.undecided = str(error)
    if against:
        _compare(found, against)
    verdict, status = (found.decision.verdict, found.decision.status) if found.decision else ("", None)
    summary = history.of(run, verdict, status)
    _keep(summary, folder)
    reports = folder.resolve().parent
    found.runs = history.runs(reports) or [summary]
    found.scores, found.audited = score.read(reports), promises.audit(folder)
    return found


def _compare(found: Material, against: Path) -> None:
    other, folder = run_file.read(against), against if against.is_dir() else against.parent
    before = explained_there(folder, found.run, other, found.known)
    found.other, found.against = other, against.resolve().name
    found.since = since_run(found.run, other, found.explanations, before)


def _keep(summary: history.Summary, folder: Path) -> None:
    try:
        history.keep(summary, folder)
    except OSError:
        return  # a report can be made of a run that may not be written to
