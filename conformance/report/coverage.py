"""What a run asked: the mandatory cells that its cases fall into, and what each implementation was asked."""

from __future__ import annotations

from collections import Counter

import msgspec

from conformance.cases.cells import CELLS
from conformance.model.results import Run
from conformance.model.statement import COLUMNS
from conformance.runs import counts, matrix


class Cells(msgspec.Struct):
    """The mandatory cells: placements, and what is combined with them; how many cases and judged arrays each has."""

    placements: list[str]
    columns: list[str]
    cases: dict[tuple[str, str], int]
    judged: dict[tuple[str, str], int]
    mandatory: set[tuple[str, str]]

    @property
    def empty(self) -> list[tuple[str, str]]:
        """Mandatory cells in which nothing was judged."""
        return sorted(place for place in self.mandatory if not self.judged.get(place))


def cells(run: Run) -> Cells:
    """Return the mandatory cells with what a run has in them."""
    cases, judged = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for case in run.cases.values():
        if case.recipe:
            cases[_place(case.cell)] += 1
    for result in run.results:
        case = run.cases.get(result.case)
        if case and case.recipe and counts.is_judged(result):
            judged[_place(case.cell)] += 1
    mandatory = {_place(str(cell)) for cell in CELLS}
    placements, columns = (list(dict.fromkeys(_place(str(cell))[n] for cell in CELLS)) for n in range(2))
    return Cells(placements, columns, cases, judged, mandatory)


def _place(cell: str) -> tuple[str, str]:
    """Return a cell's name as its placement, and the rest."""
    placement, _, rest = cell.partition("; ")
    return placement, rest


def why_empty(lines: list[matrix.MatrixRow]) -> dict[str, int]:
    """Return why implementations were not asked something, numbered from 1: most reasons are those of many.

    What is empty without a reason is a gap, and has no number.
    """
    found = dict.fromkeys(why for line in lines for why in line.empty.values() if why)
    return {why: n for n, why in enumerate(found, 1)}


def asked(run: Run) -> tuple[list[str], list[matrix.MatrixRow]]:
    """Return the columns of what can be asked, and a line for each implementation."""
    stated = [record for record in run.implementations if record.statement]
    return list(COLUMNS), matrix.lines(msgspec.structs.replace(run, implementations=stated))
