"""How much error is allowed in first and second derivatives along a tangent, of y, dx and dgamma.

Let d = x - m, X. = X - mean(X), dy. = dy - mean(dy), and four means over the batch: Q = mean(d X), S = mean(d dy),
C = mean(dy. X.) and V = mean(X.²). With r. = -r³ Q and S. = C, the mean of d X. being Q, the rules for products give

    y.      = gamma r (X. - r² d Q)
    dx.     = gamma r³ (-Q dy. - S X. - C d + 3 r² Q S d)
    dgamma. = n r (C - r² Q S)

and again, with Q. = V,

    y..      = gamma r³ (d (3 r² Q² - V) - 2 Q X.)
    dx..     = gamma r³ (dy. (3 r² Q² - V) - 3 r² S d (5 r² Q² - V) + 6 r² Q (S X. + C d) - 2 C X.)
    dgamma.. = n r³ (S (3 r² Q² - V) - 2 C Q)

**What every way has in common.** y is made of sums over the batch, of products, and of the root. Each derivative, in
whatever mode and order of modes, puts a factor's rate, or its cotangent, in the factor's place. So what is summed has
at most two factors that differ from element to element, out of d, X and dy, beside numbers of the channel; and what is
added up are the terms above, each split no further than into terms of one sign: 3 r² Q S d into parts that add up to
3, X. into X and mean(X), Q into mean(d X.) and mean(d) mean(X). Let P be the formula with magnitudes for all of d, X,
dy and the four means, and sums for differences. It is at least every partial result, times whatever follows it.

**Means are as large as they are.** Whatever a mean is multiplied by, it has been added up before, and cancelled. So in
P it has the magnitude of its exact value, and not the mean of magnitudes, which is √n times as large. What its terms
lose is bounded by their magnitudes: a sum's roundings (`Bounds.signed`), and those of a term before it is added, with
|X| + |mean(X)| for X, and |dy| + |mean(dy)| for dy, since either may be centred before or after. An error e in m moves
all of d alike: by e mean(X) in Q, by e mean(dy) in S. So

    |computed - exact| ≤ P(inputs + errors) - P(inputs) + gamma_K P(inputs + errors)

where the errors are those of r, of d and of the means, and K counts the roundings after the means. A way that subtracts
the mean of what it has, to centre dx, adds the roundings of that sum, whose terms are at most P.

**By way of x.** The folded map and the fast variance have x and m where d stands here, and take the difference of
products with the same number: its error meets x - m, but the roundings |x| + |m| ≤ |d| + 2 |m|, in the sums as well as
in K. So does a variance that is shifted by k, where x - k and m - k stand.

**A matrix of derivatives**, along each element by itself, is multiplied by the tangent last: means with X do not cancel
before, so that in P they are of magnitudes, and there is one more sum each time.

What underflows is off by itself or by the smallest normal number, whichever is less, times what it is multiplied by:
both, as what may overflow, are no more than P with 1 for every factor that is less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from conformance.judging.bounds.bounds import BatchStatistics, Bounds, NormalizingStatistics
from conformance.judging.bounds.roundings import growth
from reference.spec import Array


class Sizes(NamedTuple):
    """Magnitudes: of d, X. and dy., of r and gamma, and of the means Q, S, C and V."""

    d: Array
    along: Array
    dy: Array
    r: Array
    gamma: Array
    q: Array
    s: Array
    c: Array
    v: Array

    def at_least(self, least: float) -> Sizes:
        """Return the same, none below `least`."""
        return Sizes(*(np.maximum(size, least) for size in self))


Polynomial = Callable[[Sizes], Array]


def y_rate(p: Sizes) -> Array:
    """Return P of y."""
    return p.gamma * p.r * (p.along + p.r**2 * p.d * p.q)


def _dx(p: Sizes) -> Array:
    return p.gamma * p.r**3 * (p.q * p.dy + p.s * p.along + p.c * p.d + 3 * p.r**2 * p.q * p.s * p.d)


def _dgamma(p: Sizes) -> Array:
    return p.r * (p.c + p.r**2 * p.q * p.s)


def _y_twice(p: Sizes) -> Array:
    return p.gamma * p.r**3 * (p.d * (3 * (p.r * p.q) ** 2 + p.v) + 2 * p.q * p.along)


def _dx_twice(p: Sizes) -> Array:
    square, rr = (p.r * p.q) ** 2, p.r**2
    of_s = 3 * rr * p.s * p.d * (5 * square + p.v)
    of_q = 6 * rr * p.q * (p.s * p.along + p.c * p.d)
    return p.gamma * p.r**3 * (p.dy * (3 * square + p.v) + of_s + of_q + 2 * p.c * p.along)


def _dgamma_twice(p: Sizes) -> Array:
    return p.r**3 * (p.s * (3 * (p.r * p.q) ** 2 + p.v) + 2 * p.c * p.q)


_ROUNDINGS: dict[Polynomial, tuple[int, int]] = {
    y_rate: (8, 10), _dgamma: (8, 8), _dx: (8, 16), _y_twice: (12, 16), _dgamma_twice: (12, 14), _dx_twice: (12, 24),
}  # fmt: skip
"""Of a term before it is added: two differences, their product, what numbers of the channel multiply either by, and the
additions of a rate or cotangent to which several operations give a part. And after the means, of the term of P with
most factors: it is multiplied, and added to the others."""


class _Input(NamedTuple):
    """An input that a way may centre, or not.

    size: |a| + |mean(a)|. mean: |mean(a)|. e_mean: how far the mean may be off. e_each: what each value is rounded by
    on its way in.
    """

    size: Array
    mean: Array
    e_mean: Array
    e_each: Array

    @property
    def most(self) -> Array:
        """The size with its errors."""
        return self.size + self.e_mean + self.e_each

    @property
    def most_mean(self) -> Array:
        """The mean with its error."""
        return self.mean + self.e_mean


@dataclass(frozen=True)
class TangentBounds:
    """The bounds of one training step's derivatives along a tangent; dy: 0 if only y's derivative is asked for."""

    bounds: Bounds
    batch: BatchStatistics
    used: NormalizingStatistics
    dy: Array
    tangent: Array

    def e_y(self, gamma: Array, value: Array) -> Array:
        """Return the error of y."""
        return self.bounds.stored(value, self.e(y_rate, gamma))

    def e_dx(self, gamma: Array, value: Array) -> Array:
        """Return the error of dx."""
        return self.bounds.stored(value, self.e(_dx, gamma, centred=True))

    def e_mean_dgamma(self) -> Array:
        """Return the error of dgamma. / n, before it is stored."""
        return self.e(_dgamma)

    def e_y_twice(self, gamma: Array, value: Array) -> Array:
        """Return the error of y.."""
        return self.bounds.stored(value, self.e(_y_twice, gamma))

    def e_dx_twice(self, gamma: Array, value: Array) -> Array:
        """Return the error of dx.."""
        return self.bounds.stored(value, self.e(_dx_twice, gamma, centred=True))

    def e_mean_dgamma_twice(self) -> Array:
        """Return the error of dgamma.. / n, before it is stored."""
        return self.e(_dgamma_twice)

    def e_of_statistics(self) -> tuple[Array, Array]:
        """Return the errors of the rate of the mean, mean(X), and of half of the variance's, Q."""
        along = self._input(self.tangent, each=self._each)
        return along.e_mean, self._e_of_d(along, self._means(along.mean, along.mean)[0], 8 + self._averaging)

    def e(self, most: Polynomial, gamma: Array | float = 1.0, *, centred: bool = False) -> Array:
        """Return how far P grows by the errors of its inputs, and by the roundings.

        most: P; one that is not of `_ROUNDINGS` has as many as any. centred: a way may subtract the mean of all.
        """
        b, (within, after) = self.bounds, _ROUNDINGS.get(most, _ROUNDINGS[_dx_twice])
        exact, off, terms, gross = (
            sizes._replace(gamma=np.abs(gamma)) for sizes in self._sizes(within + self._averaging)
        )
        e = most(off) - most(exact) + growth(after * b.units.u) * most(terms)
        if centred:
            size = self._mean(most(terms))
            e = e + b.signed(self._averaging + 2, size, size)
        if self._each:
            e = e + 2 * b.signed(2, most(terms), most(terms))
        high = most(gross)
        peak = self.batch.count * most(gross.at_least(1))  # no less than any product of some of the factors
        e = e + (2 * within + after) * np.minimum(high, b.units.smallest * peak)
        if b.numerics.variance == "fast":  # a clamped variance passes no derivative
            e = np.where(self.batch.variance - b.e_variance(self.batch) <= 0, np.inf, e)
        return b.vacuous(e, peak)

    def _sizes(self, within: int) -> tuple[Sizes, Sizes, Sizes, Sizes]:
        """Return exact magnitudes; those with errors; those of what is rounded by way of x; and of no sum cancelled."""
        r, along, dy, one = self.used.r, self._input(self.tangent, each=self._each), self._input(self.dy), np.ones(())
        q, s, c, v = self._means(along.mean, dy.mean)
        more = [self._e_of_d(along, q, within), self._e_of_d(dy, s, within)]
        more += [self._e_of(dy, along, c, within), self._e_of(along, along, v, within)]
        exact = Sizes(self._d, along.size, dy.size, r, one, q, s, c, v)
        means = [size + e for size, e in zip((q, s, c, v), more, strict=True)]
        off = Sizes(self._d + self._e_m, along.most, dy.most, self._r, one, *means)
        of_x = [size + 2 * self._m * a.most_mean for size, a in zip(means[:2], (along, dy), strict=True)]
        terms = off._replace(d=self._wide, q=of_x[0], s=of_x[1])
        pairs = (self._wide, along.most), (self._wide, dy.most), (dy.most, along.most), (along.most, along.most)
        return exact, off, terms, Sizes(*terms[:5], *(self._mean(a * b) for a, b in pairs))

    def _means(self, mean_along: Array, mean_dy: Array) -> list[Array]:
        """Return the magnitudes of the four means; of C and V without centring either factor, or with."""
        mean, along, dy = self._mean, self.tangent, self.dy
        q, s = self.batch.deviation * along, mean(dy * (self.batch.x - self.used.mean))
        if self._each:
            q, c, v = mean(np.abs(q)), mean(np.abs(dy * along)), mean(along**2)
        else:
            q, c = mean(q), mean(dy * along) - mean(dy) * mean(along)
            v = mean((along - mean(along)) ** 2)
        return [np.abs(q), np.abs(s), np.abs(c) + 2 * mean_dy * mean_along, v + 2 * mean_along**2]

    def _input(self, values: Array, *, each: bool = False) -> _Input:
        b, net = self.bounds, np.abs(self._mean(np.abs(values) if each else values))
        taken = b.taken(values) if b.units.taken_u else np.zeros(())
        off = self._mean(taken)
        e = b.signed(self._averaging + 2, self._mean(np.abs(values)) + off, net + off) + off
        return _Input(np.abs(values) + net, net, e, taken)

    def _e_of_d(self, a: _Input, net: Array, k: int) -> Array:
        """Return the error of mean(d a): m's moves every d alike, and what x is rounded by on its way in does not."""
        b, size, mean = self.bounds, a.most, a.most_mean
        e = self._e_m * mean + b.signed(k, self._mean(self._wide * size), net + (self._e_m + 2 * self._m) * mean)
        return e + self._mean(self._wide * a.e_each + b.taken(self.batch.x) * size) if b.units.taken_u else e

    def _e_of(self, a: _Input, c: _Input, net: Array, k: int) -> Array:
        """Return the error of the mean of a product, of which either factor, or both, may have been centred."""
        e = self.bounds.signed(k, self._mean(a.most * c.most), net)
        e = e + a.mean * c.e_mean + c.most_mean * a.e_mean
        return e + self._mean(a.most * c.e_each + c.most * a.e_each) if self.bounds.units.taken_u else e

    @cached_property
    def _d(self) -> Array:
        return np.maximum(np.abs(self.batch.x - self.used.mean), np.abs(self.batch.deviation))

    @cached_property
    def _e_m(self) -> Array:
        return np.maximum(self.used.e_mean, self.bounds.e_mean(self.batch))

    @cached_property
    def _m(self) -> Array:
        """The distance of m from 0 where sums are of x, or from the k of a shifted variance; otherwise 0."""
        of, mean = self.bounds.numerics, np.maximum(np.abs(self.used.mean), np.abs(self.batch.mean))
        m = mean * (of.affine == "folded" or of.variance == "fast")
        farthest = np.abs(self.batch.deviation).max(self.batch.axes, keepdims=True, initial=0)
        return np.maximum(m, farthest) if of.variance == "shifted" else m

    @cached_property
    def _wide(self) -> Array:
        """The magnitude of what is rounded where d stands: d, or x and m."""
        return self._d + 2 * self._m + self._e_m

    @property
    def _r(self) -> Array:
        return self.used.r + self.used.e_r

    @property
    def _each(self) -> bool:
        """Whether the tangent is multiplied in last, when no mean with it has cancelled."""
        return self.bounds.numerics.tangent == "each"

    @property
    def _averaging(self) -> int:
        return self.bounds.averaging(self.batch)

    def _mean(self, values: Array) -> Array:
        return self.batch.average(values)


def e_infer(b: Bounds, used: NormalizingStatistics, gamma: Array, tangent: Array) -> Array:
    """Return the error of y. = gamma r X in inference: the reciprocal root, and three roundings."""
    e = b.e_scaled(np.abs(gamma), used.r, used.e_r, np.abs(tangent), np.zeros_like(tangent))
    return b.stored(gamma * used.r * tangent, e)


def e_infer_mean_dgamma(
    b: Bounds, batch: BatchStatistics, used: NormalizingStatistics, dy: Array, tangent: Array
) -> Array:
    """dgamma. / n = r mean(dy X) in inference: a sum, whose exact value may be 0; a factor, or X r, may underflow."""
    size, each, along = batch.average(np.abs(dy * tangent)), np.abs(dy), np.abs(tangent)
    exact = np.abs(batch.average(dy * tangent))
    e = (used.r + used.e_r) * b.g(6) * size + used.e_r * exact
    lost = used.r * (b.flushed(each) * along + each * b.flushed(along)) + each * b.flushed(along * used.r)
    e = e + batch.average(lost) + 3 * b.units.smallest * (1 + used.r + used.e_r)
    most = along.max(batch.axes, keepdims=True, initial=0) * used.r
    return b.vacuous(e, np.maximum(b.n * size * np.maximum(used.r, 1), most))
