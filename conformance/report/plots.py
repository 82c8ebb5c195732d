"""The plots of the numerics page: each a still chart with the numbers beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup

from conformance.model.results import Result, Run
from conformance.report.svg import SHAPES, Chart, decades
from reference.spec import Array

SMALLEST = 1e-6
"""Where the axis of ρ begins; what is smaller is drawn there."""
LARGEST = 1e6
"""Where it ends."""
FLATTEST = 1e9
"""Where the axis of conditioning ends."""
MARKS = 1500
"""How many marks a chart has at most."""


class Series(msgspec.Struct):
    """One line, or one kind of mark: its style, name and numbers; numbers: what the table beside the chart shows."""

    css: str
    name: str
    numbers: list[str]
    shape: str = ""


class Plot(msgspec.Struct):
    """A chart with its legend as a table, and why nothing is drawn, if so; head: of its columns of numbers."""

    title: str
    head: list[str]
    series: list[Series]
    chart: Markup | None = None
    why: str = ""


def style(n: int) -> str:
    """Return the class of the n-th line: eight colours, four dashes."""
    return f"s{n % 8} d{(n + n // 8) % 4}"


def _rho(result: Result) -> float:
    rho = result.rho
    return math.nan if rho is msgspec.UNSET or rho is None else float(rho)


def distributions(run: Run, other: Run | None = None, title: str = "Distribution of ρ") -> Plot:
    """Return the share of judged arrays with at most a given ρ, per framework; other: whose frameworks have lines too.

    Two runs side by side have the same line for the same framework.
    """
    names = sorted({r.framework for part in (run, other) if part for r in part.implementations})
    axis = decades(math.log10(SMALLEST), math.log10(LARGEST), "ρ = error / bound")
    share = decades(0, 1, "share of judged arrays")._replace(high=1.0, ticks=[(n / 4, f"{n / 4:g}") for n in range(5)])
    chart, series = Chart(f"{title}: share of judged arrays with at most a given ρ", axis, share), list[Series]()
    for name, values in _by_framework(run).items():
        css = style(names.index(name))
        chart.line(_steps(values), css, name)
        series.append(Series(css, name, _quantiles(values)))
    chart.rule(0, "ρ = 1: the bound")
    head = ["judged", "median", "90 %", "99 %", "largest", "above 1"]
    return Plot(title, head, series, chart.render() if series else None, "No array was judged.")


def _by_framework(run: Run) -> dict[str, Array]:
    names = {r.id: r.framework for r in run.implementations}
    values: dict[str, list[float]] = {}
    for r in run.results:
        if isinstance(r.rho, float | str) and r.implementation in names:
            values.setdefault(names[r.implementation], []).append(float(r.rho))
    return {name: np.sort(np.asarray(found)) for name, found in sorted(values.items())}


def _steps(values: Array, points: int = 160) -> Iterable[tuple[float, float]]:
    """Yield a distribution function at evenly spaced logarithms: it looks the same, however many values there are."""
    places = np.linspace(math.log10(SMALLEST), math.log10(LARGEST), points)
    shares = np.searchsorted(values, 10.0**places, side="right") / values.size
    return zip(places.tolist(), shares.tolist(), strict=True)


def _quantiles(values: Array) -> list[str]:
    at = [values[min(int(q * values.size), values.size - 1)] for q in (0.5, 0.9, 0.99, 1)]
    shown = ["∞" if math.isinf(v) else f"{v:.3g}" for v in at]
    return [str(values.size), *shown, f"{(values > 1).mean():.2%}"]


def conditioning(run: Run) -> Plot:
    """Return ρ of training outputs under class A against the case's conditioning, by the class that was promised."""
    points: dict[str, list[tuple[float, float]]] = {}
    for r in run.results:
        case = run.cases.get(r.case)
        if r.output == "y" and r.mode == "train" and case and case.conditioning is not None:
            rho = _rho(r) if r.class_a is msgspec.UNSET else _rho(msgspec.structs.replace(r, rho=r.class_a))
            if rho >= 0:
                point = (
                    math.log10(min(max(case.conditioning, 1e-3), FLATTEST)),
                    math.log10(min(max(rho, SMALLEST), LARGEST * 1e3)),
                )
                points.setdefault(r.numerics, []).append(point)
    across = decades(-3, math.log10(FLATTEST), "largest |mean| / deviation, κ")
    up = decades(math.log10(SMALLEST), 9, "ρ under class A")
    chart, series, shapes = Chart("ρ under class A against conditioning", across, up), list[Series](), [*SHAPES]
    for n, (name, found) in enumerate(sorted(points.items())):
        kept, shape = _thinned(found, MARKS // len(points)), shapes[n % len(shapes)]
        chart.marks(kept, f"m{n % 8}", shape, name)
        beyond = sum(y > 0 for _, y in found)
        series.append(Series(f"m{n % 8}", name, [str(len(found)), str(beyond), str(len(kept))], shape))
    chart.level(0, "ρ = 1")
    head = ["arrays", "above 1 as class A", "drawn"]
    return Plot(
        "Which class is it really in?",
        head,
        series,
        chart.render() if series else None,
        "No training output was judged.",
    )


def _thinned(points: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return distinct points, no more than so many: the highest, then every n-th."""
    distinct = sorted({(round(x, 2), round(y, 2)) for x, y in points}, key=lambda p: -p[1])
    if len(distinct) <= most:
        return distinct
    top, rest = distinct[: most // 3], distinct[most // 3 :]
    return top + rest[:: -(-len(rest) // (most - len(top)))]


def depth(points: Sequence[tuple[str, float, float]]) -> Plot:
    """Return the effective depth of sums against their length: (framework, n, depth) each."""
    across, up = decades(0, 5, "n, values averaged"), decades(-2, 5, "effective depth |m̂ − m| / (u · mean |x|)")
    chart, series = Chart("Effective depth of sums against their length", across, up), list[Series]()
    names, shapes = sorted({name for name, _, _ in points}), [*SHAPES]
    for n, name in enumerate(names):
        found = [(math.log10(count), math.log10(max(d, 1e-2))) for who, count, d in points if who == name and count > 0]
        chart.marks(_thinned(found, MARKS // len(names)), f"m{n % 8}", shapes[n % len(shapes)], name)
        largest = max((d for who, _, d in points if who == name), default=0.0)
        series.append(Series(f"m{n % 8}", name, [str(len(found)), f"{largest:.3g}"], shapes[n % len(shapes)]))
    lengths = [n / 8 for n in range(3, 41)]
    guides = {"log2 n": math.log2, "√n": math.sqrt, "n": float}
    for n, (name, of) in enumerate(guides.items(), 1):
        css = f"guide d{n}"
        chart.line([(at, math.log10(of(10.0**at))) for at in lengths], css, name)
        series.append(Series(css, name, ["", ""]))
    why = "The run holds no effective depths: it was made by a version that does not record them."
    return Plot("How deep are the sums?", ["means", "largest"], series, chart.render() if points else None, why)


def detection(dtype: str, curve: Sequence[dict[str, Any]]) -> Plot:
    """Return the share of injected faults that is detected against their size, a line per output and rule."""
    lines: dict[str, dict[float, tuple[int, int]]] = {}
    for point in curve:
        name = " ".join(str(point[key]) for key in ("rule", "output") if point.get(key))
        found, of = lines.setdefault(name, {}).get(float(point["delta"]), (0, 0))
        lines[name][float(point["delta"])] = found + int(point["detected"]), of + int(point["of"])
    sizes = [math.log10(d) for values in lines.values() for d in values]
    across = decades(min(sizes, default=-8), max(sizes, default=-2), "relative size of the fault")
    share = decades(0, 1, "share detected")._replace(high=1.0, ticks=[(n / 4, f"{n / 4:g}") for n in range(5)])
    chart, series = Chart("Share of faults detected against their size", across, share), list[Series]()
    for n, (name, values) in enumerate(sorted(lines.items())):
        points = [(math.log10(d), hit / max(of, 1)) for d, (hit, of) in sorted(values.items())]
        chart.line(points, style(n), name)
        half = next((f"{10**x:.1g}" for x, y in points if y >= 0.5), "none")
        series.append(Series(style(n), name, [str(sum(of for _, of in values.values())), half]))
    why = "No study of faults is in reports/score/."
    title = f"How small a fault is noticed{f' in {dtype}' if dtype else ''}?"
    return Plot(title, ["faults", "half at"], series, chart.render() if lines else None, why)
