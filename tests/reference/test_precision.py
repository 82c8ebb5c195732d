"""The reference's own error: certified against exact rationals, and small beside the bounds that it serves."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from conformance.bounds import Batch, Bounds, Numerics, Units
from reference import Parameters, Refusal, Semantics, Spec, State, train
from reference.batch_norm import moments
from reference.batches import total
from reference.precision import roundoff, summation_depth, working_dtype

EPSILON = 1e-3


def test_working_dtype() -> None:
    """float64 judges float32 and halves; longdouble judges float64 wherever one tensor has it."""
    assert working_dtype(["float16", "bfloat16", "float32"]) is np.float64
    assert working_dtype([]) is np.float64
    assert working_dtype(["float32", "float64"]) is np.longdouble
    assert working_dtype(["float32"], np.float64) is np.float64


def test_a_narrow_longdouble_is_refused() -> None:
    """Where longdouble is float64, judging float64 is refused by name, not done badly."""
    with pytest.raises(Refusal, match="longdouble has 52 bits of fraction here, and judging float64 needs 63; judge"):
        working_dtype(["float64"], np.float64)


def test_roundoff() -> None:
    """The unit roundoff is 2**-24, 2**-53 and, where longdouble has 63 bits of fraction, 2**-64."""
    assert [roundoff(d) for d in (np.float32, np.float64)] == [2.0**-24, 2.0**-53]
    assert roundoff(np.longdouble) == 2.0 ** -(np.finfo(np.longdouble).nmant + 1)


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 1000, 5000])
def test_sums_are_as_shallow_as_stated(n: int) -> None:
    """Summing n ones and a tiny first one loses no more than `summation_depth` roundings, along any axis."""
    rng = np.random.default_rng(n)
    values = rng.uniform(1, 2, (n, 3)).astype(np.float32)
    exact = [sum((Fraction(float(v)) for v in column), Fraction(0)) for column in values.T]
    got = total(values, (0,))[0]
    for mine, true in zip(got, exact, strict=True):
        assert abs(Fraction(float(mine)) - true) <= summation_depth(n) * Fraction(2) ** -24 * true


def test_summation_depth_grows_with_the_logarithm() -> None:
    """Up to 128 terms go through 24 additions at most, a million through 37."""
    assert [summation_depth(n) for n in (1, 128, 129, 256, 257, 1_000_000)] == [24, 24, 25, 25, 26, 37]


def bound(x: Any, dtype: str, kind: str, depth: int | None = None) -> Any:
    """Return the bound on y for a two-pass computation of tree depth, in a dtype; at the reference's own depth too."""
    mean, variance = x.mean(0, keepdims=True), x.var(0, keepdims=True)
    batch = Batch.of(x, mean, variance, (0,))
    info = np.finfo(dtype)
    units = Units(float(info.eps) / 2, float(info.smallest_normal), float(np.finfo("float64").max), 0.0, 0.0, np.inf)
    bounds = Bounds(Numerics(variance=kind, sums="tree"), units, x.shape[0], EPSILON)  # pyright: ignore
    bounds.depth = depth or bounds.depth
    e_mean = bounds.e_mean(batch)
    used = bounds.used(mean, variance, e_mean, bounds.e_variance(batch, e_mean))
    y = (x - mean) * used.r
    return bounds.e_y(x, y, np.ones(1), np.zeros(1), used)


@pytest.mark.parametrize("storage", ["float32", "float64"])
@pytest.mark.parametrize(("mean", "deviation", "n"), [(0, 1, 10), (3, 2, 1000), (1e4, 1, 300), (-50, 1e-3, 4000)])
def test_own_error_is_under_a_thousandth_of_the_bound(storage: str, mean: float, deviation: float, n: int) -> None:
    """The bound at the reference's own precision and depth is under 1e-3 of the tightest one it judges by."""
    dtype = working_dtype([storage])
    rng = np.random.default_rng(n)
    x = rng.normal(mean, deviation, (n, 2)).astype(storage).astype(dtype)
    own = bound(x, np.dtype(dtype).name, "two_pass", summation_depth(n))
    assert (own / bound(x, storage, "two_pass")).max() < 1e-3


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (1e6, 1), (1e8, 1e-2)])
def test_own_error_is_within_its_own_bound(dtype: Any, mean: float, deviation: float, helper: Any) -> None:
    """Against exact rationals, an ill-conditioned batch is off by less than the bound at the working precision."""
    exact = helper("exact")
    x = np.random.default_rng(3).normal(mean, deviation, (40, 1)).astype(dtype)
    y = train(x, Parameters(), State(np.zeros(1, dtype), np.ones(1, dtype)), Spec(epsilon=EPSILON), Semantics()).y
    values = [exact.number(v) for v in x[:, 0]]
    middle = sum(values, Fraction(0)) / len(values)
    variance = sum(((v - middle) ** 2 for v in values), Fraction(0)) / len(values)
    root = exact.root(variance + exact.number(EPSILON))
    allowed = bound(x, np.dtype(dtype).name, "two_pass", summation_depth(40))[:, 0]
    for got, value, most in zip(y[:, 0], values, allowed, strict=True):
        assert abs(exact.number(got) - (value - middle) / root) <= exact.number(most)


def test_corrected_moments_survive_a_large_mean(helper: Any) -> None:
    """Mean 1e8 and deviation 1e-2: the corrected two passes keep 10 digits of the variance in float64."""
    exact = helper("exact")
    x = np.random.default_rng(8).normal(1e8, 1e-2, (500, 1))
    values = [exact.number(v) for v in x[:, 0]]
    middle = sum(values, Fraction(0)) / len(values)
    variance = sum(((v - middle) ** 2 for v in values), Fraction(0)) / len(values)
    step = train(x, Parameters(), State(np.zeros(1), np.ones(1)), Spec(), Semantics())
    assert abs(exact.number(step.variance[0]) / variance - 1) < 1e-10


def test_each_pass_corrects_what_the_one_before_rounded() -> None:
    """A sum that rounds three times is mended by the second pass over the mean, and a rounded mean by the variance."""
    x = np.array([2.0**53, 1.0, 1.0, 1.0])
    mean, _ = moments(x, (0,))
    assert abs(Fraction(mean[0]) - Fraction(2**53 + 3, 4)) <= Fraction(1, 4)
    ulp = np.spacing(1e8)
    _, variance = moments(np.array([1e8, 1e8, 1e8 + ulp]), (0,))
    assert abs(variance[0] / ulp**2 - 2 / 9) < 1e-15
