"""How much error is allowed, per element, derived from the case's own data before any answer is seen.

`e_z` bounds |computed z - exact z|. A bound is for a declared way of computing (`Numerics`): how the variance is
summed, whether the affine map is folded into y = x * scale + shift, how deep the sums are, and in which dtypes.
Infinite means vacuous: an intermediate may overflow, so nothing can be promised.

Sources: Higham, Accuracy and Stability of Numerical Algorithms (2002), ch. 3-4; Chan, Golub & LeVeque, The American
Statistician 37 (1983) 242-247. Derivations are beside the formulas. Arrays broadcast against the batch: statistics
keep the averaged axes with size 1. Gradients are in `gradient_bounds`, renorm in `renorm_bounds`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np

from conformance.judging.bounds.batch import BatchStatistics as BatchStatistics
from conformance.judging.bounds.roundings import binade, grown, growth, part, shrunk
from conformance.judging.bounds.sums import Sums
from conformance.judging.memo import Only
from conformance.model.numerics import Numerics, Units
from reference import batches
from reference.precision import roundoff, summation_depth, widened
from reference.spec import Array

_T = TypeVar("_T")
_RSQRT_ULPS = 4  # covers a reciprocal square root good to 2 ulp, and 1 / sqrt(w)


@dataclass(frozen=True)
class NormalizingStatistics:
    """The statistics that normalize, exact, with the error an implementation may have made in them."""

    mean: Array
    e_mean: Array
    r: Array
    e_r: Array
    steepness: tuple[Array, Array] | None = None
    """How much more r changes with the variance than r³ / 2, and its error: 1 but for an epsilon outside the root."""


@dataclass(frozen=True)
class Affine:
    """The map after normalizing, y = scale z + shift: gamma and beta, composed with renorm's and adjustment's."""

    scale: Array
    shift: Array
    e_scale: Array
    e_shift: Array


def _once(formula: Callable[[Bounds, BatchStatistics], _T]) -> Callable[[Bounds, BatchStatistics], _T]:
    """Remember what a formula gives for a batch; it can read nothing but what `arithmetic` leaves."""

    @functools.wraps(formula)
    def remembered(bounds: Bounds, batch: BatchStatistics) -> _T:
        arithmetic = bounds if isinstance(bounds, _Arithmetic) else bounds.arithmetic
        key = arithmetic.key, formula.__name__
        if key not in batch.known:
            batch.known[key] = formula(arithmetic, batch)
        return batch.known[key]

    return remembered


class Bounds(Sums):
    """The formulas for one way of computing; n: of the summands of each mean; outside: epsilon is added to the root."""

    _widened = ("all",)

    def __init__(self, numerics: Numerics, units: Units, n: int, epsilon: float, *, outside: bool = False) -> None:
        super().__init__(numerics, units, n, widened=numerics.widened in self._widened)
        self.epsilon, self.outside = epsilon, outside

    @functools.cached_property
    def arithmetic(self) -> _Arithmetic:
        """The same formulas, of which only that can be read which all outputs of one kernel share."""
        return _Arithmetic(self)

    # --- statistics ----------------------------------------------------------------------------------------------

    @_once
    def e_mean(self, batch: BatchStatistics) -> Array:
        """A sum of n terms, divided by n; that corrected by the mean of what it leaves; or running means, merged.

        Merged in any order, an element passes through no more roundings of means than of sums: one for each m + (x - m)
        k, four for each (m n + x) / (n + 1): m n, the sum, 1 / (n + 1) and the product (decision 13). What rounds the
        distance moved, 3u|x - m| k at a time, has weights whose squares add up to n times 2V at most (Cauchy-Schwarz).
        """
        units = self.units
        if batch.given is not None:
            return batch.given[0] + self.taken(batch.max_abs)
        k, net, times = self.averaging(batch), np.abs(batch.mean) + batch.lost, self.merging()
        e = np.fmin(
            self.signed(k, batch.mean_abs, net, times),
            self.apart(k, batch.mean_abs, net, batch.mean_deviation + batch.lost, batch.n, times),
        )
        e = e + 3 * units.smallest
        if self.numerics.variance == "two_pass":
            e = np.fmax(e, self._e_corrected(batch, e))
        if self.numerics.variance == "stable":  # and what underflows when the k-th is merged has the weight k / n
            e = e + 3 * units.u * np.sqrt(2 * batch.variance) + (self.n + 2) * units.smallest
        e = e + self.taken(batch.max_abs)  # each value is off by that, and so may be its distance from the mean
        return self.vacuous(e, self.summands * batch.mean_abs)

    def _e_corrected(self, batch: BatchStatistics, e: Array) -> Array:
        """A mean m̂, off by e, plus the mean of x - m̂: what is left is that mean's error, and the last rounding."""
        left = self._e_left(batch, e)
        return left + self.units.u * np.where(left > 0, np.abs(batch.mean) + left, 0) + 6 * self.units.smallest

    def _e_left(self, batch: BatchStatistics, e: Array) -> Array:
        """The error of the mean of x - m̂, m̂ being off by e: each difference rounds once, and a mask's share twice."""
        each, net = 1 if batch.observed.shares is None else 3, e + batch.lost
        summed = self.signed(each, batch.mean_deviation + e, net)
        return summed + growth(self.averaging(batch) * self.units.u) * (net + summed)

    @_once
    def e_variance(self, batch: BatchStatistics) -> Array:
        """Two passes make the mean's error second order: sum (x - m̂)² = n V + n (m - m̂)².

        Where the square of what the mean leaves is taken off, that square is off by no more than (e + its own error)²,
        and the difference rounds. Merging rounds as often: the distance and its square, 2/3 or 3/4, and two products.
        A mask's offset moves the mean by `lost` from where the deviations add up to 0, and leaves 2 lost |m - m̂|.
        """
        if batch.given is not None:
            return batch.given[1]
        u, tiny, variance, e_mean = self.units.u, self.units.smallest, batch.variance, self.e_mean(batch)
        averaging = self.averaging(batch)
        if self.numerics.variance == "fast":
            q = variance + batch.mean**2
            k, apart = 1 + averaging, 2 * (variance + np.abs(batch.mean) * batch.mean_deviation)  # |d² - V + 2 m d|
            squares = np.fmin(self.g(k) * q, self.apart(k, q, q, apart, batch.n))
            e = np.where(batch.lost > 0, self.g(k) * q, squares)
            e = e + 3 * u * batch.mean**2 + grown(2 * np.abs(batch.mean) * e_mean + e_mean**2, 2 * u)
            return self.vacuous(grown(e + 6 * tiny + u * variance, u), np.maximum(self.summands * q, batch.max_abs**2))
        moved = (e_mean + self._e_left(batch, e_mean)) ** 2 + 2 * batch.lost * e_mean
        moved = moved + 2 * self.taken(batch.max_abs) * batch.mean_deviation
        e = self.g(4 + averaging) * (variance + moved) + moved + (3 + 2 * batch.mean_deviation) * tiny
        if self.numerics.variance == "stable":
            e_running = self._e_running(batch)
            e = e + 2 * e_running * np.sqrt(variance) + e_running**2 + math.log2(max(self.n, 1)) * tiny
        return self.vacuous(e, self.n * variance)  # no square is more

    def _e_running(self, batch: BatchStatistics) -> Array:
        """Half of what running means leave of a variance, divided by sqrt(V) (Welford, Chan; decisions 10 and 13)."""
        n, units, times = self.n, self.units, self.merging()
        moved = 6 * units.u * math.sqrt(1 + math.log(max(n, 1))) * np.sqrt(batch.variance)
        if self.numerics.sums == "tree":  # each mean as good as one of max|x|; 1 + √2 < 2.42
            return (
                1.21 * (growth((self.depth * times + 3) * units.u) * batch.max_abs + (n + 5) * units.smallest) + moved
            )
        deepest = times * (n + min(n, 16) / 4) / math.sqrt(12)
        return growth(deepest * units.u) * batch.max_abs + (n + 5) * units.smallest + moved

    def e_overall(self, values: Array, e: Array) -> tuple[Array, Array]:
        """The mean over virtual batches (axis 1), and its error: a sum of that many terms, and a division."""
        groups = values.shape[1]
        mean, e_mean, size = (batches.average(a, (1,)) for a in (values, e, np.abs(values) + e))
        return mean, e_mean + growth((groups + 2) * self.units.u) * size

    def e_unbiased(self, variance: Array, e_variance: Array, factor: Array) -> Array:
        """The factor n/(n-1) and its product are rounded."""
        u = self.units.u
        return factor * grown(e_variance, 4 * u) + 4 * u * factor * variance

    def e_spread(self, variance: Array, e_variance: Array) -> Array:
        """The standard deviation sqrt(variance + epsilon), from its interval."""
        if self.outside:
            exact, low, high = self._outside(variance, e_variance)
            return np.maximum(high - exact, exact - low)
        u, w, e_w = self.units.u, variance + self.epsilon, self._e_w(variance, e_variance)
        high, low = np.sqrt(w + e_w), np.sqrt(np.maximum(w - e_w, 0))
        return np.maximum(high - np.sqrt(w), np.sqrt(w) - low) + 2 * u * high

    def e_moving(self, old: Array, batch: Array, new: Array, e_old: Array, e_batch: Array, fraction: float) -> Array:
        """new = (1-a) old + a s, or old - a (old - s), and a = 1 - fl(momentum) keeps an absolute error of u.

        The first rounds 1 - a, two products and the sum, and fl(momentum)'s error moves u(1-a) from one to the other;
        the second rounds the difference, a, the product and the sum.
        """
        u, a, apart = self.units.u, fraction, np.abs(batch - old)
        e = grown((1 - a) * e_old + a * e_batch, u)
        e = e + u * apart + u * grown(np.maximum(2 * ((1 - a) * np.abs(old) + a * np.abs(batch)), 3 * a * apart), 2 * u)
        e = self.vacuous(e + u * (np.abs(new) + e) + 3 * self.units.smallest, np.maximum(np.abs(old), np.abs(batch)))
        return self.stored(new, e)

    def e_debiased(self, average: Array, e_hidden: Array, momentum: float, t: int) -> Array:
        """hidden / (1 - momentum**t): the power, the difference and the quotient are rounded, 8u with room to spare.

        The momentum's own rounding is worth t·u·m**t on the weight: a power of t amplifies a relative error t times.
        """
        kept = momentum**t
        e_weight = (8 + t * kept) * self.units.u / (1 - kept) if kept < 1 else math.inf
        if e_weight >= 1:
            return np.full_like(average, np.inf)
        weight = 1 - kept
        return grown((e_hidden / weight + np.abs(average) * e_weight) / (1 - e_weight), self.units.u)

    # --- outputs -------------------------------------------------------------------------------------------------

    def _e_w(self, variance: Array, e_variance: Array) -> Array:
        u = self.units.u
        return e_variance + u * self.epsilon + u * (variance + self.epsilon + e_variance) + self.units.smallest

    @_once
    def used_of(self, batch: BatchStatistics) -> NormalizingStatistics:
        """A batch's own statistics, normalizing it."""
        return self.used(batch.mean, batch.variance, self.e_mean(batch), self.e_variance(batch))

    def used(self, mean: Array, variance: Array, e_mean: Array, e_variance: Array) -> NormalizingStatistics:
        """1 / sqrt(variance + epsilon), where the error of the variance is not small: an interval, not a derivative."""
        if self.outside:
            return self._used_outside(mean, variance, e_mean, e_variance)
        u, tiny, k = self.units.u, self.units.smallest, _RSQRT_ULPS
        w, e_w = variance + self.epsilon, self._e_w(variance, e_variance)
        signed = self.numerics.variance == "fast" and not self.numerics.clamped
        floor = 0.0 if signed else np.maximum(shrunk(np.asarray(self.epsilon, w.dtype), 3 * u) - tiny, 0)
        low = np.maximum(w - e_w, floor)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            r, worst, best = 1 / np.sqrt(w), grown(1 / np.sqrt(low), k * u), shrunk(1 / np.sqrt(w + e_w), k * u)
            e_r = np.where((low > 0) & np.isfinite(e_w), np.maximum(worst - r, r - best), np.inf)
        return NormalizingStatistics(mean, e_mean, r, self.vacuous(e_r, w))

    def _outside(self, variance: Array, e_variance: Array) -> tuple[Array, Array, Array]:
        """Return sqrt(variance) + epsilon and the least and most it may be: the root, epsilon and the sum are rounded.

        0 is the least where an unclamped variance may be negative, and its root NaN.
        """
        u, tiny, root = self.units.u, self.units.smallest, np.sqrt(variance)
        epsilon = np.asarray(self.epsilon, root.dtype)
        signed = self.numerics.variance == "fast" and not self.numerics.clamped
        low = shrunk(np.sqrt(np.maximum(variance - e_variance - tiny, 0)), 2 * u) + shrunk(epsilon, u)
        low = np.where(signed & (variance <= e_variance), 0, shrunk(low, u))
        high = grown(grown(np.sqrt(variance + e_variance + tiny), 2 * u) + grown(epsilon, u), u)
        return root + self.epsilon, np.maximum(low - tiny, 0), high + tiny

    def _used_outside(self, mean: Array, variance: Array, e_mean: Array, e_variance: Array) -> NormalizingStatistics:
        """1 / (sqrt(variance) + epsilon): it changes by (sqrt(variance) + epsilon) / sqrt(variance) times r³ / 2."""
        u, k, (exact, low, high) = self.units.u, _RSQRT_ULPS, self._outside(variance, e_variance)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            r, worst, best = 1 / exact, grown(1 / low, k * u), shrunk(1 / high, k * u)
            e_r = np.where((low > 0) & np.isfinite(e_variance), np.maximum(worst - r, r - best), np.inf)
            root, least = np.sqrt(variance), np.sqrt(np.maximum(variance - e_variance, 0))
            steep = exact / root
            e_steep = np.where(least > 0, self.epsilon * (1 / least - 1 / root) + 6 * u * exact / least, np.inf)
        return NormalizingStatistics(mean, e_mean, r, self.vacuous(e_r, exact), (steep, e_steep))

    def e_y(self, x: Array, y: Array, affine: Affine, used: NormalizingStatistics) -> Array:
        """The output, direct or folded; the error of x·scale and mean·scale that is in their scale cancels.

        Folded, beta - m scale is rounded, or x scale - m scale before beta is added, or x r - m r before gamma is
        multiplied in: products of r, and their difference, whose roundings gamma multiplies.
        An implementation computes with a scale and a shift that are off by e_scale and e_shift: the formula for that
        scale, and what exact arithmetic makes of the difference, |z| e_scale + e_shift.
        """
        u, tiny, d = self.units.u, self.units.smallest, np.abs(x - used.mean)
        r, e_r, e_m, m = used.r, used.e_r, used.e_mean, np.abs(used.mean)
        g = np.abs(affine.scale) + affine.e_scale
        e_scale = g * (e_r + u * (r + e_r))
        scale = g * r + e_scale
        flush = tiny * (2 + g + r + d + g * r) + self.flushed(g) * r * (d + m)
        if self.numerics.affine == "direct":
            e_d = e_m + u * binade(d + e_m) + tiny
            p = g * self.e_product(d, e_d, r, e_r, 2 * u) + flush
            peak = d * np.maximum(scale, np.maximum(g, r))
        else:
            t = np.abs(affine.shift - used.mean * affine.scale * r) + affine.e_shift + m * affine.e_scale * r
            centre = (m + e_m) * scale
            t = t + m * e_scale + e_m * scale + u * centre
            before = (d + e_m) * scale + u * (centre + np.abs(x) * scale)
            rounded = np.fmax(binade(t), before) + np.fmax(binade(centre), g * binade((m + e_m) * (r + e_r)))
            rounded = rounded + np.fmax(binade(np.abs(x) * scale), g * binade(np.abs(x) * (r + e_r)))
            rounded += 2 * centre if self.numerics.shift == "apart" else 0  # of the scale, and of one more product
            p = d * e_scale + e_m * scale + u * rounded + flush * (1 + m)
            peak = np.maximum(m, np.abs(x)) * np.maximum(scale, r + e_r)  # a folded map may be direct, too
            peak = np.maximum(peak, d * np.maximum(g, r))
        peak = np.maximum(peak, np.maximum(np.maximum(scale, g), np.abs(affine.shift)))
        p = p + d * r * affine.e_scale + affine.e_shift
        return self.stored(y, self.vacuous(p + u * binade(np.abs(y) + p), peak))

    # --- the reference's own error -------------------------------------------------------------------------------

    @_once
    def certainty(self, batch: BatchStatistics) -> float:
        """Return how large the reference's own error, computing in the dtype of the batch, may be beside these bounds.

        Every bound grows at least in proportion with what goes into it: with the errors of mean and variance, and with
        the least roundings of its sums. So the part the reference has of each of these is the part it has of the bound.
        """
        dtype = batch.x.dtype.type
        u, depth = roundoff(dtype), summation_depth(self.n, dtype)
        least = min(self.depth, max(self.n - 1, 0) / 2) + 4  # what `signed` and `apart` leave of the roundings of a sum
        parts = [u / self.units.u, u * (depth + 4) / (self.units.u * least)]
        if batch.given is None:  # what is given is exact
            own_mean, own_variance = batch.own_errors
            parts += [part(own_mean, self.e_mean(batch)), part(own_variance, self.e_variance(batch))]
        return max(parts)


class _Arithmetic(Bounds):
    """Formulas that are remembered by `key`, and see nothing else: not how an output is stored, nor its affine map."""

    _widened = ("statistics", "all")

    def __init__(self, whole: Bounds) -> None:
        way = Only(whole.numerics, "variance", "sums", "clamped", "merge", "widened")
        units = Only(whole.units, "u", "smallest", "largest", "taken_u")
        self.key = way.key, units.key, whole.n, whole.epsilon, whole.outside
        super().__init__(cast("Numerics", way), cast("Units", units), whole.n, whole.epsilon, outside=whole.outside)


def rho(got: Array, expected: Array, bound: Array) -> Array:
    """Return |got - expected| / bound per element: 0 where both are 0, infinite for non-finite against finite.

    >>> rho(np.array([1.5, np.nan]), np.array([1.0, 1.0]), np.array([1.0, 1.0])).tolist()
    [0.5, inf]
    """
    error = np.abs(widened(got, expected.dtype.type) - expected)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0.0, error / bound)
    ratio = np.where(np.isfinite(error), ratio, np.inf)
    return np.where(np.isposinf(bound), 0.0, ratio)
