"""The gate: whether a run may pass. It reads the run, the known divergences and a baseline; no framework is needed."""

from __future__ import annotations

import fnmatch
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from conformance.gate import completeness, findings
from conformance.gate.baseline import Baseline
from conformance.gate.divergences import Divergence
from conformance.gate.explanation import Explanation, explain
from conformance.gate.findings import Finding
from conformance.model.errors import InvalidInput
from conformance.model.results import Run
from conformance.runs import counts
from conformance.runs.failures import groups
from conformance.runs.failures.evidence import InFolder
from conformance.runs.failures.groups import FailureGroup

_SAYS = {
    0: "conformant, or every deviation is explained as predicted",
    1: "a deviation that nothing explains",
    3: "incomplete",
    4: "the list of known divergences is stale",
    5: "a fault of bnconf",
}
_YELLOW = "every deviation is explained, some by what is known of another version or device"


class GateDecision(msgspec.Struct, frozen=True):
    """What the gate decided, and why.

    implementations: those that the decision is about.
    explained: the failures that behave as predicted.
    reasons: why each known divergence is there, by id.
    judged, passed: how many arrays.
    failures: how many arrays and outcomes fail, as `counts` defines them.
    no_formula: how many failures are explained only by a prediction that any wrong value would have met.
    groups: the failures that are not explained, those with one cause once; of the implementations that fail the most.
    strict: what is known of another version or device only is no reason to pass.
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
    strict: bool = False

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
        asked = {finding.status for finding in self.findings} | ({4} if self.strict and self.of_others else set[int]())
        return next((status for status in (5, 1, 3, 4) if status in asked), 0)

    @property
    def of_others(self) -> bool:
        """Whether a failure is explained only by what is known of another version or device."""
        return any(finding.kind in ("another version", "another device") for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The decision in words."""
        explained = f"{len(self.explained)} of {self.failures} failures explained, {self.no_formula} by no formula"
        said = f"{self.judged} judged arrays, {explained}"
        colour, says = ("green" if self.status == 0 else "red"), _SAYS[self.status]
        if self.of_others and not any(finding.status for finding in self.findings):
            colour, says = "yellow", _YELLOW
        return f"{colour} ({self.status}): {says}; {said}"


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
    *,
    strict: bool = False,
) -> GateDecision:
    """Return the decision on a run.

    today: the day that review dates are held to.
    only: ids or patterns; findings about other implementations are left out. Findings about the run as a whole always
    count: that it was interrupted, or left a cell empty.
    strict: what is known of another version or device only makes it red.
    """
    chosen = _chosen(run, only)
    explanations = explain(folder, chosen, known)
    found = [
        *findings.unexplained(explanations),
        *findings.of_other_versions(explanations, chosen, known),
        *completeness.incomplete(folder, run, chosen),
        *findings.vanished(chosen, known),
        *findings.expired(chosen, known, today or datetime.now(UTC).date()),
        *findings.untold(chosen, known),
        *findings.against(chosen, base),
    ]
    explained = [e for e in explanations if e.kind == "explained"]
    counted = counts.of(chosen.results)
    return GateDecision(
        found,
        explained,
        [record.id for record in chosen.implementations],
        {d.id: f"{d.reason} ({d.link})" for d in known},
        counted.judged,
        counted.passed,
        sum(e.no_formula for e in explained),
        counted.failures,
        _grouped(folder, chosen, explained, found),
        strict,
    )


_LOOKED_AT = 5
"""Implementations whose unexplained failures are looked at closely."""


def _grouped(folder: Path, run: Run, explained: list[Explanation], found: list[Finding]) -> list[FailureGroup]:
    """Return failures that are not explained, those with one cause once."""
    failures = Counter[str]()
    for finding in found:
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
