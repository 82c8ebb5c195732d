"""Judged arrays as columns: ρ and the real error of each, and whether a known defect is what makes it wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from conformance.gate.divergences import Divergence
from conformance.gate.explanation import Explanation
from conformance.gate.outputs.checks import group
from conformance.model.results import Run
from conformance.report.entries import identity
from conformance.report.pack import coded
from conformance.runs import counts, summary
from reference.spec import Array

QUANTILES = {"median": 0.5, "90 %": 0.9, "99 %": 0.99, "largest": 1.0}
"""What is said of many numbers."""


class Names(NamedTuple):
    """A column of names: a code for each array, and what the codes stand for."""

    codes: Array
    values: list[str]

    def groups(self, among: Array) -> Iterator[tuple[str, Array]]:
        """Yield each name that occurs among arrays, in order, and those that have it; both as places in the columns."""
        here = self.codes[among]
        there: list[int] = np.unique(here).tolist()
        for code in sorted(there, key=self.values.__getitem__):
            yield self.values[code], among[here == code]


class JudgedArrays(NamedTuple):
    """Columns over the judged arrays of a run.

    ulps: the error of the element with the largest ρ, in condition-scaled units of the last place; infinite where what
        was answered is no number.
    conditioning: the largest |mean| / deviation of a channel of the case; NaN where one is constant.
    values: the most values per channel.
    class_a: ρ under class A, of y in training.
    depth, resolution: NaN where there is none.
    defect: it fails as a known divergence predicts that is no matter of precision: nothing to do with numerics.
    """

    implementation: Names
    framework: Names
    output: Names
    check: Names
    dtype: Names
    numerics: Names
    rho: Array
    ulps: Array
    conditioning: Array
    values: Array
    class_a: Array
    depth: Array
    resolution: Array
    defect: Array

    @property
    def everywhere(self) -> Array:
        """The places of all arrays."""
        return np.arange(self.rho.size)

    @property
    def numeric(self) -> Array:
        """The places of those that are no defects."""
        return np.flatnonzero(~self.defect)


def judged(run: Run, explanations: Iterable[Explanation] = (), known: Iterable[Divergence] = ()) -> JudgedArrays:
    """Return the judged arrays of the implementations of a run."""
    frameworks = {record.id: record.framework for record in run.implementations}
    found = [r for r in run.results if counts.is_judged(r) and r.implementation in frameworks]
    cases, wrong = run.cases, _defects(explanations, known)
    rho, ulps = _numbers(r.rho for r in found), _numbers(r.deviation.ulps if r.deviation else 0.0 for r in found)
    of_case = [cases.get(r.case) for r in found]
    conditioning = [None if case is None else case.conditioning for case in of_case]
    return JudgedArrays(
        Names(*coded([r.implementation for r in found])),
        Names(*coded([frameworks[r.implementation] for r in found])),
        Names(*coded([summary.key(r) for r in found])),
        Names(*coded([group(r).replace("_", " ") for r in found])),
        Names(*coded([r.dtype for r in found])),
        Names(*coded([r.numerics for r in found])),
        rho,
        np.where(np.isinf(rho) & (ulps == 0), np.inf, ulps),
        _numbers(np.nan if one is None else one for one in conditioning),
        _numbers(0 if case is None else case.values for case in of_case),
        _numbers(rho if r.class_a in (msgspec.UNSET, None) else r.class_a for r, rho in zip(found, rho, strict=True)),
        _numbers(np.nan if r.depth is msgspec.UNSET else r.depth for r in found),
        _numbers(np.nan if r.resolution is msgspec.UNSET else r.resolution for r in found),
        np.fromiter((r.failed and identity(r) in wrong for r in found), bool, len(found)),
    )


def _numbers(values: Iterable[object]) -> Array:
    return np.fromiter(map(float, values), float)  # pyright: ignore[reportArgumentType] - inf is text in a run file


def _defects(explanations: Iterable[Explanation], known: Iterable[Divergence]) -> set[tuple[str, str, int, str]]:
    """Return which failures a known divergence speaks of that is no matter of precision."""
    defects = {divergence.id for divergence in known if divergence.kind != "precision"}
    return {identity(one.result) for one in explanations if defects.intersection(one.divergences)}


def quantiles(values: Array) -> list[float]:
    """Return the values of `QUANTILES`: each the smallest number that so large a share of all does not exceed.

    >>> quantiles(np.arange(1.0, 101.0))
    [50.0, 90.0, 99.0, 100.0]
    """
    places = [max(int(np.ceil(share * values.size)) - 1, 0) for share in QUANTILES.values()]
    return np.sort(values)[places].tolist() if values.size else []
