"""Sums that no order of adding rounds: found in the data, and held to exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.cases.whole_numbers import channel
from conformance.judging.bounds.bounds import BatchStatistics, Bounds
from conformance.judging.bounds.exact_sums import held, power_of_two, unrounded
from conformance.judging.bounds.gradients import GradientBounds
from conformance.model.numerics import Numerics, Units
from reference import Semantics, Spec
from reference.batches import observe

N = 1 << 16
F32 = Units.of("float32", "float32")
WORDS = [{"variance": "two_pass"}, {"variance": "fast", "clamped": True}, {"variance": "two_pass", "affine": "folded"}]


def batch_of(x):
    """Return the exact statistics of an (n, channels) batch."""
    return BatchStatistics.of(observe(x.astype(np.float64), None, Spec(axis=1), Semantics()))


def whole_numbers(n, mean, seed=0):
    """Return one channel of whole numbers around a mean, with variance 3/4, and its cotangent."""
    z, dy = channel(n, np.random.default_rng(seed))
    return (z + mean)[:, None], dy[:, None]


@given(
    st.integers(2, 300), st.integers(0, 2**32), st.sampled_from([1, 3, 1000]), st.sampled_from(["float32", "float16"])
)
def test_what_is_said_to_be_unrounded_is_exact_in_every_order(n, seed, most, dtype):
    """Serial sums of permutations, and pairwise ones, are the exact sum wherever it is said so."""
    rng = np.random.default_rng(seed)
    terms = rng.integers(-most, most + 1, (n, 4)) * 2.0 ** rng.integers(-6, 0)
    bits = {"float32": 24, "float16": 11}[dtype]
    exact = unrounded(terms, axes=(0,), bits=bits, smallest=2.0**-14)[0]
    for _ in range(4):
        narrow = rng.permutation(terms).astype(dtype)
        serial = np.add.accumulate(narrow, axis=0, dtype=dtype)[-1].astype(np.float64)
        assert (serial == terms.sum(0))[exact].all()


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (np.full(2**12, 2.0**12), True),
        (np.append(np.full(2**12, 2.0**12), 1.0), False),
        (np.array([2.0**-149, 2.0**-149]), False),  # flushed to 0 by many
        (np.array([1.0, np.nan]), False),
        (np.array([1.0, np.inf]), False),
        (np.zeros(5), True),
        (np.append(np.ones(100), 0.1), False),
    ],
)
def test_the_edges_of_what_is_exact(terms, said):
    """2^24 of a quantum is the most, values of 25 bits are too fine, and what is not finite is not exact."""
    assert unrounded(terms[:, None], axes=(0,), bits=24, smallest=2.0**-126).item() is said


def test_a_late_value_that_is_not_whole_is_seen():
    """The first few values decide only that a sum rounds, never that it does not."""
    terms = np.ones((1000, 1))
    terms[-1] = 1 / 3
    assert not unrounded(terms, axes=(0,), bits=24, smallest=0.0).any()


def test_numbers_of_so_many_bits_and_powers_of_two():
    """A mantissa of 11 bits is held, one of 12 is not; -8 is a power of 2, 0 and 6 are none."""
    assert held(np.array([2047.0, 2049.0, 0.0, 2.0**-30]), 11).tolist() == [True, False, True, True]
    assert power_of_two(np.array([-8.0, 0.0, 6.0, np.inf])).tolist()[:3] == [True, False, False]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_nothing_is_allowed_where_nothing_rounds(words, mean):
    """Mean, variance, r and the sums behind the gradients of 65,536 whole numbers have no error at all."""
    x, dy = whole_numbers(N, mean)
    batch, b = batch_of(x), Bounds(Numerics(root="rounded", **words), F32, N, 0.25)
    assert b.e_mean(batch).item() == b.e_variance(batch).item() == 0
    used = b.used_of(batch)
    assert used.e_r.item() == 0
    gradient = GradientBounds(b, batch, used, dy, np.zeros(()))
    assert gradient.e_mean_dy.item() == gradient.e_mean_dyz.item() == 0
    dx = gradient.e_dx_train(np.full((1, 1), 2.0), 1.0)
    assert (dx <= 32 * F32.u * 2 * np.abs(dy).max() * 3).all()


@pytest.mark.parametrize("words", WORDS)
def test_one_element_that_is_left_out_is_seen(words):
    """Of 65,536 whole numbers one that is missing in a sum moves mean, variance and both sums of gradients too far."""
    x, dy = whole_numbers(N, 0.0)
    batch, b = batch_of(x), Bounds(Numerics(root="rounded", **words), F32, N, 0.25)
    gradient = GradientBounds(b, batch, b.used_of(batch), dy, np.zeros(()))
    at = int(np.flatnonzero((x[:, 0] != 0) & (dy[:, 0] != 0))[0])
    for lost, allowed in [
        (x[at, 0] / N, b.e_mean(batch)),
        (x[at, 0] ** 2 / N, b.e_variance(batch)),
        (dy[at, 0] / N, gradient.e_mean_dy),
        (dy[at, 0] * x[at, 0] / N, gradient.e_mean_dyz),
    ]:
        assert abs(lost) > allowed.item()


def test_what_rounds_is_bounded_as_before():
    """Ordinary data, running means, an approximate root and float64 gain nothing by whole numbers elsewhere."""
    x, dy = whole_numbers(N, 0.0)
    ordinary = batch_of(np.concatenate([x, np.random.default_rng(0).normal(size=(N, 1))], 1))
    e_mean = Bounds(Numerics(), F32, N, 0.25).e_mean(ordinary)[0]
    assert e_mean[0] == 0
    assert e_mean[1] > 1e3 * F32.u
    batch = batch_of(x)
    assert Bounds(Numerics(variance="stable"), F32, N, 0.25).e_mean(batch).item() > 1e3 * F32.u
    approximate = Bounds(Numerics(), F32, N, 0.25)
    gradient = GradientBounds(approximate, batch, approximate.used_of(batch), dy, np.zeros(()))
    assert gradient.e_mean_dyz.item() > 1e3 * F32.u * 0.1
    wide = Bounds(Numerics(root="rounded"), Units.of("float64", "float64"), N, 0.25)
    assert wide.e_mean(batch_of(x)).item() > 0


def test_an_exact_mean_may_be_corrected_by_what_rounds():
    """Where a sum is exact the mean plus the mean of what it leaves is off by the roundings of that, and allowed."""
    x = np.rint(np.random.default_rng(5).normal(size=(128, 64)) * 2**16) / 2**16
    batch, b = batch_of(x), Bounds(Numerics(variance="two_pass"), F32, 128, 1e-3)
    mean = x.astype(np.float64).mean(0).astype(np.float32)
    corrected = mean.copy()
    for row in x.astype(np.float32):
        corrected += (row - mean) / np.float32(128)
    exact = b.adds_x(batch).ravel() & (mean == batch.mean.ravel())
    off = np.abs(corrected - batch.mean.ravel())
    assert (off[exact] > 0).any()
    assert (off <= b.e_mean(batch).ravel()).all()


def test_odd_counts_round_only_the_quotient():
    """Of 65,537 values the mean of whole numbers is off by two roundings of itself, not by thousands of the sum."""
    x, _ = whole_numbers(N, 3.0)
    batch = batch_of(np.concatenate([x, [[3.0]]]))
    fast = Bounds(Numerics(variance="fast"), F32, N + 1, 0.25).e_mean(batch).item()
    assert 0 < fast < 2.5 * F32.u * 3


def test_means_of_parts_round_where_their_counts_are_no_powers_of_2():
    """139 means of 943 values each, averaged again, are off by more than a sum that is divided once, and may be."""
    n = 139 * 943
    x, _ = whole_numbers(n, 0.0)
    parts = x.astype(np.float32).reshape(139, 943)
    mean = np.float32(np.add.accumulate(parts.sum(1) / np.float32(943))[-1] / np.float32(139))
    batch = batch_of(x)
    once, in_turn = (Bounds(Numerics(means=means), F32, n, 0.25).e_mean(batch).item() for means in ("once", "in_turn"))
    assert once < abs(mean) <= in_turn
    assert Bounds(Numerics(means="in_turn"), F32, N, 0.25).e_mean(batch_of(whole_numbers(N, 0.0)[0])).item() == 0
