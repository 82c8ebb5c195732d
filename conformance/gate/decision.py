"""The gate: whether a run may pass. It reads the run, the known divergences and a baseline; no framework is needed."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import msgspec

from conformance.cases.cells import CELLS, DEFAULT
from conformance.gate import baseline as _baseline
from conformance.gate.baseline import Baseline
from conformance.gate.divergences import Divergence
from conformance.gate.explanation import Explanation, explain
from conformance.model.errors import InvalidInput
from conformance.model.results import NOTHING, CaseRecord, ImplementationRecord, Result, Run, why_nothing
from conformance.runs import counts, summary
from conformance.runs.failures import groups
from conformance.runs.failures.evidence import InFolder
from conformance.runs.failures.groups import FailureGroup

FindingKind = Literal[
    "unexplained",
    "changed",
    "spread",
    "fault",
    "incomplete",
    "vanished",
    "expired",
    "worse",
    "version changed",
    "version unknown",
]
_STATUS: dict[str, int] = {
    "fault": 5,
    "unexplained": 1,
    "changed": 1,
    "spread": 1,
    "incomplete": 3,
    "vanished": 4,
    "expired": 4,
}
_SAYS = {
    0: "conformant, or every deviation is explained as predicted",
    1: "a deviation that nothing explains",
    3: "incomplete",
    4: "the list of known divergences is stale",
    5: "a fault of bnconf",
}


class Finding(msgspec.Struct, frozen=True):
    """Something that the gate has to say, mostly about one implementation and output.

    failures: those that it is about, the worst first.
    divergences: the ids of those that it is about.
    """

    kind: FindingKind
    says: str
    implementation: str = ""
    output: str = ""
    failures: tuple[Result, ...] = ()
    divergences: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The exit status that the finding asks for; 0 for a warning."""
        return _STATUS.get(self.kind, 0)


class GateDecision(msgspec.Struct, frozen=True):
    """What the gate decided, and why.

    implementations: those that the decision is about.
    explained: the failures that behave as predicted.
    reasons: why each known divergence is there, by id.
    judged, passed: how many arrays.
    failures: how many arrays and outcomes fail, as `counts` defines them.
    no_formula: how many failures are explained only by a prediction that any wrong value would have met.
    groups: the failures that are not explained, those with one cause once; of the implementations that fail the most.
    """

    findings: list[Finding]
    explained: list[Explanation]
    implementations: list[str]
    reasons: dict[str, str]
    judged: int
    passed: int
    no_formula: int = 0
    failures: int = 0
    groups: list[FailureGroup] = []

    def group(self, finding: Finding) -> FailureGroup | None:
        """Return the failures with one cause that a finding is about; None where they were not looked at."""
        mine = [g for g in self.groups if g.implementation == finding.implementation and finding.output in g.outputs]
        return mine[0] if mine and finding.failures else None

    def causes(self, finding: Finding) -> list[str]:
        """Return why and where what a finding is about fails, a line each; nothing where it was not looked at."""
        group = self.group(finding)
        return group.lines if group else []

    @property
    def status(self) -> int:
        """The exit status: unexplained failures come first, then what is missing, then what is out of date."""
        asked = {finding.status for finding in self.findings}
        return next((status for status in (5, 1, 3, 4) if status in asked), 0)

    @property
    def verdict(self) -> str:
        """The decision in words."""
        explained = f"{len(self.explained)} of {self.failures} failures explained, {self.no_formula} by no formula"
        said = f"{self.judged} judged arrays, {explained}"
        return f"{'green' if self.status == 0 else 'red'} ({self.status}): {_SAYS[self.status]}; {said}"


def _named(identity: str, patterns: tuple[str, ...]) -> bool:
    names = (identity, identity.partition("@")[0])
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def decide(
    folder: Path,
    run: Run,
    known: list[Divergence],
    base: Baseline | None = None,
    today: date | None = None,
    only: tuple[str, ...] = (),
) -> GateDecision:
    """Return the decision on a run.

    today: the day that review dates are held to.
    only: ids or patterns; findings about other implementations are left out. Findings about the run as a whole always
    count: that it was interrupted, or left a cell empty.
    """
    chosen = _chosen(run, only)
    explanations = explain(folder, chosen, known)
    findings = [
        *_unexplained(explanations),
        *_incomplete(run, chosen),
        *_vanished(chosen, known),
        *_expired(chosen, known, today or datetime.now(UTC).date()),
        *_untold(chosen, known),
        *_against(chosen, base),
    ]
    explained = [e for e in explanations if e.kind == "explained"]
    counted = counts.of(chosen.results)
    return GateDecision(
        findings,
        explained,
        [record.id for record in chosen.implementations],
        {d.id: f"{d.reason} ({d.link})" for d in known},
        counted.judged,
        counted.passed,
        sum(e.no_formula for e in explained),
        counted.failures,
        _grouped(folder, chosen, explained, findings),
    )


_LOOKED_AT = 5
"""Implementations whose unexplained failures are looked at closely."""


def _grouped(folder: Path, run: Run, explained: list[Explanation], findings: list[Finding]) -> list[FailureGroup]:
    """Return failures that are not explained, those with one cause once."""
    failures = Counter[str]()
    for finding in findings:
        failures[finding.implementation] += len(finding.failures)
    ids = {identity for identity, _ in failures.most_common(_LOOKED_AT)}
    known = {(e.result.case, e.result.implementation, e.result.step, e.result.output) for e in explained}
    left = [r for r in run.results if not r.failed or (r.case, r.implementation, r.step, r.output) not in known]
    records = [record for record in run.implementations if record.id in ids and failures[record.id]]
    return list(groups.of_run(left, records, InFolder(run, folder), brief=True))


def _chosen(run: Run, only: tuple[str, ...]) -> Run:
    """Return the run restricted to the implementations of these names; without names, the run."""
    ids = [record.id for record in run.implementations]
    if stray := [pattern for pattern in only if not any(_named(identity, (pattern,)) for identity in ids)]:
        raise InvalidInput(f"--only {stray[0]}: no implementation of this run is called so; it holds {', '.join(ids)}")
    return msgspec.structs.replace(
        run,
        implementations=[record for record in run.implementations if not only or _named(record.id, only)],
        results=[result for result in run.results if not only or _named(result.implementation, only)],
    )


def _unexplained(explanations: list[Explanation]) -> Iterator[Finding]:
    """Yield a finding for each implementation, output and kind of failure that is not explained."""
    groups: dict[tuple[str, str, FindingKind], list[Explanation]] = {}
    for e in explanations:
        if e.kind != "explained":
            kind = "fault" if e.result.verdict == "ERROR" else e.kind
            groups.setdefault((e.result.implementation, e.result.output, kind), []).append(e)
    for (implementation, output, kind), found in sorted(groups.items()):
        failures = tuple(sorted((e.result for e in found), key=lambda r: (-r.size, r.case, r.step)))
        about = tuple(sorted({name for e in found for name in e.divergences}))
        yield Finding(
            kind, _says(kind, implementation, output, failures, about), implementation, output, failures, about
        )


def _says(
    kind: FindingKind, implementation: str, output: str, failures: tuple[Result, ...], about: tuple[str, ...]
) -> str:
    worst = failures[0]
    size = f"worst ρ = {summary.show(worst.rho)}" if worst.rho is not msgspec.UNSET else worst.reason
    counted = f"{implementation} {output}: {len(failures)} failures in {len({r.case for r in failures})} cases, {size}"
    return {
        "changed": f"{counted}; not as {', '.join(about)} predicts",
        "spread": f"{counted}; behaves as {', '.join(about)}, where that is not predicted",
        "fault": f"{counted}; bnconf could not judge it",
    }.get(kind, counted)


def _incomplete(run: Run, chosen: Run) -> Iterator[Finding]:
    """Yield what is missing from the run.

    Empty cells are fine in a run of named implementations, in a shard, and in a run with one case for each cell.
    """
    wanted = [record.id for record in chosen.implementations]
    for reason in run.reasons if not run.complete else ():
        about = run.whose.get(reason, "")
        if not about or about in wanted:
            yield Finding("incomplete", reason, about)
    if not any(result.verdict in ("PASS", "FAIL") for result in chosen.results):
        yield Finding("incomplete", NOTHING + why_nothing(chosen.results))
    if run.header.cases >= DEFAULT and run.header.shard == "1/1" and not run.header.selected:
        for cell in unreached(run):
            yield Finding("incomplete", f"mandatory cell not reached: {cell}")


def unreached(run: Run) -> list[str]:
    """Return the mandatory cells in which nothing was judged."""
    reached = {run.cases[r.case].cell for r in run.results if r.case in run.cases and r.verdict in ("PASS", "FAIL")}
    return [str(cell) for cell in CELLS if str(cell) not in reached]


def _vanished(run: Run, known: list[Divergence]) -> Iterator[Finding]:
    """Yield the divergences whose witness was asked of an implementation that they are about, and passed."""
    named = {record.name: record for record in run.cases.values() if record.name}
    for divergence in known:
        witness = named.get(divergence.witness)
        for record in run.implementations if witness else ():
            if witness and record.available and divergence.concerns(record) and _passed(run, witness, record):
                says = f"{divergence.id}: {record.id} now passes its witness {divergence.witness}; remove or narrow it"
                yield Finding("vanished", says, record.id, divergences=(divergence.id,))


def _passed(run: Run, witness: CaseRecord, record: ImplementationRecord) -> bool:
    found = {r.verdict for r in run.results if r.case == witness.case and r.implementation == record.id}
    return "PASS" in found and not found & {"FAIL", "ERROR"}


def _expired(run: Run, known: list[Divergence], today: date) -> Iterator[Finding]:
    for divergence in known:
        speaks = any(record.available and divergence.concerns(record) for record in run.implementations)
        if speaks and divergence.review_by < today:
            says = f"{divergence.id}: was to be reviewed by {divergence.review_by}; look again and set a new date"
            yield Finding("expired", says, divergences=(divergence.id,))


def _untold(run: Run, known: list[Divergence]) -> Iterator[Finding]:
    """Yield the divergences that depend on a version which an implementation does not report: they explain nothing."""
    for record in (record for record in run.implementations if record.available):
        about = [(divergence, divergence.untold(record)) for divergence in known]
        for divergence, packages in about:
            if packages:
                said = record.versions.get(packages[0], "not told")
                says = (
                    f"{divergence.id}: is about {packages[0]} {divergence.versions[packages[0]]}, and its version in "
                    f"{record.id} is {said}; it explains nothing there: leave `versions` out, or give {packages[0]} one"
                )
                yield Finding("version unknown", says, record.id, divergences=(divergence.id,))


def _against(run: Run, base: Baseline | None) -> Iterator[Finding]:
    """Yield what differs from the baseline without being wrong: less precise inside the bound, or another version."""
    if base is None:
        return
    behaviour = list(_baseline.behaviour_changed(run, base))
    for identity, before, now in _baseline.versions_changed(run, base):
        changed = "; ".join(says for about, says in behaviour if about == identity) or "nothing else fails or passes"
        yield Finding("version changed", f"{identity}: {before} in the baseline, {now} now; {changed}", identity)
    for identity, output, before, now in _baseline.worsened(run, base):
        says = f"{identity} {output}: worst ρ {before:.3g} in the baseline, {now:.3g} now, still inside the bound"
        yield Finding("worse", says, identity, output)
