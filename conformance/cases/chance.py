"""Features of what fits by chance, and of who is left to count: equal sizes, two values, masks that leave little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from conformance.cases.feature import Feature, with_tensors
from conformance.model.case import Case
from reference.spec import Array

_SQUARE = ((3, 3, 3, 3),)
_Add = Callable[[Case, str, np.random.Generator], Case]


def _fitting(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Adjust training by values whose shape is that of the last axis alone, of the rows, or of the input.

    An adjustment broadcasts from the last axis on, and the channels are of the same size.
    """
    x, found = case.x(0), dict[str, Array]()
    shape = {"last": x.shape[-1:], "rows": (x.shape[0], *(1,) * (x.ndim - 1)), "whole": x.shape}[variant]
    for t in (t for t, step in enumerate(case.steps) if step.mode == "train"):
        found[f"{t}.adjustment_scale"] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        found[f"{t}.adjustment_bias"] = rng.uniform(-0.5, 0.5, shape).astype(np.float32)
    return with_tensors(case, found)


def _counted(case: Case, _variant: str, _rng: np.random.Generator) -> Case:
    """Say that batches have entered the moving statistics given."""
    return msgspec.structs.replace(case, batches=7)


# --- masks --------------------------------------------------------------------------------------------------------


def _masked(without_last: bool) -> _Add:
    """Return a function that adds masks of the input's shape, or of all but its last axis."""

    def add(case: Case, variant: str, rng: np.random.Generator) -> Case:
        """Let one row count and then one place, nothing of a channel, or nothing that is NaN."""
        found: dict[str, Any] = {}
        for t in range(len(case.steps)):
            x = case.x(t)
            mask = rng.uniform(size=x.shape[: x.ndim - without_last]) < 0.6
            if case.steps[t].mode == "train":
                found |= _LEFT[variant](mask, x, t)
            found.setdefault(f"{t}.mask", mask)
        return with_tensors(case, found)

    return add


def _one_row(mask: Array, _x: Array, t: int) -> dict[str, Any]:
    one = np.zeros_like(mask)
    one[min(1, len(one) - 1) if t == 0 else (-1,) * mask.ndim] = True
    return {f"{t}.mask": one}


def _nothing(mask: Array, x: Array, t: int) -> dict[str, Any]:
    """Leave nothing in the second step: of the last channel, or of any where the mask does not tell them apart."""
    none = mask.copy()
    none[(..., -1) if mask.ndim == x.ndim else ...] = False
    return {f"{t}.mask": none} if t else {}


def _hidden(mask: Array, x: Array, t: int) -> dict[str, Any]:
    """Put NaN and an infinity where the mask hides them."""
    x, hidden = x.copy(), np.argwhere(~mask)
    for place, value in zip(hidden[:: max(len(hidden) - 1, 1)], (np.nan, np.inf), strict=False):
        x[tuple(place)] = value
    return {f"{t}.x": x}


_LEFT = {"one row": _one_row, "nothing": _nothing, "hidden": _hidden}


def _weights(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Add masks of weights: whole numbers, fractions that add up to less than 1, or of any size."""
    found: dict[str, Array] = {}
    for t in range(len(case.steps)):
        shape = case.x(t).shape[:-1]
        weights = {
            "counts": rng.integers(0, 4, shape),
            "fractions": rng.uniform(0, 0.5, shape) / np.prod(shape),
            "any": 10.0 ** rng.uniform(-6, 6, shape) * (rng.uniform(size=shape) < 0.8),
        }
        found[f"{t}.mask"] = weights[variant].astype(np.float32)
    return with_tensors(case, found)


_AXES: dict[str, dict[str, Any]] = {
    "unordered": {"axis": (3, 1)},
    "negative": {"axis": (-3, -1)},
    "three": {"axis": (1, 2, 3)},
}
_GROUPS: dict[str, dict[str, Any]] = {name: {"virtual_batch_size": n} for name, n in {"1": 1, "all": 8}.items()}
_BEGUN: dict[str, dict[str, Any]] = {"average": {"momentum": 0.9}, "cumulative": {"momentum": None}}
_ONE = ("float32",)
_SHORT = ("train train infer",)

CHANCE: dict[str, Feature] = {
    "two by two": Feature(("rank 2, axis 1", "rank 2, axis 0"), dtypes=_ONE, modes=_SHORT, sizes=((2, 2),)),
    "several axes": Feature(("rank 4, axes 1 and 3",), tuple(_AXES), _AXES, dtypes=_ONE, modes=_SHORT, sizes=_SQUARE),
    "fitting adjustment": Feature(
        ("rank 4, axis 1",), ("last", "rows", "whole"), add=_fitting, dtypes=_ONE, modes=_SHORT, sizes=_SQUARE
    ),
    "one group": Feature(
        ("rank 2, axis 1",), tuple(_GROUPS), _GROUPS, dtypes=_ONE, modes=_SHORT, first=(8,), sizes=((8, 3),)
    ),
    "begun": Feature(
        ("rank 2, axis 1",), tuple(_BEGUN), _BEGUN, _counted, _ONE, modes=("infer train infer",), sizes=((9, 4),)
    ),
    "little left": Feature(
        ("rank 2, axis 1",), tuple(_LEFT), add=_masked(False), dtypes=_ONE, modes=_SHORT, sizes=((16, 3),)
    ),
    "little left without last": Feature(
        ("rank 3, axis -1", "rank 2, axis 1"),
        tuple(_LEFT),
        add=_masked(True),
        dtypes=_ONE,
        modes=_SHORT,
        sizes=((8, 3, 4), (8, 1, 4), (16, 1)),
    ),
    "weights": Feature(
        ("rank 3, axis -1",),
        ("counts", "fractions", "any"),
        add=_weights,
        dtypes=_ONE,
        modes=_SHORT,
        sizes=((8, 3, 4),),
    ),
}
"""Features of equal sizes and of masks, by name."""
