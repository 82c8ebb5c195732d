"""What the gate has to say of a run: what fails and why that may not pass, what is out of date, what has changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Literal

import msgspec

from conformance.gate import baseline as _baseline
from conformance.gate import other_versions
from conformance.gate.baseline import Baseline
from conformance.gate.divergences import Divergence
from conformance.gate.explanation import Explanation
from conformance.model.results import Result, Run
from conformance.runs import summary

FindingKind = Literal[
    "unexplained",
    "changed",
    "spread",
    "fault",
    "incomplete",
    "vanished",
    "expired",
    "another version",
    "another device",
    "not here",
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


def unexplained(explanations: list[Explanation]) -> Iterator[Finding]:
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


def of_other_versions(explanations: list[Explanation], run: Run, known: list[Divergence]) -> Iterator[Finding]:
    """Yield a finding for each package, or device, of which others than the run's are known to fail as it does."""
    records, by_id = {record.id: record for record in run.implementations}, {one.id: one for one in known}
    groups: dict[tuple[str, str], list[tuple[Explanation, str, str]]] = {}
    for e in (e for e in explanations if e.elsewhere):
        for name in e.divergences:
            for other in other_versions.other_versions(by_id[name], records[e.result.implementation]):
                groups.setdefault((other.package, other.found), []).append((e, name, other.wanted))
    for (package, found), members in sorted(groups.items()):
        yield _of_package(package, found, members)


def _of_package(package: str, found: str, members: list[tuple[Explanation, str, str]]) -> Finding:
    kind: FindingKind = "another device" if package == other_versions.DEVICE else "another version"
    names, wanted = sorted({name for _, name, _ in members}), sorted({one for *_, one in members})
    failures = {(e.result.case, e.result.implementation, e.result.step, e.result.output): e for e, *_ in members}
    loose = sum(e.no_formula for e in failures.values())
    who = {e.result.implementation for e, *_ in members}
    says = (
        f"{package} {found}: {len(failures)} failures of {len(who)} implementations are the same as the manifest's, "
        f"which speaks of {kind} ({', '.join(wanted)}; {len(names)} divergences"
        f"{f', {loose} failures by no formula' if loose else ''}); bnconf gate --update proposes the edit"
    )
    return Finding(kind, says, divergences=tuple(names))


def vanished(run: Run, known: list[Divergence]) -> Iterator[Finding]:
    """Yield the divergences whose witness was asked of an implementation that they are about, and passed."""
    witnesses = other_versions.Witnesses(run)
    for divergence in known:
        for record in run.implementations:
            if record.available and divergence.concerns(record) and witnesses.passed(divergence, record):
                says = f"{divergence.id}: {record.id} now passes its witness {divergence.witness}; remove or narrow it"
                yield Finding("vanished", says, record.id, divergences=(divergence.id,))


def expired(run: Run, known: list[Divergence], today: date) -> Iterator[Finding]:
    """Yield the divergences that speak of what is here, and were to be looked at again by now."""
    for divergence in known:
        speaks = any(record.available and divergence.concerns(record) for record in run.implementations)
        if speaks and divergence.review_by < today:
            says = f"{divergence.id}: was to be reviewed by {divergence.review_by}; look again and set a new date"
            yield Finding("expired", says, divergences=(divergence.id,))


def untold(run: Run, known: list[Divergence]) -> Iterator[Finding]:
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


def against(run: Run, base: Baseline | None) -> Iterator[Finding]:
    """Yield what differs from the baseline without being wrong: less precise inside the bound, or another version."""
    if base is None:
        return
    yield from _upgraded(run, base)
    for identity, output, before, now in _baseline.worsened(run, base):
        says = f"{identity} {output}: worst ρ {before:.3g} in the baseline, {now:.3g} now, still inside the bound"
        yield Finding("worse", says, identity, output)


def _upgraded(run: Run, base: Baseline) -> Iterator[Finding]:
    """Yield what runs on other versions than in the baseline, those of one framework that changed alike once."""
    behaviour: dict[str, list[str]] = {}
    for identity, says in _baseline.behaviour_changed(run, base):
        behaviour.setdefault(identity, []).append(says)
    alike: dict[tuple[str, str, str, str], list[str]] = {}
    for identity, before, now in _baseline.versions_changed(run, base):
        changed = "; ".join(behaviour.get(identity, [])) or "nothing else fails or passes"
        alike.setdefault((identity.partition(".")[0], before, now, changed), []).append(identity)
    for (framework, before, now, changed), who in alike.items():
        named = who[0] if len(who) == 1 else f"{len(who)} implementations of {framework}"
        says = f"{named}: {before} in the baseline, {now} now; {changed}"
        yield Finding("version changed", says, who[0] if len(who) == 1 else "")
