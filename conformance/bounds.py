"""How much error is allowed, per element, derived from the case's own data before any answer is seen.

`e_z` bounds |computed z - exact z|. A bound is for a declared way of computing (`Numerics`): how the variance is
summed, whether the affine map is folded into y = x * scale + shift, how deep the sums are, and in which dtypes.
Infinite means vacuous: an intermediate may overflow, so nothing can be promised.

Sources: Higham, Accuracy and Stability of Numerical Algorithms (2002), ch. 3-4; Chan, Golub & LeVeque, The American
Statistician 37 (1983) 242-247. Derivations are beside the formulas. Arrays broadcast against the input: statistics
keep the averaged axes with size 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import ml_dtypes
import msgspec
import numpy as np

from reference.spec import Array

_RSQRT_ULPS = 4  # covers a reciprocal square root good to 2 ulp, and 1 / sqrt(w)


class Numerics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The declared way of computing one output.

    variance: `two_pass`; `stable` (Welford, Chan); `fast`, E[x²] - E[x]². affine: `direct`, gamma (x - m) r + beta;
    `folded`, x * scale + shift. sums: `tree`, as deep as a pairwise or vectorized sum; `serial`, any order at all.
    accumulate: `wide`, float32 or wider; `input`, the input's own dtype. clamped: a fast variance is kept >= 0.
    stored: the dtype the output is stored in, `input`, `parameters`, `statistics`, or a name.
    """

    variance: Literal["two_pass", "stable", "fast"] = "two_pass"
    affine: Literal["direct", "folded"] = "direct"
    sums: Literal["tree", "serial"] = "serial"
    accumulate: Literal["wide", "input"] = "wide"
    clamped: bool = False
    stored: str = "input"

    @property
    def label(self) -> str:
        """The numerical class and its grade, such as `A′·S`."""
        if self.accumulate == "input":
            name = "C"
        else:
            name = ("B" if self.variance == "fast" else "A") + ("′" if self.affine == "folded" else "")
        return f"{name}·{'T' if self.sums == 'tree' else 'S'}"


@dataclass(frozen=True)
class Units:
    """Rounding unit of the arithmetic `u`, its smallest normal and largest number; the same of the stored output."""

    u: float
    smallest: float
    largest: float
    stored_u: float
    stored_quantum: float
    stored_largest: float

    @classmethod
    def of(cls, arithmetic: str, stored: str) -> Units:
        """Return the units for arithmetic in one dtype and storage in another; storing at no less costs nothing."""
        info, out = finfo(arithmetic), finfo(stored)
        rounds = float(out.eps) > float(info.eps)
        return cls(
            float(info.eps) / 2,
            float(info.smallest_normal),
            float(info.max),
            float(out.eps) / 2 if rounds else 0.0,
            float(out.smallest_subnormal) / 2 if rounds else 0.0,
            float(out.max),
        )


def finfo(name: str) -> Any:
    """Return limits of a dtype; NumPy has no bfloat16."""
    return cast("Any", ml_dtypes).finfo(name)


@dataclass(frozen=True)
class Batch:
    """Exact statistics of one batch over the averaged axes, which every class shares."""

    x: Array
    n: int
    mean: Array
    variance: Array
    deviation: Array
    mean_abs: Array
    mean_deviation: Array
    max_abs: Array
    axes: tuple[int, ...]

    @classmethod
    def of(cls, x: Array, mean: Array, variance: Array, axes: tuple[int, ...]) -> Batch:
        """Collect what the bounds need of a batch; n is the number of values averaged over."""
        deviation, magnitude = x - mean, np.abs(x)
        return cls(
            x,
            math.prod(x.shape[a] for a in axes),
            mean,
            variance,
            deviation,
            magnitude.mean(axes, keepdims=True),
            np.abs(deviation).mean(axes, keepdims=True),
            magnitude.max(axes, keepdims=True, initial=0),
            axes,
        )


@dataclass(frozen=True)
class Used:
    """The statistics that normalize, exact, with the error an implementation may have made in them."""

    mean: Array
    e_mean: Array
    r: Array
    e_r: Array


class Bounds:
    """The formulas for one way of computing; `n` is the number of summands of each mean."""

    def __init__(self, numerics: Numerics, units: Units, n: int, epsilon: float) -> None:
        self.numerics, self.units, self.n, self.epsilon = numerics, units, n, epsilon
        self.depth = max(n - 1, 0) if numerics.sums == "serial" else math.ceil(math.log2(max(n, 2))) + 16

    def g(self, k: int) -> float:
        """Return gamma_{h+k} = (h+k)u / (1 - (h+k)u), Higham (3.1); infinite where the sum is too deep to bound."""
        ku = (self.depth + k) * self.units.u
        return ku / (1 - ku) if ku < 1 else math.inf

    # --- statistics ----------------------------------------------------------------------------------------------

    def e_mean(self, batch: Batch) -> Array:
        """A sum of n terms, 1/n rounded, n itself rounded, the product rounded: depth + 4."""
        e = self.g(4) * batch.mean_abs + 3 * self.units.smallest
        return self.vacuous(e, self.n * batch.mean_abs)

    def e_variance(self, batch: Batch, e_mean: Array) -> Array:
        """Two passes make the mean's error second order: sum (x - m̂)² = n V + n (m - m̂)²."""
        u, tiny, variance = self.units.u, self.units.smallest, batch.variance
        if self.numerics.variance == "fast":
            q = variance + batch.mean**2
            e = self.g(5) * q + (2 * np.abs(batch.mean) * e_mean + e_mean**2) * (1 + 2 * u) + 3 * u * batch.mean**2
            return self.vacuous((e + 6 * tiny + u * variance) / (1 - u), self.n * q)
        e = self.g(7) * (variance + e_mean**2) + e_mean**2 + (3 + 2 * batch.mean_deviation) * tiny
        if self.numerics.variance == "stable":  # a running mean, each as good as one of max|x|; 1 + √2 < 2.42
            e_running = self.g(4) * batch.max_abs + 3 * tiny
            e = e + 2.42 * e_running * np.sqrt(variance) + e_running**2
        return self.vacuous(e, self.n * variance)

    def e_unbiased(self, batch: Batch, e_variance: Array, factor: float) -> Array:
        """The factor n/(n-1) and its product are rounded."""
        u = self.units.u
        return factor * e_variance * (1 + 4 * u) + 4 * u * factor * batch.variance

    def e_moving(self, old: Array, batch: Array, new: Array, e_old: Array, e_batch: Array, fraction: float) -> Array:
        """new = (1-a) old + a s; u|s - old| because a = 1 - fl(momentum) keeps an absolute error of u."""
        u, a = self.units.u, fraction
        e = (1 - a) * e_old * (1 + u) + a * (1 + u) * e_batch
        e = e + 4 * u * ((1 - a) * np.abs(old) + a * np.abs(batch)) + u * np.abs(batch - old)
        return self.stored(new, e + u * (np.abs(new) + e) + 3 * self.units.smallest)

    def e_debiased(self, average: Array, e_hidden: Array, momentum: float, t: int) -> Array:
        """hidden / (1 - momentum**t): the power, the difference and the quotient are rounded, 8u with room to spare.

        The momentum's own rounding is worth t·u·m**t on the weight: a power of t amplifies a relative error t times.
        """
        kept = momentum**t
        e_weight = (8 + t * kept) * self.units.u / (1 - kept) if kept < 1 else math.inf
        if e_weight >= 1:
            return np.full_like(average, np.inf)
        weight = 1 - kept
        return (e_hidden / weight + np.abs(average) * e_weight) / (1 - e_weight) * (1 + self.units.u)

    # --- outputs -------------------------------------------------------------------------------------------------

    def used(self, mean: Array, variance: Array, e_mean: Array, e_variance: Array) -> Used:
        """1 / sqrt(variance + epsilon), where the error of the variance is not small: an interval, not a derivative."""
        u, tiny, k = self.units.u, self.units.smallest, _RSQRT_ULPS
        w = variance + self.epsilon
        e_w = e_variance + u * self.epsilon + u * (w + e_variance) + tiny
        signed = self.numerics.variance == "fast" and not self.numerics.clamped
        floor = 0.0 if signed else max(self.epsilon * (1 - 3 * u) - tiny, 0.0)
        low = np.maximum(w - e_w, floor)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            r, worst, best = 1 / np.sqrt(w), (1 + k * u) / np.sqrt(low), (1 - k * u) / np.sqrt(w + e_w)
            e_r = np.where((low > 0) & np.isfinite(e_w), np.maximum(worst - r, r - best), np.inf)
        return Used(mean, e_mean, r, self.vacuous(e_r, w))

    def e_y(self, x: Array, y: Array, gamma: Array, beta: Array, used: Used) -> Array:
        """The output, direct or folded; the error of scale cancels between x·scale and mean·scale."""
        u, tiny, g, d = self.units.u, self.units.smallest, np.abs(gamma), np.abs(x - used.mean)
        r, e_r, e_m, m = used.r, used.e_r, used.e_mean, np.abs(used.mean)
        scale = g * (r + e_r) * (1 + u)
        flush = tiny * (2 + g + r + d + g * r)
        if self.numerics.affine == "direct":
            e_d = e_m + u * (d + e_m) + tiny
            p = g * ((d + e_d) * (r + e_r) * (1 + u) ** 2 - d * r) + flush
            peak = np.maximum(d * np.maximum(g, r), scale)
        else:
            e_scale, t = scale - g * r, np.abs(beta - used.mean * gamma * r)
            rounded = (m + e_m) * scale + t + m * e_scale + e_m * scale + np.abs(x) * scale
            p = d * e_scale + e_m * scale + u * (1 + 2 * u) * rounded + flush * (1 + m)
            peak = np.maximum(m, np.abs(x)) * scale
        return self.stored(y, self.vacuous(p + u * (np.abs(y) + p), peak))

    # --- gradients -----------------------------------------------------------------------------------------------

    def e_mean_dy(self, dy: Array, axes: tuple[int, ...]) -> Array:
        """The mean of dy; n times it bounds dbeta."""
        magnitude = np.abs(dy).mean(axes, keepdims=True)
        return self.vacuous(self.g(4) * magnitude + 3 * self.units.smallest, self.n * magnitude)

    def e_mean_dyz(self, x: Array, dy: Array, axes: tuple[int, ...], used: Used) -> Array:
        """The mean of dy·z, z = (x - m) r; n times it bounds dgamma.

        With m̂ and r̂: mean(dy (x - m̂) r̂) = (r̂/r) (mean(dy z) - r (m̂ - m) mean(dy)), then the roundings of the sum.
        """
        r, e_r, e_m, tiny = used.r, used.e_r, used.e_mean, self.units.smallest
        z = (x - used.mean) * r
        b, t = np.abs(dy).mean(axes, keepdims=True), np.abs(dy * z).mean(axes, keepdims=True)
        c1, c2 = np.abs(dy.mean(axes, keepdims=True)), np.abs((dy * z).mean(axes, keepdims=True))
        growth = 1 + e_r / r
        e = (self.g(6) * (t + r * e_m * b) + r * e_m * (c1 + self.g(4) * b)) * growth + c2 * e_r / r
        peak = self.n * t
        if self._through_x:
            dyx = np.abs(dy * x).mean(axes, keepdims=True) + (np.abs(used.mean) + e_m) * b
            e, peak = e + r * growth * self.g(5) * dyx, np.maximum(peak, self.n * dyx)
        return self.vacuous(e + 3 * tiny * (1 + r + e_r), peak)

    def e_dx_train(self, batch: Batch, dy: Array, gamma: Array, used: Used, part: float) -> Array:
        """dx = gamma r t with t = dy - a mean(dy) - a z̃ mean(dy z), z̃ = (x - batch mean) r."""
        u, tiny, axes = self.units.u, self.units.smallest, batch.axes
        r, e_r, e_m = used.r, used.e_r, self.e_mean(batch)
        d, x, m = np.abs(batch.deviation), np.abs(batch.x), np.abs(batch.mean)
        c1 = dy.mean(axes, keepdims=True)
        c2 = (dy * (batch.x - used.mean) * r).mean(axes, keepdims=True)
        e1, e2 = self.e_mean_dy(dy, axes), self.e_mean_dyz(batch.x, dy, axes, used)
        z = d * r
        e_z = (d + e_m + u * (d + e_m) + tiny) * (r + e_r) * (1 + u) - z
        c2_most = np.abs(c2) + e2
        e_product = (z + e_z) * c2_most * (1 + 2 * u) - z * np.abs(c2)
        e_t = part * (e1 + e_product + r * (e_m + self.g(4) * batch.mean_deviation) * c2_most)
        e_t = e_t + 4 * u * (np.abs(dy) + part * (np.abs(c1) + z * np.abs(c2) + e1))
        if part != 1:  # the part is 1 - fl(momentum), with an absolute error of u
            e_t = e_t + u * (np.abs(c1) + z * np.abs(c2))
        if self._through_x:
            e_t = e_t + 6 * u * r * (x + m + e_m) * c2_most + 4 * u * r * m * np.abs(c2)
        if self.numerics.variance == "fast":  # a clamped variance passes no gradient
            clamped = batch.variance - self.e_variance(batch, e_m) <= 0
            e_t = e_t + np.where(clamped, (z + e_z) * c2_most, 0)
        t = dy - part * c1 - part * batch.deviation * r * c2
        return self._e_scaled(t, e_t, gamma, used)

    def e_dx_infer(self, dy: Array, gamma: Array, used: Used) -> Array:
        """dx = gamma r dy: the statistics are constants."""
        return self._e_scaled(dy, 2 * self.units.u * np.abs(dy), gamma, used)

    def _e_scaled(self, t: Array, e_t: Array, gamma: Array, used: Used) -> Array:
        u, tiny, g, r, e_r = self.units.u, self.units.smallest, np.abs(gamma), used.r, used.e_r
        e = g * ((r + e_r) * (np.abs(t) + e_t) * (1 + u) ** 3 - r * np.abs(t)) + tiny * (2 + g + r + g * r)
        return self.stored(gamma * r * t, self.vacuous(e, np.maximum(g, 1) * (r + e_r) * (np.abs(t) + e_t)))

    @property
    def _through_x(self) -> bool:
        """Whether the gradient sums dy·x and subtracts: the folded map, and the fast variance."""
        return self.numerics.affine == "folded" or self.numerics.variance == "fast"

    # --- common --------------------------------------------------------------------------------------------------

    def stored(self, value: Array, e: Array) -> Array:
        """Add the rounding to the dtype that the output is stored in; beyond its largest number is vacuous."""
        rounded = self.units.stored_u * (np.abs(value) + np.where(np.isfinite(e), e, 0)) + self.units.stored_quantum
        return np.where(np.abs(value) + e > self.units.stored_largest, np.inf, e + rounded)

    def vacuous(self, e: Array, peak: Array) -> Array:
        """Return e, infinite where an intermediate as large as `peak` may overflow."""
        return np.where((peak > self.units.largest / 2) | np.isnan(e), np.inf, e)


def rho(got: Array, expected: Array, bound: Array) -> Array:
    """Return |got - expected| / bound per element: 0 where both are 0, infinite for non-finite against finite.

    >>> rho(np.array([1.5, np.nan]), np.array([1.0, 1.0]), np.array([1.0, 1.0])).tolist()
    [0.5, inf]
    """
    wide: Any = np.result_type(expected.dtype, np.float64)
    error = np.abs(got.astype(wide) - expected)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0.0, error / bound)
    ratio = np.where(np.isfinite(error), ratio, np.inf)
    return np.where(np.isposinf(bound), 0.0, ratio)
