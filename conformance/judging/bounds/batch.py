"""The exact statistics of one batch, from which its bounds are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from conformance.judging.large.streamed import Streamed
from reference import batches
from reference.batch_norm import moments
from reference.own_error import Roundings, error_of_mean, error_of_variance
from reference.precision import summation_depth
from reference.spec import Array


@dataclass(frozen=True)
class BatchStatistics:
    """The exact statistics of one batch, laid out as the reference sees it.

    Virtual batches are along axis 1, masks are shares.

    shape: that of the input.
    observed: the batch as the reference sees it.
    count: how many values each sum adds, masked ones included.
    n: how many values count; averaged axes have size 1.
    mean, variance: what is returned and normalizes, after a mask's offset.
    inside: where a value counts; 1 without a mask.
    lost: the part of the mean that an offset in the mask's denominator takes away; 0 without.
    known: what formulas gave for this batch; implementations that promise the same share it.
    given: the errors of mean and variance, where these were given and are not the batch's own.
    """

    shape: tuple[int, ...]
    observed: batches.Batch
    count: int
    n: Array
    mean: Array
    variance: Array
    deviation: Array
    mean_abs: Array
    mean_deviation: Array
    max_abs: Array
    inside: Array
    lost: Array
    known: dict[tuple[object, str], Any] = field(default_factory=dict[Any, Any], repr=False, compare=False)
    given: tuple[Array, Array] | None = None

    @classmethod
    def of(cls, observed: batches.Batch, shape: tuple[int, ...] | None = None) -> BatchStatistics:
        """Return what the bounds need of a batch; shape: the input's, where virtual batches are split from it."""
        x, axes, shares = observed.counted, observed.axes, observed.shares
        mean, variance = observed.offset(*moments(x, axes, shares))
        deviation, one = x - mean, np.ones((), x.dtype)
        weights = one if shares is None else shares * observed.n * observed.kept
        return cls(
            observed.x.shape if shape is None else shape,
            observed,
            math.prod(x.shape[a] for a in axes),
            observed.n,
            mean,
            variance,
            deviation,
            batches.average(np.abs(x), axes, shares),
            batches.average(np.abs(deviation), axes, shares),
            np.abs(x).max(axes, keepdims=True, initial=0),
            weights,
            (1 - observed.kept) * np.abs(mean),
        )

    def with_statistics(self, mean: Array, variance: Array, errors: tuple[Array, Array]) -> BatchStatistics:
        """Return the batch with other statistics, and their errors. Its deviations no longer add up to 0."""
        apart = self.lost + np.abs(mean - self.mean)
        deviation, mean_deviation = self.x - mean, self.mean_deviation + apart
        changed = replace(self, mean=mean, variance=variance, deviation=deviation, mean_deviation=mean_deviation)
        return replace(changed, lost=apart, known={}, given=errors)

    @property
    def x(self) -> Array:
        """The input, laid out for its statistics."""
        return self.observed.x

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes averaged over."""
        return self.observed.axes

    @cached_property
    def divisor(self) -> Array:
        """The number that sums are divided by: n, or 1 where no value counts."""
        return np.where(self.n == 0, 1, self.n)

    @cached_property
    def alike(self) -> Array:
        """How many values count, where these count the same; 1 where weights differ: one value may be nearly all."""
        shares = self.observed.shares
        if shares is None:
            return self.n
        least = np.where(shares > 0, shares, np.inf).min(self.axes, keepdims=True, initial=np.inf)
        return np.where(shares.max(self.axes, keepdims=True, initial=0) <= least, self.n, 1)

    @cached_property
    def reach(self) -> Array:
        """How far any value of the batch is from its mean."""
        return np.abs(self.deviation).max(self.axes, keepdims=True, initial=0)

    @property
    def depth(self) -> int:
        """How many additions that round a term of the reference's sums passes through at most."""
        least = summation_depth(self.count, self.x.dtype.type)
        return max(least, self.x.layout.depth) if isinstance(self.x, Streamed) else least

    @cached_property
    def own_errors(self) -> tuple[Array, Array]:
        """How far the reference's own mean and variance may be off, computed in the dtype of `x`."""
        weighted = self.observed.shares is not None
        by = Roundings.of(self.count, self.x.dtype.type, weighted=weighted)
        more = self.depth - summation_depth(self.count, self.x.dtype.type)
        by = replace(by, each=by.each + more, common=by.common + more * weighted)
        own_mean = error_of_mean(self.mean, self.mean_abs, self.mean_deviation, by)
        own_mean = own_mean + 2 * by.u * np.abs(self.mean) * (self.lost > 0)  # the offset's factor, and its product
        return own_mean, error_of_variance(self.variance, self.mean_deviation, own_mean, by)

    def average(self, values: Array) -> Array:
        """Return the sum over the axes, divided by n. The bounds of gradients are made of these."""
        if isinstance(self.x, Streamed):
            return batches.total(self.x.like(values), self.axes) / self.divisor
        if values.shape != self.x.shape:
            values = np.broadcast_to(values, np.broadcast_shapes(values.shape, self.x.shape))
        return np.add.reduce(values, self.axes, keepdims=True, initial=0) / self.divisor
