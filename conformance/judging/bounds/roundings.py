"""How much several roundings may add up to, computed in the dtype of the arrays, since 1 + 2^-53 is 1 as a float."""

from __future__ import annotations

import math
from typing import overload

import numpy as np

from conformance.judging.large.streamed import elementwise
from reference.spec import Array

_MOST = 700.0  # e^709 overflows
_EXPONENT = np.int64(0x7FF0000000000000)  # of a float64's bits


@overload
def growth(ku: float) -> float: ...
@overload
def growth(ku: Array) -> Array: ...
def growth(ku: float | Array) -> float | Array:
    """Return a bound of (1 + u)^k - 1, e^(ku) - 1. Higham's gamma_k = ku / (1 - ku) is larger, and needs ku < 1.

    >>> growth(3 * 2.0**-53) >= 3 * 2.0**-53, growth(2.0) < 6.4, growth(np.array([0.0, 1e3]))
    (True, True, array([ 0., inf]))
    """
    if isinstance(ku, np.ndarray):
        return np.where(ku < _MOST, np.expm1(np.fmin(ku, _MOST)), np.inf)
    return math.expm1(ku) if ku < _MOST else math.inf


def grown(size: Array, ku: float | Array) -> Array:
    """Return the most that a value of this size becomes by roundings of ku together: times (1 + u)^k.

    >>> float(grown(np.longdouble(1), 3 * 2.0**-53) - 1) >= 3 * 2.0**-53
    True
    """
    return size + growth(ku) * size


def shrunk(size: Array, ku: float | Array) -> Array:
    """Return the least that a value of this size becomes by roundings of ku together: times (1 - u)^k, but at least 0.

    >>> float(1 - shrunk(np.longdouble(1), 2.0**-53)) >= 2.0**-53
    True
    """
    return size - (np.fmin(ku, 1.0) if isinstance(ku, np.ndarray) else min(ku, 1.0)) * size


@elementwise(shrinks=True)
def binade(size: Array) -> Array:
    """Return the largest power of 2 that is no larger, 0 for 0: rounding to nearest errs by a unit roundoff of it.

    >>> binade(np.array([0.0, 1.0, 1.99, 4.5])).tolist()
    [0.0, 1.0, 1.0, 4.0]
    """
    if size.dtype == np.float64:  # sign and mantissa cleared
        return (np.asarray(size).view(np.int64) & _EXPONENT).view(np.float64)
    mantissa = np.frexp(size)[0]  # in [0.5, 1), so that the quotient is exact; binary128 has no ldexp
    return size / np.where(mantissa > 0, mantissa + mantissa, 1)


def sum_depth(n: int, sums: str, lanes: int = 1, block: int = 0) -> int:
    """Return how many roundings a summand passes through; in a vectorized tree, 16 more than log2(n).

    lanes, block: how partial sums are made, side by side and of so many terms at most (`Numerics`).

    >>> sum_depth(1000, "serial"), sum_depth(1000, "tree"), sum_depth(8, "tree")
    (999, 26, 7)
    >>> sum_depth(1000, "serial", lanes=8), sum_depth(1000, "tree", lanes=8), sum_depth(1000, "tree", block=64)
    (131, 127, 67)
    """
    deepest = max(n - 1, 0)
    if lanes == 1 and not block:
        return deepest if sums == "serial" else min(deepest, math.ceil(math.log2(max(n, 2))) + 16)
    of_block = min(n, block) if block else n
    parts = min(lanes, of_block), -(-n // max(of_block, 1))
    together = sum(k - 1 if sums == "serial" else math.ceil(math.log2(max(k, 1))) for k in parts)
    return min(deepest, max(-(-of_block // lanes) - 1, 0) + together)


def compensated_depth(n: int, u: float) -> int:
    """Return how many roundings a summand passes through, in effect, where what each addition loses is added again.

    The error of Kahan's sum is (2u + O(n u²)) times the size of its terms (Higham 2002, (4.8)), as is Neumaier's.

    >>> compensated_depth(1000, 2.0**-24), compensated_depth(2**24, 2.0**-24)
    (4, 11)
    """
    return 3 + math.ceil(8 * n * u)


def part(own: Array, bound: Array) -> float:
    """Return the largest part of a finite bound that the reference's own error makes up."""
    with np.errstate(divide="ignore", invalid="ignore"):
        part = own / bound
    return float(part[np.isfinite(part)].max(initial=0))
