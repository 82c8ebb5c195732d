"""A case of a run, with what its implementations share in being judged."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from conformance.cases.corpus import Named
from conformance.cases.features import FEATURES
from conformance.cases.recipe import Recipe, Signature
from conformance.judging.exact_case import ExactCase
from conformance.model.case import Case, case_id
from conformance.model.codec import read_case
from conformance.model.facts import Facts
from conformance.model.results import CaseRecord

WELL_POSED_CONDITIONING = 1e3


class RunCase:
    """A case of this run, its id and recipe, and what all implementations share in judging it."""

    def __init__(self, index: int, origin: Recipe | Named, case: Case) -> None:
        self.index, self.origin, self.case, self.id = index, origin, case, case_id(case)

    @property
    def signature(self) -> Signature | None:
        """The pooled static signature that a compiled implementation compiles for; None if it is not pooled."""
        return self.origin.signature if isinstance(self.origin, Recipe) and self.origin.pooled else None

    @property
    def file(self) -> str:
        """Where the run's folder has it."""
        return f"cases/{self.id}.safetensors"

    def reread(self, path: Path) -> None:
        """Take the same case from a file, where its tensors stay until they are read."""
        self.case = read_case(path)[0]
        self.release()

    @functools.cached_property
    def exact_case(self) -> ExactCase:
        """The case at the reference's precision, and all that was computed of it."""
        return ExactCase(self.case)

    def release(self) -> None:
        """Let the exact case go; whoever holds it keeps it, and whoever asks for it again has another one made."""
        self.__dict__.pop("exact_case", None)

    @functools.cached_property
    def facts(self) -> list[Facts]:
        """The facts about each step."""
        return self.exact_case.facts

    def record(self) -> CaseRecord:
        """Return what the run file says of the case."""
        with np.errstate(all="ignore"):  # of no value there is no mean, and a constant has no conditioning
            case, conditioning, n = self.case, self._conditioning(), self.exact_case.whole(0).count
        well_posed = conditioning <= WELL_POSED_CONDITIONING and case.spec.epsilon >= 1e-5 and n > 1
        modes = " ".join(step.mode for step in case.steps)
        finite = conditioning if math.isfinite(conditioning) else None
        where = f"{case.shape} axis={case.spec.axis} {case.dtypes.x}"
        if isinstance(self.origin, Named):
            about = f"{where}: {self.origin.about.title}"
            cell, recipe, name = "corpus", dict[str, Any](), self.origin.name
            return CaseRecord(
                self.id, self.index, cell, self.file, about, recipe, well_posed, finite, name, *self._sizes()
            )
        recipe: dict[str, Any] = msgspec.to_builtins(self.origin)
        summary = f"{where} {_of_data(self.origin)}: {modes}"
        cell = self.origin.cell
        return CaseRecord(self.id, self.index, cell, self.file, summary, recipe, well_posed, finite, "", *self._sizes())

    def _sizes(self) -> tuple[int, int, str, str]:
        """Return the most values that one of its batches has per channel, and in all, and their dtype and layout."""
        batches = [self.exact_case.whole(t) for t in range(len(self.case.steps))]
        most = max(batch.count for batch in batches), max(batch.x.size for batch in batches)
        return *most, self.case.dtypes.x, self.case.layout

    def _conditioning(self) -> float:
        """Return the largest |mean| / standard deviation of any channel of any batch."""
        largest = 0.0
        for t in range(len(self.case.steps)):
            batch = self.exact_case.whole(t)
            ratio = np.abs(batch.mean) / np.sqrt(np.maximum(batch.variance, 0))
            largest = max(largest, float(np.nan_to_num(ratio, nan=np.inf).max(initial=0)))
        return largest


def _of_data(recipe: Recipe) -> str:
    """Return the pattern of a recipe's data, or the source of its sizes."""
    feature = recipe.signature.feature
    return (feature and FEATURES[feature].source) or recipe.pattern
