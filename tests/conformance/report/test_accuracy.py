"""The page on accuracy: what is a defect is apart, and numbers and charts are of what is left."""

from __future__ import annotations

import math
import re
from datetime import date

import msgspec
import numpy as np
import pytest

from conformance.gate.divergences import Divergence, Prediction
from conformance.gate.explanation import Explanation
from conformance.model.results import CaseRecord, Deviation, ImplementationRecord, Result, Run, RunRecord
from conformance.report import panels, plots, ranking, resolution
from conformance.report.judged import judged, quantiles
from conformance.studies import resolving

WHO, OTHER = "a.layer@cpu", "b.layer@cpu"


def result(number, rho, ulps, implementation=WHO, **fields):
    """Return a judged array of a case of its own."""
    verdict = "INCONCLUSIVE" if rho is None else "PASS" if float(rho) <= 1 else "FAIL"
    worst = Deviation("trajectory", [0], 1.0, 2.0, 0.1, ulps)
    about = {"step": 0, "mode": "train", "output": "y", "dtype": "float32", "numerics": "A·S", "elements": 4} | fields
    return Result(f"c{number}", implementation, verdict, rho=rho, deviation=worst, **about)


RESULTS = [
    *(result(n, n / 200, n / 100) for n in range(1, 101)),
    result(101, 7e4, 1e5),
    result(102, 3.0, 40.0),
    result(1, 0.5, 0.25, OTHER, dtype="float16"),
    result(2, "inf", 0.0, OTHER, output="dx"),
    result(3, None, 9.0, OTHER),
]


def run():
    """Return a run of these results, whose cases have conditionings from 1 to 102."""
    header = RunRecord(1, "1", 0, 1, [], "2026-01-02T03:04:05+00:00", {})
    records = [ImplementationRecord(name, name[0], "cpu", True) for name in (WHO, OTHER)]
    cases = [CaseRecord(f"c{n}", n, "", "", "", {}, True, float(n), values=64) for n in range(103)]
    return Run(header, records, {case.case: case for case in cases}, RESULTS, None, torn=False)


@pytest.fixture
def found():
    """Return the judged arrays: one failure is a known defect, one a known matter of precision."""
    day = date(2026, 1, 1)
    words = {"reason": "why", "link": "unreported", "owner": "us", "since": day, "review_by": day, "witness": "w"}
    kinds = {"wrong": "defect", "coarse": "precision"}
    known = [
        Divergence(id=i, implementations=["*"], kind=kind, predicts=Prediction(), rule="BN-1", **words)
        for i, kind in kinds.items()
    ]
    told = [Explanation(RESULTS[100], "explained", ("wrong",)), Explanation(RESULTS[101], "explained", ("coarse",))]
    return judged(run(), told, known)


def test_a_defect_is_apart_and_a_matter_of_precision_is_not(found):
    """What is known to be wrong is counted, and in no number; what is known to be coarse is among the others."""
    first, second = ranking.ranking(found, [WHO, OTHER])
    assert (first.implementation, first.arrays, first.apart) == (WHO, 102, 1)
    assert (first.ulps, first.rho) == ([0.51, 0.91, 1.0, 40.0], [0.255, 0.455, 0.5, 3.0])
    assert (second.arrays, second.apart, second.ulps[3]) == (2, 0, math.inf)  # an answer that is no number
    outputs, cells = ranking.heat(found)
    assert outputs == ["y train", "dx train"]
    assert {name: {o: (c.worst, c.apart) for o, c in of.items()} for name, of in cells.items()} == {
        WHO: {"y train": (3.0, 1)},
        OTHER: {"y train": (0.5, 0), "dx train": (math.inf, 0)},
    }


def test_each_dtype_and_check_is_a_ranking_of_its_own(found):
    """An implementation is ranked by each dtype, each check and both, wherever it has arrays."""
    of = {(row.implementation, row.dtype, row.check): row.arrays for row in ranking.choices(found)}
    assert of == {
        (WHO, "", "y train"): 102,
        (WHO, "float32", ""): 102,
        (WHO, "float32", "y train"): 102,
        (OTHER, "", "gradients"): 1,
        (OTHER, "", "y train"): 1,
        (OTHER, "float16", ""): 1,
        (OTHER, "float16", "y train"): 1,
        (OTHER, "float32", ""): 1,
        (OTHER, "float32", "gradients"): 1,
    }


def test_quantiles_are_numbers_that_occur():
    """So large a share is at most that number; of one number all are that number, and of none there are none."""
    values = np.random.default_rng(0).normal(size=997)
    for share, value in zip((0.5, 0.9, 0.99, 1), quantiles(values), strict=True):
        assert value in values
        assert (values < value).mean() < share <= (values <= value).mean()
    assert quantiles(np.array([3.0])) == [3.0] * 4
    assert quantiles(np.array([])) == []


def test_a_panel_is_of_y_in_training_with_defects_as_crosses(found):
    """Medians and the largest are of numbers without defects; these have marks of their own."""
    panel, other = (of[0] for of in panels.panels(found, [WHO, OTHER]).values())
    assert (panel.implementation, panel.arrays, panel.apart) == (WHO, 102, 1)
    assert (panel.median, panel.largest) == (np.median([*np.arange(1, 101) / 100, 40.0]), 40.0)
    assert [css for css in ("dots", "bound", "median", "defects") if f'class="{css}"' in panel.chart] == [
        "dots",
        "bound",
        "median",
        "defects",
    ]
    assert (other.arrays, other.apart) == (1, 0)
    assert "defects" not in other.chart


def test_a_chart_holds_few_marks_and_the_highest_of_all():
    """Of ten thousand points no more than asked for are drawn, the highest among them."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=10_000), rng.normal(size=10_000)
    kept = plots.thinned(x, y, 200)
    assert len(kept) <= 200
    assert max(y) == pytest.approx(max(b for _, b in kept), abs=0.01)


def test_a_mean_deeper_than_long_is_counted_and_not_drawn(found):
    """A depth beyond N is no depth of a sum: the axis ends where the longest sum does."""
    deep = run()
    deep.results = [result(n, 0.1, 0.1, output="mean", depth=depth) for n, depth in ((1, 3.0), (2, 60.0), (3, 1e15))]
    plot = plots.depths(judged(deep))
    assert plot.series[0].numbers == ["3", "60", "1"]
    assert max(float(n) for n in re.findall(r'class="x"[^>]*>(\d+)<', plot.chart)) == 10
    assert "1e15" not in plot.chart


def test_resolution_is_the_median_of_each_class(found):
    """In this run, of float32: half of the arrays of a class allow no more."""
    seen = run()
    seen.results = [
        result(n, 0.1, 0.1, resolution=n * 1e-6, numerics=c) for n, c in ((1, "A·S"), (3, "A·S"), (9, "B·S"))
    ]
    plot = resolution.in_run(judged(seen))
    assert [(s.name, s.numbers) for s in plot.series] == [("A·S", ["2", "2e-06"]), ("B·S", ["1", "9e-06"])]


def test_every_plot_says_what_it_shows(found):
    """Each has a sentence that ends, whether anything is drawn or not."""
    empty = msgspec.structs.replace(run(), results=[])
    for of in (found, judged(empty)):
        made = [plots.distributions(of, "ab"), *plots.errors(of, "ab"), plots.classes(of), plots.depths(of)]
        made += [resolution.in_run(of), resolution.plot(resolving.measured()), plots.detection("", [])]
        for plot in made:
            assert re.fullmatch(r"(?s)[A-Z].{80,}\.", plot.says)
            assert plot.chart is not None or plot.why
