"""What is missing from a run: what was asked for and is not there, and cells in which nothing was judged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from conformance.cases.cells import CELLS, DEFAULT
from conformance.gate.findings import Finding
from conformance.model.case_facts import every_step
from conformance.model.errors import InvalidInput
from conformance.model.facts import Facts
from conformance.model.results import NOTHING, ImplementationRecord, Run, why_nothing
from conformance.model.statement import recorded
from conformance.runs import case_files


def incomplete(folder: Path, run: Run, chosen: Run) -> Iterator[Finding]:
    """Yield what is missing from the run.

    Empty cells are fine in a run of named implementations, in a shard, and in a run with one case for each cell.
    """
    wanted = [record.id for record in chosen.implementations]
    for reason in run.reasons if not run.complete else ():
        about = run.whose.get(reason, "")
        if not about or about in wanted:
            yield Finding("incomplete", reason, about)
    if not any(result.verdict in ("PASS", "FAIL") for result in chosen.results):
        excluding = ((r.implementation, r.reason) for r in chosen.results if r.verdict == "UNSUPPORTED")
        yield Finding("incomplete", NOTHING + why_nothing(excluding))
    if run.header.cases >= DEFAULT and run.header.shard == "1/1" and not run.header.selected:
        yield from _empty_cells(folder, run)


def _empty_cells(folder: Path, run: Run) -> Iterator[Finding]:
    """Yield the cells in which nothing was judged; in one line those that only a framework that is not here reaches."""
    elsewhere: dict[str, list[str]] = {}
    for cell in unreached(run):
        if who := _only_of(run, _facts(folder, run, cell)):
            elsewhere[cell] = who
        else:
            yield Finding("incomplete", f"mandatory cell not reached: {cell}")
    if elsewhere:
        frameworks = sorted({name.partition(".")[0] for who in elsewhere.values() for name in who})
        who = f"{len(elsewhere)} cells are reached only by what is not here, {', '.join(frameworks)}"
        yield Finding("not here", f"{who}: {'; '.join(elsewhere)}")


def unreached(run: Run) -> list[str]:
    """Return the mandatory cells in which nothing was judged."""
    reached = {run.cases[r.case].cell for r in run.results if r.case in run.cases and r.verdict in ("PASS", "FAIL")}
    return [str(cell) for cell in CELLS if str(cell) not in reached]


def _facts(folder: Path, run: Run, cell: str) -> list[list[Facts]]:
    """Return the facts about the cases of a cell, as far as they are there."""
    found: list[list[Facts]] = []
    for record in run.cases.values():
        if record.cell == cell:
            with contextlib.suppress(InvalidInput):
                found.append(every_step(case_files.read(folder, run, record)))
    return found


def _only_of(run: Run, cases: list[list[Facts]]) -> list[str]:
    """Return who is not here and supports one of these cases, if nobody who is here does."""
    able = [record for record in run.implementations if _is_able(record, cases)]
    return [] if any(record.available for record in able) else [record.id for record in able]


def _is_able(record: ImplementationRecord, cases: list[list[Facts]]) -> bool:
    statement = recorded(record)
    return any(not statement.unsupported(*steps) for steps in cases)
