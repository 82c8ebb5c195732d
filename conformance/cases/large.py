"""Large cases, which only a thorough run asks: up to 2^20 values per channel and more, and layers of real networks.

In a training step every second channel is of whole numbers, whose sums round nothing, so that one element left out of a
million shows; the others are ordinary, as after a convolution. In the next training step it is the other way round. No
gradient is asked of inference, which normalizes at most 8 examples.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from conformance.cases import whole_numbers
from conformance.cases.feature import Feature
from conformance.cases.recipe import Recipe
from conformance.model.case import Case, Dtypes, Layout, numpy_dtype
from reference.spec import Array, kept_shape

_EXAMPLES = 8
"""Of inference, at most."""
_HALVES = ("float32", "float16", "bfloat16")
_TRAINED = ("float32", "bfloat16")


class Grid(NamedTuple):
    """One size: where the channels are, its shape with the channels second, the dtypes, and where it is from.

    examples: as many as inference normalizes at most.
    layout: that of the batches.
    """

    placement: str
    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    source: str
    modes: str = "train infer"
    examples: int = _EXAMPLES
    layout: Layout = "C"

    def feature(self, profile: Literal["thorough", "sizes"] = "thorough") -> Feature:
        """Return the feature of this size, which a profile asks."""
        return Feature(
            (self.placement,),
            self.dtypes,
            add=_asked,
            dtypes=("float32",),
            modes=(self.modes,),
            sizes=(self.shape,),
            layouts=(self.layout,),
            profile=profile,
            shapes=functools.partial(shapes, examples=self.examples),
            draw=functools.partial(draw, examples=self.examples),
            source=self.source,
        )


def shapes(recipe: Recipe, examples: int = _EXAMPLES) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a case's batches and of their cotangents, by name."""
    shape, found = recipe.signature.shape, dict[str, tuple[int, ...]]()
    for t, mode in enumerate(recipe.modes.split()):
        if mode == "train":
            found |= {f"{t}.x": shape, f"{t}.dy": shape}
        else:
            found[f"{t}.x"] = (min(shape[0], examples), *shape[1:])
    return found


def draw(recipe: Recipe, rng: np.random.Generator, examples: int = _EXAMPLES) -> dict[str, Array]:
    """Return a case's batches and their cotangents, drawn channel by channel."""
    sig, dtype = recipe.signature, numpy_dtype(recipe.signature.variant)
    found = {name: np.empty(shape, dtype) for name, shape in shapes(recipe, examples).items()}
    for t in range(len(recipe.modes.split())):
        of_step = [found[name] for name in (f"{t}.x", f"{t}.dy") if name in found]
        _fill([np.moveaxis(array, sig.axis, 0) for array in of_step], t, rng)
    return found


def _fill(of_step: list[Array], t: int, rng: np.random.Generator) -> None:
    """Draw every channel of a batch, and of its cotangent if it has one."""
    for c, channel in enumerate(of_step[0]):
        values = (_ordinary if (c + t) % 2 else _whole)(c, channel.size, rng)
        for array, drawn in zip(of_step, values, strict=False):
            array[c] = drawn.reshape(channel.shape)


def _whole(c: int, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    z, dy = whole_numbers.channel(n, rng)
    return z + whole_numbers.OFFSETS[c % len(whole_numbers.OFFSETS)], dy


def _ordinary(_c: int, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    z, dy = (rng.standard_normal(n, np.float32) for _ in range(2))
    z += whole_numbers.drift(n).astype(np.float32)
    return z * np.float32(rng.uniform(0.5, 2.0)) + np.float32(rng.normal()), dy


def _asked(case: Case, variant: Any, rng: np.random.Generator) -> Case:
    """Give the layer whole numbers too, and ask no gradient of inference."""
    spec = dataclasses.replace(case.spec, epsilon=whole_numbers.EPSILON, momentum=whole_numbers.MOMENTUM)
    steps = tuple(s if s.mode == "train" else msgspec.structs.replace(s, derivatives=()) for s in case.steps)
    given = whole_numbers.layer(kept_shape(case.spec, case.shape), rng)
    tensors = case.tensors | {name: array.astype(case.tensors[name].dtype) for name, array in given.items()}
    return msgspec.structs.replace(case, spec=spec, steps=steps, dtypes=Dtypes(x=variant), tensors=tensors)


_TWICE = "train train infer"
_POWERS = "about 2^20 values of each channel, or above 2^24 in all"
_VALUES = {
    "1,048,577 values": Grid("rank 2, axis 1", (1048577, 1), _HALVES, _POWERS, _TWICE),
    "1,048,576 values": Grid("rank 4, axis 1", (16, 3, 256, 256), _HALVES, _POWERS, _TWICE),
    "65 channels": Grid("rank 3, axis -1", (1, 65, 262147), _HALVES, _POWERS),
    "2,048 channels": Grid("rank 2, axis 1", (1027, 2048), _HALVES, _POWERS, _TWICE),
}
"""Of 1,048,577, 3,145,728, 17,039,555 and 2,103,296 elements a step."""

_EDGES = "on both sides of the edge of a block of 1,024 · 2^k values, or of 8, 32 and 128 beside it"
_AROUND = {
    f"{n:,} values": Grid(placement, shape, _HALVES, _EDGES)
    for n, placement, shape in (
        (1023, "rank 2, axis 1", (1023, 3)),
        (2047, "rank 3, axis 1", (23, 2, 89)),
        (4097, "rank 3, axis -1", (17, 2, 241)),
        (8185, "rank 2, axis 1", (8185, 2)),
        (16353, "rank 4, axis 1", (23, 3, 9, 79)),
        (32641, "rank 3, axis 1", (7, 2, 4663)),
        (65537, "rank 3, axis -1", (1, 2, 65537)),
        (262143, "rank 4, axis -1", (7, 2, 171, 219)),
    )
}
"""Up to 524,286 elements a step."""

_RESNET = "He et al. 2015, arXiv:1512.03385, table 1; 32 images on each GPU: Goyal et al. 2017, arXiv:1706.02677"
_EFFICIENT = "Tan and Le 2019, arXiv:1905.11946, table 1; a batch of 32"
_UNET = "Çiçek et al. 2016, arXiv:1606.06650: tiles of 132x132x116 voxels, one at a time"
_POINTS = "Qi et al. 2016, arXiv:1612.00593: 1,024 features of 2,048 points (part_seg of its code); 8 clouds of 32"
_GAN = "Radford et al. 2015, arXiv:1511.06434, figure 1; batches of 128"
_LAYERS = {
    "ResNet-50, first": Grid("rank 4, axis 1", (32, 64, 112, 112), ("float32",), _RESNET),
    "ResNet-50, last": Grid("rank 4, axis 1", (32, 2048, 7, 7), _TRAINED, _RESNET),
    "EfficientNet-B0, first": Grid("rank 4, axis -1", (32, 32, 112, 112), ("float32",), _EFFICIENT),
    "EfficientNet-B0, last": Grid("rank 4, axis -1", (32, 1280, 7, 7), _TRAINED, _EFFICIENT),
    "3-D U-Net, first": Grid("rank 5, axis 1", (1, 32, 114, 130, 130), ("float32",), _UNET, "train"),
    "3-D U-Net, last": Grid("rank 5, axis 1", (1, 64, 28, 44, 44), _TRAINED, _UNET),
    "PointNet": Grid("rank 3, axis 1", (8, 1024, 2048), ("float32",), _POINTS),
    "DCGAN": Grid("rank 4, axis -1", (128, 1024, 4, 4), _TRAINED, _GAN),
}
"""Batch normalization of real networks, the first and the last of three of them. Of 25,690,112, 3,211,264, 12,845,056,
2,007,040, 61,651,200, 3,469,312, 16,777,216 and 2,097,152 elements a step."""

LARGE: dict[str, Feature] = {name: grid.feature() for name, grid in (_AROUND | _VALUES | _LAYERS).items()}
"""Large features by name."""
