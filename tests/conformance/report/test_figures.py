"""What is reported beside ρ: each figure is what it says, and no verdict depends on it."""

from __future__ import annotations

from typing import cast

import msgspec
import numpy as np
import pytest

from conformance.cases.cells import SMOKE
from conformance.cli import finished
from conformance.hosts.roster import ADAPTERS, from_target
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import trajectory
from conformance.judging.expected import Expected
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.model.case import case_id
from conformance.model.outcome import Outputs, Reply
from conformance.model.results import CaseRecord, ImplementationRecord, Result, Run, RunRecord
from conformance.runs import summary, wording

SUBJECTS = {entry.statement.id: entry.statement for entry in from_target(str(ADAPTERS / "numpy.py"))}


def expected(case, statement):
    """Return what is expected of every step."""
    with np.errstate(all="ignore"):
        return trajectory(Promise.of(ExactCase(case), statement))


def judged(case, spoil=lambda outputs: None, statement=SUBJECTS["numpy.two_pass"]):
    """Judge the exact answers, rounded and then spoilt, and return the results by (step, output)."""
    steps = [{n: np.asarray(e.value).astype(e.dtype) for n, e in s.items()} for s in expected(case, statement)]
    for step in steps:
        spoil(step)
    found = judge(case_id(case), ExactCase(case), statement, Reply(0, "i@cpu", tuple(Outputs(s) for s in steps)))
    return {(r.step, r.output): r for r in found}


def one(value, terms=None):
    """Return what is expected of one element."""
    value = np.array([value])
    return Expected(value, np.ones(1), "float32", None if terms is None else lambda: np.array([terms]))


@pytest.mark.parametrize(
    ("value", "terms", "got", "ulps"),
    [
        (1.0, None, 1 + 2.0**-23, 1.0),
        (1.5, None, 1.5 + 2.0**-23, 1.0),
        (2.0, None, 2 + 2.0**-23, 0.5),
        (1.0, 1024.0, 1 + 2.0**-23, 2.0**-10),
        (0.0, None, 2.0**-149, 1.0),
        (np.nan, None, 1.0, 0.0),
    ],
)
def test_ulps_are_units_in_the_last_place_of_the_terms(value, terms, got, ulps):
    """One place of the value, of its terms where they are larger, and of the smallest normal where both are smaller."""
    assert one(value, terms).ulps(np.array([got]), (0,)) == ulps


def test_correct_rounding_is_half_a_condition_scaled_ulp(small_case):
    """The exact answers, rounded to float32, are off by half an ulp at most, in every output of every step."""
    found = judged(small_case(modes="train train infer"))
    assert all(r.deviation.ulps <= 0.5 for r in found.values() if r.deviation.check == "trajectory")
    assert found[0, "y"].deviation.ulps > 0


def test_a_mean_that_is_off_shows_the_depth_of_its_sum(small_case):
    """A mean off by ten roundings of mean|x| shows a depth of ten; rounded correctly it shows less than one."""
    case = small_case(modes="train")
    size = np.abs(case.tensors["0.x"].astype(float)).mean(0)
    u = 2.0**-24

    def off(outputs):
        outputs["mean"] += (10 * u * size).astype(np.float32)

    assert judged(case)[0, "mean"].depth < 1
    assert 9 < judged(case, off)[0, "mean"].depth <= 11


def test_a_moving_mean_shows_its_depth_in_the_first_step_only(small_case):
    """Ten roundings of mean|x|, times the fraction, show as up to ten: what the average rounds is taken off."""
    case = small_case(modes="train train")
    size = np.abs(case.tensors["0.x"].astype(float)).mean(0)
    fraction = 1 - case.spec.momentum

    def off(outputs):
        outputs["moving_mean"] += (300 * fraction * 2.0**-24 * size).astype(np.float32)

    found = judged(case, off)
    assert 100 < found[0, "moving_mean"].depth < 301
    assert found[1, "moving_mean"].depth is msgspec.UNSET


def test_resolution_is_the_median_of_bound_over_gamma(small_case):
    """The resolution of y is in units of the normalized values, whatever gamma; other outputs have none."""
    case = small_case(modes="train")
    y, gamma = expected(case, SUBJECTS["numpy.two_pass"])[0]["y"], np.abs(case.tensors["gamma"].astype(float))
    found = judged(case)
    assert found[0, "y"].resolution == pytest.approx(np.median(y.bound / gamma), rel=1e-2)
    assert found[0, "dx"].resolution is msgspec.UNSET


def test_the_measured_class_is_the_strictest_that_holds(of_everything):
    """Each subject is outside of all classes stricter than its own, and of none that holds it."""
    found, _ = of_everything("numpy.*", cases=SMOKE)
    rows = {row.id: row.observed[0] for row in summary.rows(found)}
    measured = {identity: (whole.declared, whole.observed, whole.looser) for identity, whole in rows.items()}
    assert measured["numpy.two_pass@cpu"] == ("A·S", "A·S", False)
    assert measured["numpy.fast@cpu"] == ("B·S", "B·S", False)
    assert measured["numpy.pairwise@cpu"] == ("A·T", "A·T", False)
    assert measured["numpy.welford+lanes@cpu"] == ("A·S", "A·T", True)


def test_a_run_says_which_declarations_are_looser_than_what_it_observed(run, tmp_path, capsys):
    """The line names both classes, and how many arrays it speaks of; a declaration that was needed has none."""
    finished.print_run(run("numpy.pairwise", "numpy.welford+lanes", cases=12), tmp_path)
    out = capsys.readouterr().out
    assert "numpy.welford+lanes@cpu: y declared A·S, observed A·T in" in out
    assert "numpy.pairwise@cpu: y declared" not in out


def test_a_declaration_that_is_needed_somewhere_is_told_looser_where_it_is_not():
    """Of arrays of one declaration, those of a layout and a size that are inside a stricter class have a line."""
    small, large, last = (
        CaseRecord(name, 0, "", "", "", {}, True, 1.0, values=values, layout=layout)
        for name, values, layout in (("s", 10, "C"), ("l", 4099, "C"), ("c", 4099, "channels_last"))
    )
    outside = {"s": [], "l": [], "c": ["A·T"]}
    results = [Result(case, "i", "PASS", output="y", numerics="A·S", outside=label) for case, label in outside.items()]
    record = ImplementationRecord("i", "f", "cpu", available=True)
    cases = {case.case: case for case in (small, large, last)}
    (row,) = summary.rows(Run(cast("RunRecord", None), [record], cases, results, None, torn=False))
    assert [(o.observed, o.where) for o in row.observed] == [
        ("A·S", ""),
        ("A·T", "layout C, N > 1,000"),
        ("A·T", "layout C, N ≤ 1,000"),
    ]


def test_a_row_sums_up_what_the_bounds_could_see(small_case):
    """The largest depth, the median resolution, and the share of elements that nothing was promised for."""
    results = [
        Result("c", "i", "PASS", output="y", mode="train", rho=0.5, elements=10, vacuous=vacuous, resolution=resolution)
        for vacuous, resolution in ((0, 1e-6), (5, 3e-6), (0, 5e-6))
    ]
    worst = summary.Worst()
    for result in results:
        worst.add(result)
    worst.add(Result("c", "i", "PASS", output="y", mode="train", rho=0.1, elements=10, depth=7.5))
    assert (worst.vacuous_share, worst.resolution, worst.depth) == (5 / 40, 3e-6, 7.5)


def test_a_failure_is_shown_with_its_figures(small_case):
    """The line of a failure names ulps and resolution beside ρ."""

    def off(outputs):
        outputs["y"][0, 0] += 1

    line = wording.describe(judged(small_case(modes="train"), off)[0, "y"])
    assert "ulps of the terms' size, resolution" in line
