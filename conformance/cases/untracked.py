"""Features of a layer that keeps no statistics of its own (BN-33), or not in every call (BN-14)."""

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


def _switched(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Keep the statistics of some calls, those before or after others; or none, whatever the switch says."""
    number = len(case.steps)
    first = int(rng.integers(1, number))
    updates = [(t < first) == (variant == "off later") for t in range(number)]
    steps = tuple(msgspec.structs.replace(s, update=u) for s, u in zip(case.steps, updates, strict=True))
    switched = msgspec.structs.replace(case, steps=steps)
    return _untracked(switched, "given", rng) if variant == "none to keep" else switched


UNTRACKED: dict[str, Feature] = {
    "untracked": Feature(
        ("rank 2, axis 1", "rank 4, axis 1"),
        ("own", "given"),
        add=_untracked,
        first=(4, 8, 9),
        modes=("train infer", "infer train", "train train"),
    ),
    "switched statistics": Feature(
        ("rank 4, axis 1",),
        ("off later", "on later", "none to keep"),
        add=_switched,
        first=(4, 8),
        modes=("train infer train infer", "train train infer", "infer train infer train"),
    ),
}
"""They by name."""
