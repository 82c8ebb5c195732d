"""The plots of the page on accuracy: each a still chart with the numbers beside it, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup

from conformance.report.judged import QUANTILES, JudgedArrays, quantiles
from conformance.report.svg import SHAPES, Axis, Chart, decades
from conformance.runs import summary
from reference.spec import Array

SMALLEST = 1e-6
"""Where the axis of ρ begins; what is smaller is drawn there."""
LARGEST = 1e3
"""Where it ends."""
FLATTEST = 1e9
"""Where the axis of conditioning ends."""
MARKS = 500
"""How many marks a chart has at most."""
ULPS = (1e-3, 1e6)
"""Where the axis of errors begins, and ends."""
SHARE = Axis(0, 1, "share of judged arrays", [(n / 4, f"{n / 4:g}") for n in range(5)])
_POINTS = 70  # of a line that is drawn from many numbers


class Series(msgspec.Struct):
    """One line, or one kind of mark: its style, name and numbers; numbers: what the table beside the chart shows."""

    css: str
    name: str
    numbers: list[str]
    shape: str = ""


class Plot(msgspec.Struct):
    """A chart with its legend as a table.

    says: what it shows, and which question it answers, in a sentence.
    head: of the columns of numbers.
    why: why nothing is drawn, if so.
    """

    title: str
    says: str
    head: list[str]
    series: list[Series]
    chart: Markup | None = None
    why: str = ""


def style(n: int) -> str:
    """Return the class of the n-th line: eight colours, four dashes."""
    return f"s{n % 8} d{(n + n // 8) % 4}"


def distributions(found: JudgedArrays, names: Sequence[str], of: str = "") -> Plot:
    """Return the share of judged arrays with at most a given ρ, per framework.

    names: of all frameworks, so that two runs side by side have the same line for the same; of: the other run's name.
    """
    title = f"Distribution of ρ{of and f' in {of}'}"
    says = (
        "Share of the judged arrays, defects left out, whose error is at most so large a part of what is allowed: who "
        "comes close to the bound, and how often. What lies right of 1 is beyond it."
    )
    across = decades(math.log10(SMALLEST), math.log10(LARGEST), "ρ = error ÷ allowed error")
    groups = {name: found.rho[mine] for name, mine in found.framework.groups(found.numeric)}
    chart, series = _shares(f"{title}: share of judged arrays with at most a given ρ", across, groups, names)
    for line in series:
        line.numbers.append(f"{(groups[line.name] > 1).mean():.2%}")
    chart.rule(0, "ρ = 1: the bound")
    head = ["arrays", *QUANTILES, "above 1"]
    return Plot(title, says, head, series, chart.render() if series else None, "No array was judged.")


def errors(found: JudgedArrays, names: Sequence[str]) -> Iterator[Plot]:
    """Yield for each dtype the share of arrays with at most a given error, per framework."""
    for dtype, mine in sorted(found.dtype.groups(found.numeric), key=lambda of: -of[1].size):
        says = (
            f"Share of the {dtype} arrays, defects left out, whose worst element is off by at most so many units in "
            "the last place: how accurate results are in this precision, whatever was promised. Correct rounding is ½."
        )
        title = f"Error in {dtype or 'no dtype'}"
        low, high = map(math.log10, ULPS)
        across = decades(low, high, "error of the worst element, in condition-scaled ulps")
        groups = {name: found.ulps[here] for name, here in found.framework.groups(mine)}
        chart, series = _shares(f"{title}: share of arrays with at most a given error", across, groups, names)
        chart.rule(math.log10(0.5), "½: correct rounding")
        yield Plot(title, says, ["arrays", *QUANTILES], series, chart.render())


def _shares(title: str, across: Axis, groups: dict[str, Array], names: Sequence[str]) -> tuple[Chart, list[Series]]:
    """Return a chart of distribution functions, a line for each group, and its legend."""
    chart, series = Chart(title, across, SHARE), list[Series]()
    for name, values in groups.items():
        css = style(names.index(name))
        chart.line(_steps(np.sort(values), across), css, name)
        series.append(Series(css, name, [f"{values.size:,}", *map(shown, quantiles(values))]))
    return chart, series


def shown(value: float) -> str:
    """Return a number as people read it, with three digits."""
    return "∞" if math.isinf(value) else summary.show(value)


def _steps(values: Array, across: Axis) -> list[tuple[float, float]]:
    """Return a distribution function at evenly spaced logarithms: it looks the same, however many values there are."""
    places = np.linspace(across.low, across.high, _POINTS)
    shares = np.searchsorted(values, 10.0**places, side="right") / values.size
    points = list(zip(places.tolist(), shares.tolist(), strict=True))
    flat = [n for n in range(1, _POINTS - 1) if points[n - 1][1] == points[n][1] == points[n + 1][1]]
    return [point for n, point in enumerate(points) if n not in flat]


def classes(found: JudgedArrays) -> Plot:
    """Return ρ of training outputs under class A against the case's conditioning, by the class that was promised."""
    across = decades(-1, math.log10(FLATTEST), "κ, the largest |mean| ÷ deviation of a channel")
    up = decades(math.log10(SMALLEST), 9, "ρ under class A")
    chart, series, shapes = Chart("ρ under class A against conditioning", across, up), list[Series](), [*SHAPES]
    groups = list(found.numerics.groups(training(found)))
    for n, (name, here) in enumerate(groups):
        kept = thinned(logs(found.conditioning[here], 1e-1), logs(found.class_a[here], SMALLEST), MARKS // len(groups))
        shape = shapes[n % len(shapes)]
        chart.marks(kept, f"m{n % 8}", shape, name)
        beyond = int((found.class_a[here] > 1).sum())
        series.append(Series(f"m{n % 8}", name, [f"{here.size:,}", f"{beyond:,}", str(len(kept))], shape))
    chart.level(0, "ρ = 1")
    says = (
        "Every y of a training step, defects left out, judged as if two passes had been promised, by what was "
        "promised: whether a looser promise is needed, and from which conditioning on."
    )
    head = ["arrays", "above 1 as class A", "drawn"]
    title, why = "Which class is it really in?", "No training output was judged."
    return Plot(title, says, head, series, chart.render() if series else None, why)


def training(found: JudgedArrays) -> Array:
    """Return the places of y of training steps whose case has a conditioning, and which are no defects."""
    y = dict(found.output.groups(found.numeric)).get("y train", found.numeric[:0])
    return y[~np.isnan(found.conditioning[y])]


def logs(values: Array, least: float) -> Array:
    """Return log10 of values, what is smaller than the least as that."""
    return np.log10(np.maximum(values, least))


def thinned(x: Array, y: Array, most: int) -> list[tuple[float, float]]:
    """Return distinct points, no more than so many: the highest, then every n-th."""
    distinct = sorted({(round(a, 2), round(b, 2)) for a, b in zip(x.tolist(), y.tolist(), strict=True)}, key=_height)
    if len(distinct) <= most:
        return distinct
    top, rest = distinct[: most // 3], distinct[most // 3 :]
    return top + rest[:: -(-len(rest) // (most - len(top)))]


def _height(point: tuple[float, float]) -> tuple[float, float]:
    return -point[1], point[0]


def depths(found: JudgedArrays) -> Plot:
    """Return the effective depth of sums against their length; what is deeper than long is no sum's, and counted."""
    there = found.numeric[~np.isnan(found.depth[found.numeric]) & (found.values[found.numeric] > 0)]
    longest = float(found.values[there].max(initial=10))
    across, high = decades(0, math.log10(longest), "N, values averaged"), math.log10(longest)
    up = decades(-2, high, "effective depth |m̂ − m| ÷ (u · mean |x|)")
    chart, series = (
        Chart("Effective depth of sums against their length", across.until(high), up.until(high)),
        list[Series](),
    )
    shapes, groups = [*SHAPES], list(found.framework.groups(there))
    for n, (name, mine) in enumerate(groups):
        drawn, shape = mine[found.depth[mine] <= found.values[mine]], shapes[n % len(shapes)]
        points = thinned(logs(found.values[drawn], 1), logs(found.depth[drawn], 1e-2), MARKS // len(groups))
        chart.marks(points, f"m{n % 8}", shape, name)
        counted = [f"{mine.size:,}", shown(found.depth[drawn].max(initial=0)), f"{mine.size - drawn.size:,}"]
        series.append(Series(f"m{n % 8}", name, counted, shape))
    series += _guides(chart)
    why = "The run holds no effective depths: it was made by a version that does not record them."
    says = (
        "How many roundings of the mean's terms an error of the mean amounts to, defects left out: how the sums are "
        "made. A tree stays below log₂ N, one after the other below N; a mean that is deeper than long is off by "
        "something else than its sum, and is only counted."
    )
    head = ["means", "largest", "beyond N"]
    return Plot("How deep are the sums?", says, head, series, chart.render() if there.size else None, why)


def _guides(chart: Chart) -> Iterator[Series]:
    """Draw lines for how deep a sum of so many values may be, and yield their legend."""
    lengths = np.linspace(math.log10(2), chart.x.high, 40).tolist()
    for n, (name, of) in enumerate({"log₂ N": math.log2, "√N": math.sqrt, "N": float}.items(), 1):
        css = f"guide d{n}"
        chart.line([(at, math.log10(of(10.0**at))) for at in lengths], css, name)
        yield Series(css, name, ["", "", ""])


def detection(dtype: str, curve: Sequence[dict[str, Any]]) -> Plot:
    """Return the share of injected faults that is detected against their size, a line per output and rule."""
    lines: dict[str, dict[float, tuple[int, int]]] = {}
    for point in curve:
        name = " ".join(str(point[key]) for key in ("rule", "output") if point.get(key))
        found, of = lines.setdefault(name, {}).get(float(point["delta"]), (0, 0))
        lines[name][float(point["delta"])] = found + int(point["detected"]), of + int(point["of"])
    sizes = [math.log10(d) for values in lines.values() for d in values]
    across = decades(min(sizes, default=-8), max(sizes, default=-2), "relative size of the fault")
    share = SHARE._replace(label="share detected")
    chart, series = Chart("Share of faults detected against their size", across, share), list[Series]()
    for n, (name, values) in enumerate(sorted(lines.items())):
        points = [(math.log10(d), hit / max(of, 1)) for d, (hit, of) in sorted(values.items())]
        chart.line(points, style(n), name)
        half = next((f"{10**x:.1g}" for x, y in points if y >= 0.5), "none")
        series.append(Series(style(n), name, [str(sum(of for _, of in values.values())), half]))
    why = "No study of faults is in reports/score/."
    title = f"How small a fault is noticed{f' in {dtype}' if dtype else ''}?"
    says = (
        "Share of faults, put in on purpose, that are noticed, against their size, by output and rule of judging: "
        "what a passing run excludes."
    )
    return Plot(title, says, ["faults", "half at"], series, chart.render() if lines else None, why)
