"""What the statistics of a training step are computed from: virtual batches (BN-20), masks (BN-23), and their sums."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reference.spec import Array, Semantics, Spec, State, broadcast, reduced_axes

quiet = np.errstate(divide="ignore", invalid="ignore", over="ignore")
"""Used around divisions by zero and overflows: these give infinities and NaN, but no warning."""


@dataclass(frozen=True)
class Batch:
    """A batch as its statistics see it.

    x: the input, with virtual batches along a new axis 1.
    counted: the same, with 0 where a boolean mask says that a value does not count.
    axes: the axes averaged over.
    n: how many values are averaged, or the sum of their weights under a mask; averaged axes have size 1.
    shares: what each value counts; None: all count 1/n.
    kept: the factor by which an offset in the mask's denominator changes the mean; 1 without an offset.
    virtual: whether there are virtual batches.
    """

    x: Array
    counted: Array
    axes: tuple[int, ...]
    n: Array
    shares: Array | None
    kept: Array
    virtual: bool

    def offset(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        """Return the statistics with sums divided by n + offset instead of n, where k = n / (n + offset) (BN-23).

        The mean is k m; the variance k mean((x - k m)²) = k (V + (m - k m)²), as the values deviate from m by V.
        """
        return self.kept * mean, self.kept * (variance + ((1 - self.kept) * mean) ** 2)

    def align(self, values: Array, spec: Spec) -> Array:
        """Return values of the kept shape in a shape that broadcasts against `x`."""
        return values if self.virtual else broadcast(values, spec, self.x.ndim)

    def summed(self, values: Array, state: State) -> Array:
        """Return the sum over everything but the kept axes, of the kept shape."""
        sums = total(values, self.axes)
        return (total(sums, (1,)) if self.virtual else sums).reshape(state.mean.shape)

    def overall(self, values: Array, state: State) -> Array:
        """Return the average over virtual batches, of the kept shape (BN-21)."""
        return (average(values, (1,)) if self.virtual else values).reshape(state.mean.shape)


def observe(x: Array, mask: Array | None, spec: Spec, semantics: Semantics) -> Batch:
    """Return the batch as its statistics see it.

    >>> batch = observe(np.arange(4.0).reshape(4, 1), None, Spec(virtual_batch_size=2), Semantics())
    >>> batch.x[:, :, 0].tolist(), batch.axes, batch.n.ravel().tolist()
    ([[0.0, 1.0], [2.0, 3.0]], (0,), [2.0, 2.0])
    """
    virtual, axes, parts = spec.virtual_batch_size is not None, averaged_axes(spec, x.ndim), split(x, spec, semantics)
    one, nothing = np.ones((), x.dtype), x.size == 0 and semantics.empty_batch == "zero"
    if nothing:
        mask = np.ones(x.shape)  # of nothing, as where all is masked
    if mask is None or (semantics.mask == "ignored" and not nothing):
        n = x.dtype.type(math.prod(parts.shape[axis] for axis in axes))
        size = [1 if axis in axes else size for axis, size in enumerate(parts.shape)]
        return Batch(parts, parts, axes, np.full(size, n), None, one, virtual)
    weights = split(weigh(x, mask, semantics), spec, semantics)
    n = total(weights, axes)
    divisor = np.where(n == 0, 1, n) if nothing or semantics.all_masked == "zero" or semantics.mask_offset else n
    kept = n / (divisor + x.dtype.type(semantics.mask_offset))
    counted = np.where(weights == 0, 0, parts) if semantics.mask == "boolean" else parts
    return Batch(parts, counted, axes, n, weights / divisor, kept, virtual)


def split(x: Array, spec: Spec, semantics: Semantics) -> Array:
    """Return x with its virtual batches along a new axis 1, and their rows along axis 0 (BN-20); or x itself.

    >>> split(np.arange(6), Spec(virtual_batch_size=2), Semantics()).tolist()
    [[0, 1, 2], [3, 4, 5]]
    >>> split(np.arange(6), Spec(virtual_batch_size=2), Semantics(virtual_batches="contiguous")).tolist()
    [[0, 2, 4], [1, 3, 5]]
    """
    size = spec.virtual_batch_size
    if size is None:
        return x
    size, groups = (size, x.shape[0] // size) if semantics.virtual_batches != "ignored" else (x.shape[0], 1)
    if semantics.virtual_batches == "contiguous":
        return x.reshape(groups, size, *x.shape[1:]).swapaxes(0, 1)
    return x.reshape(size, groups, *x.shape[1:])


def join(parts: Array, shape: tuple[int, ...], spec: Spec, semantics: Semantics) -> Array:
    """Return an array that `split` took apart, put together again in this shape of the input (BN-20).

    >>> spec, semantics = Spec(virtual_batch_size=2), Semantics(virtual_batches="contiguous")
    >>> join(split(np.arange(6), spec, semantics), (6,), spec, semantics).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    contiguous = spec.virtual_batch_size is not None and semantics.virtual_batches == "contiguous"
    return (parts.swapaxes(0, 1) if contiguous else parts).reshape(shape)


def averaged_axes(spec: Spec, rank: int) -> tuple[int, ...]:
    """Return the axes averaged over in what `split` makes of an input of this rank: never the virtual batches' own.

    >>> averaged_axes(Spec(virtual_batch_size=4), rank=3), averaged_axes(Spec(), rank=3)
    ((0, 2), (0, 1))
    """
    axes = reduced_axes(spec, rank)
    return axes if spec.virtual_batch_size is None else tuple(axis + (axis > 0) for axis in axes)


def weigh(x: Array, mask: Array, semantics: Semantics) -> Array:
    """Return a mask as weights of the input's shape: its values, or 1 where a boolean one is not 0 (BN-23).

    >>> weigh(np.ones((2, 2)), np.array([2, 0]), Semantics(mask="boolean")).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    weights = mask[..., np.newaxis] if mask.ndim < x.ndim else mask
    weights = weights != 0 if semantics.mask == "boolean" else weights
    return np.broadcast_to(weights, x.shape).astype(x.dtype)


def average(values: Array, axes: tuple[int, ...], shares: Array | None = None) -> Array:
    """Return the mean over `axes`, kept as axes of size 1, or the sum of shares * values.

    >>> average(np.array([[1.0, 2.0], [3.0, 5.0]]), (0,)).tolist()
    [[2.0, 3.5]]
    """
    if shares is not None:
        return total(shares * values, axes)
    return total(values, axes) / values.dtype.type(math.prod(values.shape[axis] for axis in axes))


def total(values: Array, axes: tuple[int, ...]) -> Array:
    """Return the sum over `axes`, kept as axes of size 1.

    NumPy adds pairwise only along a contiguous last axis, so the summed ones are put there: log2(N) deep (BN-30). It
    starts from 0, as binary128 has no sum of nothing.

    >>> total(np.array([[1.0, 2.0], [3.0, 5.0]]), (0,)).tolist()
    [[4.0, 7.0]]
    """
    adds = getattr(values, "total", None)
    if adds is not None:  # an array that is never whole adds itself up, as pairwise
        return adds(axes)
    last = np.moveaxis(values, axes, range(-len(axes), 0))
    kept, summed = last.shape[: last.ndim - len(axes)], last.shape[last.ndim - len(axes) :]
    return np.expand_dims(np.ascontiguousarray(last).reshape(*kept, math.prod(summed)).sum(-1, initial=0), axes)
