"""A case of a run, with what its implementations share in being judged."""

from __future__ import annotations

import functools
import math
from typing import Any

import msgspec
import numpy as np

from conformance.case import Case, case_id
from conformance.question import Question
from conformance.results import CaseRecord
from conformance.statement import facts
from conformance.strategies import Recipe

WELL_POSED_CONDITIONING = 1e3


class Item:
    """A case of this run, its id and recipe, and what all implementations share in judging it."""

    def __init__(self, index: int, recipe: Recipe, case: Case) -> None:
        self.index, self.recipe, self.case, self.id = index, recipe, case, case_id(case)
        self.facts = facts(case)

    @functools.cached_property
    def question(self) -> Question:
        """The case at the reference's precision."""
        return Question(self.case)

    def record(self) -> CaseRecord:
        """Return what the run file says of the case."""
        case, conditioning = self.case, self._conditioning()
        n = self.question.whole(0).count
        well_posed = conditioning <= WELL_POSED_CONDITIONING and case.spec.epsilon >= 1e-5 and n > 1
        summary = f"{case.shape} axis={case.spec.axis} {case.dtypes.x} {self.recipe.pattern}: {self.recipe.modes}"
        finite = conditioning if math.isfinite(conditioning) else None
        recipe: dict[str, Any] = msgspec.to_builtins(self.recipe)
        file = f"cases/{self.id}.safetensors"
        return CaseRecord(self.id, self.index, self.recipe.cell, file, summary, recipe, well_posed, finite)

    def _conditioning(self) -> float:
        """Return the largest |mean| / standard deviation of any channel of any batch."""
        largest = 0.0
        for t in range(len(self.case.steps)):
            batch = self.question.whole(t)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.abs(batch.mean) / np.sqrt(np.maximum(batch.variance, 0))
            largest = max(largest, float(np.nan_to_num(ratio, nan=np.inf).max()))
        return largest
