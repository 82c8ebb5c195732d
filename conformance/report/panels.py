"""Small charts side by side: the error of y in training against conditioning, one chart for each implementation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from markupsafe import Markup

from conformance.report.judged import JudgedArrays
from conformance.report.plots import FLATTEST, logs
from reference.spec import Array

WIDTH, HEIGHT = 240, 130
_ACROSS, _UP = (-1.0, math.log10(FLATTEST)), (-3.0, 9.0)  # decades of κ, and of ulps
_MARKS, _CROSSES, _STRIP = 32, 8, 12
"""How many arrays are drawn of each implementation at most, and how many defects; how wide a strip is."""


class Panel(msgspec.Struct):
    """One implementation: its chart, how many arrays and defects, the median and the largest error in ulps."""

    implementation: str
    chart: Markup
    arrays: int
    apart: int
    median: float
    largest: float


def panels(found: JudgedArrays, ids: Sequence[str]) -> dict[str, list[Panel]]:
    """Return the panels of each framework, of those that have y of a training step."""
    y = dict(found.output.groups(found.everywhere)).get("y train", found.everywhere[:0])
    named = dict(found.implementation.groups(y[~np.isnan(found.conditioning[y])]))
    made: dict[str, list[Panel]] = {}
    for name in ids:
        if name in named:
            mine = named[name]
            framework = found.framework.values[found.framework.codes[mine[0]]]
            made.setdefault(framework, []).append(_panel(found, name, mine))
    return made


def _panel(found: JudgedArrays, name: str, mine: Array) -> Panel:
    defects, numeric = mine[found.defect[mine]], mine[~found.defect[mine]]
    kappa, ulps, rho = (values[numeric] for values in (found.conditioning, found.ulps, found.rho))
    judged = (rho > 0) & np.isfinite(rho)
    places = np.round(np.clip(logs(kappa, 1e-1), *_ACROSS))
    lines = [
        ("bound", _medians(places[judged], (ulps / np.where(judged, rho, 1))[judged])),
        ("median", _medians(places, ulps)),
    ]
    crosses = _marks(found.conditioning[defects], found.ulps[defects], _CROSSES, "m-2,-2l4,4m0,-4l-4,4")
    parts = [f'<path class="dots" d="{_marks(kappa, ulps, _MARKS, "h0")}"/>']
    parts += [f'<polyline class="{css}" points="{points}"/>' for css, points in lines if points]
    parts += [f'<path class="defects" d="{crosses}"/>'] if crosses else []
    label = f"{name}: error of y in training against conditioning"
    drawn = Markup("".join(parts))  # noqa: S704 - numbers and names of ours
    chart = Markup(
        '<svg class="panel" viewBox="0 0 {} {}" role="img" aria-label="{}"><use href="#panel-axes"/>{}</svg>'
    )
    median = float(np.median(ulps)) if ulps.size else math.nan
    return Panel(name, chart.format(WIDTH, HEIGHT, label, drawn), mine.size, defects.size, median, ulps.max(initial=0))


def _place(value: float, ends: tuple[float, float], size: int) -> int:
    low, high = ends
    return round((min(max(value, low), high) - low) / (high - low) * size)


def _at(x: float, y: float) -> tuple[int, int]:
    return _place(x, _ACROSS, WIDTH), HEIGHT - _place(y, _UP, HEIGHT)


def _marks(kappa: Array, ulps: Array, most: int, mark: str) -> str:
    points = {_at(x, y) for x, y in zip(logs(kappa, 1e-1).tolist(), logs(ulps, 1e-3).tolist(), strict=True)}
    return "".join(f"M{x},{y}{mark}" for x, y in _spread(sorted(points), most))


def _spread(points: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Return points, no more than so many: the highest of each strip, then every n-th of the others."""
    highest = {x // _STRIP: (x, y) for x, y in sorted(points, key=lambda point: -point[1])}
    kept, rest = [*highest.values()][:most], [point for point in points if highest[point[0] // _STRIP] != point]
    room = most - len(kept)
    return kept + (rest[:: -(-len(rest) // room)] if room and rest else [])


def _medians(places: Array, values: Array) -> str:
    """Return the medians in each decade of conditioning as the points of a line."""
    found = ((float(at), float(np.median(values[places == at]))) for at in np.unique(places))
    return " ".join("{},{}".format(*_at(at, math.log10(max(value, 1e-3)))) for at, value in found)


def axes() -> Iterator[tuple[str, int, str]]:
    """Yield the lines that all panels share: whether across or up, where, and what they stand for."""
    for n in (0, 3, 6):
        yield "up", _place(n, _ACROSS, WIDTH), f"1e{n}" if n else "1"
        yield "across", HEIGHT - _place(n, _UP, HEIGHT), f"1e{n}" if n else "1"
