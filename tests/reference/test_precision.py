"""The reference's own error: certified against exact rationals, and small beside the bounds that it serves."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conformance.judging.bounds.bounds import Affine, BatchStatistics, Bounds
from conformance.judging.bounds.exact_sums import unrounded
from conformance.model.numerics import Numerics, Units
from reference import Parameters, Refusal, Semantics, Spec, State, train
from reference.batch_norm import moments
from reference.batches import observe
from reference.own_error import Roundings, error_of_mean, error_of_variance
from reference.precision import roundoff, widened, working_dtype

EPSILON = 1e-3


def test_working_dtype() -> None:
    """float64 judges float32 and halves; a wide longdouble judges float64 wherever one tensor has it."""
    assert working_dtype(["float16", "bfloat16", "float32"]) is np.float64
    assert working_dtype([]) is np.float64
    assert working_dtype(["float32", "float64"], np.clongdouble) is np.clongdouble  # stands for any type that is wide
    assert working_dtype(["float32"], np.float64) is np.float64


def test_binary128_stands_in_for_a_narrow_longdouble() -> None:
    """Where longdouble is float64, judging float64 takes a type of 112 bits of fraction, of which arrays are made."""
    wide = working_dtype(["float64"], np.float64)
    assert np.finfo(np.dtype(wide)).nmant == 112
    assert np.zeros(2, wide).dtype.type is wide


def test_a_narrow_longdouble_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numpy-quaddtype, judging float64 where longdouble is float64 is refused by name, not done badly."""
    monkeypatch.setitem(sys.modules, "numpy_quaddtype", None)
    with pytest.raises(Refusal, match=r"has 52 bits of fraction here, and judging float64 needs 63; pip install numpy"):
        working_dtype(["float64"], np.float64)


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32", "float64"])
def test_widened_values_are_exact(stored: str) -> None:
    """Every storage dtype goes to every working dtype and back without a rounding, subnormal numbers too."""
    info = ml_dtypes.finfo(stored)
    values = np.array([1 + float(info.eps), -float(info.smallest_subnormal), float(info.max), np.inf]).astype(stored)
    for dtype in (np.float64, np.longdouble, working_dtype(["float64"], np.float64)):
        wide = widened(values, dtype)
        assert wide.dtype.type is dtype
        assert (wide.astype(np.float64) == values.astype(np.float64)).all()


def test_roundoff() -> None:
    """The unit roundoff is 2**-24, 2**-53 and, where longdouble has 63 bits of fraction, 2**-64."""
    assert [roundoff(d) for d in (np.float32, np.float64)] == [2.0**-24, 2.0**-53]
    assert roundoff(np.longdouble) == 2.0 ** -(np.finfo(np.longdouble).nmant + 1)


def bound(x: Any, dtype: str, sums: str = "tree", own: Any = None) -> Any:
    """Return the bound on y of a two-pass computation; with `own`, from the certified errors of the statistics."""
    batch, zero = BatchStatistics.of(observe(x, None, Spec(axis=1), Semantics())), np.zeros(1)
    mean, variance = batch.mean, batch.variance
    info = np.finfo(dtype)
    units = Units(float(info.eps) / 2, float(info.smallest_normal), float(np.finfo("float64").max), 0.0, 0.0, np.inf)
    bounds = Bounds(Numerics(variance="two_pass", sums=sums), units, x.shape[0], EPSILON)  # pyright: ignore
    e_mean = bounds.e_mean(batch)
    e_variance = bounds.e_variance(batch)
    if own is not None:
        e_mean = error_of_mean(mean, batch.mean_abs, batch.mean_deviation, own)
        e_variance = error_of_variance(variance, batch.mean_deviation, e_mean, own)
    y, used = (x - mean) / np.sqrt(variance + EPSILON), bounds.used(mean, variance, e_mean, e_variance)
    return bounds.e_y(x, y, Affine(np.ones(1), zero, zero, zero), used)


@pytest.mark.parametrize("sums", ["serial", "tree"])
@pytest.mark.parametrize("storage", ["float32", "float64"])
@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (3, 2), (1e4, 1), (-50, 1e-3), (1e6, 1e-2)])
def test_own_error_is_under_a_thousandth_of_the_bound(storage: str, mean: float, deviation: float, sums: str) -> None:
    """The output's bound at the reference's own precision is under 1e-3 of the tightest one, from two values on."""
    dtype = working_dtype([storage])
    for n in [*range(2, 21), 127, 300, 1927, 4000]:
        x = np.random.default_rng(n).normal(mean, deviation, (n, 2)).astype(storage).astype(dtype)
        own = bound(x, np.dtype(dtype).name, own=Roundings.of(n, dtype))
        exact = unrounded(x, axes=(0,), bits=24, smallest=0.0)[0] & (storage == "float32")
        assert (own / bound(x, storage, sums))[:, ~exact].max(initial=0) < 1e-3
        assert (moments(x[:, exact], (0,))[0] * n == x[:, exact].sum(0)).all()  # nothing rounds, here as there


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
    allowed = bound(x, np.dtype(dtype).name, own=Roundings.of(40, dtype))[:, 0]
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
