"""Features of a layer that is called with other shapes than the first: other ranks, other sizes, a single row."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.cases.feature import Feature, with_tensors
from conformance.model.case import Case
from reference.spec import Array, kept_axes

_RANKS = {"two of them": {2: (2, 3), 4: (4, 3)}, "three of them": {2: (2, 3, 4), 4: (4, 3, 2)}}
_LEFT_OUT = (0, 1, 2)
"""How much smaller the batch of each step is than the first."""


def _other_ranks(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Give the batches ranks in turn, with the channels second, or last, in each."""
    ranks, last = _RANKS[variant][len(case.shape)], case.spec.axis == -1
    tensors = dict[str, Array]()
    for t in range(len(case.steps)):
        x = _of_rank(case.x(t), ranks[t % len(ranks)], rng, last=last)
        tensors |= {f"{t}.x": x, f"{t}.dy": rng.normal(size=x.shape).astype(x.dtype)}
    return with_tensors(case, tensors)


def _of_rank(x: Array, rank: int, rng: np.random.Generator, *, last: bool) -> Array:
    """Return a batch of another rank: one pixel of each row, or that pixel and others around it.

    The last axis is as long as there are channels, if few, so that statistics along a wrong axis fit too.
    """
    if rank == x.ndim:
        return x
    second = np.moveaxis(x, -1, 1) if last else x
    pixel = second.reshape(*second.shape[:2], -1)[..., 0].astype(np.float64)
    size = (*pixel.shape, *(2, min(pixel.shape[1], 9))[4 - rank :])
    around = pixel.std(0)[:, None] * rng.normal(size=(*pixel.shape, int(np.prod(size[2:]))))
    found = (pixel[..., None] + around * (rank > 2)).reshape(size).astype(x.dtype)
    return np.moveaxis(found, 1, -1) if last else found


def _other_sizes(case: Case, variant: Any, _rng: np.random.Generator) -> Case:
    """Make each batch smaller than the one before: by rows, along every other averaged axis, or to a single row."""
    tensors = dict[str, Array]()
    for t in range(len(case.steps)):
        cut = _cut(case, variant, _LEFT_OUT[t])
        tensors |= {f"{t}.{name}": case.tensors[f"{t}.{name}"][cut] for name in ("x", "dy")}
    return with_tensors(case, tensors)


def _cut(case: Case, variant: str, less: int) -> tuple[slice, ...]:
    rows, *spatial = (axis for axis in range(len(case.shape)) if axis not in kept_axes(case.spec, len(case.shape)))
    chosen = spatial if variant == "spatial" else [rows]
    left = {axis: 1 if variant == "one row" and less else case.shape[axis] - less for axis in chosen}
    return tuple(slice(max(left.get(axis, size), 1)) for axis, size in enumerate(case.shape))


_MODES = ("train train infer", "train infer train")

SHAPES: dict[str, Feature] = {
    "other ranks": Feature(
        ("rank 2, axis 1", "rank 4, axis -1"),
        tuple(_RANKS),
        add=_other_ranks,
        dtypes=("float32",),
        first=(4, 8, 9),  # with few channels
        modes=_MODES,
    ),
    "other sizes": Feature(
        ("rank 4, axis 1",), ("rows", "spatial", "one row"), add=_other_sizes, first=(4, 8), modes=_MODES
    ),
}
"""Features of other shapes by name."""
