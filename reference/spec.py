"""What a caller asks for (`Spec`), the arrays a layer keeps, and the shapes of both. Rules: `reference/README.md`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.semantics import Semantics as Semantics

Array = NDArray[Any]


class Refusal(ValueError):
    """What is asked makes no sense: the message names the value, the rule and the fix."""


@dataclass(frozen=True)
class Clipping:
    """The limits of batch renormalization's r and d (BN-17); None clips nothing there."""

    rmin: float | None = None
    rmax: float | None = None
    dmax: float | None = None


@dataclass(frozen=True)
class Spec:
    """What a caller asks for, the same for every framework.

    axis (BN-1): the axes that are KEPT (one parameter each); every other axis is averaged over.
    epsilon (BN-4): added to the variance, inside the square root.
    momentum (BN-8): the fraction of the moving statistics KEPT at each update; None asks for a cumulative mean.
    center, scale (BN-6): whether there is a beta to add, a gamma to multiply by.
    trainable (BN-14): False freezes the layer; what that means is `Semantics.frozen`.
    virtual_batch_size (BN-20): normalize groups of this size separately; None uses the whole batch.
    renorm (BN-16): correct a training batch towards the moving statistics, as `Semantics.renorm` says.
    renorm_clipping (BN-17): limits of that correction. renorm_momentum (BN-16): kept by its own statistics.
    track (BN-33): False keeps no moving statistics: inference normalizes by the batch.

    Names and defaults: https://www.tensorflow.org/api_docs/python/tf/compat/v1/layers/batch_normalization
    """

    axis: int | tuple[int, ...] = -1
    epsilon: float = 1e-3
    momentum: float | None = 0.99
    center: bool = True
    scale: bool = True
    trainable: bool = True
    virtual_batch_size: int | None = None
    renorm: bool = False
    renorm_clipping: Clipping | None = None
    renorm_momentum: float = 0.99
    track: bool = True


@dataclass(frozen=True)
class Parameters:
    """gamma multiplies and beta shifts; each has the kept shape (see `kept_shape`), or is None when not asked for."""

    gamma: Array | None = None
    beta: Array | None = None


@dataclass(frozen=True)
class Adjustment:
    """What TF 1's `adjustment` callable returned (BN-22); each broadcasts against the input."""

    scale: Array
    bias: Array


@dataclass(frozen=True)
class Renorm:
    """The state of batch renormalization, of the kept shape (BN-16, BN-18).

    mean, stddev: what r and d correct towards.
    moving_stddev: what the moving variance is derived from.
    mean_weight, stddev_weight: how much of `mean` and `stddev` is not their initial 0 (TF 1.7; 1 elsewhere).
    """

    mean: Array
    stddev: Array
    moving_stddev: Array
    mean_weight: Array
    stddev_weight: Array


@dataclass(frozen=True)
class State:
    """The moving statistics in the kept shape, how many batches entered them, and renorm's state; None: not begun."""

    mean: Array
    variance: Array
    updates: int = 0
    renorm: Renorm | None = None


def kept_axes(spec: Spec, rank: int) -> tuple[int, ...]:
    """Return the kept axes as sorted, non-negative numbers (BN-1).

    >>> kept_axes(Spec(axis=(-1, 1)), rank=4)
    (1, 3)
    """
    return _in_order(spec.axis, rank)


@functools.cache
def _in_order(axis: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    axes = axis if isinstance(axis, tuple) else (axis,)
    return tuple(sorted(axis + rank if axis < 0 else axis for axis in axes))


def reduced_axes(spec: Spec, rank: int) -> tuple[int, ...]:
    """Return the axes that are averaged over: all that are not kept (BN-1).

    >>> reduced_axes(Spec(axis=-1), rank=4)
    (0, 1, 2)
    """
    return tuple(i for i in range(rank) if i not in kept_axes(spec, rank))


def kept_shape(spec: Spec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of gamma, beta and the moving statistics for an input of the given shape (BN-2).

    One kept axis gives a vector; several give the input's rank, with 1 where an axis is averaged over; a virtual
    batch size gives the input's rank and an axis of size 1 after the first.

    >>> kept_shape(Spec(axis=1), (2, 3, 5, 5)), kept_shape(Spec(axis=(1, 3)), (2, 3, 5, 7))
    ((3,), (1, 3, 1, 7))
    >>> kept_shape(Spec(virtual_batch_size=4), (8, 5))
    (1, 1, 5)
    """
    kept = kept_axes(spec, len(shape))
    full = tuple(size if i in kept else 1 for i, size in enumerate(shape))
    if spec.virtual_batch_size is not None:
        return (full[0], 1, *full[1:])
    return full if len(kept) > 1 else tuple(shape[axis] for axis in kept)


def broadcast(values: Array, spec: Spec, rank: int) -> Array:
    """Return an array of the kept shape, shaped so that it broadcasts against an input of this rank.

    >>> import numpy as np
    >>> broadcast(np.arange(3), Spec(axis=1), rank=4).shape
    (1, 3, 1, 1)
    >>> broadcast(np.ones((1, 1, 5)), Spec(virtual_batch_size=4), rank=2).shape
    (1, 5)
    """
    if spec.virtual_batch_size is not None:
        return values.squeeze(1)
    kept = kept_axes(spec, rank)
    if len(kept) > 1:
        return values
    return values.reshape([-1 if i in kept else 1 for i in range(rank)])


def floored_epsilon(spec: Spec, semantics: Semantics) -> float:
    """Return the epsilon that is used: the spec's, but at least the implementation's floor, and rounded (BN-4).

    >>> floored_epsilon(Spec(epsilon=1e-8), Semantics(epsilon_floor=1.001e-5))
    1.001e-05
    >>> floored_epsilon(Spec(epsilon=1e-3), Semantics(epsilon_dtype="float32"))
    0.0010000000474974513
    """
    floored = max(semantics.epsilon_floor or spec.epsilon, spec.epsilon)
    return float(np.float32(floored)) if semantics.epsilon_dtype == "float32" else floored
