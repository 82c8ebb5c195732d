"""Sizes at which kernels of GPUs change, which profiles of their own ask: `sizes`, and `huge` for one beyond 2^31.

A grid of CUDA has at most 65,535 blocks along two of its axes. PyTorch gives cuDNN inference of no more examples, and
gave it no more than 131,070 rows in training. float32 counts to 2^24, 32 bits index 2^31 elements. The numbers of
channels are odd, but for one of channels that lie last, which cuDNN takes in fours.
https://docs.nvidia.com/cuda/cuda-c-programming-guide/: technical specifications per compute capability
https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/Normalization.cpp and v1.9.0 of it: use_cudnn
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import numpy as np

from conformance.cases import whole_numbers
from conformance.cases.feature import Feature
from conformance.cases.large import Grid
from conformance.cases.recipe import Recipe
from conformance.model.case import Case, Dtypes, numpy_dtype
from reference.spec import Array, kept_shape

_GRID = "on both sides of the most blocks that a grid has along an axis, and examples that cuDNN infers"
_ROWS = "on both sides of the most rows that cuDNN took"
_COUNTED = "as many values as float32 counts, and one more"
_INDEXED = "more elements than 32 bits index"
_LAST = "channels that lie last in memory, in half precision beside float32 too: cuDNN has kernels for that"
_ALL = ("float32", "float16", "bfloat16")
_NUMBERS = {
    "64 channels last": Grid("rank 4, axis 1", (16, 64, 14, 14), _ALL, _LAST, examples=16, layout="channels_last"),
    "65 channels last": Grid("rank 4, axis 1", (16, 65, 14, 14), _ALL, _LAST, examples=16, layout="channels_last"),
    "65,534 values": Grid("rank 3, axis 1", (65534, 3, 1), ("float32", "float16"), _GRID, examples=65536),
    "65,535 values": Grid("rank 3, axis 1", (65535, 3, 1), ("float32", "float16"), _GRID, examples=65536),
    "65,536 examples": Grid("rank 3, axis 1", (65536, 3, 1), ("float32", "float16"), _GRID, examples=65536),
    "131,069 values": Grid("rank 2, axis 1", (131069, 3), ("float32", "bfloat16"), _ROWS),
    "131,070 values": Grid("rank 2, axis 1", (131070, 3), ("float32", "bfloat16"), _ROWS),
    "131,071 values": Grid("rank 2, axis 1", (131071, 3), ("float32", "bfloat16"), _ROWS),
    "16,777,217 values": Grid("rank 2, axis 1", (16777217, 1), ("float32", "float16"), _COUNTED, "train"),
    "16,777,216 values": Grid("rank 4, axis 1", (16, 3, 1024, 1024), ("float32", "bfloat16"), _COUNTED, "train"),
}
"""Up to 50,331,648 elements a step."""

_HUGE = (257, 129, 255, 255)
HUGE_BYTES = 2 * math.prod(_HUGE)
"""Of 2,155,773,825 elements in half precision."""


def _one_batch(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Return the shape of the only batch; it has no cotangent, which would take as much memory again."""
    return {"0.x": recipe.signature.shape}


def _drawn(recipe: Recipe, rng: np.random.Generator) -> dict[str, Array]:
    """Return a batch of whole numbers: each channel of one example, and the other examples the same, shifted."""
    x = np.empty(recipe.signature.shape, numpy_dtype(recipe.signature.variant))
    size = x[0, 0].size
    for c in range(x.shape[1]):
        z = (whole_numbers.channel(size, rng)[0] + whole_numbers.OFFSETS[c % 4]).astype(x.dtype)
        twice = np.concatenate([z, z])
        for i in range(x.shape[0]):
            begin = 97 * i % size
            x[i, c] = twice[begin : begin + size].reshape(x.shape[2:])
    return {"0.x": x}


def _without_gradients(case: Case, variant: Any, rng: np.random.Generator) -> Case:
    """Give the layer whole numbers too, and ask no gradient."""
    spec = dataclasses.replace(case.spec, epsilon=whole_numbers.EPSILON, momentum=whole_numbers.MOMENTUM)
    steps = tuple(msgspec.structs.replace(step, derivatives=()) for step in case.steps)
    given = whole_numbers.layer(kept_shape(case.spec, case.shape), rng)
    tensors = case.tensors | {name: array.astype(case.tensors[name].dtype) for name, array in given.items()}
    return msgspec.structs.replace(case, spec=spec, steps=steps, dtypes=Dtypes(x=variant), tensors=tensors)


GPU_SIZES: dict[str, Feature] = {
    **{name: grid.feature("sizes") for name, grid in _NUMBERS.items()},
    "2,155,773,825 elements": Feature(
        ("rank 4, axis 1",),
        ("float16",),
        add=_without_gradients,
        dtypes=("float32",),
        modes=("train",),
        sizes=(_HUGE,),
        layouts=("C",),
        profile="huge",
        shapes=_one_batch,
        draw=_drawn,
        source=_INDEXED,
    ),
}
"""They by name."""
