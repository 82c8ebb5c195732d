"""Features of how gradients are asked for: with respect to what."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from conformance.cases.feature import Feature
from conformance.model.case import Case, Derivative, Step

_FLAT_AND_LAST = ("rank 2, axis 1", "rank 4, axis -1")
_SOME = ("gamma", "x", "beta", "gamma beta", "x gamma", "x beta")
"""What training is differentiated with respect to; inference, with respect to the rest."""

Name = Literal["x", "gamma", "beta"]
_ALL: tuple[Name, ...] = ("x", "gamma", "beta")


def _some(case: Case, variant: str, _rng: np.random.Generator) -> Case:
    """Ask training for the gradients that the variant names, and inference for the others."""
    named = variant.split()
    steps = tuple(_with_respect_to(step, named, named=step.mode == "train") for step in case.steps)
    return msgspec.structs.replace(case, steps=steps)


def _with_respect_to(step: Step, names: list[str], *, named: bool) -> Step:
    asked = tuple(name for name in _ALL if (name in names) == named)
    return msgspec.structs.replace(step, derivatives=(Derivative(wrt=asked),))


_AFFINE = {"center": True, "scale": True}

ASKING: dict[str, Feature] = {
    "some gradients": Feature(_FLAT_AND_LAST, _SOME, dict.fromkeys(_SOME, _AFFINE), add=_some),
}
"""Features of how gradients are asked for."""
