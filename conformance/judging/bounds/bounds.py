"""How much error is allowed, per element, derived from the case's own data before any answer is seen.

`e_z` bounds |computed z - exact z|. A bound is for a declared way of computing (`Numerics`): how the variance is
summed, whether the affine map is folded into y = x * scale + shift, how deep the sums are, and in which dtypes.
An infinite bound promises nothing: an intermediate may overflow.

Sources: Higham, Accuracy and Stability of Numerical Algorithms (2002), ch. 3-4; Chan, Golub & LeVeque, The American
Statistician 37 (1983) 242-247. Derivations are beside the formulas. Arrays broadcast against the batch: statistics
keep the averaged axes with size 1. Gradients are in `gradients`, renorm in `renorm`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import msgspec
import numpy as np

from conformance.judging.bounds.batch import BatchStatistics as BatchStatistics
from conformance.judging.bounds.exact_sums import held, power_of_two
from conformance.judging.bounds.roundings import binade, grown, part, shrunk
from conformance.judging.bounds.statistics import StatisticsBounds, once
from conformance.judging.large.streamed import elementwise
from conformance.judging.memo import Key, Only
from conformance.model.numerics import Numerics, Units
from reference.precision import roundoff, summation_depth, widened
from reference.spec import Array


@dataclass(frozen=True)
class NormalizingStatistics:
    """The exact statistics that normalize, and the error that an implementation may have made in them."""

    mean: Array
    e_mean: Array
    r: Array
    e_r: Array
    steepness: tuple[Array, Array] | None = None
    """How much more r changes with the variance than by r³ / 2, and its error; 1 unless epsilon is outside the root."""


@dataclass(frozen=True)
class Affine:
    """The map after normalizing, y = scale z + shift: gamma and beta, with renorm's and the adjustment's maps in it."""

    scale: Array
    shift: Array
    e_scale: Array
    e_shift: Array


class Bounds(StatisticsBounds):
    """The bounds for one way of computing.

    n: how many terms each mean has.
    outside: epsilon is added to the root, not to the variance.
    """

    _widened = ("all",)

    def __init__(self, numerics: Numerics, units: Units, n: int, epsilon: float, *, outside: bool = False) -> None:
        super().__init__(numerics, units, n, widened=numerics.widened in self._widened)
        self.epsilon, self.outside = epsilon, outside

    def _shared(self) -> _Arithmetic:
        return _Arithmetic(self)

    # --- outputs -------------------------------------------------------------------------------------------------

    def e_spread(self, variance: Array, e_variance: Array) -> Array:
        """Return the error of the standard deviation sqrt(variance + epsilon), from its interval."""
        if self.outside:
            exact, low, high = self._outside(variance, e_variance)
            return np.maximum(high - exact, exact - low)
        u, w, e_w = self.units.u, variance + self.epsilon, self._e_w(variance, e_variance)
        high, low = np.sqrt(w + e_w), np.sqrt(np.maximum(w - e_w, 0))
        return np.maximum(high - np.sqrt(w), np.sqrt(w) - low) + 2 * u * high

    def _e_w(self, variance: Array, e_variance: Array) -> Array:
        u = self.units.u
        w = np.abs(variance + self.epsilon)
        return e_variance + u * abs(self.epsilon) + u * (w + e_variance) + self.units.smallest

    @once
    def used_of(self, batch: BatchStatistics) -> NormalizingStatistics:
        """Return a batch's own statistics as those that normalize it."""
        found = self.used(batch.mean, batch.variance, self.e_mean(batch), self.e_variance(batch))
        return replace(found, e_r=self.saved(found.r, found.e_r))

    def e_entering(self, batch: BatchStatistics) -> Array:
        """Return the error of the variance that enters the moving one: its own, or that of 1 / r² - epsilon.

        There a square, a quotient and a difference are rounded, and epsilon. r, less its error, is far from 0.
        """
        if self.numerics.entering == "variance":
            return self.e_variance(batch)
        u, w, used = self.units.u, batch.variance + self.epsilon, self.used_of(batch)
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.where(used.e_r < used.r, 1 / (used.r - used.e_r) ** 2 - w, np.inf)
        return off + u * (4 * (w + off) + abs(self.epsilon)) + self.units.smallest

    def used(self, mean: Array, variance: Array, e_mean: Array, e_variance: Array) -> NormalizingStatistics:
        """Return r = 1 / sqrt(variance + epsilon) with its error: an interval, as the variance's is not small."""
        if self.outside:
            return self._used_outside(mean, variance, e_mean, e_variance)
        u, tiny = self.units.u, self.units.smallest
        w, e_w = variance + self.epsilon, self._e_w(variance, e_variance)
        signed = self.numerics.variance == "fast" and not self.numerics.clamped
        floor = 0.0 if signed else np.maximum(shrunk(np.asarray(self.epsilon, w.dtype), 3 * u) - tiny, 0)
        low = np.maximum(w - e_w, floor)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ku = u * self._root_roundings(low, w + e_w)
            r, worst, best = 1 / np.sqrt(w), grown(1 / np.sqrt(low), ku), shrunk(1 / np.sqrt(w + e_w), ku)
            e_r = np.where((low > 0) & np.isfinite(e_w), np.maximum(worst - r, r - best), np.inf)
            e_r = np.where(self._root_is_exact(w, e_variance), 0, e_r)
        return NormalizingStatistics(mean, e_mean, r, self.vacuous(e_r, w))

    def _root_roundings(self, low: Array, high: Array) -> Array | float:
        """Return the unit roundoffs that a reciprocal root may be off by, of a number within these.

        A root and a quotient, each rounded, are off by 2; an ulp is two. What the logarithm is off by, the exponential
        multiplies by half of it: |log w| / 2 times the logarithm's error, and its own.
        """
        ulps = 2 * self.numerics.root_ulps
        if self.numerics.root == "rounded":
            return 2.0
        if self.numerics.root == "approximate":
            return ulps
        return ulps * (1 + np.fmax(np.abs(np.log(low)), np.abs(np.log(high))) / 2) + 1

    def _root_is_exact(self, w: Array, e_variance: Array) -> Array:
        """Return where w is a power of 4 that is known exactly, and its root is rounded: it is exactly a power of 2."""
        if self.numerics.root != "rounded" or w.dtype != np.float64:
            return np.zeros_like(w, bool)
        known = (e_variance == 0) & held(np.asarray(self.epsilon, w.dtype), self.bits)
        return known & power_of_two(np.sqrt(w))

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
        """Return r = 1 / (sqrt(variance) + epsilon) with its error.

        It changes with the variance by r³ / 2 times (sqrt(variance) + epsilon) / sqrt(variance).
        """
        u = self.units.u
        exact, low, high = self._outside(variance, e_variance)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ku = u * self._root_roundings(low**2, high**2)
            r, worst, best = 1 / exact, grown(1 / low, ku), shrunk(1 / high, ku)
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

    @once
    def certainty(self, batch: BatchStatistics) -> float:
        """Return the part of these bounds that the reference's own error makes up, computing in the dtype of the batch.

        Every bound grows at least in proportion with what goes into it: with the errors of mean and variance, and with
        the least roundings of its sums. So the part of each of these is the part of the bound.
        """
        dtype = batch.x.dtype.type
        u, depth = roundoff(dtype), max(summation_depth(self.n, dtype), batch.depth)
        least = min(self.depth, max(self.n - 1, 0) / 2) + 4  # what `signed` and `apart` leave of the roundings of a sum
        parts = [u / self.units.u, u * (depth + 4) / (self.units.u * least)]
        if batch.given is None:  # what is given is exact
            own_mean, own_variance = batch.own_errors
            parts += [part(own_mean, self.e_mean(batch)), part(own_variance, self.e_variance(batch))]
        return max(parts)


_WAY = (
    "variance",
    "sums",
    "lanes",
    "block",
    "clamped",
    "merge",
    "widened",
    "wider",
    "means",
    "division",
    "root",
    "root_ulps",
)
_UNITS = ("u", "smallest", "largest", "taken_u", "saved_u", "saved_quantum", "saved_largest")


class _Arithmetic(Bounds):
    """Formulas that are remembered by `key`, and depend on nothing else: neither on storage nor on the affine map."""

    _widened = ("statistics", "all")

    def __init__(self, whole: Bounds) -> None:
        numerics = whole.numerics
        if (numerics.variance, numerics.sums) == ("stable", "compensated"):  # running means have nothing to compensate
            numerics = msgspec.structs.replace(numerics, sums="serial")
        way, units = Only(numerics, *_WAY), Only(whole.units, *_UNITS)
        self.key = Key((way.key, units.key, whole.n, whole.epsilon, whole.outside))
        super().__init__(cast("Numerics", way), cast("Units", units), whole.n, whole.epsilon, outside=whole.outside)

    def _shared(self) -> _Arithmetic:
        return self


def _quotient(error: Array, bound: Array) -> Array:
    return error / bound if np.min(bound) > 0 else np.where(error == 0, 0.0, error / bound)


@elementwise(_quotient)
def _ratio(error: Array, bound: Array) -> Array:
    return np.where(error == 0, 0.0, error / bound)


def rho(got: Array, expected: Array, bound: Array) -> Array:
    """Return |got - expected| / bound per element; 0 where both are 0, infinite if not finite against finite.

    >>> rho(np.array([1.5, np.nan]), np.array([1.0, 1.0]), np.array([1.0, 1.0])).tolist()
    [0.5, inf]
    """
    error = np.abs(widened(got, expected.dtype.type) - expected)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = _ratio(error, bound)
    ratio = np.where(np.isfinite(error), ratio, np.inf)
    return np.where(np.isposinf(bound), 0.0, ratio)
