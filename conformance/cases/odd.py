"""Features of what is out of the ordinary: values that may be refused, or else mean what the formula says (BN-32)."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from conformance.cases.edges import own_start
from conformance.cases.feature import Feature, with_tensors
from conformance.model.case import OF_LAYER, Case
from reference.spec import Array, kept_axes

_NUMBERS: dict[str, dict[str, Any]] = {
    "momentum 1.5": {"momentum": 1.5},
    "momentum -0.2": {"momentum": -0.2},
    "zero epsilon": {"epsilon": 0.0},
    "epsilon -1": {"epsilon": -1.0},
    "nan epsilon": {"epsilon": float("nan")},
}
_STATISTICS = {
    "negative variance": ("moving_variance", -1.0),
    "infinite mean": ("moving_mean", np.inf),
    "minus infinite mean": ("moving_mean", -np.inf),
}


def _numbers(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Leave a third of the layers to their own start; where epsilon is 0, one channel is 0 in every batch."""
    constant = with_tensors(case, _of_one_channel(case) if variant == "zero epsilon" else {})
    return own_start(constant, variant, rng) if rng.uniform() < 1 / 3 else constant


def _of_one_channel(case: Case) -> dict[str, Array]:
    """Return the batches with their first channel 0, and a moving variance to match."""
    found = {"moving_variance": case.tensors["moving_variance"].copy()}
    found["moving_variance"].flat[0] = 0
    for t in range(len(case.steps)):
        found[f"{t}.x"] = case.x(t).copy()
        np.moveaxis(found[f"{t}.x"], kept_axes(case.spec, case.x(t).ndim)[0], 0)[0] = 0
    return found


def _statistics(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Give one channel a mean or a variance that no batch has."""
    name, value = _STATISTICS[variant]
    array = case.tensors[name].copy()
    array.flat[rng.integers(array.size)] = value
    return with_tensors(case, {name: array})


def _no_channels(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Take the channels from every batch and from the layer, or from every batch but the first."""
    begin, axis = 0 if variant == "at first" else 1, kept_axes(case.spec, len(case.shape))[0]
    names = [f"{t}.{name}" for t in range(begin, len(case.steps)) for name in ("x", "dy")]
    empty = {name: case.tensors[name].take([], axis) for name in names}
    layer = {} if begin else {name: array[:0] for name, array in case.tensors.items() if name in OF_LAYER}
    bare = with_tensors(case, empty | layer)
    return own_start(bare, variant, rng) if rng.uniform() < 1 / 3 else bare


def _parameters(case: Case, variant: str, _rng: np.random.Generator) -> Case:
    """Give gamma as many values in two rows, or in one where two have not as many each; or one value more, or beta."""
    name = "beta" if variant == "longer beta" else "gamma"
    array = case.tensors[name]
    given = (
        array.reshape(1 if array.size % 2 else 2, -1) if variant == "gamma in two rows" else np.append(array, array[:1])
    )
    steps = tuple(msgspec.structs.replace(step, derivatives=()) for step in case.steps)
    return with_tensors(msgspec.structs.replace(case, steps=steps), {name: given})


_ONCE = ("train infer", "infer train")

ODD: dict[str, Feature] = {
    "odd numbers": Feature(
        ("rank 2, axis 1", "rank 4, axis 1"), tuple(_NUMBERS), _NUMBERS, add=_numbers, first=(4, 8, 9), modes=_ONCE
    ),
    "odd statistics": Feature(
        ("rank 4, axis 1",), tuple(_STATISTICS), add=_statistics, first=(4, 8), modes=("infer", "infer train")
    ),
    "no channels": Feature(
        ("rank 4, axis 1",), ("at first", "later"), add=_no_channels, first=(4, 8), modes=("train infer",)
    ),
    "misfit parameters": Feature(
        ("rank 4, axis 1",),
        ("gamma in two rows", "longer gamma", "longer beta"),
        {name: {"center": True, "scale": True} for name in ("gamma in two rows", "longer gamma", "longer beta")},
        add=_parameters,
        first=(8,),
        modes=_ONCE,
    ),
}
"""Features of the odd by name."""
