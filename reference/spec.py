"""What a caller asks for (`Spec`), what an implementation promises (`Semantics`), and the arrays a layer keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

Array = NDArray[Any]


class Refusal(ValueError):
    """The question makes no sense: the message names the value, the rule and the fix."""


@dataclass(frozen=True)
class Spec:
    """What a caller asks for, the same for every framework.

    axis: the axes that are KEPT (one parameter each); every other axis is averaged over.
    epsilon: added to the variance, inside the square root.
    momentum: the fraction of the moving statistics that is KEPT at each update; None asks for a cumulative mean.
    center, scale: whether there is a beta to add, a gamma to multiply by.
    trainable: False freezes the layer; what that means is `Semantics.frozen`.
    virtual_batch_size: normalize groups of this size separately; None uses the whole batch.

    Names and defaults: https://www.tensorflow.org/api_docs/python/tf/compat/v1/layers/batch_normalization
    """

    axis: int | tuple[int, ...] = -1
    epsilon: float = 1e-3
    momentum: float | None = 0.99
    center: bool = True
    scale: bool = True
    trainable: bool = True
    virtual_batch_size: int | None = None


@dataclass(frozen=True)
class Semantics:
    """What an implementation promises where implementations differ. The default is `tf.layers.batch_normalization`.

    stored_variance: what enters the moving variance: the batch's biased variance, or N/(N-1) times it.
    average: how the moving statistics move. `exponential` keeps `momentum`; `zero_debiased` also divides by
        1 - momentum**t when they are used (Kingma & Ba 2015, section 3); `first_batch` copies the first batch;
        `none` keeps nothing, and the statistics stay what they were.
    fraction_dtype: where the update fraction 1 - momentum is rounded to.
    training_statistics: normalize a training batch by its own statistics, or by the moving ones just updated.
    frozen: what `trainable=False` does to a training step: `train` as if it were trainable, normalize by the
        `batch` but leave the state alone (TF 1), or `infer` (TF 2).
    initial_mean, initial_variance: the moving statistics before the first step.
    """

    stored_variance: Literal["biased", "unbiased"] = "biased"
    average: Literal["exponential", "zero_debiased", "first_batch", "none"] = "exponential"
    fraction_dtype: Literal["float64", "float32"] = "float64"
    training_statistics: Literal["batch", "moving"] = "batch"
    frozen: Literal["train", "batch", "infer"] = "batch"
    initial_mean: float = 0.0
    initial_variance: float = 1.0


@dataclass(frozen=True)
class Parameters:
    """gamma multiplies and beta shifts; each has the kept shape (see `kept_shape`), or is None when not asked for."""

    gamma: Array | None = None
    beta: Array | None = None


@dataclass(frozen=True)
class State:
    """The moving statistics, of the kept shape, and how many batches entered them."""

    mean: Array
    variance: Array
    updates: int = 0


def kept_axes(spec: Spec, rank: int) -> tuple[int, ...]:
    """Return the kept axes as sorted, non-negative numbers.

    >>> kept_axes(Spec(axis=(-1, 1)), rank=4)
    (1, 3)
    """
    axes = spec.axis if isinstance(spec.axis, tuple) else (spec.axis,)
    return tuple(sorted(axis + rank if axis < 0 else axis for axis in axes))


def reduced_axes(spec: Spec, rank: int) -> tuple[int, ...]:
    """Return the axes that are averaged over: all that are not kept.

    >>> reduced_axes(Spec(axis=-1), rank=4)
    (0, 1, 2)
    """
    return tuple(i for i in range(rank) if i not in kept_axes(spec, rank))


def kept_shape(spec: Spec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of gamma, beta and the moving statistics for an input of the given shape.

    One kept axis gives a vector; several give the input's rank, with 1 where an axis is averaged over.

    >>> kept_shape(Spec(axis=1), (2, 3, 5, 5)), kept_shape(Spec(axis=(1, 3)), (2, 3, 5, 7))
    ((3,), (1, 3, 1, 7))
    """
    kept = kept_axes(spec, len(shape))
    if len(kept) == 1:
        return (shape[kept[0]],)
    return tuple(size if i in kept else 1 for i, size in enumerate(shape))


def broadcast(values: Array, spec: Spec, rank: int) -> Array:
    """Return an array of the kept shape, shaped so that it broadcasts against the input.

    >>> import numpy as np
    >>> broadcast(np.arange(3), Spec(axis=1), rank=4).shape
    (1, 3, 1, 1)
    """
    kept = kept_axes(spec, rank)
    if len(kept) > 1:
        return values
    return values.reshape([-1 if i in kept else 1 for i in range(rank)])
