"""How accurate each implementation is: ranked, by dtype and check too, and its worst ρ of each output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from markupsafe import Markup

from conformance.report.judged import QUANTILES, JudgedArrays, quantiles
from conformance.report.plots import shown
from conformance.runs import summary
from reference.spec import Array

ALL = ""
"""Instead of a dtype or a check: all of them."""
SHOWN = ("median", "99 %", "largest")
_PLACES = {name: n for n, name in enumerate(QUANTILES)}
AXES = {"ulps": (-2, 5), "rho": (-3, 1)}
"""The decades of a strip of either measure."""
_WIDTH = 140


class Ranked(msgspec.Struct):
    """One implementation among others, over judged arrays of one dtype and one check, or of all.

    arrays: how many; apart: how many of them are defects, of which the numbers do not speak.
    ulps, rho: `QUANTILES` of the real error and of ρ; empty where there is nothing but defects.
    """

    implementation: str
    dtype: str
    check: str
    arrays: int
    apart: int
    ulps: list[float]
    rho: list[float]

    @property
    def strips(self) -> list[Markup]:
        """Both as strips."""
        return [strip("ulps", self.ulps), strip("rho", self.rho)]

    @property
    def said(self) -> list[str]:
        """The numbers that are shown, `SHOWN` of ulps and then of ρ."""
        return [said(values)[_PLACES[name]] for values in (self.ulps, self.rho) for name in SHOWN]


def said(values: Sequence[float]) -> list[str]:
    """Return quantiles as people read them."""
    return [*map(shown, values)] or ["–"] * len(QUANTILES)


def strip(measure: str, values: Sequence[float]) -> Markup:
    """Return quantiles on a logarithmic axis: a bar from the median to the largest, and a tick at 99 %."""
    if not values:
        return Markup("")
    median, ninety, most, largest = (_place(value, *AXES[measure]) for value in values)
    path = f"M{median},6H{largest}M{ninety},3V9M{most},1V11"
    drawn = Markup('<svg class="strip {}" viewBox="0 0 {} 12" aria-hidden="true"><path d="{}"/></svg>')
    return drawn.format(measure, _WIDTH, path)


def _place(value: float, low: int, high: int) -> int:
    log = math.log10(value) if 0 < value < math.inf else (high if value else low)
    return round((min(max(log, low), high) - low) / (high - low) * (_WIDTH - 2)) + 1


def ranking(found: JudgedArrays, ids: Sequence[str]) -> list[Ranked]:
    """Return every implementation over all of its arrays, the most accurate first: by the error of 99 % of them."""
    named = dict(found.implementation.groups(found.everywhere))
    rows = [_ranked(found, named[name], (name, ALL, ALL)) for name in ids if name in named]
    return sorted(rows, key=lambda row: (row.ulps[2], row.ulps[1], row.ulps[0]) if row.ulps else (math.inf,) * 3)


def choices(found: JudgedArrays) -> Iterator[Ranked]:
    """Yield each implementation over each dtype, each check, and each dtype and check, that it has arrays of."""
    for name, mine in found.implementation.groups(found.everywhere):
        for check, of_check in found.check.groups(mine):
            yield _ranked(found, of_check, (name, ALL, check))
        for dtype, of_dtype in found.dtype.groups(mine):
            yield _ranked(found, of_dtype, (name, dtype, ALL))
            for check, both in found.check.groups(of_dtype):
                yield _ranked(found, both, (name, dtype, check))


def _ranked(found: JudgedArrays, mine: Array, of: tuple[str, str, str]) -> Ranked:
    numeric = mine[~found.defect[mine]]
    ulps, rho = (quantiles(values[numeric]) for values in (found.ulps, found.rho))
    return Ranked(*of, mine.size, mine.size - numeric.size, ulps, rho)


class WorstRho(msgspec.Struct):
    """The worst ρ of one output of one implementation, defects left out: -1 where there is nothing else."""

    worst: float
    apart: int

    @property
    def shade(self) -> int:
        """How dark: a step for each decade or so, from 4 on beyond the bound."""
        return int(np.searchsorted([0.01, 0.1, 0.5, 1, 100], self.worst, side="left"))


def heat(found: JudgedArrays) -> tuple[list[str], dict[str, dict[str, WorstRho]]]:
    """Return the outputs, and by implementation and output the worst ρ."""
    cells: dict[str, dict[str, WorstRho]] = {}
    for name, mine in found.implementation.groups(found.everywhere):
        for output, here in found.output.groups(mine):
            defects = found.defect[here]
            worst = float(found.rho[here][~defects].max(initial=-1))
            cells.setdefault(name, {})[output] = WorstRho(worst, int(defects.sum()))
    there = {output for of in cells.values() for output in of}
    return [column for column in summary.COLUMNS if column in there], cells
