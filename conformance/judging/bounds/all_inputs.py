"""How much error is allowed in derivatives of y and of the new statistics along a tangent of all inputs.

Beside x, gamma moves by C, beta by B and, in inference, the statistics given by M and U. In training

    y. = gamma r (X. - r² d Q) + C r d + B

and in inference, where the statistics are inputs, with r. = -r³ U / 2,

    y. = gamma r (X - M) - gamma r³ d U / 2 + C r d + B

are sums of terms of the kind that `tangents` bounds, and for the same reason: P is the formula with magnitudes, and
what is computed is off by no more than P grows by the errors of its inputs, and by the roundings of P.

The new statistics are a, the update fraction, of the batch's: m. = a mean(X) and v. = a f 2 Q, f being N/(N-1) or 1. A
moving average of rates is one of numbers, so that `Bounds.e_moving` holds with 0 for the old ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from conformance.judging.bounds.bounds import Bounds, NormalizingStatistics
from conformance.judging.bounds.roundings import growth
from conformance.judging.bounds.tangents import Polynomial, Sizes, TangentBounds, y_rate
from reference.spec import Array

_ROUNDINGS = 20
"""Of a term of P in inference: at most 5 for r, 3 products of it, 2 differences, 2 more products, and 4 sums, twice."""


class Inputs(NamedTuple):
    """Magnitudes, in shapes that broadcast: of gamma, and of the tangents X, C, B, M and U."""

    gamma: Array
    x: Array
    scale: Array
    shift: Array
    mean: Array
    variance: Array

    def y(self, d: Array, r: Array) -> Array:
        """Return P of inference."""
        through_r = self.gamma * r**3 * d * self.variance / 2
        return self.gamma * r * (self.x + self.mean) + through_r + self.scale * r * d + self.shift


def of_training(scale: Array, shift: Array) -> Polynomial:
    """Return P of training, for the magnitudes of C and B."""

    def most(p: Sizes) -> Array:
        return y_rate(p) + scale * p.r * p.d + shift

    return most


def e_infer(b: Bounds, used: NormalizingStatistics, x: Array, inputs: Inputs, off: Inputs) -> Array:
    """Return the error of y. in inference. off: the magnitudes of the inputs with their errors."""
    d, r, m = np.abs(x - used.mean), used.r + used.e_r, np.abs(used.mean) * (b.numerics.affine == "folded")
    terms = off.y(d + 2 * m + used.e_mean, r)
    e = off.y(d + used.e_mean, r) - inputs.y(d, used.r) + growth(_ROUNDINGS * b.units.u) * terms
    peak = Inputs(*(np.maximum(size, 1) for size in off)).y(np.maximum(d + 2 * m, 1), np.maximum(r, 1))
    return b.vacuous(e + _ROUNDINGS * np.minimum(terms, b.units.smallest * peak), peak)


def e_statistics(
    along: TangentBounds, rates: tuple[Array, Array], fraction: float, factor: float
) -> tuple[Array, Array]:
    """Return the errors of the new statistics' rates. rates: those that enter; factor: f."""
    b, none = along.bounds, np.zeros_like(rates[0])
    e_mean, e_half = along.e_of_statistics()
    e_variance = 2 * factor * e_half + growth(4 * b.units.u) * (np.abs(rates[1]) + 2 * factor * e_half)
    if b.numerics.variance == "fast":  # a clamped variance passes no derivative
        e_variance = np.where(along.batch.variance - b.e_variance(along.batch) <= 0, np.inf, e_variance)
    return (
        b.e_moving(none, rates[0], fraction * rates[0], none, e_mean, fraction),
        b.e_moving(none, rates[1], fraction * rates[1], none, e_variance, fraction),
    )
