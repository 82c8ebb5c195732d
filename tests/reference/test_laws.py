"""Laws that hold for any input: what batch normalization is, apart from how it is computed."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import (
    Parameters,
    Semantics,
    Spec,
    State,
    Tangent,
    batch_weights,
    infer,
    infer_gradients,
    infer_second_order,
    infer_tangents,
    train,
    train_gradients,
    train_second_order,
    train_tangents,
)
from reference.batch_norm import moments
from reference.renorm import started
from reference.spec import Array

seeds = st.integers(0, 2**16)
few = settings(max_examples=20, deadline=None, database=None, derandomize=True)


def arrays(seed: int, *shapes: tuple[int, ...]) -> list[Array]:
    """Return random arrays."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0.5, 2.0, shape) for shape in shapes]


def state(size: int) -> State:
    """Return initial moving statistics."""
    return State(np.zeros(size), np.ones(size))


@few
@given(seeds, st.permutations(range(3)))
def test_axis_permutation(seed: int, order: list[int]) -> None:
    """Permuting the input's axes, and naming the kept one's new place, permutes the output."""
    (x,) = arrays(seed, (4, 3, 5))
    y = train(x, Parameters(), state(3), Spec(axis=1), Semantics()).y
    moved = train(x.transpose(order), Parameters(), state(3), Spec(axis=order.index(1)), Semantics()).y
    assert np.abs(y.transpose(order) - moved).max() < 1e-13


@few
@given(seeds, st.permutations(range(12)))
def test_row_order_does_not_matter(seed: int, order: list[int]) -> None:
    """Permuting rows permutes the output and leaves the state."""
    (x,) = arrays(seed, (12, 2))
    step, moved = (train(v, Parameters(), state(2), Spec(), Semantics()) for v in (x, x[order]))
    assert np.abs(step.y[order] - moved.y).max() < 1e-13
    assert np.abs(step.state.variance - moved.state.variance).max() < 1e-13


@few
@given(seeds, st.integers(-100, 100), st.integers(-6, 6))
def test_shift_and_scale(seed: int, shift: int, exponent: int) -> None:
    """A shift changes only the mean; a power of two, with epsilon scaled by its square, changes no output at all."""
    (x,) = arrays(seed, (9, 2))
    scale = 2.0**exponent
    plain = train(x, Parameters(), state(2), Spec(epsilon=0.125), Semantics())
    moved = train(x * scale + shift, Parameters(), state(2), Spec(epsilon=0.125 * scale**2), Semantics())
    assert np.abs(plain.y - moved.y).max() < 1e-10
    assert np.abs(plain.mean * scale + shift - moved.mean).max() < 1e-10
    assert np.abs(plain.variance * scale**2 - moved.variance).max() < 1e-9


@few
@given(seeds)
def test_output_has_mean_beta_and_deviation_gamma(seed: int) -> None:
    """The output's mean is beta, and its variance gamma² V / (V + epsilon)."""
    x, gamma, beta = arrays(seed, (30, 4), (4,), (4,))
    step = train(x, Parameters(gamma, beta), state(4), Spec(), Semantics())
    assert np.abs(step.y.mean(0) - beta).max() < 1e-12
    assert np.abs(step.y.var(0) - gamma**2 * step.variance / (step.variance + 1e-3)).max() < 1e-11


@few
@given(seeds, st.sampled_from(["strided", "contiguous"]))
def test_one_virtual_batch_is_the_batch(seed: int, layout: Any) -> None:
    """virtual_batch_size = N is the identity, of the output, the state and the gradient."""
    x, dy = arrays(seed, (6, 2), (6, 2))
    spec, semantics = Spec(virtual_batch_size=6), Semantics(virtual_batches=layout)
    kept = State(np.zeros((1, 1, 2)), np.ones((1, 1, 2)))
    plain, virtual = (
        train(x, Parameters(), state(2), Spec(), semantics),
        train(x, Parameters(), kept, spec, semantics),
    )
    assert np.array_equal(plain.y, virtual.y)
    assert np.array_equal(plain.state.variance, virtual.state.variance[0, 0])
    gradient = train_gradients(x, dy, Parameters(), kept, spec, semantics)
    assert np.array_equal(train_gradients(x, dy, Parameters(), state(2), Spec(), semantics).dx, gradient.dx)


@few
@given(seeds, st.sampled_from(["strided", "contiguous"]))
def test_virtual_batches_are_separate_batches(seed: int, layout: Any) -> None:
    """Each virtual batch is normalized as if it were alone: every (N/size)-th row, or neighbouring rows."""
    (x,) = arrays(seed, (6, 2))
    kept = State(np.zeros((1, 1, 2)), np.ones((1, 1, 2)))
    y = train(x, Parameters(), kept, Spec(virtual_batch_size=2), Semantics(virtual_batches=layout)).y
    for j in range(3):
        rows = slice(j, None, 3) if layout == "strided" else slice(2 * j, 2 * j + 2)
        assert np.abs(train(x[rows], Parameters(), state(2), Spec(), Semantics()).y - y[rows]).max() < 1e-13


@few
@given(seeds, st.sampled_from(["exponential", "zero_debiased", "first_batch"]))
def test_momentum_0_and_1(seed: int, average: Any) -> None:
    """Momentum 0 copies the batch; momentum 1 changes nothing after the first batch."""
    x, mean = arrays(seed, (5, 3), (3,))
    semantics, old = Semantics(average=average), State(mean, np.full(3, 2.0), 4)
    copied = train(x, Parameters(), old, Spec(momentum=0.0), semantics)
    assert np.array_equal(copied.state.mean, copied.mean)
    assert np.array_equal(copied.state.variance, copied.variance)
    same = train(x, Parameters(), old, Spec(momentum=1.0), semantics).state
    assert np.array_equal(same.mean, old.mean)
    assert np.array_equal(same.variance, old.variance)


@few
@given(seeds, st.integers(1, 6))
def test_averages_of_identical_batches(seed: int, steps: int) -> None:
    """After t identical batches: M0 m**t + mu (1 - m**t); exactly mu if cumulative, debiased or copied at first."""
    x, mean = arrays(seed, (5, 2), (2,))
    batch, spec = x.mean(0), Spec(momentum=0.75)
    for average, momentum, expected in [
        ("exponential", 0.75, mean * 0.75**steps + batch * (1 - 0.75**steps)),
        ("exponential", None, batch),
        ("first_batch", 0.75, batch),
        ("zero_debiased", 0.75, mean * 0.75**steps / (1 - 0.75**steps) + batch),
    ]:
        semantics, now = Semantics(average=average), State(mean, np.ones(2))
        spec = Spec(momentum=momentum, epsilon=0.0)
        for _ in range(steps):
            now = train(x, Parameters(), now, spec, semantics).state
        unit = State(now.mean, np.ones(2) * (1 - 0.75**steps if average == "zero_debiased" else 1), now.updates)
        assert np.abs(infer(np.zeros((1, 2)), Parameters(), unit, spec, semantics) + expected).max() < 1e-12


@few
@given(seeds, st.sampled_from(["tf_1_15", "tf_1_7", "paper"]))
def test_renorm_without_clipping_normalizes_by_its_statistics(seed: int, flavour: Any) -> None:
    """Unclipped renorm is (x - P) / Q: what the batch's own statistics do cancels."""
    x, warm = arrays(seed, (7, 2), (7, 2))
    spec, semantics = Spec(renorm=True, epsilon=0.25, renorm_momentum=0.5, momentum=0.5), Semantics(renorm=flavour)
    before = train(warm, Parameters(), state(2), spec, semantics).state
    assert before.renorm is not None
    step = train(x, Parameters(), before, spec, semantics)
    p, q = before.renorm.mean, before.renorm.stddev
    if flavour == "tf_1_7":
        p = p + (1 - before.renorm.mean_weight) * step.mean
        q = q + (1 - before.renorm.stddev_weight) * np.sqrt(step.variance + 0.25)
    if flavour == "tf_1_15":
        q = np.maximum(q, 0.5)
    assert np.abs(step.y - (x - p) / q).max() < 1e-12


@few
@given(seeds)
def test_renorm_of_tf_1_7_begins_as_plain_normalization(seed: int) -> None:
    """In the first step of TF 1.7's renorm r = 1 and d = 0; that of TF 1.15 depends on the initial statistics."""
    (x,) = arrays(seed, (7, 2))
    plain = train(x, Parameters(), state(2), Spec(), Semantics()).y
    first = train(x, Parameters(), state(2), Spec(renorm=True), Semantics(renorm="tf_1_7")).y
    assert np.abs(first - plain).max() < 1e-12
    assert np.abs(train(x, Parameters(), state(2), Spec(renorm=True), Semantics()).y - plain).max() > 1e-3


@few
@given(seeds)
def test_paper_renorm_infers_by_its_standard_deviation(seed: int) -> None:
    """In the paper's flavour inference divides by the moving standard deviation, which has epsilon inside."""
    (x,) = arrays(seed, (7, 2))
    spec, semantics = Spec(renorm=True, epsilon=0.25, momentum=0.5), Semantics(renorm="paper")
    new = train(x, Parameters(), state(2), spec, semantics).state
    assert new.renorm is not None
    expected = (x - new.mean) / new.renorm.moving_stddev
    assert np.abs(infer(x, Parameters(), new, spec, semantics) - expected).max() < 1e-12
    assert np.abs(started(state(2), spec, semantics).stddev - np.sqrt(1.25)).max() < 1e-15


@few
@given(seeds)
def test_gradient_sums(seed: int) -> None:
    """Σ dx = 0, because a shift of x changes nothing, and with epsilon = 0 Σ dx (x - mean) = 0: nor does a scale."""
    x, dy, gamma = arrays(seed, (8, 3), (8, 3), (3,))
    gradient = train_gradients(x, dy, Parameters(gamma), state(3), Spec(epsilon=0.0), Semantics())
    assert np.abs(gradient.dx.sum(0)).max() < 1e-12
    assert np.abs((gradient.dx * (x - x.mean(0))).sum(0)).max() < 1e-11


@few
@given(seeds)
def test_gradients_are_linear_in_dy(seed: int) -> None:
    """The gradients of a sum of cotangents are the sum of the gradients, in training and inference."""
    x, one, two = arrays(seed, (8, 3), (8, 3), (8, 3))
    for function in (train_gradients, infer_gradients):
        a, b, both = (function(x, dy, Parameters(), state(3), Spec(), Semantics()) for dy in (one, two, one - 2 * two))
        for name in ("dx", "dgamma", "dbeta"):
            assert np.abs(getattr(a, name) - 2 * getattr(b, name) - getattr(both, name)).max() < 1e-11


@few
@given(seeds)
def test_forward_and_reverse_agree(seed: int) -> None:
    """<dy, forward(v)> = <reverse(dy), v>, and the Hessian is symmetric."""
    x, dy, v, w = arrays(seed, (8, 3), (8, 3), (8, 3), (8, 3))
    step = (Parameters(), state(3), Spec(), Semantics())
    forward = (train_tangents(x, Tangent(v), *step).y * dy).sum()
    assert abs(forward - (train_gradients(x, dy, *step).dx * v).sum()) < 1e-11
    hv, hw = (train_second_order(x, dy, Tangent(t), *step).dx for t in (v, w))
    assert abs((hv * w).sum() - (hw * v).sum()) < 1e-11


@few
@given(seeds, st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 2))
def test_what_is_not_finite_stays_in_its_channel(seed: int, value: float, channel: int) -> None:
    """A NaN or an infinity makes its channel's output and state non-finite, and changes nothing elsewhere."""
    (x,) = arrays(seed, (6, 3))
    bad = x.copy()
    bad[2, channel] = value
    clean, step = (train(v, Parameters(), state(3), Spec(), Semantics()) for v in (x, bad))
    others = [c for c in range(3) if c != channel]
    assert np.array_equal(clean.y[:, others], step.y[:, others])
    assert not np.isfinite(step.y[:, channel]).any()
    assert not np.isfinite(step.state.variance[channel])
    inferred = infer(bad, Parameters(), state(3), Spec(), Semantics())
    assert np.isfinite(inferred).sum() == inferred.size - 1


@few
@given(seeds)
def test_inference_derivatives_stay_with_their_element(seed: int) -> None:
    """In inference a NaN reaches the forward derivative of its own element, and no gradient."""
    x, dy, along = arrays(seed, (6, 3), (6, 3), (6, 3))
    x[2, 1] = np.nan
    step = (Parameters(), state(3), Spec(), Semantics())
    assert np.isfinite(infer_tangents(x, Tangent(along), *step).y).sum() >= x.size - 1
    assert np.isfinite(infer_second_order(x, dy, Tangent(along), *step).dx).all()
    assert np.isfinite(infer_gradients(x, dy, *step).dx).all()


@few
@given(seeds)
def test_a_mask_of_zeros_and_ones_leaves_rows_out(seed: int) -> None:
    """The statistics under a mask are those of the rows that count, and every row is normalized by them."""
    x, keep = arrays(seed, (9, 2))[0], np.arange(9) % 3 > 0
    for kind in ("weights", "boolean"):
        step = train(x, Parameters(), state(2), Spec(), Semantics(mask=kind), mask=keep)
        alone = train(x[keep], Parameters(), state(2), Spec(), Semantics())
        assert np.abs(step.y[keep] - alone.y).max() < 1e-13
        assert np.abs(step.state.variance - alone.state.variance).max() < 1e-13


@few
@given(seeds, st.integers(1, 5))
def test_equal_weights_are_no_mask(seed: int, weight: int) -> None:
    """A mask that counts all values alike changes nothing but the rounding."""
    (x,) = arrays(seed, (9, 2))
    masked = train(x, Parameters(), state(2), Spec(), Semantics(), mask=np.full((9, 2), weight))
    assert np.abs(masked.y - train(x, Parameters(), state(2), Spec(), Semantics()).y).max() < 1e-13


@few
@given(seeds)
def test_mask_offset_shrinks_the_mean(seed: int) -> None:
    """With an offset in the denominator the mean is sum / (n + offset), as Keras 3 has it."""
    (x,) = arrays(seed, (9, 2))
    semantics = Semantics(mask="boolean", mask_offset=1.0)
    step = train(x, Parameters(), state(2), Spec(), semantics, mask=np.ones(9))
    assert np.abs(step.mean - x.sum(0) / 10).max() < 1e-13
    assert np.abs(step.variance - ((x - step.mean) ** 2).sum(0) / 10).max() < 1e-12


def test_arguments_are_never_written(scenario: Any) -> None:
    """No function writes to an array that it was given."""
    data, spec, semantics = scenario.draw(), scenario.spec, scenario.semantics
    before = copy.deepcopy(data)
    given = {"mask": data.mask, "adjustment": data.adjustment}
    step = (data.parameters, data.state, spec, semantics)
    train(data.xs[0], *step, **given)
    infer(data.xs[0], *step)
    train_gradients(data.xs[0], data.dy, *step, **given, dmean=data.dmean, dvariance=data.dvariance)
    train_second_order(data.xs[0], data.dy, Tangent(data.tangent), *step, **given)
    infer_gradients(data.xs[0], data.dy, *step)
    for old, new in zip(_leaves(before), _leaves(data), strict=True):
        assert np.array_equal(old, new)


def _leaves(value: Any) -> list[Array]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [leaf for item in vars(value).values() for leaf in _leaves(item)] if hasattr(value, "__dict__") else []


def test_results_keep_the_dtype(scenario: Any) -> None:
    """Whatever is computed has the dtype that was computed in: longdouble stays longdouble."""
    for dtype in (np.float64, np.longdouble):
        data, spec, semantics = scenario.draw(dtype), scenario.spec, scenario.semantics
        given = {"mask": data.mask, "adjustment": data.adjustment}
        step = train(data.xs[0], data.parameters, data.state, spec, semantics, **given)
        arguments = (data.parameters, data.state, spec, semantics)
        gradient = train_gradients(data.xs[0], data.dy, *arguments, **given)
        second = train_second_order(data.xs[0], data.dy, Tangent(data.tangent), *arguments, **given)
        found = [step.y, step.mean, step.state.mean, step.state.variance, gradient.dx, gradient.dgamma, second.dx]
        assert {v.dtype for v in found} == {np.dtype(dtype)}


@few
@given(seeds, st.integers(1, 400))
def test_moments_of_any_size(seed: int, n: int) -> None:
    """Mean and variance are NumPy's, of one value as of many, and the variance is never below 0."""
    (x,) = arrays(seed, (n, 2))
    mean, variance = moments(x, (0,))
    assert np.abs(mean - x.mean(0)).max() < 1e-12
    assert np.abs(variance - x.var(0)).max() < 1e-11
    assert (variance >= 0).all()


@few
@given(seeds)
def test_momentum_never_touches_the_output(seed: int) -> None:
    """A training batch's output is bit-identical for every momentum and every initial state."""
    x, mean = arrays(seed, (6, 2), (2,))
    other = State(mean, np.full(2, 7.0))
    ys = [
        train(x, Parameters(), s, Spec(momentum=m), Semantics()).y for s in (state(2), other) for m in (0.0, 0.9, None)
    ]
    assert all(np.array_equal(ys[0], y) for y in ys)


@few
@given(seeds, st.integers(1, 9), st.integers(1, 4))
def test_unbiased_is_larger_by_bessel(seed: int, n: int, channels: int) -> None:
    """What is stored unbiased is N/(N-1) times what is stored biased, and the output is the same."""
    (x,) = arrays(seed, (n, channels))
    spec = Spec(momentum=0.0)
    biased, unbiased = (
        train(x, Parameters(), state(channels), spec, Semantics(stored_variance=kind))
        for kind in ("biased", "unbiased")
    )
    assert np.array_equal(biased.y, unbiased.y)
    assert np.abs(biased.state.variance * (n / max(n - 1, 1)) - unbiased.state.variance).max() < 1e-12


def test_renorm_state_moves_apart_from_the_moving_statistics(scenario_named: Any) -> None:
    """renorm_momentum moves P and Q, momentum moves the mean and the standard deviation, each alone."""
    scenario = scenario_named("renorm")
    data = scenario.draw()
    for spec, same in [
        (replace(scenario.spec, momentum=1.0), "moving"),
        (replace(scenario.spec, renorm_momentum=1.0), "renorm"),
    ]:
        begun = replace(data.state, renorm=started(data.state, spec, scenario.semantics))
        new = train(data.xs[0], data.parameters, begun, spec, scenario.semantics).state
        assert new.renorm is not None
        assert begun.renorm is not None
        assert np.array_equal(new.mean, begun.mean) == (same == "moving")
        assert np.array_equal(new.renorm.moving_stddev, begun.renorm.moving_stddev) == (same == "moving")
        assert np.array_equal(new.renorm.mean, begun.renorm.mean) == (same == "renorm")
        assert np.array_equal(new.renorm.stddev, begun.renorm.stddev) == (same == "renorm")


@few
@given(seeds, st.sampled_from([0.0, 0.25, 0.9]))
def test_the_new_state_changes_with_the_batch_as_its_weights_say(seed: int, momentum: float) -> None:
    """A batch shifted, and one stretched, move the new statistics by the weights; stopped ones have none."""
    (x,), spec = arrays(seed, (5, 3)), Spec(momentum=momentum)
    for kind in ("biased", "unbiased"):
        semantics = Semantics(stored_variance=kind)
        of_mean, of_variance = batch_weights(x, state(3), spec, semantics)
        new, shifted, stretched = (train(of, Parameters(), state(3), spec, semantics).state for of in (x, x + 1, 2 * x))
        assert np.abs(shifted.mean - new.mean - of_mean).max() < 1e-12
        assert np.abs(stretched.variance - new.variance - of_variance * 3 * x.var(0)).max() < 1e-11
        stopped = batch_weights(x, state(3), spec, Semantics(stored_variance=kind, new_state="stopped"))
        assert stopped == (0, 0)
