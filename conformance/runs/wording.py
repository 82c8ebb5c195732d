"""A run, and a result, in one line: for a terminal, a log, or somebody's own tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from conformance.model.results import Result, Run
from conformance.runs import commands, counts, summary
from conformance.runs.failures import groups
from conformance.runs.failures.evidence import InFolder
from conformance.runs.failures.groups import FailureGroup


def headline(run: Run) -> str:
    """Return a run in one line."""
    state = "complete" if run.complete else "INCOMPLETE"
    whole = f"{len(run.cases)} cases, {len(run.implementations)} implementations"
    skipped = f"{len(run.skipped)} cases skipped, which memory does not hold; " if run.skipped else ""
    before = sum((run.end.taken or {}).values()) if run.end else 0
    taken = f"{before} results taken over from an earlier run; " if before else ""
    return f"{state}: {whole}; {skipped}{taken}{counts.of(run.results).words}"


def group(found: FailureGroup, run: Run, folder: Path) -> str:
    """Return failures with one cause in two lines: what they are, and the command that asks the worst of them again."""
    return f"FAIL {found.says}\n    {commands.replay(run, found.witness, folder)}"


def failures(run: Run, folder: Path, most: int = 5) -> tuple[list[str], int]:
    """Return the failures of a run, those with one cause once, and how many implementations more there are that fail.

    most: implementations of which that is told, those that fail the most first, and groups of each.
    """
    failed = Counter(result.implementation for result in run.results if result.failed)
    first = [identity for identity, _ in failed.most_common(most)]
    records = [record for record in run.implementations if record.id in first]
    found = list(groups.of_run(run.results, records, InFolder(run, folder), brief=True))
    kept = [one for identity in first for one in [g for g in found if g.implementation == identity][:most]]
    return [group(one, run, folder) for one in kept], len(failed) - len(first)


def sizes(rows: list[summary.Row]) -> list[str]:
    """Return up to which sizes implementations were judged, and what that does not show; nothing if none was."""
    found: dict[tuple[int, int], list[str]] = {}
    for row in rows:
        if row.values:
            found.setdefault((row.values, row.elements), []).append(row.id)
    lines = [
        f"judged up to {values:,} values per channel, and tensors of {elements:,}: "
        + (", ".join(those) if len(those) < 4 else f"{len(those)} implementations")
        for (values, elements), those in sorted(found.items(), reverse=True)
    ]
    return (
        [*lines, "What breaks beyond, such as a larger block or an index that overflows, is not seen."] if lines else []
    )


def describe(result: Result) -> str:
    """Return one result in a line."""
    where = (
        f"{result.verdict} {result.implementation} case {result.case} step {result.step} {result.mode} {result.output}"
    )
    d, strange = result.deviation, summary.not_finite(result)
    if d is None:
        return f"{where}: {result.reason}" + (f"; {strange}" if strange else "")
    found = f"got {d.got}, expected {d.expected} ± {d.bound} at {d.index}" + (f"; {strange}" if strange else "")
    return f"{where}: ρ = {summary.show(result.rho)} ({d.check}; {result.numerics}): {found}{_figures(result)}"


def _figures(result: Result) -> str:
    """Return what helps to read a deviation: its size in condition-scaled ulps, and what the bounds resolve."""
    d, said = result.deviation, list[str]()
    if d and d.ulps:
        said.append(f"{d.ulps:g} ulps of the terms' size")
    if result.depth is not msgspec.UNSET:
        said.append(f"effective depth {result.depth:g}")
    if result.resolution is not msgspec.UNSET:
        said.append(f"resolution {result.resolution:g}")
    if result.vacuous:
        said.append(f"{result.vacuous} of {result.elements} bounds vacuous")
    return f" [{', '.join(said)}]" if said else ""
