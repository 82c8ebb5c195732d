"""The reference's own error: proved against exact rationals, and a thousandth of every bound that it is added to."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from reference.batch_norm import moments
from reference.batches import total
from reference.own_error import Roundings, error_of_mean, error_of_variance
from reference.precision import roundoff, summation_depth, working_dtype

BINARY128 = working_dtype(["float64"], wide=np.float64)
KINDS = {
    "centred": lambda rng, n: rng.normal(0, 1, n),
    "large mean": lambda rng, n: rng.normal(1e3, 1, n),
    "constant": lambda rng, n: np.full(n, rng.uniform(1, 2)),
    "one outlier": lambda rng, n: np.where(np.arange(n) == rng.integers(n), 1e3, 1.0) * rng.uniform(1, 2, n),
    "alternating": lambda rng, n: (-1.0) ** np.arange(n) * rng.uniform(1, 2, n),
}


def pairwise(values: list[Any]) -> tuple[Any, int]:
    """Return NumPy's pairwise sum and how many additions that round its deepest term passes through.

    Written from its loops: https://github.com/numpy/numpy/blob/v2.4.0/numpy/_core/src/umath/loops_utils.h.src
    """
    n = len(values)
    if n < 8:
        rest, (found, depth) = values[1:], (values[0], 0) if values else (0, 0)
    elif n <= 128:
        sums, rest, depth = values[:8], values[n - n % 8 :], n // 8 - 1 + 3
        for i in range(8, n - n % 8):
            sums[i % 8] = sums[i % 8] + values[i]
        found = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    else:
        half = n // 2 - n // 2 % 8
        (left, a), (right, b) = pairwise(values[:half]), pairwise(values[half:])
        return left + right, 1 + max(a, b)
    for value in rest:
        found, depth = found + value, depth + 1
    return found, depth


@pytest.mark.parametrize("n", [*range(70), *range(120, 140), 255, 257, 384, 1000, 1927, 5001])
def test_sums_are_the_trees_whose_depth_is_stated(n: int) -> None:
    """`total` is, bit for bit, the pairwise sum written out here, and `summation_depth` is the depth of that."""
    for dtype in (np.float32, np.float64, np.longdouble):
        values = np.random.default_rng(n).normal(1, 1, (n, 2)).astype(dtype) / dtype(3)
        for column in range(2):
            found, depth = pairwise(list(values[:, column]))
            assert total(values, (0,))[0, column] == found
            assert summation_depth(n, dtype) == depth


@pytest.mark.parametrize("n", [0, 1, 2, 9, 200])
def test_binary128_is_summed_in_any_order(n: int) -> None:
    """numpy-quaddtype does not sum pairwise: the depth is that of one term after the other."""
    assert summation_depth(n, BINARY128) == max(n - 1, 0)


def test_roundings_of_an_average() -> None:
    """A plain mean rounds its sum's depth, and once in common; shares round twice more, and once per addition."""
    assert Roundings.of(100) == Roundings(18, 1, 2.0**-53)
    assert Roundings.of(100, np.float32, weighted=True) == Roundings(20, 19, 2.0**-24)
    assert Roundings.of(100, BINARY128) == Roundings(99, 1, 2.0**-113)


def exact_moments(values: list[Fraction], weights: list[Fraction]) -> tuple[Fraction, ...]:
    """Return mean and variance, mean|x| and mean|x - mean|."""
    all_of_it = sum(weights)
    shares = [w / all_of_it for w in weights]
    mean = sum((s * v for s, v in zip(shares, values, strict=True)), Fraction(0))
    variance = sum((s * (v - mean) ** 2 for s, v in zip(shares, values, strict=True)), Fraction(0))
    magnitude = sum((s * abs(v) for s, v in zip(shares, values, strict=True)), Fraction(0))
    deviation = sum((s * abs(v - mean) for s, v in zip(shares, values, strict=True)), Fraction(0))
    return mean, variance, magnitude, deviation


def measured(x: Any, weights: Any | None) -> tuple[float, float]:
    """Return error over certified error of the mean and of the variance of one channel."""
    dtype, number = x.dtype.type, lambda value: Fraction(*value.as_integer_ratio())
    counts = np.ones_like(x) if weights is None else weights
    exact = exact_moments([number(v) for v in x], [number(w) for w in counts])
    mean, variance, magnitude, deviation = (np.array([float(value)]) for value in exact)
    by = Roundings.of(len(x), dtype, weighted=weights is not None)
    e_mean = error_of_mean(mean, magnitude, deviation, by)
    e_variance = error_of_variance(variance, deviation, e_mean, by)
    got = moments(x, (0,), None if weights is None else weights / total(weights, (0,)))
    errors = [abs(number(g[0]) - e) for g, e in zip(got, exact[:2], strict=True)]
    allowed = [number(e[0]) for e in (e_mean, e_variance)]
    return tuple(float(e / a) if a else math.inf * bool(e) for e, a in zip(errors, allowed, strict=True))


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, BINARY128], ids=lambda d: d.__name__)
def test_moments_are_within_their_certified_error(dtype: Any, kind: str, weighted: bool) -> None:
    """No mean and no variance is further from the exact rational than certified, in any dtype, on any kind of data."""
    rng, worst = np.random.default_rng(5), 0.0
    for n in [1, 2, 3, 4, 5, 7, 8, 15, 31, 127, 129, 300]:
        x = KINDS[kind](rng, n).astype(np.float32).astype(dtype)
        weights = rng.integers(1, 9, n).astype(dtype) / dtype(3) if weighted else None
        worst = max(worst, *measured(x, weights))
    assert worst <= 1


def test_the_certified_error_is_not_idle() -> None:
    """Means of two or three values reach half of it, and variances a fifth: it is no mere ceiling."""
    rng = np.random.default_rng(6)
    found = [measured(rng.normal(1, 1, 2 + i % 2).astype(np.float32), None) for i in range(400)]
    assert max(mean for mean, _ in found) > 0.5
    assert max(variance for _, variance in found) > 0.2


def test_the_functions_are_the_formulas_derived() -> None:
    """Both are what the derivation says, written once more in exact rationals."""
    c, e, u = 7, 9, Fraction(1, 1000)
    mean, variance, a, d = Fraction(-3), Fraction(2), Fraction(4), Fraction(5, 4)

    def gamma(k: int) -> Fraction:
        return k * u / (1 - k * u)

    def residual(offset: Fraction) -> Fraction:
        return gamma(c) * offset + (1 + gamma(c)) * gamma(e + 1) * (d + offset)

    e_mean = u * abs(mean) + (1 + u) * residual(gamma(e + c) * a)
    er = residual(e_mean)
    inner = gamma(e + c + 3) * (variance + e_mean**2) + er * (2 * e_mean + er) + 2 * u * (e_mean + er) ** 2
    e_variance = u * (variance + inner) + inner
    by, given = Roundings(e, c, float(u)), [np.array([float(v)]) for v in (mean, variance, a, d)]
    got_mean = error_of_mean(given[0], given[2], given[3], by)
    got_variance = error_of_variance(given[1], given[3], got_mean, by)
    assert got_mean[0] == pytest.approx(float(e_mean), rel=1e-13)
    assert got_variance[0] == pytest.approx(float(e_variance), rel=1e-13)


def tightest(n: int, sums: str, weighted: bool) -> tuple[float, float]:
    """Return, for the data that is worst for us, own error over the smallest bound of a class: of mean, of variance.

    The bounds of a two-pass implementation in float64: gamma_{h+4} mean|x| and gamma_{h+7} V, with h = n - 1 where
    sums are serial and ceil(log2 n) + 16 in a tree. Worst: one outlier, mean|x - mu| = 2 mean|x| (n - 1) / n.
    """
    h, u = n - 1 if sums == "serial" else math.ceil(math.log2(max(n, 2))) + 16, 2.0**-53
    by = Roundings.of(n, np.longdouble, weighted=weighted)
    spread = np.array([2 * (n - 1) / n])
    e_mean = error_of_mean(np.ones(1), np.ones(1), spread, by)
    e_variance = error_of_variance(np.ones(1), np.ones(1), np.full(1, 1e-14), by)
    return float(e_mean[0] / ((h + 4) * u)), float(e_variance[0] / ((h + 7) * u))


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="binary128 judges here, whose error is far smaller")
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("sums", ["serial", "tree"])
def test_own_error_is_under_a_thousandth_at_every_size(sums: str, weighted: bool) -> None:
    """Judging float64, longdouble's certified error is under 1e-3 of the tightest bound for n = 1, 2, 3, … values.

    Beyond these it follows from the depth, at most h = ceil(log2 n) + 17 as the next test has it: the worst of the
    four, a mask's mean against a tree, is about (1 + 2 (h + 3)) / (h + 3) / 2048 < 2.04 / 2048 < 1e-3.
    """
    sizes = [*range(1, 2200), 4999, 10**5, 10**6 + 7, 10**7]
    assert max(max(tightest(n, sums, weighted)) for n in sizes) < 1e-3


def test_depth_exceeds_a_trees_by_one_at_most() -> None:
    """A pairwise sum is at most one addition deeper than the ceil(log2 n) + 16 that a tree is allowed."""
    sizes = [*range(1, 2200), 4999, 10**5, 10**6 + 7, 10**7]
    assert max(summation_depth(n) - math.ceil(math.log2(n)) - 16 for n in sizes) == 1


@pytest.mark.parametrize("n", [1, 2, 10, 100, 2000])
def test_binary128_is_ten_digits_better_still(n: int) -> None:
    """Added up one by one, binary128 is certified to 1e-12 of a serial float64 bound."""
    by = Roundings.of(n, BINARY128)
    e_mean = error_of_mean(np.ones(1), np.ones(1), np.full(1, 2.0), by)
    assert by.u == roundoff(BINARY128) == 2.0**-113
    assert e_mean[0] / ((n + 3) * 2.0**-53) < 1e-12
