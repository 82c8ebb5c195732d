"""How much sums and products of arrays may be off, whatever is added up, in the units of one arithmetic."""

from __future__ import annotations

import numpy as np

from conformance.judging.bounds.batch import BatchStatistics
from conformance.judging.bounds.roundings import binade, grown, growth, sum_depth
from conformance.model.numerics import Numerics, Units
from reference.spec import Array

_FLOAT32, _FLOAT64 = 2.0**-24, 2.0**-53


class Sums:
    """The formulas for sums of n terms, in one way of adding.

    widened: each sum is made in float32, of terms rounded to the arithmetic, and its mean is rounded to that once.
    """

    def __init__(self, numerics: Numerics, units: Units, n: int, *, widened: bool) -> None:
        self.numerics, self.units, self.n = numerics, units, n
        self.depth = sum_depth(n, numerics.sums)
        self.widened = widened and units.u > _FLOAT32
        self.sums_u = _FLOAT32 if self.widened else units.u

    def g(self, k: int) -> float:
        """Return (1 + u)^(h + k) - 1: the roundings of a sum of terms of one sign, and k others."""
        return growth(self.depth * self.sums_u + k * self.units.u + self._once_more)

    @property
    def _once_more(self) -> float:
        """The last rounding of a widened mean, and its quotient in float32."""
        return (self.units.u + 3 * _FLOAT32) if self.widened else 0.0

    @property
    def summands(self) -> int:
        """How many values add up in the arithmetic, where they may overflow: 1 where sums are widened."""
        return 1 if self.widened else self.n

    def signed(self, k: int, size: Array, net: Array, times: int = 1) -> Array:
        """Return the error of a mean of terms of both signs: size, the mean of their magnitudes; net, that of the mean.

        However n terms are added, n - 1 sums are rounded, and the sum of some terms is no larger than all of one sign
        are together, n (size + net) / 2 at most (Higham 2002, (4.3); decision 10). k: of the other roundings. times:
        how often each sum is rounded.
        """
        u, sums, others = self.sums_u, max(self.n - 1, 0), k * self.units.u
        most = (size + net) / 2 + growth(times * sums * u + others) * size
        deep = growth(times * self.depth * u + others) * size
        e = np.fmin(deep, growth(others) * size + times * sums * u * grown(most, others))
        return grown(e, self._once_more) + self._once_more * net

    def apart(self, k: int, size: Array, net: Array, deviation: Array, counted: Array, times: int = 1) -> Array:
        """Return the error of a mean of terms near to one another: deviation, the mean of |term - mean|.

        j terms add up to no more than j net + N deviation / 2, N of which are counted and no more than N net. The j-th
        smallest of the n - 1 sums, in whatever order, is of j + 1 terms at most. So all sums together are bounded by
        (N (N + 1) / 2 + (n - N) N) net and n N deviation / 2 (decision 10). times: how often each sum is rounded.
        """
        u, sums, others = self.sums_u, max(self.n - 1, 0), k * self.units.u
        most = (self.n - (counted - 1) / 2) * net + sums * (deviation / 2 + growth(times * sums * u + others) * size)
        e = growth(others) * size + times * u * grown(most, others)
        return grown(e, self._once_more) + self._once_more * net

    def averaging(self, batch: BatchStatistics) -> int:
        """Return how often dividing a sum by n rounds: 1/n, the product, and an inexact n; a power of 2 never.

        A mask's weight is multiplied in first, and its divisor is a sum that rounds once more. Long double is no oracle
        for fewer than 4 roundings of float64.
        """
        if batch.observed.shares is not None:
            return 5
        if self.widened:  # in float32
            return 0
        rounds = 0 if self._counts and self.n & (self.n - 1) == 0 else 3 - self._counts
        return max(rounds, (1 if self.units.u > _FLOAT64 else 4) - self.depth)

    def merging(self) -> int:
        """Return how often a merge rounds a running mean: that of weighted means rounds two counts more if inexact."""
        if self.numerics.variance != "stable" or self.numerics.merge == "moved":
            return 1
        return 4 if self._counts else 6

    @property
    def _counts(self) -> bool:
        """Whether every count up to n is a number of the arithmetic."""
        return self.n * self.units.u <= 1

    def e_product(self, a: Array, e_a: Array, b: Array, e_b: Array, ku: float) -> Array:
        """A product of magnitudes, each with its error, and the roundings ku: (a + e_a)(b + e_b)(1 + u)^k - a b."""
        return grown(a * e_b + e_a * (b + e_b), ku) + growth(ku) * (a * b)

    def e_scaled(self, g: Array, r: Array, e_r: Array, t: Array, e_t: Array) -> Array:
        """Magnitudes g r t, in whatever order: each factor, and each product of two, may underflow, or overflow."""
        size = t + e_t
        flush = self.units.smallest * (2 + g + r + g * r) + size * (r * self.flushed(g) + self.flushed(g * r))
        peak = np.maximum(g, 1) * np.maximum(r + e_r, 1) * np.maximum(size, 1)
        return self.vacuous(g * self.e_product(r, e_r, t, e_t, 3 * self.units.u) + flush, peak)

    def flushed(self, size: Array) -> Array:
        """What a magnitude, known to a factor of 2, may lose by underflow: itself or less, if it is small."""
        return np.where(size < 2 * self.units.smallest, np.fmin(size, self.units.smallest), 0)

    def taken(self, values: Array) -> Array:
        """The error of an input in coarser arithmetic than its own: it may underflow; what is too large is vacuous."""
        size, u = np.abs(values), self.units.taken_u
        return self.vacuous(u * size + np.fmin(size, self.units.smallest), size) if u else u * size

    def stored(self, value: Array, e: Array) -> Array:
        """Add the rounding to the dtype that the output is stored in; beyond its largest number is vacuous."""
        size, units = np.abs(value), self.units
        if units.stored_u:
            rounded = units.stored_u * binade(size + np.where(np.isfinite(e), e, 0)) + units.stored_quantum
            return np.where(size + e > units.stored_largest, np.inf, e + rounded)
        return np.where(size + e > units.stored_largest, np.inf, e)

    def vacuous(self, e: Array, peak: Array) -> Array:
        """Return e, infinite where an intermediate as large as `peak` may overflow."""
        return np.where((peak > self.units.largest / 2) | np.isnan(e), np.inf, e)
