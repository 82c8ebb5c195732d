"""The feature of a layer that keeps no statistics of its own (BN-33)."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np

from conformance.cases.edges import own_start
from conformance.cases.feature import Feature
from conformance.model.case import Case


def _untracked(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Keep no statistics; the parameters are given, or the layer's own."""
    spec = dataclasses.replace(case.spec, track=False)
    tensors = {name: array for name, array in case.tensors.items() if not name.startswith("moving_")}
    bare = msgspec.structs.replace(case, spec=spec, tensors=tensors)
    return own_start(bare, variant, rng) if variant == "own" else bare


UNTRACKED: dict[str, Feature] = {
    "untracked": Feature(
        ("rank 2, axis 1", "rank 4, axis 1"),
        ("own", "given"),
        add=_untracked,
        first=(4, 8, 9),
        modes=("train infer", "infer train", "train train"),
    )
}
"""It by name."""
