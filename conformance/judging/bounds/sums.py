"""How much sums and products of arrays may be off, whatever is added up, in the units of one arithmetic."""

from __future__ import annotations

import math

import numpy as np

from conformance.judging.bounds import exact_sums
from conformance.judging.bounds.batch import BatchStatistics
from conformance.judging.bounds.roundings import binade, compensated_depth, grown, growth, sum_depth
from conformance.judging.large.streamed import elementwise
from conformance.model.numerics import Numerics, Units
from reference.precision import summation_depth
from reference.spec import Array

_FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53
_ORACLE = 2.0**-41
"""4,096 roundings of float64: of that error, the reference's own is less than a thousandth."""


def _any_flushed(size: Array, smallest: Array) -> Array | float:
    if not (size < 2 * smallest).any():
        return 0.0
    lost = np.where(size < 2 * smallest, np.fmin(size, smallest), 0)
    return lost if lost.any() else 0.0


@elementwise(_any_flushed, shrinks=True)
def _flushed(size: Array, smallest: float) -> Array:
    return np.where(size < 2 * smallest, np.fmin(size, smallest), 0)


class Sums:
    """The bounds of sums of n terms, for one way of adding.

    widened: each sum is made in a wider dtype, of terms rounded to the arithmetic, and its mean is rounded back once.
    """

    def __init__(self, numerics: Numerics, units: Units, n: int, *, widened: bool) -> None:
        self.numerics, self.units, self.n = numerics, units, n
        wider = {"float32": _FLOAT32, "float64": FLOAT64}[numerics.wider]
        self.widened = widened and units.u > wider
        self.sums_u = wider if self.widened else units.u
        self.compensated = numerics.sums == "compensated"
        self.depth = self._depth()

    def _depth(self) -> int:
        """Return how deep sums are; of float64, no less than those of long double, which is no oracle for less."""
        of = self.numerics
        if self.compensated:
            deep = compensated_depth(self.n, self.sums_u)
        else:
            deep = sum_depth(self.n, of.sums, of.lanes, of.block)
        least = summation_depth(self.n) + 2 if self.units.u <= FLOAT64 else 0
        return max(deep, min(least, self.n - 1))

    def g(self, k: int) -> float:
        """Return (1 + u)^(h + k) - 1: the roundings of a sum of terms of one sign, and k more."""
        return growth(self.depth * self.sums_u + k * self.units.u + self._once_more)

    @property
    def _once_more(self) -> float:
        """The roundings of a widened mean: its quotient in the wider dtype, and the last one to the arithmetic."""
        return (self.units.u + 3 * self.sums_u) if self.widened else 0.0

    @property
    def _oracle(self) -> float:
        """The least part of the terms' size that is allowed where sums are as precise as the reference's own."""
        own = self.widened and self.sums_u <= FLOAT64
        return _ORACLE * (summation_depth(self.n) + 8) if own else 0.0

    @property
    def summands(self) -> int:
        """How many values add up in the arithmetic, where they may overflow; 1 where sums are widened."""
        return 1 if self.widened else self.n

    def signed(self, k: int, size: Array, net: Array, times: int = 1) -> Array:
        """Return the error of a mean of terms of both signs.

        However n terms are added, n - 1 sums are rounded, and the sum of some terms is no larger than all terms of one
        sign are together, n (size + net) / 2 at most (Higham 2002, (4.3); decision 10).

        size: the mean of the terms' magnitudes.
        net: the magnitude of their mean.
        k: how many other roundings there are.
        times: how often each sum is rounded.
        """
        u, sums, others = self.sums_u, max(self.n - 1, 0), k * self.units.u
        most = (size + net) / 2 + growth(times * sums * u + others) * size
        deep = growth(times * self.depth * u + others) * size
        e = deep if self.compensated else np.fmin(deep, growth(others) * size + times * sums * u * grown(most, others))
        return grown(e, self._once_more) + self._once_more * net + self._oracle * size

    def apart(self, k: int, size: Array, net: Array, deviation: Array, counted: Array, times: int = 1) -> Array:
        """Return the error of a mean of terms that are near to one another.

        j terms add up to no more than j net + N deviation / 2, where N of them are counted, and no more than N net. The
        j-th smallest of the n - 1 sums, in whatever order, is of at most j + 1 terms. So all together are bounded by
        (N (N + 1) / 2 + (n - N) N) net and n N deviation / 2 (decision 10). Where weights differ, any sum may be nearly
        the whole, as if N were 1.

        deviation: the mean of |term - mean|.
        times: how often each sum is rounded.
        """
        u, sums, others = self.sums_u, max(self.n - 1, 0), k * self.units.u
        most = (self.n - (counted - 1) / 2) * net + sums * (deviation / 2 + growth(times * sums * u + others) * size)
        e = growth(others) * size + times * u * grown(most, others)
        e = growth(self.depth * u + others) * size if self.compensated else e
        return grown(e, self._once_more) + self._once_more * net + self._oracle * size

    # --- sums that round nothing (`exact_sums`) -----------------------------------------------------------------------

    def unrounded(self, batch: BatchStatistics, *terms: Array) -> Array:
        """Return for which channels no sum of these terms rounds, laid out as the batch.

        None where values have weights, or sums go over several batches. float64 is left out: what the reference
        computes with could be no oracle for it.
        """
        u = self.units
        others = batch.observed.shares is not None or self.n != batch.count or batch.x.dtype != np.float64
        if others or self.widened or u.taken_u or u.u <= FLOAT64:
            return np.zeros_like(batch.mean, bool)
        full = [np.broadcast_to(values, batch.x.shape) for values in terms]
        return exact_sums.unrounded(*full, axes=batch.axes, bits=self.bits, smallest=u.smallest)

    @property
    def bits(self) -> int:
        """The bits of a number of the arithmetic."""
        return round(-math.log2(self.units.u))

    def exact(self, k: int, size: Array, net: Array) -> Array:
        """Return the error of a mean whose sum rounds nothing, and which k roundings follow.

        The reference's own sum of as many terms, which its own roundings precede, is no oracle for less than the second
        part of it.
        """
        return growth(k * self.units.u) * net + (_ORACLE * (summation_depth(self.n) + 8) * size if k else 0)

    def averaging(self, batch: BatchStatistics) -> int:
        """Return how often dividing a sum by n rounds: 1/n, the product, and an inexact n. A power of 2 rounds nothing.

        A mask's weight is multiplied in first, and its divisor is a sum that rounds once more. Long double is no oracle
        for fewer than 4 roundings of float64.
        """
        if batch.observed.shares is not None:
            return 5
        if self.widened:  # in the wider dtype
            return 0
        rounds = 0 if self._counts and self.n & (self.n - 1) == 0 else 3 - self._counts
        return max(rounds, (1 if self.units.u > FLOAT64 else 4) - self.depth)

    def divides(self, batch: BatchStatistics, means: Array) -> Array:
        """Return where dividing sums by n gives these means exactly, as a quotient does that needs no rounding."""
        once = self.numerics.division == "rounded" and self._counts and batch.observed.shares is None
        exact = (means == 0) | (self.averaging(batch) == 0)
        return exact | exact_sums.held(means, self.bits) if once and means.dtype == np.float64 else exact

    def divided(self, batch: BatchStatistics, size: Array, means: Array) -> Array:
        """Return the error of means whose sums round nothing: that of the division."""
        return np.where(self.divides(batch, means), 0, self.exact(self.averaging(batch), size, np.abs(means)))

    def merging(self) -> int:
        """Return how often a merge rounds a running mean; a weighted one rounds two counts more if inexact."""
        if self.numerics.variance != "stable" or self.numerics.merge == "moved":
            return 1
        return 4 if self._counts else 6

    @property
    def _counts(self) -> bool:
        """Whether every count up to n is exact in the arithmetic."""
        return self.n * self.units.u <= 1

    def e_product(self, a: Array, e_a: Array, b: Array, e_b: Array, ku: float) -> Array:
        """Return the error of a product of magnitudes with roundings ku: (a + e_a)(b + e_b)(1 + u)^k - a b."""
        return grown(a * e_b + e_a * (b + e_b), ku) + growth(ku) * (a * b)

    def e_scaled(self, g: Array, r: Array, e_r: Array, t: Array, e_t: Array) -> Array:
        """Return the error of g r t in any order: each factor, and each product of two, may underflow or overflow."""
        size = t + e_t
        flush = self.units.smallest * (2 + g + r + g * r) + size * (r * self.flushed(g) + self.flushed(g * r))
        peak = np.maximum(g, 1) * np.maximum(r + e_r, 1) * np.maximum(size, 1)
        return self.vacuous(g * self.e_product(r, e_r, t, e_t, 3 * self.units.u) + flush, peak)

    def flushed(self, size: Array) -> Array:
        """Return what a magnitude, known to a factor of 2, may lose by underflow: at most itself, if it is small."""
        return _flushed(size, self.units.smallest)

    def taken(self, values: Array) -> Array:
        """Return the error of an input in arithmetic coarser than its dtype: it may underflow, or be too large."""
        size, u = np.abs(values), self.units.taken_u
        return self.vacuous(u * size + np.fmin(size, self.units.smallest), size) if u else u * size

    def stored(self, value: Array, e: Array) -> Array:
        """Return the error with the rounding to the output's dtype added; infinite beyond its largest number."""
        size, units = np.abs(value), self.units
        if units.stored_quantum:
            rounded = units.stored_u * binade(size + np.where(np.isfinite(e), e, 0)) + units.stored_quantum
            return np.where(size + e > units.stored_largest, np.inf, e + rounded)
        return np.where(size + e > units.stored_largest, np.inf, e)

    def vacuous(self, e: Array, peak: Array) -> Array:
        """Return the error; infinite if an intermediate as large as `peak` may overflow."""
        return np.where((peak > self.units.largest / 2) | np.isnan(e), np.inf, e)
