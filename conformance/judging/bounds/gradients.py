"""How much error is allowed in gradients: dx, dgamma and dbeta, in training and in inference.

Let y = gamma p + beta and p = f z + h, where f is 1 and h is 0 without renorm and adjustment, and let e = f dy be what
reaches z. Then dx_i = gamma r t_i, t_i = e_i - mean(e) - z̃_i mean(e z), z̃ = (x - batch mean) r. Means of gradients
are sums over all values, divided by how many count; where a value does not (`BatchStatistics.inside` = 0), t = e.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from conformance.judging.bounds.bounds import BatchStatistics, Bounds, NormalizingStatistics
from conformance.judging.bounds.exact_sums import held, power_of_two
from conformance.judging.bounds.roundings import grown
from reference.spec import Array


@dataclass(frozen=True)
class GradientBounds:
    """The formulas for the gradient of one step; dy is what reaches z, e_dy its error, laid out as the batch.

    e_recovered: how much z is off beside its own computation, where it is taken from y.
    """

    bounds: Bounds
    batch: BatchStatistics
    used: NormalizingStatistics
    dy: Array
    e_dy: Array
    e_recovered: Array | None = None

    @cached_property
    def z(self) -> Array:
        """The distance from the mean that normalizes, times r."""
        return (self.batch.x - self.used.mean) * self.used.r

    @cached_property
    def c1(self) -> Array:
        """The mean of dy."""
        return self.batch.average(self.dy)

    @cached_property
    def c2(self) -> Array:
        """The mean of dy·z."""
        return self.batch.average(self.dy * self.z)

    @cached_property
    def e_mean_dy(self) -> Array:
        """The mean of dy; n times it bounds dbeta."""
        b, exact = self.bounds, self.adds_dy
        size = self.batch.average(np.abs(self.dy))
        e = np.where(exact, b.divided(self.batch, size, self.c1), self._e_mean_dy)
        return b.vacuous(e, b.summands * size)

    @cached_property
    def _e_mean_dy(self) -> Array:
        """The same where dy's sum rounds, or dy was multiplied before it is summed."""
        b, off, tiny = self.bounds, self.batch.average(self.e_dy), 3 * self.bounds.units.smallest
        magnitude = self.batch.average(np.abs(self.dy)) + off
        summed = b.signed(self._averaging, magnitude, np.abs(self.c1) + off)
        return b.vacuous(summed + off + tiny, b.summands * magnitude)

    @cached_property
    def adds_dy(self) -> Array:
        """Where the sum of dy rounds nothing."""
        return (
            self.bounds.unrounded(self.batch, self.dy)
            if not bool((self.e_dy != 0).any())
            else np.zeros_like(self.batch.mean, bool)
        )

    @cached_property
    def adds_dyz(self) -> Array:
        """Where the sum of dy z rounds nothing, z being (x - m) r, by way of (x - m) or x and m too.

        The statistics must be exact then, and r be a power of 2, so that it makes no difference where it is multiplied.
        """
        exact = self._adds_deviations
        return exact & (self.used.e_r == 0) & power_of_two(self.used.r) if exact.any() else exact

    @cached_property
    def _adds_deviations(self) -> Array:
        """Where the sum of dy (x - m) rounds nothing, by way of x and m too."""
        exact = self.adds_dy if self.e_recovered is None else np.zeros_like(self.batch.mean, bool)
        if exact.any():
            exact = exact & (self.used.e_mean == 0)
        if exact.any():
            exact = exact & self.bounds.unrounded(self.batch, self.dy * (self.batch.x - self.used.mean))
        if exact.any() and self._through_x:
            exact = exact & self.bounds.unrounded(self.batch, self.dy * self.batch.x)
            exact = exact & held(self.used.mean * self.c1 * self.batch.n, self.bounds.bits)
        return exact

    @cached_property
    def e_mean_dyz(self) -> Array:
        """The mean of dy·z; n times it bounds dgamma."""
        size, rounded = self.batch.average(np.abs(self.dy * self.z)), self._e_mean_dyz
        reliable = np.isfinite(rounded)  # it may overflow on the way
        if self.bounds.numerics.products == "deviations":
            rounded = np.where(self._adds_deviations & reliable, self._e_once(size), rounded)
        return np.where(self.adds_dyz & reliable, self.bounds.divided(self.batch, size, self.c2), rounded)

    def _e_once(self, size: Array) -> Array:
        """The mean of dy z where sum(dy (x - m)) rounds nothing, and r, which may be off, multiplies it once."""
        b, used, c2 = self.bounds, self.used, np.abs(self.c2)
        e = b.exact(1 + self._averaging, size, c2) + c2 * used.e_r / used.r
        return grown(e, 2 * b.units.u) + 2 * b.units.smallest * (1 + used.r)

    @cached_property
    def _e_mean_dyz(self) -> Array:
        """The same where the sum rounds.

        With m̂ and r̂: mean(dy (x - m̂) r̂) = (r̂/r) (mean(dy z) - r (m̂ - m) mean(dy)), then the roundings of the sum. What
        each x is rounded by when coarser arithmetic takes it in is no shift of all: dy's mean does not take it away.
        The sum may be taken before r is multiplied in, and overflow where r is small.
        """
        b, dy, used, mean = self.bounds, self.dy, self.used, self.batch.average
        r, e_r, e_m, tiny = used.r, used.e_r, used.e_mean, b.units.smallest
        z, c1, c2 = np.abs(self.z), np.abs(self.c1), np.abs(self.c2)
        size, t = mean(np.abs(dy) + self.e_dy), mean((np.abs(dy) + self.e_dy) * z)
        growth = 1 + e_r / r
        off = r * e_m * size
        summed = b.signed(3 + self._averaging, t + off, c2 + off) + r * e_m * (c1 + b.g(1 + self._averaging) * size)
        e = summed * growth + c2 * e_r / r
        e = e + mean(self.e_dy * (z + r * e_m)) * growth
        if b.units.taken_u:
            e = e + r * growth * mean((np.abs(dy) + self.e_dy) * b.taken(self.batch.x))
        d, each = np.abs(self.batch.x - used.mean), np.abs(dy) + self.e_dy  # of which each, or (x - m) r, may underflow
        e = e + mean(b.flushed(np.abs(dy)) * z + each * (b.flushed(z) + r * b.flushed(d))) * growth
        if self.e_recovered is not None:
            e = e + grown(mean(each * self.e_recovered), (b.depth + 6) * b.units.u)
        peak = np.maximum(
            b.summands * np.maximum(t, t / r + e_m * size), z.max(self.batch.axes, keepdims=True, initial=0)
        )
        if self._through_x:
            dyx = mean(np.abs(dy * self.batch.x)) + (np.abs(used.mean) + e_m) * size
            net = c2 / r + np.abs(used.mean) * c1  # of dy x
            e = e + r * growth * b.signed(2 + self._averaging, dyx, net + e_m * size)
            peak = np.maximum(peak, b.summands * dyx)
        return b.vacuous(e + 3 * tiny * (1 + r + e_r), peak)

    def t_train(self, part: float) -> Array:
        """Return t: what gamma r is multiplied with; part: as for its error."""
        c2 = self.c2 if self.used.steepness is None else self.c2 * self.used.steepness[0]
        return self.dy - part * self.batch.inside * (self.c1 + (self.batch.x - self.batch.mean) * self.used.r * c2)

    def e_dx_train(self, gamma: Array, part: float) -> Array:
        """dx = gamma r t with t = dy - a mean(dy) - a z̃ mean(dy z); part: a, the batch's share in what normalizes.

        Differentiated line by line, the gradient of the mean is the mean of gamma r dy - d mean(…), each of whose terms
        has been multiplied by gamma and r, and added, before it is summed: three roundings of dy, and two of the other.
        The derivative of 1 / sqrt(w) is -r³/2, which overflows in half precision where r is above 40 (`_e_cubed`).
        """
        b, batch, dy, used = self.bounds, self.batch, self.dy, self.used
        u, tiny, reach = b.units.u, b.units.smallest, part * batch.inside
        r, e_r, e_m = used.r, used.e_r, b.e_mean(batch)
        d, x, m = np.abs(batch.x - batch.mean), np.abs(batch.x), np.abs(batch.mean)
        exact = self._adds_dx(gamma, part)
        c1, c2, e1, e2 = self.c1, self.c2, np.where(exact, 0, self._e_mean_dy), np.where(exact, 0, self._e_mean_dyz)
        t = self.t_train(part)
        if used.steepness is not None:  # two products more, of which each rounds
            steep, e_steep = used.steepness
            e2 = e2 * (steep + e_steep) + np.abs(c2) * (e_steep + 2 * u * (steep + e_steep))
            c2 = c2 * steep
        z = d * r
        e_z = b.e_product(d, e_m + u * (d + e_m) + tiny, r, e_r, u)
        if self.e_recovered is not None:
            e_z = e_z + self.e_recovered
        c2_most = np.abs(c2) + e2
        e_product = b.e_product(z, e_z, np.abs(c2), e2, 2 * u)
        centred = b.signed(
            1 + self._averaging, batch.mean_deviation + e_m, e_m + batch.lost
        )  # of x - m, which adds to 0
        centred = np.where(exact, 0, centred)
        e_t = reach * (e1 + e_product + r * (e_m + batch.lost + centred) * c2_most)
        each = 3 * batch.average(np.abs(dy) + self.e_dy) + 2 * batch.average(z) * c2_most  # of the mean of what dx adds
        e_t = e_t + self.e_dy + 4 * u * (np.abs(dy) + reach * (z * np.abs(c2) + e1)) + reach * u * (np.abs(c1) + each)
        if part != 1:  # the part is 1 - fl(momentum), with an absolute error of u
            e_t = e_t + u * batch.inside * (np.abs(c1) + z * np.abs(c2))
        if self._through_x:
            e_t = e_t + reach * (6 * u * r * (x + m + e_m) * c2_most + 4 * u * r * m * np.abs(c2))
        if b.numerics.variance == "fast":  # a clamped variance passes no gradient
            clamped = batch.variance - b.e_variance(batch) <= 0
            e_t = e_t + np.where(clamped, reach * (z + e_z) * c2_most, 0)
        e = self._e_scaled(t, e_t, gamma) + self._e_cubed(gamma, part, c2_most)
        return b.stored(gamma * r * t, b.vacuous(e, self._peak_line_by_line(gamma, z, c2_most)))

    def e_returned(self, gamma: Array, dmean: Array, dvariance: Array) -> Array:
        """What dx gains by cotangents M and V of the returned statistics: (M + 2 V (x - m)) / n.

        Each of the parts rounds, and each part of the gradient of y is added to them. The deviations pass a gradient to
        the mean of which all but how far their sum is from 0 cancels; a clamped fast variance passes none.
        """
        b, batch, n, u = self.bounds, self.batch, self.batch.divisor, self.bounds.units.u
        d, e_m = np.abs(batch.x - batch.mean), b.e_mean(batch)
        of_mean, of_variance = np.abs(dmean) / n, 2 * np.abs(dvariance) / n
        centred = b.signed(1 + self._averaging, batch.mean_deviation + e_m, e_m + batch.lost)
        e = of_variance * (e_m + batch.lost + centred) + 6 * u * (of_mean + of_variance * (d + e_m))
        if b.numerics.variance == "fast":
            clamped = batch.variance - b.e_variance(batch) <= 0
            e = e + of_variance * np.where(clamped, d + e_m, 6 * u * (np.abs(batch.x) + np.abs(batch.mean) + e_m))
        z, size = d * self.used.r, np.abs(self.dy) + self.e_dy
        sums = np.abs(self.c1) + self._e_mean_dy + z * (np.abs(self.c2) + self._e_mean_dyz)
        e = e + 4 * u * np.abs(gamma) * (self.used.r + self.used.e_r) * (size + sums)
        return grown(e, 8 * u) + 4 * b.units.smallest

    def _adds_dx(self, gamma: Array, part: float) -> Array:
        """Return where no sum behind dx rounds, however it is differentiated: of gamma r dy, of gamma r² c2 (x - m).

        Gamma and r are powers of 2, n divides both sums exactly, and c2 has so few digits that dy - z c2, or dy - x c2,
        adds up exactly as well.
        """
        b, none = self.bounds, np.zeros_like(self.batch.mean, bool)
        if part != 1 or self.used.steepness is not None or not self.adds_dyz.any():
            return none
        exact = self.adds_dyz & power_of_two(gamma) & (self.e_mean_dyz == 0) & (self.e_mean_dy == 0)
        factor = self.used.r * self.c2
        exact = exact & b.unrounded(self.batch, self.dy, (self.batch.x - self.batch.mean) * factor)
        return exact & b.unrounded(self.batch, self.dy, self.batch.x * factor) if self._through_x else exact

    def _peak_line_by_line(self, gamma: Array, z: Array, c2_most: Array) -> Array:
        """The terms of dx, and their sums, each times gamma, r, or both, before they cancel in t."""
        b, mean, size = self.bounds, self.batch.average, np.abs(self.dy) + self.e_dy
        terms = np.maximum(size + z * c2_most, b.summands * (mean(size) + mean(z) * c2_most))
        return np.maximum(np.abs(gamma), 1) * np.maximum(self.used.r + self.used.e_r, 1) * terms

    def _e_cubed(self, gamma: Array, part: float, c2_most: Array) -> Array:
        """What differentiating w^(-1/2) loses, d r³ |gamma| mean(dy d) by way of r³: it underflows, or overflows.

        What underflows is off by itself or the smallest normal number, whichever is less: r³, that times the sum, d / n
        and the terms gamma dy d, each times what it is multiplied by. With epsilon outside it is r² that underflows,
        over the root. Sums that r³ multiplies may overflow before it does.
        """
        b, batch, n, g, most = self.bounds, self.batch, self.bounds.n, np.abs(gamma), self.used.r + self.used.e_r
        m, tiny, reach = np.abs(batch.mean), b.units.smallest, part * batch.inside
        d = (np.abs(batch.x) + m if self._through_x else np.abs(batch.x - batch.mean)) + b.e_mean(batch)
        lost, cube, mean = np.minimum(tiny, most**3), most**3, batch.average
        if self.used.steepness is not None:
            steep = self.used.steepness[0] + self.used.steepness[1]
            lost, cube = lost + np.minimum(tiny, most**2) * most * steep, cube * steep
        e = lost * d * g * c2_most / self.used.r
        e = e + np.maximum(g, 1) * d * np.minimum(tiny, n * c2_most * most**2)
        e = e + g * c2_most * most**2 * np.minimum(n * tiny, d)
        size = np.abs(self.dy) + self.e_dy
        terms = 2 * np.minimum(tiny, g * mean(size * d)) + np.minimum(tiny, g * mean(size)) * mean(d)
        e = e + cube * d * terms
        summed = n * np.maximum(g, 1) * mean(size * d)
        return b.vacuous(2 * reach * (e + tiny * (1 + g)), np.maximum(most**3, summed * np.maximum(most**3, 1)))

    def e_dx_infer(self, gamma: Array) -> Array:
        """dx = gamma r dy: the statistics are constants."""
        e_t = self.e_dy + 2 * self.bounds.units.u * np.abs(self.dy)
        return self.bounds.stored(gamma * self.used.r * self.dy, self._e_scaled(self.dy, e_t, gamma))

    def _e_scaled(self, t: Array, e_t: Array, gamma: Array) -> Array:
        return self.bounds.e_scaled(np.abs(gamma), self.used.r, self.used.e_r, np.abs(t), e_t)

    @property
    def _averaging(self) -> int:
        return self.bounds.averaging(self.batch)

    @property
    def _through_x(self) -> bool:
        """Whether the gradient sums dy·x and subtracts: the folded map, and the fast variance."""
        of = self.bounds.numerics
        return of.products == "any" and (of.affine == "folded" or of.variance == "fast")
