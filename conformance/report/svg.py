"""Still charts as SVG: scales, ticks, lines and marks. Colours come from the page's style sheet, by class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 48
SHAPES = {
    "square": "m-2.5,-2.5h5v5h-5z",
    "triangle": "m0,-3l3,5h-6z",
    "cross": "m-2.5,-2.5l5,5m0,-5l-5,5",
    "diamond": "m0,-3.5l3,3.5l-3,3.5l-3,-3.5z",
    "plus": "m-3,0h6m-3,-3v6",
    "circle": "m-2.5,0a2.5,2.5 0 1,0 5,0a2.5,2.5 0 1,0 -5,0",
}
"""Marks, each drawn from its middle: a shape stands for a kind, as a colour does."""
Point = tuple[float, float]


class Axis(NamedTuple):
    """Where an axis begins and ends, what it is called, and its ticks: values with their labels."""

    low: float
    high: float
    label: str
    ticks: Sequence[tuple[float, str]]

    def until(self, high: float) -> Axis:
        """Return the same axis, ending there."""
        return self._replace(high=high, ticks=[tick for tick in self.ticks if tick[0] <= high])


def decades(low: float, high: float, label: str) -> Axis:
    """Return an axis for log10 of values, a tick at every decade, or every few.

    >>> [text for _, text in decades(-2, 1, "").ticks]
    ['0.01', '0.1', '1', '10']
    """
    first, last = math.floor(low), math.ceil(high)
    step = max(1, math.ceil((last - first) / 9))
    return Axis(first, max(last, first + 1), label, [(n, _power(n)) for n in range(first, last + 1, step)])


def _power(n: int) -> str:
    return f"{10.0**n:g}" if -3 < n < 4 else f"1e{n}"


class Chart:
    """One chart; what is drawn first lies below. title: what it shows, for those who cannot see it."""

    def __init__(self, title: str, x: Axis, y: Axis) -> None:
        self.title, self.x, self.y = title, x, y
        self._parts = [*self._grid()]

    def at(self, x: float, y: float) -> Point:
        """Return where a point is drawn; what lies outside is drawn at the edge."""
        across = (min(max(x, self.x.low), self.x.high) - self.x.low) / (self.x.high - self.x.low)
        up = (min(max(y, self.y.low), self.y.high) - self.y.low) / (self.y.high - self.y.low)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    def line(self, points: Iterable[Point], css: str, title: str = "") -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.0f},{y:.1f}" for x, y in (self.at(*p) for p in points))
        self._add('<polyline class="{}" points="{}"><title>{}</title></polyline>', css, path, title)

    def marks(self, points: Iterable[Point], css: str, shape: str, title: str = "") -> None:
        """Draw marks of one kind."""
        path = "".join(f"M{x:.0f},{y:.0f}{SHAPES[shape]}" for x, y in (self.at(*p) for p in points))
        self._add('<path class="{}" d="{}"><title>{}</title></path>', css, path, title)

    def rule(self, x: float, label: str) -> None:
        """Draw a vertical line at a value that means something."""
        (left, bottom), (_, top) = self.at(x, self.y.low), self.at(x, self.y.high)
        self._add('<line class="rule" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>', left, bottom, top)
        self._add('<text class="rule" x="{:.1f}" y="{:.1f}">{}</text>', left + 4, bottom - 6, label)

    def level(self, y: float, label: str) -> None:
        """Draw a horizontal line at a value that means something."""
        (left, here), (right, _) = self.at(self.x.low, y), self.at(self.x.high, y)
        self._add('<line class="rule" x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}"/>', left, right, here)
        self._add('<text class="rule" x="{:.1f}" y="{:.1f}">{}</text>', left + 4, here - 4, label)

    def render(self) -> Markup:
        """Return the chart."""
        body = Markup("").join(self._parts)
        return Markup(
            '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
        ).format(WIDTH, HEIGHT, self.title, self.title, body)

    def _grid(self) -> Iterable[Markup]:
        for value, text in self.x.ticks:
            x, y = self.at(value, self.y.low)
            yield _fill('<line class="tick" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2}"/>', x, y, _TOP)
            yield _fill('<text class="x" x="{:.1f}" y="{:.1f}">{}</text>', x, y + 16, text)
        for value, text in self.y.ticks:
            x, y = self.at(self.x.low, value)
            yield _fill('<line class="tick" x1="{0:.1f}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>', x, WIDTH - _RIGHT, y)
            yield _fill('<text class="y" x="{:.1f}" y="{:.1f}">{}</text>', x - 6, y + 4, text)
        middle = (_TOP + HEIGHT - _BOTTOM) / 2
        yield _fill('<text class="x name" x="{}" y="{}">{}</text>', (_LEFT + WIDTH) / 2, HEIGHT - 8, self.x.label)
        turned = '<text class="x name" transform="rotate(-90 14 {0})" x="14" y="{0}">{1}</text>'
        yield _fill(turned, middle, self.y.label)

    def _add(self, template: str, *values: object) -> None:
        self._parts.append(_fill(template, *values))


def _fill(template: str, *values: object) -> Markup:
    """Return markup of ours with values in it, escaped."""
    return Markup(template).format(*values)  # noqa: S704 - templates are written above


def sparkline(values: Sequence[float], title: str) -> Markup:
    """Return a small line of log10 values, no less than a decade high, the last one marked; NaN is left out."""
    known = [v for v in values if math.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    span, step = max(high - low, 1.0), 96 / max(len(values) - 1, 1)
    places = [(2 + n * step, 18 - 14 * (v - low) / span) for n, v in enumerate(values) if math.isfinite(v)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dot = _fill('<circle cx="{:.1f}" cy="{:.1f}" r="2"/>', *places[-1]) if places else Markup("")
    return Markup(
        '<svg class="spark" viewBox="0 0 100 20" role="img" aria-label="{}"><polyline points="{}"/>{}</svg>'
    ).format(title, points, dot)
