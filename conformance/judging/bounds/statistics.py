"""The error allowed in the statistics of a batch, and in moving ones."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from conformance.judging.bounds.batch import BatchStatistics
from conformance.judging.bounds.exact_sums import held
from conformance.judging.bounds.roundings import binade, grown, growth
from conformance.judging.bounds.sums import FLOAT64, Sums
from reference import batches
from reference.spec import Array

_B = TypeVar("_B", bound="StatisticsBounds")
_T = TypeVar("_T")


def once(formula: Callable[[_B, BatchStatistics], _T]) -> Callable[[_B, BatchStatistics], _T]:
    """Remember what a formula gives for a batch. It can read nothing but what `arithmetic` shows."""

    @functools.wraps(formula)
    def remembered(bounds: _B, batch: BatchStatistics) -> _T:
        key = bounds.arithmetic.key, formula.__name__
        if key not in batch.known:
            batch.known[key] = formula(bounds.arithmetic, batch)
        return batch.known[key]

    return remembered


class StatisticsBounds(Sums):
    """The bounds of statistics, for one way of computing."""

    @functools.cached_property
    def arithmetic(self) -> Any:
        """The same bounds, seen only as far as all outputs of one kernel share them, with their `key`."""
        return self._shared()

    def _shared(self) -> Any:
        raise NotImplementedError

    @once
    def e_mean(self, batch: BatchStatistics) -> Array:
        """The error of the mean, which may be saved in fewer bits; or of one that was given, as it is taken in."""
        e = self._e_mean(batch) if batch.given is None else batch.given[0] + self.taken(batch.max_abs)
        return self.saved(batch.mean, e)

    def saved(self, value: Array, e: Array) -> Array:
        """Return the error of a statistic that is rounded before it is used; what is exact may be held as it is."""
        if not self.units.saved_quantum:
            return e
        units, size = self.units, np.abs(value) + e
        rounded = e + units.saved_u * binade(size) + units.saved_quantum
        if value.dtype == np.float64:
            u = units.saved_u or units.u
            normal = size * u >= units.saved_quantum  # subnormals have fewer bits
            kept = (e == 0) & held(value, round(-math.log2(u))) & normal
            rounded = np.where(kept | (size == 0), 0, rounded)
        return np.where((size > units.saved_largest) | np.isnan(rounded), np.inf, rounded)

    def _e_mean(self, batch: BatchStatistics) -> Array:
        """A sum of n terms, divided by n; that corrected by the mean of what it leaves; or running means, merged.

        Merged in any order, an element passes through no more roundings of means than of sums: one for each m + (x - m)
        k, four for each (m n + x) / (n + 1): m n, the sum, 1 / (n + 1) and the product (decision 13). What rounds the
        distance moved, 3u|x - m| k at a time, has weights whose squares add up to n times 2V at most (Cauchy-Schwarz).
        """
        units = self.units
        if self.numerics.variance == "shifted":
            return self._e_mean_shifted(batch)
        k, net, times = self.averaging(batch), np.abs(batch.mean) + batch.lost, self.merging()
        e = np.fmin(
            self.signed(k, batch.mean_abs, net, times),
            self.apart(k, batch.mean_abs, net, batch.mean_deviation + batch.lost, batch.alike, times),
        )
        e = e + 3 * units.smallest
        if self.numerics.variance == "two_pass":
            e = np.fmax(e, self._e_corrected(batch, e))
        if self.numerics.variance == "stable":  # and what underflows when the k-th is merged has the weight k / n
            e = e + 3 * units.u * np.sqrt(2 * batch.variance) + (self.n + 2) * units.smallest
        e = e + self.taken(batch.max_abs)  # each value is off by that, and so may be its distance from the mean
        return self.vacuous(
            np.where(self._mean_is_a_sum(batch), self._e_mean_of_sum(batch), e), self.summands * batch.mean_abs
        )

    def _e_mean_shifted(self, batch: BatchStatistics) -> Array:
        """k plus the mean of x - k, each difference and the last sum rounded; |m - k| is no more than |x - m| may be.

        Long double is no oracle for that one rounding of float64.
        """
        left, tiny = self._e_left_of_shift(batch), 3 * self.units.smallest
        last = self.units.u * (1 if self.units.u > FLOAT64 else 4)
        e = left + last * np.where(left > 0, np.abs(batch.mean) + left, 0) + tiny + self.taken(batch.max_abs)
        return self.vacuous(np.where(batch.reach == 0, 0, e), self.summands * (batch.mean_deviation + batch.reach))

    def _e_left_of_shift(self, batch: BatchStatistics) -> Array:
        """The error of the mean of x - k. Where x has one value, k is that, and all differences are 0."""
        each = 1 + self.averaging(batch) + (0 if batch.observed.shares is None else 2)
        return self.signed(each, batch.mean_deviation + batch.reach, batch.reach + batch.lost)

    def _mean_is_a_sum(self, batch: BatchStatistics) -> Array:
        """Return where the mean is a sum that rounds nothing, divided by n.

        Running means are none. Nor is a mean corrected by what it leaves (`two_pass` allows it), unless it leaves 0:
        the mean is a number of the format, and so is every x - m, whose sum rounds nothing either.
        """
        if self.numerics.variance == "stable":
            return np.zeros_like(batch.mean, bool)
        of = self.adds_x(batch)
        if self.numerics.variance != "two_pass":
            return of
        of = of & self.divides(batch, batch.mean)
        return of & self.unrounded(batch, batch.x - batch.mean) if of.any() else of

    @once
    def adds_x(self, batch: BatchStatistics) -> Array:
        """Return where the sum of x rounds nothing. That of squares rounds nothing only where this does not, either.

        Of means of parts that is so where their counts are powers of 2, by which dividing rounds nothing.
        """
        if self.numerics.means == "in_turn" and self.averaging(batch):
            return np.zeros_like(batch.mean, bool)
        return self.unrounded(batch, batch.x)

    def _adds_squares(self, batch: BatchStatistics, distance: Array) -> Array:
        """Return where the sum of squared distances, from 0 or the mean, rounds nothing."""
        of = self.adds_x(batch)
        return of & self.unrounded(batch, distance**2) if of.any() else of

    def _e_mean_of_sum(self, batch: BatchStatistics) -> Array:
        return self.divided(batch, batch.mean_abs, batch.mean)

    def _e_corrected(self, batch: BatchStatistics, e: Array) -> Array:
        """A mean m̂, off by e, plus the mean of x - m̂: what is left is that mean's error, and the last rounding."""
        left = self._e_left(batch, e)
        return left + self.units.u * np.where(left > 0, np.abs(batch.mean) + left, 0) + 6 * self.units.smallest

    def _e_left(self, batch: BatchStatistics, e: Array) -> Array:
        """The error of the mean of x - m̂, m̂ being off by e: each difference rounds once, and a mask's share twice."""
        each, net = 1 if batch.observed.shares is None else 3, e + batch.lost
        summed = self.signed(each, batch.mean_deviation + e, net)
        return summed + growth(self.averaging(batch) * self.units.u) * (net + summed)

    @once
    def e_variance(self, batch: BatchStatistics) -> Array:
        """The error of the variance, likewise."""
        return self.saved(batch.variance, self._e_variance(batch) if batch.given is None else batch.given[1])

    def _e_variance(self, batch: BatchStatistics) -> Array:
        """Two passes make the mean's error second order: sum (x - m̂)² = n V + n (m - m̂)².

        Where the square of what the mean leaves is taken off, that square is off by no more than (e + its own error)²,
        and the difference rounds. Merging rounds as often: the distance and its square, 2/3 or 3/4, and two products.
        A mask's offset moves the mean by `lost` from where the deviations add up to 0, and leaves 2 lost |m - m̂|.
        """
        u, tiny, variance, e_mean = self.units.u, self.units.smallest, batch.variance, self.e_mean(batch)
        averaging = self.averaging(batch)
        if self.numerics.variance == "shifted":
            return self._e_variance_shifted(batch)
        if self.numerics.variance == "fast":
            q = variance + batch.mean**2
            k, apart = 1 + averaging, 2 * (variance + np.abs(batch.mean) * batch.mean_deviation)  # |d² - V + 2 m d|
            squares = np.fmin(self.g(k) * q, self.apart(k, q, q, apart, batch.alike))
            e = np.where(batch.lost > 0, self.g(k) * q, squares)
            adds = self._adds_squares(batch, batch.x)
            e = np.where(adds, self.divided(batch, q, q), e)
            e = e + 3 * u * batch.mean**2 + grown(2 * np.abs(batch.mean) * e_mean + e_mean**2, 2 * u)
            e = np.where(self._rounds_nothing(batch, adds & (e_mean == 0)), 0, grown(e + 6 * tiny + u * variance, u))
            return self.vacuous(e, np.maximum(self.summands * q, batch.max_abs**2))
        moved = (e_mean + self._e_left(batch, e_mean)) ** 2 + 2 * batch.lost * e_mean
        moved = moved + 2 * self.taken(batch.max_abs) * batch.mean_deviation
        e = self.g(4 + averaging) * (variance + moved) + moved + (3 + 2 * batch.mean_deviation) * tiny
        if self.numerics.variance == "two_pass":
            alone = (e_mean == 0) & self._adds_squares(batch, batch.deviation)
            e = np.where(alone, self.divided(batch, variance, variance), e)
        if self.numerics.variance == "stable":
            e_running = self._e_running(batch)
            e = e + 2 * e_running * np.sqrt(variance) + e_running**2 + math.log2(max(self.n, 1)) * tiny
        return self.vacuous(e, self.n * variance)  # no square is more

    def _e_variance_shifted(self, batch: BatchStatistics) -> Array:
        """The fast variance of x - k, which is no larger than V + (m - k)² in the mean of squares.

        Each difference rounds, and twice as much in its square. A mask's offset in the denominator moves (m - k) too.
        """
        u, tiny, variance, reach = self.units.u, self.units.smallest, batch.variance, batch.reach
        left = self._e_left_of_shift(batch) + self.taken(batch.max_abs)
        q = variance + reach**2 + 2 * reach * batch.lost
        e = self.g(3 + self.averaging(batch)) * q + 3 * u * reach**2 + grown(2 * reach * left + left**2, 2 * u)
        e = e + 2 * self.taken(batch.max_abs) * (batch.mean_deviation + reach) + self.taken(batch.max_abs) ** 2
        e = grown(e + (6 + 2 * batch.mean_deviation + 2 * reach) * tiny + u * variance, u)
        return self.vacuous(np.where(reach == 0, 0, e), np.maximum(self.summands * q, (2 * reach) ** 2))

    def _rounds_nothing(self, batch: BatchStatistics, exact: Array) -> Array:
        """Return where E[x²] - E[x]² rounds nothing: of what is exact, neither quotients, square nor difference do.

        exact: where the mean, and the sum of squares, are.
        """
        exact = exact & self.divides(batch, batch.variance + batch.mean**2)
        return exact & held(batch.mean**2, self.bits) & held(batch.variance, self.bits) if exact.any() else exact

    def _e_running(self, batch: BatchStatistics) -> Array:
        """Half of what running means leave of a variance, divided by sqrt(V) (Welford, Chan; decisions 10 and 13)."""
        n, units, times = self.n, self.units, self.merging()
        moved = 6 * units.u * math.sqrt(1 + math.log(max(n, 1))) * np.sqrt(batch.variance)
        tiny = (n + 5) * units.smallest
        deep = growth((self.depth * times + 3) * units.u) * batch.max_abs + tiny
        deep = 1.21 * deep  # each mean is as good as one of max|x|; 1 + √2 < 2.42
        if self.numerics.sums == "tree":
            return deep + moved
        deepest = times * (n + min(n, 16) / 4) / math.sqrt(12)
        return np.fmin(deep, growth(deepest * units.u) * batch.max_abs + tiny) + moved

    def e_overall(self, values: Array, e: Array) -> tuple[Array, Array]:
        """The mean over virtual batches (axis 1), and its error: a sum of that many terms, and a division."""
        groups = int(values.shape[1])
        mean, e_mean, size = (batches.average(a, (1,)) for a in (values, e, np.abs(values) + e))
        return mean, e_mean + growth((groups + 2) * self.units.u) * size

    def e_unbiased(self, variance: Array, e_variance: Array, factor: Array) -> Array:
        """The factor n/(n-1) and its product are rounded."""
        u = self.units.u
        return factor * grown(e_variance, 4 * u) + 4 * u * factor * variance

    def e_moving(self, old: Array, batch: Array, new: Array, e_old: Array, e_batch: Array, fraction: float) -> Array:
        """new = (1-a) old + a s, or old - a (old - s), and a = 1 - fl(momentum) keeps an absolute error of u.

        The first rounds 1 - a, two products and the sum, and fl(momentum)'s error moves u(1-a) from one to the other;
        the second rounds the difference, a, the product and the sum. A momentum outside 0 to 1 is off by as much more.
        """
        u, a, kept, apart = self.units.u, abs(fraction), abs(1 - fraction), np.abs(batch - old)
        e = grown(kept * e_old + a * e_batch, u) + u * max(kept, 1) * apart
        e = e + u * grown(np.maximum(2 * (kept * np.abs(old) + a * np.abs(batch)), 3 * a * apart), 2 * u)
        e = self.vacuous(e + u * (np.abs(new) + e) + 3 * self.units.smallest, np.maximum(np.abs(old), np.abs(batch)))
        return self.stored(new, e)

    def e_debiased(self, average: Array, e_hidden: Array, momentum: float, t: int) -> Array:
        """hidden / (1 - momentum**t): the power, the difference and the quotient are rounded, 8u with room to spare.

        The momentum's own rounding is worth t·u·m**t on the weight: a power of t amplifies a relative error t times.
        """
        kept, weight = abs(momentum) ** t, abs(1 - momentum**t)
        e_weight = (8 * max(kept, 1) + t * kept) * self.units.u / weight if weight else math.inf
        if e_weight >= 1:
            return np.full_like(average, np.inf)
        return grown((e_hidden / weight + np.abs(average) * e_weight) / (1 - e_weight), self.units.u)
