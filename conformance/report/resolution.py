"""The plots of what the bounds can see, against how many values a channel has: in this run, and as measured for all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from conformance.report.judged import JudgedArrays
from conformance.report.plots import Plot, Series, shown, style
from conformance.report.svg import Chart, decades
from conformance.studies.resolving import Power
from reference.spec import Array

_LEAST = 1e-8  # the axis begins here: what has no error at all is drawn there
_SHOWN = (1_024, 65_536, 1_048_576)
_DTYPE = "float32"  # of which nearly everybody is asked most


def in_run(found: JudgedArrays) -> Plot:
    """Return the median resolution of y in training against the number of values, a line for each class promised."""
    known = np.flatnonzero(~np.isnan(found.resolution) & (found.values > 0))
    there, places = dict(found.dtype.groups(known)).get(_DTYPE, known[:0]), np.log10(np.maximum(found.values, 1))
    high = float(places[there].max(initial=1))
    across, up = decades(0, high, "N, values per channel").until(high), decades(-8, 2, "allowed error ÷ |γ|")
    chart, series = Chart("Allowed error of y against N, by class", across, up), list[Series]()
    for n, (name, mine) in enumerate(found.numerics.groups(there)):
        chart.line(_medians(places[mine], found.resolution[mine]), style(n), name)
        series.append(Series(style(n), name, [f"{mine.size:,}", shown(float(np.median(found.resolution[mine])))]))
    says = (
        f"Median over the {_DTYPE} arrays of this run of the error that is allowed in y, beside the normalized values' "
        "size of 1, by the class promised: how small an error this run sees, and how that fades with N."
    )
    title, why = "What did this run see of y?", "No array of this run has a resolution."
    return Plot(title, says, ["arrays", "median"], series, chart.render() if series else None, why)


def _medians(places: Array, values: Array) -> list[tuple[float, float]]:
    """Return the median of values in each half decade in which there are some, as logarithms."""
    bins = np.round(places * 2) / 2
    found = [(float(at), float(np.median(values[bins == at]))) for at in np.unique(bins)]
    return [(at, math.log10(max(value, _LEAST))) for at, value in found]


def plot(found: Sequence[Power]) -> Plot:
    """Return the smallest error of a statistic that is seen, a line for each class and kind of data.

    A statistic is a mean, a variance, dgamma or dbeta: the one that most may be wrong in. Whole numbers have a line
    through powers of 2, where nothing rounds; the table counts terms that a sum may miss as well.
    """
    across, up = decades(2, 6, "N, values per channel"), decades(math.log10(_LEAST), 1, "relative error that is seen")
    chart, series = Chart("Smallest relative error of a statistic that is seen, against N", across, up), list[Series]()
    kinds = dict.fromkeys((one.of, one.whole) for one in found)
    for n, (of, whole) in enumerate(kinds):
        points = [p for p in found if (p.of, p.whole) == (of, whole) and (not whole or p.n & (p.n - 1) == 0)]
        name = f"{of}, {'whole numbers' if whole else 'ordinary data'}"
        chart.line([(math.log10(p.n), math.log10(max(_statistic(p), _LEAST))) for p in points], style(n), name)
        series.append(Series(style(n), name, [_said(p) for p in points if p.n in _SHOWN]))
    head = [f"N = {n:,}: error; terms missed" for n in _SHOWN]
    title = "What do the bounds see in float32, in any order of adding?"
    says = (
        "Smallest relative error of a mean, a variance, dγ or dβ that is never allowed, in ordinary data and in whole "
        "numbers, whose sums round nothing: why cases of whole numbers are asked as well. Measured once, for all runs."
    )
    return Plot(title, says, head, series, chart.render() if series else None, "Nothing was measured.")


def _statistic(power: Power) -> float:
    return max(power.mean, power.variance, power.dgamma, power.dbeta)


def _said(power: Power) -> str:
    return f"{_statistic(power):.2g}; {power.missing:.2g}"
