"""The page on accuracy: who is accurate where, how errors grow and are distributed, and what the bounds see of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from conformance.report import panels as small
from conformance.report import plots as drawn
from conformance.report import ranking as ranked
from conformance.report import resolution
from conformance.report.judged import JudgedArrays, judged
from conformance.report.material import Material
from conformance.report.overview import CHECKS
from conformance.studies import resolving
from reference.spec import Array


class Accuracy(msgspec.Struct):
    """What the page shows.

    apart: how many arrays are defects.
    choices: what the script ranks by, beside all arrays.
    outputs, heat: the columns of the worst ρ, and its cells by implementation and output.
    """

    apart: int
    dtypes: list[str]
    checks: list[str]
    ranking: list[ranked.Ranked]
    choices: list[ranked.Ranked]
    panels: dict[str, list[small.Panel]]
    plots: list[drawn.Plot]
    outputs: list[str]
    heat: dict[str, dict[str, ranked.WorstRho]]
    quantiles: tuple[str, ...] = ranked.SHOWN
    axes: tuple[tuple[str, int, str], ...] = tuple(small.axes())
    panel_size: tuple[int, int] = (small.WIDTH, small.HEIGHT)

    @property
    def drawn(self) -> set[str]:
        """Who has a panel."""
        return {panel.implementation for found in self.panels.values() for panel in found}


def accuracy(material: Material) -> Accuracy:
    """Return the page of a run."""
    run, found = material.run, judged(material.run, material.explanations, material.known)
    ids = [record.id for record in run.implementations]
    outputs, heat = ranked.heat(found)
    return Accuracy(
        int(found.defect.sum()),
        sorted(name for name in found.dtype.values if name),
        [check for check in CHECKS if check in found.check.values],
        ranked.ranking(found, ids),
        list(ranked.choices(found)),
        small.panels(found, ids),
        list(_plots(material, found)),
        outputs,
        {name: heat[name] for name in ids if name in heat},
    )


def _plots(material: Material, found: JudgedArrays) -> Iterator[drawn.Plot]:
    other = judged(material.other) if material.other else None
    names = sorted({name for one in (found, other) if one for name in one.framework.values})
    yield from drawn.errors(found, names)
    yield drawn.distributions(found, names)
    if other:
        yield drawn.distributions(other, names, material.against)
    yield drawn.classes(found)
    yield drawn.depths(found)
    yield resolution.in_run(found)
    yield resolution.plot(resolving.measured())
    curves: dict[str, list[dict[str, Any]]] = {}
    for point in (point for score in material.scores for point in score.curve):
        curves.setdefault(str(point.get("dtype", "")), []).append(point)
    yield from (drawn.detection(dtype, curve) for dtype, curve in (curves or {"": []}).items())


def packed(found: Sequence[ranked.Ranked]) -> dict[str, Array | Sequence[str]]:
    """Return what the script ranks by: who, dtype, check, counts, and the numbers as they are shown."""
    return {
        "ranked.who": [row.implementation for row in found],
        "ranked.dtype": [row.dtype for row in found],
        "ranked.check": [row.check for row in found],
        "ranked.arrays": np.asarray([row.arrays for row in found], np.uint32),
        "ranked.apart": np.asarray([row.apart for row in found], np.uint32),
        "ranked.ulps": [number for row in found for number in ranked.said(row.ulps)],
        "ranked.rho": [number for row in found for number in ranked.said(row.rho)],
    }
