"""How much error is allowed in first and second derivatives along a tangent, of y, dx and dgamma.

Whatever way a framework differentiates, it adds up products of the same few things: d = x - mean, r, dy, the tangent X,
gamma, and means of products of them. Replace every one by its magnitude, and every difference by a sum: the result P is
at least every partial sum of any such way, and no more than what the ways differ in. If each input may be off by e and
every path has at most K roundings,

    |computed - exact| ≤ (1 + gamma_K) P(|inputs| + e) - P(|inputs|).

With z = d r and q = mean(z X), y. = gamma r (X - mean(X) - z q), and differentiating dx = gamma r (dy - c1 - z c2) with
c1 = mean(dy), c2 = mean(dy z), r. = -r² q and z. = r (X - mean(X) - z q):

    dx.    = gamma r² (-q (dy - c1) + 3 q z c2 - (X - mean(X)) c2 - z (mean(dy X) - c1 mean(X)))
    dgamma. = n r (mean(dy X) - c1 mean(X) - c2 q)

Twice along X, everything is a series in t at x + t X, and 2 times the coefficient of t² is asked for. In units of r,
1 / sqrt(v + epsilon) is 1 - r q t + r² (3 q² - mean((X - mean(X))²)) t² / 2; P is the product of series, with pluses.

P takes z, X and dy each with the magnitude of its mean added, since a framework may subtract means that are 0 exactly.
The folded map and the fast variance have x and mean where d stands here, so that P has |x| + |mean|.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from conformance.judging.bounds.bounds import BatchStatistics, Bounds, NormalizingStatistics
from reference.spec import Array

_NESTED = 4  # means of values that hold means: the deepest of reverse over reverse
_NESTED_TWICE = 6  # of one more derivative, which multiplies by no more than a second q
_Series = tuple[Array, Array, Array]  # magnitudes of the coefficients of 1, t and t²


@dataclass(frozen=True)
class _Magnitudes:
    """The magnitudes of z, X and dy, each with that of its mean added, and that of r."""

    z: Array
    tangent: Array
    dy: Array
    r: Array


@dataclass(frozen=True)
class TangentBounds:
    """The bounds of one training step's derivatives along a tangent; dy: 0 if only y's derivative is asked for."""

    bounds: Bounds
    batch: BatchStatistics
    used: NormalizingStatistics
    dy: Array
    tangent: Array

    def e_y(self, gamma: Array, value: Array) -> Array:
        """Return the error of y. = gamma r (X - mean(X) - z q)."""
        e = self._between(lambda m: np.abs(gamma) * m.r * (m.tangent + m.z * self._mean(m.z * m.tangent)))
        return self.bounds.stored(value, e)

    def e_dx(self, gamma: Array, value: Array) -> Array:
        """Return the error of dx., from the seven products of its formula."""

        def most(m: _Magnitudes) -> Array:
            q, c2, c3 = self._mean(m.z * m.tangent), self._mean(m.dy * m.z), self._mean(m.dy * m.tangent)
            return np.abs(gamma) * m.r**2 * (q * m.dy + 3 * q * m.z * c2 + m.tangent * c2 + m.z * c3)

        return self.bounds.stored(value, self._between(most))

    def e_mean_dgamma(self) -> Array:
        """Return the error of dgamma. / n, before it is stored."""
        return self._between(
            lambda m: m.r * (self._mean(m.dy * m.tangent) + self._mean(m.dy * m.z) * self._mean(m.z * m.tangent))
        )

    def e_y_twice(self, gamma: Array, value: Array) -> Array:
        """Return the error of y.. = 2 gamma z2."""
        return self.bounds.stored(value, self._twice(lambda m: 2 * np.abs(gamma) * self._z(m)[2]))

    def e_dx_twice(self, gamma: Array, value: Array) -> Array:
        """Return the error of dx.. = 2 gamma (r (dy - c1 - z c2))2; the magnitude of dy includes c1."""

        def most(m: _Magnitudes) -> Array:
            z = self._z(m)
            of_c2 = _times(z, (self._mean(m.dy * z[0]), self._mean(m.dy * z[1]), self._mean(m.dy * z[2])))
            return 2 * np.abs(gamma) * m.r * _times(self._root(m), (m.dy + of_c2[0], *of_c2[1:]))[2]

        return self.bounds.stored(value, self._twice(most))

    def e_mean_dgamma_twice(self) -> Array:
        """Return the error of dgamma.. / n = 2 mean(dy z2), before it is stored."""
        return self._twice(lambda m: 2 * self._mean(m.dy * self._z(m)[2]))

    def _root(self, m: _Magnitudes) -> _Series:
        """Return the series of 1 / sqrt(v + epsilon), in units of r."""
        q = self._mean(m.z * m.tangent)
        return np.ones(()), m.r * q, m.r**2 * (3 * q**2 + self._mean(m.tangent**2)) / 2

    def _z(self, m: _Magnitudes) -> _Series:
        return _times((m.z, m.r * m.tangent, np.zeros(())), self._root(m))

    def _twice(self, most: Callable[[_Magnitudes], Array]) -> Array:
        """Return the error of a second derivative, whose computation reaches r⁵."""
        used = self.used
        return self.bounds.vacuous(self._between(most, _NESTED_TWICE), np.maximum(1, used.r + used.e_r) ** 5)

    def _between(self, most: Callable[[_Magnitudes], Array], nested: int = _NESTED) -> Array:
        """Return how far P grows by the errors of its inputs, and by the roundings."""
        b = self.bounds
        magnitudes = self._magnitudes(with_errors=True)
        low, high = most(self._magnitudes(with_errors=False)), most(magnitudes)
        e = high - low + math.expm1(nested * math.log1p(b.g(8))) * high + b.units.smallest * (2 + high)
        e = e + self._e_underflowing(magnitudes, high, nested + 1)
        if b.numerics.variance == "fast":  # a clamped variance passes no derivative
            e = np.where(self.batch.variance - b.e_variance(self.batch) <= 0, np.inf, e)
        return b.vacuous(e, self.batch.count * high)

    def _e_underflowing(self, m: _Magnitudes, high: Array, power: int) -> Array:
        """What a power of r loses, the highest of the way, which is itself at most; and products that d multiplies."""
        tiny = self.bounds.units.smallest
        lost = high * np.minimum(1, tiny / m.r**power)
        each = tiny * m.z / m.r * (1 + m.tangent) * (1 + m.dy)
        return lost + (each if high.shape == each.shape else self._mean(each))

    def _magnitudes(self, *, with_errors: bool) -> _Magnitudes:
        used, batch = self.used, self.batch
        r = used.r + used.e_r if with_errors else used.r
        e_mean = used.e_mean + self.bounds.e_mean(batch) if with_errors else 0
        d = np.maximum(np.abs(batch.x - used.mean), np.abs(batch.deviation)) + e_mean
        if self.bounds.numerics.affine == "folded" or self.bounds.numerics.variance == "fast":
            d = np.abs(batch.x) + np.maximum(np.abs(used.mean), np.abs(batch.mean)) + e_mean
        z, tangent, dy = (self._with_mean(v) for v in (d * r, np.abs(self.tangent), np.abs(self.dy)))
        return _Magnitudes(z, tangent, dy, r)

    def _with_mean(self, values: Array) -> Array:
        return values + self._mean(values)

    def _mean(self, values: Array) -> Array:
        return self.batch.average(values)


def _times(p: _Series, q: _Series) -> _Series:
    return p[0] * q[0], p[0] * q[1] + p[1] * q[0], p[0] * q[2] + p[1] * q[1] + p[2] * q[0]


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
