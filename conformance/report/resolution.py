"""The plot of what the bounds can see, against how many values a channel has."""

from __future__ import annotations

import math
from collections.abc import Sequence

from conformance.report.plots import Plot, Series, style
from conformance.report.svg import Chart, decades
from conformance.studies.resolving import Power

_LEAST = 1e-8  # the axis begins here: what has no error at all is drawn there
_SHOWN = (1_024, 65_536, 1_048_576)


def plot(found: Sequence[Power]) -> Plot:
    """Return the smallest error of a statistic that is seen, a line for each class and kind of data.

    A statistic is a mean, a variance, dgamma or dbeta: the one that most may be wrong in. Whole numbers have a line
    through powers of 2, where nothing rounds; the table counts terms that a sum may miss as well.
    """
    across, up = decades(2, 6, "n, values per channel"), decades(math.log10(_LEAST), 1, "relative error that is seen")
    chart, series = Chart("Smallest relative error of a statistic that is seen, against n", across, up), list[Series]()
    kinds = dict.fromkeys((one.of, one.whole) for one in found)
    for n, (of, whole) in enumerate(kinds):
        points = [p for p in found if (p.of, p.whole) == (of, whole) and (not whole or p.n & (p.n - 1) == 0)]
        name = f"{of}, {'whole numbers' if whole else 'ordinary data'}"
        chart.line([(math.log10(p.n), math.log10(max(_statistic(p), _LEAST))) for p in points], style(n), name)
        series.append(Series(style(n), name, [_said(p) for p in points if p.n in _SHOWN]))
    head = [f"n = {n:,}: error; terms missed" for n in _SHOWN]
    title = "What do the bounds see in float32, in any order of adding?"
    return Plot(title, head, series, chart.render() if series else None, "Nothing was measured.")


def _statistic(power: Power) -> float:
    return max(power.mean, power.variance, power.dgamma, power.dbeta)


def _said(power: Power) -> str:
    return f"{_statistic(power):.2g}; {power.missing:.2g}"
