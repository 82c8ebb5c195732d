"""The feature of a layer that has two places in one graph, of which one gradient is taken (BN-28)."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from conformance.cases.feature import Feature
from conformance.model.case import Actions, Case

_MODES = ("train train", "infer train")


def _shared(case: Case, variant: str, _rng: np.random.Generator) -> Case:
    """Make both calls together, in the modes that the variant names."""
    modes: list[Any] = variant.split()
    steps = tuple(msgspec.structs.replace(step, mode=mode) for step, mode in zip(case.steps, modes, strict=True))
    return msgspec.structs.replace(case, steps=steps, actions=Actions(backward="together"))


GRAPHS: dict[str, Feature] = {
    "two places": Feature(("rank 2, axis 1", "rank 4, axis 1"), _MODES, add=_shared, modes=("train train",))
}
"""It by name."""
