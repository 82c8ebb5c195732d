"""Baselines: the worst ρ of an accepted run by implementation, output and class; JSON lines in `reports/baseline/`.

Steps without arrays are counted too, by what became of them: one that was refused is no output that is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from conformance.model.errors import InvalidInput
from conformance.model.results import CANNOT, Result, Run
from conformance.model.statement import recorded
from conformance.runs import commands, summary

WORSE = 2.0
"""The factor by which a worst ρ may grow inside the bound before the gate warns."""


_OUTCOMES = {
    "Refused": "refused",
    "Crashed": "crashed",
    "TimedOut": "timed out",
    "Outputs": "answered against the promise",
}


class BaselineRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The worst ρ of one implementation, output and class, with how many arrays were judged and how many failed.

    output: of steps without arrays, what became of them (`refused`, `cannot run here`, …): no class, and no ρ.
    steps: how many of these there were.
    """

    implementation: str
    output: str
    numerics: str
    rho: summary.Rho
    judged: int
    failed: int
    versions: dict[str, str]
    steps: int = 0


class Baseline(msgspec.Struct, frozen=True):
    """A baseline, read back."""

    lines: list[BaselineRow]


def of(run: Run) -> list[BaselineRow]:
    """Return the baseline of a run, in a stable order."""
    versions = {record.id: record.versions for record in run.implementations}
    found: dict[tuple[str, str, str], summary.Worst] = {}
    outcomes: dict[tuple[str, str], list[Result]] = {}
    for result in run.results:
        if result.rho is not msgspec.UNSET:
            key = result.implementation, summary.key(result), result.numerics
            found.setdefault(key, summary.Worst()).add(result)
        elif said := _outcome(result):
            outcomes.setdefault((result.implementation, said), []).append(result)
    rows = [
        BaselineRow(*key, worst.rho, worst.judged, worst.failed, versions.get(key[0], {}))
        for key, worst in found.items()
    ]
    for (identity, said), members in outcomes.items():
        failed = sum(result.failed for result in members)
        rows.append(BaselineRow(identity, said, "", None, 0, failed, versions.get(identity, {}), len(members)))
    return sorted(rows, key=lambda row: (row.implementation, row.output, row.numerics))


def _outcome(result: Result) -> str:
    """Return, in words, what became of a step without arrays; empty where nobody was asked, or nothing is said of it.

    >>> _outcome(Result("c", "i", "FAIL", outcome="Refused"))
    'refused'
    """
    if result.verdict == "UNSUPPORTED":
        return CANNOT.rstrip(": ") if result.reason.startswith(CANNOT) else ""
    return _OUTCOMES.get(result.outcome, "") if result.verdict in ("PASS", "FAIL") else ""


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
    """Yield what is otherwise than in the baseline, implementation by implementation, in words.

    What fails now and did not, or the reverse; what is judged no longer; what is refused, crashes or cannot be asked
    and was not. A baseline of before outcomes were counted has none of these.
    """
    old, new = _rows(base.lines), _rows(of(run))
    counted = any(row.output in _SAID for row in base.lines)
    for record in run.implementations:
        before, now = old.get(record.id, {}), new.get(record.id, {})
        if before and not record.available:
            yield record.id, f"it is not available now: {record.reason}"
        elif before and record.available:
            yield from ((record.id, says) for says in _changes(before, now, counted=counted))


_SAID = {*_OUTCOMES.values(), CANNOT.rstrip(": ")}


def _rows(lines: list[BaselineRow]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return how many arrays, or steps without any, there were and how many failed, by implementation and output."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for line in lines:
        of_one = found.setdefault(line.implementation, {})
        number, failed = of_one.get(line.output, (0, 0))
        of_one[line.output] = number + line.judged + line.steps, failed + line.failed
    return found


def _changes(before: dict[str, tuple[int, int]], now: dict[str, tuple[int, int]], *, counted: bool) -> Iterator[str]:
    arrays = [output for output in sorted({*before, *now}) if output not in _SAID]
    failed, fails = ({o for o in arrays if rows.get(o, (0, 0))[1]} for rows in (before, now))
    judged = {o for o in arrays if now.get(o, (0, 0))[0]}
    yield from (f"{output} fails now" for output in sorted(fails - failed))
    yield from (f"{output} fails no longer" for output in sorted((failed - fails) & judged))
    if not judged and any(before[o][0] for o in before if o not in _SAID):
        yield "nothing is judged any longer"
    for said in sorted(_SAID):
        (was, wrong), (there, bad) = before.get(said, (0, 0)), now.get(said, (0, 0))
        old = f"{was} in the baseline, {wrong} wrongly" if counted else "the baseline counts none"
        if (bad and not wrong) or (counted and there and (not was or (wrong and not bad))):
            yield f"{said}: {there} steps now, {bad} of them wrongly; {old}"


def _listed(versions: dict[str, str], names: list[str]) -> str:
    return ", ".join(f"{name} {versions.get(name, 'absent')}" for name in names)


def worsened(run: Run, base: Baseline) -> Iterator[tuple[str, str, float, float]]:
    """Yield outputs whose worst ρ grew by more than `WORSE` and is still at most 1: implementation, output, both.

    A run of fewer cases asks whoever compiles others than the baseline has: of fewer arrays of his nothing is said.
    """
    compiled = {record.id for record in run.implementations if recorded(record).compiled}
    before = {(line.implementation, line.output, line.numerics): line for line in base.lines}
    for line in of(run):
        old = before.get((line.implementation, line.output, line.numerics))
        if old is None or (line.judged < old.judged and line.implementation in compiled):
            continue
        was, now = summary.as_number(old.rho), summary.as_number(line.rho)
        if 0 < was * WORSE < now <= 1:
            yield line.implementation, f"{line.output} {line.numerics}", was, now
