"""Bounds: never exceeded by correct code of the declared class, and exceeded by code of a lesser one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.judging.bounds.bounds import Affine, BatchStatistics, Bounds, NormalizingStatistics, rho
from conformance.judging.bounds.gradients import GradientBounds
from conformance.judging.bounds.roundings import binade
from conformance.judging.bounds.tangents import TangentBounds, e_infer, e_infer_mean_dgamma
from conformance.judging.step import OWN
from conformance.model.numerics import Numerics, Units, finfo
from reference import Semantics, Spec
from reference.batches import observe

F32 = Units.of("float32", "float32")


def batch_of(x, dtype=np.float64):
    """Return the exact statistics of an (n, channels) batch."""
    return BatchStatistics.of(observe(x.astype(dtype), None, Spec(axis=1), Semantics()))


def bounds(n, **numerics):
    """Return float32 formulas."""
    return Bounds(Numerics(**numerics), F32, n, 1e-3)


@given(st.integers(2, 400), st.sampled_from([0.0, 3.0, 1e2, 1e4, 1e6]), st.integers(0, 2**32))
def test_serial_float32_sums_stay_inside(n, ratio, seed):
    """Mean and variance summed one by one in float32 are within the bounds of grade S; each class within its own."""
    x = (np.random.default_rng(seed).normal(size=(n, 8)) + ratio).astype(np.float32)
    batch, s = batch_of(x), bounds(n)
    mean = np.add.accumulate(x, axis=0, dtype=np.float32)[-1:] / np.float32(n)
    squares = np.add.accumulate((x - mean) ** 2, axis=0, dtype=np.float32)[-1:] / np.float32(n)
    fast = np.add.accumulate(x * x, axis=0, dtype=np.float32)[-1:] / np.float32(n) - mean * mean
    e_mean = s.e_mean(batch)
    assert rho(mean, batch.mean, e_mean).max() <= 1
    assert rho(squares, batch.variance, s.e_variance(batch)).max() <= 1
    assert rho(fast, batch.variance, bounds(n, variance="fast").e_variance(batch)).max() <= 1


def test_the_fast_variance_leaves_class_a():
    """E[x²] - E[x]² at mean / standard deviation 1000 is outside two-pass bounds by orders of magnitude."""
    x = (np.random.default_rng(0).normal(size=(256, 8)) + 1e3).astype(np.float32)
    batch, a = batch_of(x), bounds(256)
    fast = (x * x).mean(0, keepdims=True) - x.mean(0, keepdims=True) ** 2
    assert rho(fast, batch.variance, a.e_variance(batch)).max() > 100


def test_bounds_are_tight():
    """Half a unit in the last place of a stored half-precision output is nearly all that is allowed."""
    numerics, units = Numerics(sums="tree"), Units.of("float32", "bfloat16")
    x = np.random.default_rng(0).normal(size=(64, 32))
    batch, zero = batch_of(x), np.zeros(())
    b = Bounds(numerics, units, 64, 1e-3)
    e_mean = b.e_mean(batch)
    used = b.used(batch.mean, batch.variance, e_mean, b.e_variance(batch))
    y = (batch.deviation) * used.r
    allowed = b.e_y(batch.x, y, Affine(np.ones(()), zero, zero, zero), used)
    assert (allowed <= np.abs(y) * 2.0**-8 * 1.02 + 1e-5).all()


def test_overflow_is_vacuous_not_wrong():
    """Where float32 sums may overflow nothing is promised, and nothing is judged."""
    x = np.full((4, 1), 1e38)
    b = bounds(4)
    assert np.isposinf(b.e_mean(batch_of(x.astype(np.float32)))).all()
    assert rho(np.array([np.nan]), np.array([1.0]), np.array([np.inf])).tolist() == [0.0]


@pytest.mark.parametrize("affine", ["direct", "folded"])
@pytest.mark.parametrize(("gamma", "r"), [(1e-3, 1e3), (1e3, 1e-3), (0.5, 30.0)])
def test_a_product_that_overflows_in_any_order_is_vacuous(affine, gamma, r):
    """Of ((x - m) r) gamma, (gamma (x - m)) r and (x r - m r) gamma one overflows; so may dy gamma."""
    size, zero = np.full((1, 1), 8e37), np.zeros((1, 1))
    used, b = NormalizingStatistics(zero, zero, np.full((1, 1), r), zero), bounds(1, affine=affine)
    g = np.full((1, 1), gamma)
    assert np.isposinf(b.e_y(size, size * gamma * r, Affine(g, zero, zero, zero), used)).all()
    gradient = GradientBounds(b, batch_of(size), used, size, zero)
    assert np.isposinf(gradient.e_dx_infer(g)).all()


@pytest.mark.parametrize(("gamma", "r"), [(3e-35, 1e-8), (1e-39, 1e4)])
def test_a_product_that_underflows_before_it_is_multiplied_stays_inside(gamma, r):
    """Gamma, or gamma r, is below float32's smallest number, and flushed to 0; dy and x - m are large."""
    size, zero = np.full((1, 1), 1e33), np.zeros((1, 1))
    used, g = NormalizingStatistics(zero, zero, np.full((1, 1), r), zero), np.full((1, 1), gamma)
    right, b = size * gamma * r, bounds(1)
    assert rho(0 * right, right, GradientBounds(b, batch_of(size), used, size, zero).e_dx_infer(g)).max() <= 1
    assert rho(0 * right, right, b.e_y(size, right, Affine(g, zero, zero, zero), used)).max() <= 1


@pytest.mark.parametrize(("dy", "x", "r"), [(1e-39, 1e20, 1e10), (1e30, 1e-39, 1e5), (1e30, 1e-30, 1e-9)])
def test_factors_of_dgamma_may_underflow_before_they_are_multiplied(dy, x, r):
    """Of dy (x - m) r, dy, x - m, or (x - m) r is flushed to 0, and what it is multiplied with is large."""
    dy, x, r, zero = np.full((2, 1), dy), np.full((2, 1), x), np.full((1, 1), r), np.zeros((1, 1))
    allowed = GradientBounds(bounds(2), batch_of(x), NormalizingStatistics(zero, zero, r, zero), dy, 0 * dy).e_mean_dyz
    assert rho(zero, (dy * x * r)[:1], allowed).max() <= 1


def test_a_distance_times_r_that_overflows_makes_dgamma_vacuous():
    """In inference (x - m) r may be infinite where dy makes it small again."""
    dy, x, r, zero = np.full((2, 1), 1e-30), np.full((2, 1), 1e37), np.full((1, 1), 1e3), np.zeros((1, 1))
    assert np.isposinf(
        GradientBounds(bounds(2), batch_of(x), NormalizingStatistics(zero, zero, r, zero), dy, 0 * dy).e_mean_dyz
    ).all()


def test_tangents_in_inference_may_underflow_and_overflow_as_gradients_do():
    """Gamma r X and r mean(dy X): what is flushed before a large factor, and what overflows before a small one."""
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    batch, b = batch_of(np.zeros((2, 1))), bounds(2)

    def y(gamma, r, x):
        return e_infer(b, NormalizingStatistics(zero, zero, r * one, zero), gamma * one, x * one)

    def dgamma(dy, r, x):
        each = np.ones((2, 1))
        return e_infer_mean_dgamma(b, batch, NormalizingStatistics(zero, zero, r * one, zero), dy * each, x * each)

    assert y(3e-35, 1e-8, 1e33) >= 3e-10
    assert dgamma(1e-39, 1e10, 1e20) >= 1e-9
    assert np.isposinf(y(1e3, 1e-3, 8e37))
    assert np.isposinf(dgamma(1e-30, 1e3, 1e37))


@pytest.mark.parametrize(("n", "size"), [(1, 1e38), (64, 2e36)])
def test_terms_of_dx_that_overflow_before_they_cancel_make_it_vacuous(n, size):
    """Differentiated line by line, dy gamma r, or its sum, is infinite where dy less its mean is 0."""
    x, one, zero = np.arange(float(n))[:, None], np.ones((1, 1)), np.zeros((1, 1))
    batch, b = batch_of(x), bounds(n)
    gradient = GradientBounds(b, batch, NormalizingStatistics(batch.mean, zero, one, zero), np.full((n, 1), size), zero)
    with np.errstate(invalid="ignore"):  # of one value there is no other
        assert np.isposinf(gradient.e_dx_train(3 * one, 1.0)).all()


@pytest.mark.parametrize("large", ["x", "dy", "gamma"])
def test_what_is_too_large_for_the_arithmetic_that_takes_it_in_is_vacuous(large):
    """1e40 of float64 is infinite in float32, also where what it is multiplied with makes it small again."""
    x, dy, gamma = (np.full((2, 1), 1e40 if name == large else 1e-30) for name in ("x", "dy", "gamma"))
    b = Bounds(Numerics(accumulate="float32"), Units.of("float32", "float64", "float64", "float64"), 2, 1e-3)
    zero = np.zeros((1, 1))
    used = NormalizingStatistics(zero, b.taken(np.abs(x).max(0, keepdims=True)), np.full((1, 1), 1e-20), zero)
    gradient = GradientBounds(b, batch_of(x), used, dy, b.taken(dy))
    with np.errstate(invalid="ignore"):  # 0 times infinity is vacuous, too
        assert np.isposinf(gradient.e_mean_dyz if large == "x" else gradient.e_dx_infer(gamma)).all()


@pytest.mark.parametrize(
    ("got", "expected", "bound", "ratio"),
    [
        (1.5, 1.0, 1.0, 0.5),
        (np.nan, 1.0, 1.0, np.inf),
        (np.inf, 1.0, 1.0, np.inf),
        (1.0, 1.0, 0.0, 0.0),
        (1.1, 1.0, 0.0, np.inf),
    ],
)
def test_rho(got, expected, bound, ratio):
    """ρ is error over bound; non-finite against finite is infinite; exact against a zero bound is zero."""
    assert rho(np.array([got]), np.array([expected]), np.array([bound]))[0] == ratio


def test_classes_are_named():
    """Labels are those of the documentation."""
    ways = [("two_pass", "direct"), ("stable", "folded"), ("fast", "direct"), ("fast", "folded")]
    labels = [Numerics(variance=v, affine=a, sums="tree").label for v, a in ways]
    assert labels == ["A·T", "A′·T", "B·T", "B′·T"]
    assert Numerics(accumulate="input").label == "C·S"


@pytest.mark.parametrize("momentum", [0.9, 0.99, 0.999, 0.9999])
def test_zero_debiasing_stays_inside_for_a_thousand_steps(momentum):
    """hidden / (1 - momentum**t) in float32, the hidden average exact, for t from 1 to 1000."""
    hidden = np.array([0.7])
    for t in (1, 2, 4, 32, 100, 300, 1000):
        got = np.float32(hidden) / (np.float32(1) - np.float32(momentum) ** np.int32(t))
        exact = np.float32(hidden).astype(float) / (1 - momentum**t)
        assert rho(got, exact, bounds(64).e_debiased(exact, np.zeros(1), momentum, t)).max() <= 1


def test_a_momentum_near_one_widens_the_trajectory_not_the_step():
    """The error already in the state is carried along by the kept fraction, and only there."""
    old, batch, new = np.ones(1), 2 * np.ones(1), 1.0004 * np.ones(1)
    exact = bounds(64).e_moving(old, batch, new, np.zeros(1), np.zeros(1), 4e-4)
    carried = bounds(64).e_moving(old, batch, new, exact, np.zeros(1), 4e-4)
    assert carried > 1.9 * exact


class Coarse:
    """Arithmetic whose every rounding is a whole unit of 1e-6, in a direction that is chosen: the worst that may be."""

    u = 1e-6

    def __init__(self, direction, seed):
        self.direction, self.rng = direction, np.random.default_rng(seed)

    def __call__(self, exact):
        """Round."""
        signs = {"up": 1.0, "down": -1.0, "away": np.sign(exact), "any": self.rng.choice([-1.0, 1.0], exact.shape)}
        return exact + signs[self.direction] * self.u * np.abs(exact)


class Nearest(Coarse):
    """Arithmetic that rounds to nearest: off by a whole unit of the power of 2 below, in a direction that is chosen."""

    def __call__(self, exact):
        """Round."""
        return exact + super().__call__(binade(np.abs(exact)) * np.sign(exact)) - binade(np.abs(exact)) * np.sign(exact)


COARSE = Units(Coarse.u, 0.0, 1e308, 0.0, 0.0, 1e308)


def welford(x, fl):
    """Return mean and variance of an (n, channels) batch, value by value."""
    mean, square = x[0], np.zeros(x.shape[1])
    for k in range(2, len(x) + 1):
        apart = fl(x[k - 1] - mean)
        new = fl(mean + fl(apart / k))
        square, mean = fl(square + fl(apart * fl(x[k - 1] - new))), new
    return mean, fl(square / len(x))


def chan(x, fl, split):
    """Return count, mean and sum of squared deviations, merged by Chan's rule; split: where a part is cut in two."""
    if len(x) == 1:
        return 1, x[0], np.zeros(x.shape[1])
    (n, m, s), (k, other, t) = (chan(part, fl, split) for part in np.split(x, [split(len(x))]))
    apart, share = fl(other - m), fl(np.full(x.shape[1], k / (n + k)))
    between = fl(fl(fl(apart * apart) * n) * share)
    return n + k, fl(m + fl(apart * share)), fl(fl(s + t) + between)


@pytest.mark.parametrize("direction", ["up", "down", "away", "any"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 16, 33, 128])
@pytest.mark.parametrize("ratio", [0.0, 2.0, 1e3])
def test_running_means_stay_inside_whatever_way_they_round(n, ratio, direction):
    """Welford, and Chan's merges of halves, of a third, of one value, with every rounding as large as it may be."""
    b = Bounds(Numerics(variance="stable", merge="moved"), COARSE, n, 1e-3)
    for seed, pattern in enumerate((lambda z: z, lambda z: np.sort(z, 0), lambda z: np.cumsum(z, 0), np.zeros_like)):
        x = ratio * np.ones((n, 32)) + pattern(np.random.default_rng(seed).normal(size=(n, 32))).astype(np.float32)
        batch, fl = batch_of(x), Coarse(direction, seed)
        found = [welford(x, fl)]
        for split in (lambda size: size // 2, lambda size: size - max(size // 3, 1), lambda size: size - 1):
            _, mean, square = chan(x, fl, split)
            found.append((mean, fl(square / n)))
        for mean, variance in found:
            assert rho(mean[None], batch.mean, b.e_mean(batch)).max() <= 1
            assert rho(variance[None], batch.variance, b.e_variance(batch)).max() <= 1


def weighted(x, fl, split):
    """Return count, mean and sum of squared deviations of merges (m n + x k) (1 / (n + k)); split: as for `chan`."""
    if len(x) == 1:
        return 1, x[0], np.zeros(x.shape[1])
    (n, m, s), (k, other, t) = (weighted(part, fl, split) for part in np.split(x, [split(len(x))]))
    share, apart = fl(np.full(x.shape[1], 1 / (n + k))), fl(m - other)
    between = fl(fl(fl(fl(apart * apart) * n) * k) * share)
    return n + k, fl(fl(fl(m * n) + fl(other * k)) * share), fl(fl(s + t) + between)


@pytest.mark.parametrize("direction", ["up", "down", "away", "any"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 16, 33, 128])
@pytest.mark.parametrize("ratio", [0.0, 2.0, 1e3])
def test_weighted_merges_of_means_stay_inside_whatever_way_they_round(n, ratio, direction):
    """Means merged as (m n + x k) / (n + k), value by value, by halves and of thirds: four roundings of each mean."""
    b = Bounds(Numerics(variance="stable"), COARSE, n, 1e-3)
    for seed, pattern in enumerate((lambda z: z, lambda z: np.sort(z, 0), lambda z: np.cumsum(z, 0), np.zeros_like)):
        x = ratio * np.ones((n, 32)) + pattern(np.random.default_rng(seed).normal(size=(n, 32))).astype(np.float32)
        batch, fl = batch_of(x), Coarse(direction, seed)
        for split in (lambda size: size // 2, lambda size: size - max(size // 3, 1), lambda size: size - 1):
            _, mean, square = weighted(x, fl, split)
            assert rho(mean[None], batch.mean, b.e_mean(batch)).max() <= 1
            assert rho(fl(square / n)[None], batch.variance, b.e_variance(batch)).max() <= 1


@pytest.mark.parametrize("direction", ["up", "down", "away", "any"])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 2.0, 1e3])
def test_a_mean_corrected_by_what_it_leaves_is_one_of_two_passes(n, ratio, direction):
    """m + mean(x - m), and V less the square of what is left: within what `two_pass` allows, however they round."""
    x = np.random.default_rng(n).normal(size=(n, 64)) + ratio
    batch, fl, b = batch_of(x), Coarse(direction, 0), Bounds(Numerics(), COARSE, n, 1e-3)

    def mean(values):
        total = in_turn(values, fl)
        return total / n if n & (n - 1) == 0 else fl(total * fl(np.full(total.shape, 1 / n)))

    first = mean(x)
    left = mean(fl(x - first))
    found = fl(first + left) if left.any() else first
    apart = fl(x - found)
    variance = fl(mean(fl(apart * apart)) - fl(mean(apart) ** 2))
    assert rho(found[None], batch.mean, b.e_mean(batch)).max() <= 1
    assert rho(variance[None], batch.variance, b.e_variance(batch)).max() <= 1


@pytest.mark.parametrize("direction", ["up", "down", "away", "any"])
@pytest.mark.parametrize("n", [2, 3, 4, 7, 8, 100])
@pytest.mark.parametrize("ratio", [0.0, 2.0, 1e3])
def test_sums_stay_inside_whatever_way_they_round(n, ratio, direction):
    """Two passes and one, with every rounding as large as it may be, the quotient by way of 1 / n included."""
    x = np.random.default_rng(n).normal(size=(n, 64)) + ratio
    batch, fl, power = batch_of(x), Coarse(direction, 0), n & (n - 1) == 0

    def mean(values):
        total = values[0]
        for row in values[1:]:
            total = fl(total + row)
        return total / n if power else fl(total * fl(np.full(total.shape, 1 / n)))

    two, fast = (Bounds(Numerics(variance=way), COARSE, n, 1e-3) for way in ("two_pass", "fast"))
    m = mean(x)
    apart = fl(x - m)
    variance, quick = mean(fl(apart * apart)), fl(mean(fl(x * x)) - fl(m * m))
    assert rho(m[None], batch.mean, two.e_mean(batch)).max() <= 1
    assert rho(variance[None], batch.variance, two.e_variance(batch)).max() <= 1
    assert rho(quick[None], batch.variance, fast.e_variance(batch)).max() <= 1


def in_turn(values, fl):
    """Add one after the other."""
    total = values[0]
    for row in values[1:]:
        total = fl(total + row)
    return total


def by_halves(values, fl):
    """Add as a tree."""
    if len(values) == 1:
        return values[0]
    return fl(sum(by_halves(part, fl) for part in np.split(values, [len(values) // 2])))


@pytest.mark.parametrize("direction", ["up", "down", "away"])
@pytest.mark.parametrize("n", [2, 3, 8, 65, 256])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 30.0, 1e4])
def test_sums_stay_inside_in_the_worst_orders(n, ratio, direction):
    """Large values first, all positive ones before the negative, in turn and by halves: the errors pile up, and fit."""
    x = np.sort(np.random.default_rng(n).normal(size=(n, 16)) + ratio, 0)
    b, fl, batch = Bounds(Numerics(), COARSE, n, 1e-3), Coarse(direction, 0), batch_of(x)
    k, size, net = b.averaging(batch), batch.mean_abs, np.abs(batch.mean)
    for order in (x, x[::-1], -x):
        for add in (in_turn, by_halves):
            total = add(order, fl)
            mean = (total / n if n & (n - 1) == 0 else fl(fl(np.full(16, 1 / n)) * total))[None]
            off = np.abs(np.abs(mean) - np.abs(x.mean(0)))
            assert (off <= b.signed(k, size, net)).all()
            assert (off <= b.apart(k, size, net, batch.mean_deviation, batch.n)).all()


def test_a_sum_that_cancels_and_one_of_equals_are_allowed_half():
    """Terms that add up to 0, and terms that are all the same: half of what any terms of that size are allowed."""
    b, one, none = Bounds(Numerics(), COARSE, 1000, 1e-3), np.ones(1), np.zeros(1)
    assert b.signed(2, one, none) < 0.51 * b.g(2) < b.signed(2, one, one)
    assert b.apart(2, one, one, none, 1000 * one) < 0.51 * b.g(2) < b.apart(2, one, one, one, 1000 * one)


@pytest.mark.parametrize("direction", ["up", "down", "away", "any"])
@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.9, 1.0])
def test_moving_averages_stay_inside_whatever_way_they_round(fraction, direction):
    """(1-a) old + a s and old - a (old - s), with 1 - a rounded from a rounded momentum."""
    rng, fl = np.random.default_rng(0), Coarse(direction, 0)
    old, s = rng.normal(size=(2, 1000)) * rng.choice([0.0, 1.0, 100.0], (2, 1000))
    kept = fl(np.full(1000, 1 - fraction))
    a = fl(1 - kept)
    b = Bounds(Numerics(), COARSE, 8, 1e-3)
    exact, none = (1 - fraction) * old + fraction * s, np.zeros(1000)
    allowed = b.e_moving(old, s, exact, none, none, fraction)
    for got in (fl(fl(kept * old) + fl(a * s)), fl(old - fl(fl(old - s) * a))):
        assert rho(got, exact, allowed).max() <= 1


def test_gamma_and_beta_are_rounded_when_they_are_taken_in():
    """Arithmetic in half rounds float32 parameters first, whatever x is; arithmetic in float32 does not."""
    """Arithmetic in half rounds float32 parameters first, whatever x is stored in; arithmetic in float32 does not."""
    assert Units.of("float16", "float16", "float16", "float32").parameters_u == 2.0**-11
    assert Units.of("float16", "float16", "float16", "float16").parameters_u == 0
    assert Units.of("float32", "float16", "float16", "float32").parameters_u == 0


@pytest.mark.parametrize("variance", ["two_pass", "fast"])
def test_flushing_to_zero_stays_inside(variance):
    """Arithmetic that flushes subnormal numbers to 0, where squares underflow and where the values themselves do."""

    def flushed(values):
        return np.where(np.abs(values) < F32.smallest, np.float32(0), values)

    for size in (1e-18, 3e-20, 1e-37, 2e-39):
        x = (size * np.random.default_rng(0).normal(size=(64, 32))).astype(np.float32)
        batch, b = batch_of(x), bounds(64, variance=variance, clamped=True)
        taken = flushed(x)
        mean = flushed(flushed(taken.sum(0, keepdims=True)) / np.float32(64))
        squares = flushed((taken - mean) ** 2) if variance == "two_pass" else flushed(taken**2)
        found = flushed(squares.sum(0, keepdims=True) / np.float32(64))
        found = found if variance == "two_pass" else np.maximum(found - flushed(mean * mean), 0)
        assert rho(mean, batch.mean, b.e_mean(batch)).max() <= 1
        assert rho(found, batch.variance, b.e_variance(batch)).max() <= 1


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="binary128 has precision to spare")
@pytest.mark.parametrize("sums", ["serial", "tree"])
@pytest.mark.parametrize("variance", ["two_pass", "stable", "fast"])
def test_the_reference_is_precise_enough_for_float64_at_every_size(variance, sums):
    """Its own part of the bounds stays below a thousandth, for sums of 1 to 300 values and of many."""
    units = Units.of("float64", "float64", "float64", "float64")
    for n in [*range(1, 301), 1000, 4097, 100_000]:
        batch = batch_of(np.random.default_rng(n).normal(size=(n, 2)), np.longdouble)
        assert Bounds(Numerics(variance=variance, sums=sums), units, n, 1e-3).certainty(batch) < OWN, n


def test_a_shift_with_products_of_its_own_is_off_by_more_than_one_of_the_scale():
    """As torch folds it into a convolution, x (gamma r) - (m r) gamma + beta, where the scale's rounding stays."""
    rng, f = np.random.default_rng(0), np.float32
    mean, variance, gamma, beta = (rng.uniform(low, low * 2, 20_000).astype(f) for low in (40, 1, 0.5, 0.25))
    x = (mean + rng.normal(size=mean.size)).astype(f)
    exact = [a.astype(np.float64) for a in (x, mean, variance, gamma, beta)]
    zero, r = np.zeros(()), f(1) / np.sqrt(variance + f(1e-3))
    y = x * (gamma * r) + (-mean * r * gamma + beta)
    wide_x, m, v, g, b = exact
    wanted = (wide_x - m) / np.sqrt(v + 1e-3) * g + b
    worst = []
    for shift in ("apart", "of_scale"):
        promised = bounds(1, affine="folded", shift=shift)
        used = promised.used(m, v, zero, zero)
        worst.append(rho(y, wanted, promised.e_y(wide_x, wanted, Affine(g, b, zero, zero), used)).max())
    assert worst[0] <= 1 < worst[1], worst


@pytest.mark.parametrize("direction", ["up", "down", "away", "any"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 40.0])
def test_a_folded_map_may_multiply_by_gamma_last(beta, direction):
    """gamma (x r - m r) + beta, and x s - m s + beta, s = gamma r: inside, also where beta is all but m s."""
    rng, fl = np.random.default_rng(0), Nearest(direction, 0)
    mean, r, gamma = (rng.uniform(low, low * 2, 20_000) for low in (40, 1, 0.5))
    x = mean + rng.normal(size=mean.size)
    beta = mean * r * gamma if beta == 40 else np.full(mean.size, beta)
    b = Bounds(Numerics(affine="folded"), COARSE, 1, 1e-3)
    wanted, zero = (x - mean) * r * gamma + beta, np.zeros(())
    allowed = b.e_y(x, wanted, Affine(gamma, beta, zero, zero), NormalizingStatistics(mean, zero, r, zero))
    late = fl(fl(gamma * fl(fl(x * r) - fl(mean * r))) + beta)
    scale = fl(gamma * r)
    for y in (late, fl(fl(fl(x * scale) - fl(mean * scale)) + beta), fl(fl(x * scale) + fl(beta - fl(mean * scale)))):
        assert rho(y, wanted, allowed).max() <= 1


def by_the_cube(x, dy, gamma, epsilon, kind):
    """Return dx as differentiating rsqrt(variance + epsilon) makes it, flushing to zero, by way of r³."""

    def fl(values):
        return np.where(np.abs(values) < F32.smallest, kind(0), values) if kind is np.float32 else values

    n, mean = kind(len(x)), x.sum(0) / kind(len(x))
    d = x - mean
    r = 1 / np.sqrt((d * d).sum(0) / n + kind(epsilon))
    of_variance = fl(fl((gamma * dy * d).sum(0) * kind(-0.5)) * fl(fl(r * r) * r))
    each = fl(gamma * dy * r) + fl(fl(of_variance / n) * fl(2 * d))
    return each - each.sum(0) / n


@pytest.mark.parametrize("size", [1.0, 1e10, 1e13, 1e15, 1e16])
def test_a_cube_of_r_that_underflows_stays_inside(size):
    """r³ is below float32's smallest number where the standard deviation is 1e13: dx loses what r³ multiplies."""
    rng = np.random.default_rng(0)
    x, dy, gamma = (rng.normal(size=shape).astype(np.float32) for shape in ((32, 16), (32, 16), 16))
    x *= np.float32(size)
    batch, b, none = batch_of(x), bounds(32), np.zeros(())
    exact = GradientBounds(b, batch, b.used_of(batch), dy.astype(np.float64), none)
    wanted = gamma * exact.used.r * exact.t_train(1.0)
    allowed = exact.e_dx_train(gamma.astype(np.float64), 1.0)
    ratio = rho(by_the_cube(x, dy, gamma, 1e-3, np.float32), wanted, allowed)
    assert np.isfinite(allowed).all()
    assert ratio.max() <= 1
    assert (allowed <= 2 * np.abs(gamma) * exact.used.r * (np.abs(dy) + exact.batch.average(np.abs(dy)) * 4)).all()


@pytest.mark.parametrize("outside", [1e5, 3e4])
def test_a_state_that_is_wider_than_the_arithmetic_overflows_in_it(outside):
    """A float32 mean or beta above 65,504 is infinite in float16: nothing is promised of what is made of it."""
    units, one, zero = Units.of("float16", "float16", "float16", "float32"), np.ones(1), np.zeros(1)
    b = Bounds(Numerics(accumulate="input"), units, 8, 1e-3)
    large = np.full(1, outside)
    promised = np.isfinite(b.e_moving(large, one, 0.5 * large, zero, zero, 0.5)).all()
    assert promised == (outside < units.largest / 2)
    y = b.e_y(one, one, Affine(one, large, zero, zero), b.used(one, one, zero, zero))
    assert np.isfinite(y).all() == (outside < units.largest / 2)


HALVES = ["bfloat16", "float16"]


@pytest.mark.parametrize("variance", ["two_pass", "fast"])
@pytest.mark.parametrize("n", [3, 64, 1000, 3000])
@pytest.mark.parametrize("dtype", HALVES)
def test_statistics_summed_in_float32_of_half_precision_stay_inside(dtype, n, variance):
    """As `jnp.mean` of a half: squares are rounded to it, sums are not; inside, and finite where half sums are not."""
    units, half = Units.of(dtype, dtype, dtype, dtype), finfo(dtype).dtype
    ways = [Numerics(variance=variance, accumulate="input", widened=w) for w in ("statistics", "none")]
    wide, narrow = (Bounds(way, units, n, 1e-3) for way in ways)
    x = (np.random.default_rng(n).normal(size=(n, 16)) + 0.5).astype(half)

    def mean(values):
        return (values.astype(np.float32).sum(0, keepdims=True) / np.float32(n)).astype(half)

    batch, m = batch_of(x), mean(x)
    found = mean((x - m) * (x - m)) if variance == "two_pass" else mean(x * x) - m * m
    assert rho(m, batch.mean, wide.e_mean(batch)).max() <= 1
    assert rho(found, batch.variance, wide.e_variance(batch)).max() <= 1
    assert (wide.e_mean(batch) <= 4 * units.u * (batch.mean_abs + np.sqrt(batch.variance))).all()
    assert (wide.e_variance(batch) < 0.1 * batch.variance + 0.1).all()
    assert n < 1000 or (narrow.e_mean(batch) > 10 * wide.e_mean(batch)).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_a_sum_deeper_than_half_precision_has_a_finite_bound(dtype):
    """(1 + u)^n - 1 is a number where n u is above 1: of 3,000 values added in half precision something is promised."""
    units, half = Units.of(dtype, dtype, dtype, dtype), finfo(dtype).dtype
    x = np.random.default_rng(0).normal(size=(3000, 16)).astype(half)
    total = x[0]
    for row in x[1:]:
        total = total + row
    allowed = Bounds(Numerics(accumulate="input"), units, 3000, 1e-3).e_mean(batch_of(x))
    assert rho(total / half.type(3000), batch_of(x).mean, allowed).max() <= 1
    assert np.isfinite(allowed).all()


def test_a_derivative_along_a_tangent_may_lose_a_power_of_r_that_underflows():
    """y. = gamma r (X - mean(X) - z q) by way of r³ (2 mean(d X)) / 2: at a standard deviation of 1e13 r³ is 0."""
    rng, gamma, none = np.random.default_rng(0), np.ones(1), np.zeros(())
    x, tangent = (rng.normal(size=(32, 16)).astype(np.float32) * np.float32(1e13) for _ in "xt")
    batch, b = batch_of(x), bounds(32)
    along = TangentBounds(b, batch, b.used_of(batch), none, tangent.astype(np.float64))
    z, r, wide = batch.deviation * along.used.r, along.used.r, tangent.astype(np.float64)
    wanted = r * (wide - wide.mean(0) - z * (z * wide).mean(0))
    lost = r * (wide - wide.mean(0))
    assert rho(lost.astype(np.float32), wanted, along.e_y(gamma, wanted)).max() <= 1


@pytest.mark.parametrize("direction", ["up", "down", "away", "any"])
@pytest.mark.parametrize("n", [2, 3, 4, 33])
def test_a_gradient_that_is_differentiated_line_by_line_stays_inside(n, direction):
    """gamma r dy and d r³ sum(gamma dy d) / n, added, less their mean, with every rounding as large as it may be."""
    b = Bounds(Numerics(), COARSE, n, 1e-3)
    for seed in (15, 24, 53):
        rng, fl = np.random.default_rng(seed), Nearest(direction, seed)
        x, dy, gamma = (rng.normal(size=(n, 32)) + 3) / 1000, rng.normal(size=(n, 32)), rng.normal(size=32)
        batch = batch_of(x)
        of = GradientBounds(b, batch, b.used_of(batch), dy, np.zeros(()))

        def mean(values, fl=fl):
            return fl(in_turn(values, fl) / n)

        d = fl(x - mean(x))
        r = fl(1 / fl(np.sqrt(fl(mean(fl(d * d)) + 1e-3))))
        g = fl(gamma * dy)
        of_variance = fl(fl(in_turn(fl(g * d), fl) * -0.5) * fl(fl(r * r) * r))
        each = fl(fl(g * r) + fl(fl(of_variance / n) * fl(2 * d)))
        wanted = gamma * of.used.r * of.t_train(1.0)
        assert rho(fl(each - mean(each)), wanted, of.e_dx_train(gamma, 1.0)).max() <= 1


def test_terms_that_underflow_in_half_precision_are_missing_from_their_sum():
    """gamma dy d, below float16's smallest normal number, is flushed to 0, and r³ of 4,000 multiplies what is left."""
    units, rng = Units.of("float16", "float16", "float16", "float16"), np.random.default_rng(0)
    x, dy = rng.normal(size=(8, 16)) / 20, rng.normal(size=(8, 16))
    batch, gamma = batch_of(x.astype(np.float16)), np.full(16, 6e-4)
    b = Bounds(Numerics(accumulate="input"), units, 8, 1e-3)
    of = GradientBounds(b, batch, b.used_of(batch), dy, np.zeros(()))
    wanted, allowed = gamma * of.used.r * of.t_train(1.0), of.e_dx_train(gamma, 1.0)
    assert rho(gamma * of.used.r * (dy - of.c1), wanted, allowed).max() <= 1


@pytest.mark.parametrize("merge", ["moved", "weighted"])
def test_running_means_may_lose_what_underflows_at_every_step(merge):
    """Each of 200 steps (x - m) / k is below float16's smallest normal number, and flushed to 0."""
    units, x = Units.of("float16", "float16", "float16", "float16"), np.full((200, 1), 1e-2)
    x[0] = 1e-2 - 6e-5
    found = x[:1]
    b = Bounds(Numerics(variance="stable", merge=merge, accumulate="input"), units, 200, 1e-3)
    allowed = b.e_mean(batch_of(x))
    assert rho(found, batch_of(x).mean, allowed).max() <= 1
    assert allowed >= 100 * units.smallest
