"""Features of replicas: copies of a layer that synchronize the statistics of their pieces of a batch (BN-36)."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np

from conformance.cases.ensembles import of_members
from conformance.cases.feature import Feature, with_tensors
from conformance.model.case import Actions, Case
from reference.spec import Array

_SIZES = ((8, 3), (8, 3, 2, 2))
_MODES = ("train", "train train")
_CUTS = {"two": (0.5,), "four": (0.25, 0.5, 0.75), "uneven": (0.625,), "three": (0.25, 0.375), "empty": (0.5, 0.5)}
"""Where each variant cuts the rows of a batch."""


def _sizes(rows: int, variant: str) -> tuple[int, ...]:
    cuts = [0, *(round(cut * rows) for cut in _CUTS[variant]), rows]
    return tuple(end - begin for begin, end in itertools.pairwise(cuts))


def divided(case: Case, variant: str, _rng: np.random.Generator) -> Case:
    """Let replicas share each batch, cut where the variant says."""
    actions = msgspec.structs.replace(case.actions, replicas=_sizes(case.shape[0], variant))
    return msgspec.structs.replace(case, actions=actions)


def _masked(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Let two replicas share each batch, whose mask leaves the first all of its values, the second about a third."""
    case, masks = divided(case, "two", rng), dict[str, Array]()
    for t in range(len(case.steps)):
        x, first = case.x(t), case.actions.replicas[0]
        mask = rng.uniform(size=x.shape[:-1] if variant == "without_last" else x.shape) < 0.3
        mask[: first + 1] = True
        masks[f"{t}.mask"] = mask
    return with_tensors(case, masks)


def _groups(case: Case, _variant: str, rng: np.random.Generator) -> Case:
    """Make two groups of two replicas; each group has batches of its own."""
    return divided(of_members(case, Actions(members=2, mapped="x"), rng), "two", rng)


def _feature(placements: tuple[str, ...], variants: tuple[str, ...], add: Any = divided, **more: Any) -> Feature:
    """Return a feature of few sizes, whose batches all have the rows that their variants divide."""
    return Feature(placements, variants, add=add, first=(8,), modes=_MODES, sizes=_SIZES, layouts=("C",), **more)


REPLICAS: dict[str, Feature] = {
    "replicas": _feature(("rank 2, axis 1", "rank 4, axis -1"), ("two", "four")),
    "uneven replicas": _feature(("rank 2, axis 1", "rank 4, axis 1"), ("uneven", "three", "empty")),
    "masked replicas": _feature(("rank 2, axis 1",), ("full", "without_last"), _masked),
    "replicas of halves": _feature(("rank 2, axis 1",), ("two",), dtypes=("float16", "bfloat16")),
    "replica groups": _feature(("rank 2, axis 1",), ("",), _groups),
}
"""They by name."""
