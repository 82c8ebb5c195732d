"""The reference's own error in the statistics of a batch (BN-30), to be added to what others are allowed.

`moments`, line by line, with s_i the shares of the values, hats on what is computed, and every theta at most
gamma_k = k u / (1 - k u) for k roundings (Higham, *Accuracy and Stability of Numerical Algorithms*, lemma 3.1):

    m0 = average(x)              m1 = average(x - m0)        m = m0 + m1
    q = average((x - m)²)        r = average(x - m)          V = q - r²

`average` multiplies each term by a (1 + theta) of its own, of `each` roundings, and all of them by one, of `common`.
A sum of n terms, of depth h, divided by n: each = h, common = 1. A sum of share * term, the shares being w / total(w),
or w / (total(w) + offset): each = h + 2, the product and the quotient, and common = h + 1, the divisor.
So, with c, e = common, each and A = mean|x|, D = mean|x - mu|:

    |m0^ - mu| <= gamma_{e+c} A =: e0

Now the residual's average is mu - m0^ exactly. What it is computed with, differences that are rounded, leaves

    |m1^ - (mu - m0^)| <= gamma_c |mu - m0^| + (1 + gamma_c) gamma_{e+1} mean|x - m0^|
                       <= gamma_c e0 + (1 + gamma_c) gamma_{e+1} (D + e0)                                       (1)
    |m^ - mu|          <= u |mu| + (1 + u) * the same

so that the values' distance from their mean enters, and their size only as u |mu|. Let em bound |m^ - mu|. q's terms
are positive, each with the roundings of the difference, twice, and of the square; r is (1) with em for e0, call it er:

    |q^ - Q| <= gamma_{e+c+3} Q, where Q = V + (mu - m^)² <= V + em²
    |r^ - (mu - m^)| <= er, so |r^² - (mu - m^)²| <= er (2 em + er), and its rounding is under 2u (em + er)²

V = Q - (mu - m^)² exactly: the mean's error cancels, and all it leaves is of second order. The difference rounds last:

    |V^ - V| <= u (V + E) + E, E = gamma_{e+c+3} (V + em²) + er (2 em + er) + 2u (em + er)²

Nothing underflows: a product of what is stored in a narrower dtype is far from the working dtype's smallest number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.precision import roundoff, summation_depth
from reference.spec import Array


@dataclass(frozen=True)
class Roundings:
    """How often `average` rounds: `each` term by itself, and all terms in `common`. u: the unit roundoff."""

    each: int
    common: int
    u: float

    @classmethod
    def of(cls, n: int, dtype: type[Any] = np.float64, *, weighted: bool = False) -> Roundings:
        """Return the roundings of an average of n terms; weighted: with the shares of a mask.

        >>> Roundings.of(8).each, Roundings.of(8, weighted=True).each
        (3, 5)
        """
        depth = summation_depth(n, dtype)
        return cls(depth + 2, depth + 1, roundoff(dtype)) if weighted else cls(depth, 1, roundoff(dtype))

    def gamma(self, k: int) -> float:
        """Return k u / (1 - k u), the most that k roundings add up to."""
        return k * self.u / (1 - k * self.u)

    def residual(self, deviation: Array, offset: Array) -> Array:
        """Return (1): the error of average(x - m), for |m - mu| <= offset, of deviation mean|x - mu|."""
        common = self.gamma(self.common)
        return common * offset + (1 + common) * self.gamma(self.each + 1) * (deviation + offset)


def error_of_mean(mean: Array, magnitude: Array, deviation: Array, by: Roundings) -> Array:
    """Return the most that a mean of `moments` is off by; magnitude: mean|x|, deviation: mean|x - mean|.

    >>> error = error_of_mean(np.full(1, 1e8), np.full(1, 1e8), np.ones(1), Roundings.of(1000))
    >>> bool(error[0] < 1.01 * 2.0**-53 * 1e8)
    True
    """
    first = by.gamma(by.each + by.common) * magnitude
    return by.u * np.abs(mean) + (1 + by.u) * by.residual(deviation, first)


def error_of_variance(variance: Array, deviation: Array, e_mean: Array, by: Roundings) -> Array:
    """Return the most that a variance of `moments` is off by, given what its mean is.

    >>> error = error_of_variance(np.ones(1), np.ones(1), np.full(1, 1e-8), Roundings.of(1000))
    >>> bool(error[0] < 28 * 2.0**-53)
    True
    """
    e_residual = by.residual(deviation, e_mean)
    squares = by.gamma(by.each + by.common + 3) * (variance + e_mean * e_mean)
    correction = e_residual * (2 * e_mean + e_residual) + 2 * by.u * (e_mean + e_residual) ** 2
    error = squares + correction
    return by.u * (variance + error) + error
