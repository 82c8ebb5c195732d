"""One value, no value, nothing unmasked, no epsilon: what each field of `Semantics` says of the edges."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from reference import (
    Clipping,
    Parameters,
    Semantics,
    Spec,
    State,
    Tangent,
    infer,
    infer_gradients,
    train,
    train_gradients,
    train_second_order,
    train_third_order,
)
from reference.averages import bessel, complement, initial, moves, published, update_fraction
from reference.dtypes import Stored, stored
from reference.renorm import clip
from reference.spec import Array

X = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 7.0]])


def state() -> State:
    """Return initial moving statistics of two channels."""
    return State(np.zeros(2), np.ones(2))


def step(x: Array = X, spec: Spec | None = None, semantics: Semantics | None = None, **given: Any) -> Any:
    """Return one training step."""
    return train(x, Parameters(), state(), spec or Spec(momentum=0.0), semantics or Semantics(), **given)


def test_one_value_is_its_own_mean() -> None:
    """With N = 1 the output is beta and the variance 0; the unbiased factor is 1, or NaN as raw torch has it."""
    one = X[:1]
    beta = np.array([7.0, -1.0])
    made = train(one, Parameters(beta=beta), state(), Spec(momentum=0.0), Semantics(stored_variance="unbiased"))
    assert np.array_equal(made.y, [beta])
    assert np.array_equal(made.state.variance, [0, 0])
    nan = step(one, semantics=Semantics(stored_variance="unbiased", single_value="nan"))
    assert np.isnan(nan.state.variance).all()
    assert np.isfinite(nan.state.mean).all()
    two = step(X[:2], semantics=Semantics(stored_variance="unbiased", single_value="nan"))
    assert np.array_equal(two.state.variance, [2, 8])


def test_an_empty_batch() -> None:
    """No value makes the state NaN for good, leaves it as it was, or counts as 0; the output is empty either way."""
    none = X[:0]
    made = step(none, Spec())
    assert made.y.shape == (0, 2)
    assert np.isnan(made.state.mean).all()
    assert np.isnan(made.state.variance).all()
    kept = step(none, Spec(), Semantics(empty_batch="keep"))
    assert np.array_equal(kept.state.mean, [0, 0])
    assert kept.state.updates == 0
    zero = step(none, Spec(momentum=0.75), Semantics(empty_batch="zero"))
    assert np.array_equal(zero.state.variance, [0.75, 0.75])
    assert zero.state.updates == 1
    gradient = train_gradients(none, none, Parameters(), state(), Spec(), Semantics())
    assert gradient.dx.shape == (0, 2)
    assert np.array_equal(gradient.dbeta, [0, 0])
    assert step(X, Spec(), Semantics(empty_batch="keep")).state.updates == 1
    for rule, found in [("nan", [True, True]), ("zero", [False, False])]:
        masked = step(none, Spec(), Semantics(all_masked=rule), mask=np.ones((0, 2)))
        assert np.isnan(masked.state.mean).tolist() == found


@pytest.mark.parametrize("kind", ["weights", "boolean"])
def test_a_mask_that_leaves_nothing(kind: Any) -> None:
    """Statistics of nothing are 0, so that y = x / sqrt(epsilon), or NaN; the other channel never notices."""
    mask = np.array([[0, 1], [0, 1], [0, 1]])
    zero = step(X, Spec(epsilon=0.25, momentum=0.0), Semantics(mask=kind), mask=mask)
    assert np.array_equal(zero.y[:, 0], X[:, 0] * 2)
    assert zero.state.mean.tolist() == [0, 5]
    nan = step(X, Spec(epsilon=0.25), Semantics(mask=kind, all_masked="nan"), mask=mask)
    assert np.isnan(nan.y[:, 0]).all()
    assert np.isfinite(nan.y[:, 1]).all()
    offset = step(X, Spec(momentum=0.0), Semantics(mask=kind, all_masked="nan", mask_offset=1e-7), mask=mask)
    assert offset.state.mean[0] == 0


def test_a_boolean_mask_does_not_look_at_what_it_hides() -> None:
    """A NaN under a boolean mask is never seen; as a weight of 0 it is, because 0 · NaN is NaN."""
    x, mask = X.copy(), np.array([[1, 1], [0, 1], [1, 1]])
    x[1, 0] = np.nan
    hidden = step(x, semantics=Semantics(mask="boolean"), mask=mask)
    assert hidden.state.mean.tolist() == [3, 5]
    assert np.isnan(hidden.y).tolist() == [[False, False], [True, False], [False, False]]
    assert np.isnan(step(x, semantics=Semantics(mask="weights"), mask=mask).state.mean).tolist() == [True, False]
    gradient = train_gradients(
        x, np.ones((3, 2)), Parameters(), state(), Spec(), Semantics(mask="boolean"), mask=mask, dmean=np.ones(2)
    )
    assert np.isnan(gradient.dx).tolist() == [[True, False], [False, False], [True, False]]  # by z of the hidden one


def test_a_mask_without_the_last_axis_covers_all_channels() -> None:
    """A mask of rank n - 1 counts rows; an ignored one counts nothing."""
    rows = step(X, mask=np.array([True, True, False]))
    assert rows.state.mean.tolist() == [2, 4]
    assert step(X, semantics=Semantics(mask="ignored"), mask=np.zeros(3)).state.mean.tolist() == [3, 5]


def test_a_constant_channel_without_epsilon_is_not_a_warning() -> None:
    """Variance 0 and epsilon 0 divide by zero: NaN in the output and the derivatives, silently."""
    same, zero = np.ones((3, 2)), Spec(epsilon=0.0)
    assert np.isnan(step(same, zero).y).all()
    assert np.isnan(train_gradients(same, X, Parameters(), state(), zero, Semantics()).dx).all()
    along = Tangent(X)
    assert np.isnan(train_second_order(same, X, along, Parameters(), state(), zero, Semantics()).dx).all()
    nothing = State(np.ones(2), np.zeros(2))
    assert np.isnan(infer(same, Parameters(), nothing, zero, Semantics())).all()
    assert np.isinf(infer_gradients(same, X, Parameters(), nothing, zero, Semantics()).dx).all()


def test_a_frozen_layer_that_infers_is_linear_whatever_goes_in() -> None:
    """Second derivatives of what is linear are 0, beside a NaN too: nothing of the batch is looked at."""
    x, frozen = X.copy(), Spec(trainable=False)
    x[1, 0] = np.nan
    found = train_third_order(x, X, X, Parameters(), state(), frozen, Semantics(frozen="infer"))
    assert not any(array.any() for array in (found.y, found.dx, found.dgamma))


def test_huge_values_overflow_silently() -> None:
    """What overflows is infinite or NaN, without a warning."""
    assert not np.isfinite(step(X * 1e200).state.variance).any()


def test_epsilon_has_a_floor_and_a_place() -> None:
    """The floor counts where epsilon is smaller; outside the root epsilon is added to the standard deviation."""
    x = np.array([[-2.0, -2.0], [2.0, 2.0]])
    assert step(x, Spec(epsilon=0.0), Semantics(epsilon_floor=12.0)).y[1].tolist() == [0.5, 0.5]
    assert step(x, Spec(epsilon=21.0), Semantics(epsilon_floor=12.0)).y[1].tolist() == [0.4, 0.4]
    assert step(x, Spec(epsilon=2.0), Semantics(epsilon_placement="outside")).y[1].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("spec", "semantics", "updating", "expected"),
    [
        (Spec(), Semantics(), True, True),
        (Spec(), Semantics(), False, False),
        (Spec(), Semantics(updates="always"), False, True),
        (Spec(trainable=False), Semantics(), True, False),
        (Spec(trainable=False), Semantics(frozen="train"), True, True),
        (Spec(trainable=False), Semantics(frozen="train"), False, False),
        (Spec(trainable=False), Semantics(frozen="infer"), True, False),
        (Spec(), Semantics(average="none"), True, False),
    ],
)
def test_when_the_state_moves(spec: Spec, semantics: Semantics, updating: bool, expected: bool) -> None:
    """The state moves only if the layer trains, keeps an average, and is asked or always moves."""
    assert moves(X, spec, semantics, updating) == expected
    made = train(X, Parameters(), state(), spec, semantics, updating=updating)
    assert (made.state.updates == 1) == expected
    assert bool(made.state.mean.any()) == expected


def test_a_frozen_layer_that_infers_takes_no_statistics() -> None:
    """`frozen="infer"` gives the output of inference, the moving statistics, and the state unchanged."""
    semantics, old = Semantics(frozen="infer", average="zero_debiased"), State(np.ones(2), np.ones(2), 1)
    made = train(X, Parameters(), old, Spec(trainable=False, momentum=0.5), semantics)
    assert np.array_equal(made.y, infer(X, Parameters(), old, Spec(momentum=0.5), semantics))
    assert made.mean.tolist() == made.variance.tolist() == [2, 2]
    assert made.state is old
    thawed = train(X, Parameters(), old, Spec(), semantics)
    assert thawed.mean.tolist() == [3, 5]


def test_a_new_layer() -> None:
    """A new layer's moving statistics have the kept shape, the promised values, and the asked dtype."""
    new = initial(Spec(axis=1), Semantics(initial_mean=0.5, initial_variance=2.0), (4, 3, 2), np.longdouble)
    assert (new.mean.tolist(), new.variance.tolist()) == ([0.5] * 3, [2.0] * 3)
    assert new.mean.dtype == new.variance.dtype == np.longdouble
    assert (new.updates, new.renorm) == (0, None)
    default = initial(Spec(virtual_batch_size=2), Semantics(), (4, 3))
    assert (default.mean.tolist(), default.variance.tolist()) == ([[[0.0] * 3]], [[[1.0] * 3]])
    assert default.mean.dtype == np.float64


def test_update_fractions() -> None:
    """1 - momentum; 1/t; 1 at first; 0 where nothing is kept; each rounded to float32 where that is promised."""
    assert update_fraction(3, Spec(momentum=0.75), Semantics()) == 0.25
    assert update_fraction(4, Spec(momentum=None), Semantics()) == 0.25
    assert [update_fraction(t, Spec(momentum=0.75), Semantics(average="first_batch")) for t in (1, 2)] == [1, 0.25]
    assert update_fraction(1, Spec(), Semantics(average="none")) == 0
    third = update_fraction(3, Spec(momentum=None), Semantics(fraction_dtype="float32"))
    assert third == np.float32(1) / np.float32(3)
    wide = update_fraction(3, Spec(momentum=None), Semantics(), np.longdouble)
    assert wide == np.longdouble(1) / 3
    assert type(wide) is np.longdouble


def test_float32_fractions_differ_by_what_is_rounded() -> None:
    """float32(1 - m) and float32(1) - float32(m) are not the same number for m = 0.99."""
    difference = complement(0.99, Semantics(fraction_dtype="float32"))
    momentum = complement(0.99, Semantics(fraction_dtype="float32", fraction_rounded="momentum"))
    assert difference == np.float32(0.01)
    assert momentum == np.float32(1) - np.float32(0.99)
    assert difference != momentum
    exact = complement(0.99, Semantics(fraction_rounded="momentum"), np.longdouble)
    assert exact == 1 - np.longdouble(0.99)


def test_zero_debiasing_divides_only_what_has_moved() -> None:
    """Before the first update, and for other averages or a cumulative one, the statistics are published as they are."""
    debiased, old = Semantics(average="zero_debiased"), State(np.ones(2), np.ones(2), 1)
    assert published(state(), Spec(), debiased).variance.tolist() == [1, 1]
    assert published(old, Spec(momentum=0.5), debiased).mean.tolist() == [2, 2]
    assert published(old, Spec(momentum=None), debiased) is old
    assert published(old, Spec(), Semantics()) is old


def test_clipping_has_an_order_and_a_default() -> None:
    """rmax is last and wins; the paper's rmin is 1/rmax; what is not given does not clip."""
    r, d = np.array([0.1, 1.0, 9.0]), np.array([-9.0, 0.5, 9.0])
    assert clip(r, d, Clipping(), Semantics())[0] is r
    assert clip(r, d, Clipping(rmax=4.0), Semantics())[0].tolist() == [0.1, 1, 4]
    assert clip(r, d, Clipping(rmax=4.0), Semantics(renorm="paper"))[0].tolist() == [0.25, 1, 4]
    assert clip(r, d, Clipping(rmin=0.5, rmax=4.0), Semantics(renorm="paper"))[0].tolist() == [0.5, 1, 4]
    assert clip(r, d, Clipping(rmin=0.5), Semantics(renorm="paper"))[0].tolist() == [0.5, 1, 9]
    assert clip(r, d, Clipping(rmin=3.0, rmax=2.0), Semantics())[0].tolist() == [2, 2, 2]
    assert clip(r, d, Clipping(dmax=2.0), Semantics())[1].tolist() == [-2, 0.5, 2]
    assert clip(r, d, Clipping(dmax=0.0), Semantics())[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("dtype", "semantics", "expected"),
    [
        ("float16", Semantics(), Stored("float32", "float32", "float16")),
        ("bfloat16", Semantics(output_dtype="at_least_float32"), Stored("float32", "float32", "float32")),
        ("float64", Semantics(), Stored("float64", "float64", "float64")),
        ("float64", Semantics(statistics_dtype="float32"), Stored("float64", "float32", "float64")),
        ("float16", Semantics(parameter_dtype="input"), Stored("float16", "float32", "float16")),
        ("float16", Semantics(statistics_dtype="input"), Stored("float32", "float16", "float16")),
    ],
)
def test_storage_dtypes(dtype: str, semantics: Semantics, expected: Stored) -> None:
    """Parameters, statistics and output are stored in the input's dtype, in float32, or in no less than it."""
    assert stored(dtype, semantics) == expected


@pytest.mark.parametrize(
    ("weights", "factor"), [([1.0, 0.5], 3.0), ([0.5, 0.5], 1.0), ([0.25, 0.25], 1.0), ([2.0, 1.0], 1.5)]
)
def test_the_unbiased_variance_of_weights_is_w_over_w_less_1(weights: list[float], factor: float, helper: Any) -> None:
    """W / (W - 1) for any W above 1, fractional ones too (BN-11); 1 for less, as for a single value (BN-24)."""
    assert float(bessel(np.float64(sum(weights)))) == factor
    mask, spec, kinds = np.array([*weights, 0.0]), Spec(momentum=0.0), (Semantics("unbiased"), Semantics())
    stored, biased = (step(X, spec, semantics, mask=mask).state.variance for semantics in kinds)
    assert stored.tolist() == (biased * factor).tolist()
    layer = object.__new__(helper("exact").Layer)
    layer.spec, layer.semantics = spec, Semantics(stored_variance="unbiased")
    assert layer.stored(Fraction(3), Fraction(sum(weights))) == 3 * Fraction(factor)


@pytest.mark.parametrize("all_masked", ["zero", "nan"])
@pytest.mark.parametrize("stored_variance", ["biased", "unbiased"])
def test_pooled_virtual_batches_are_the_whole_batch_though_one_is_wholly_masked(
    all_masked: Any, stored_variance: Any
) -> None:
    """Who counts nothing adds nothing; where all is masked the statistics are 0, or NaN, as of one batch (BN-21)."""
    rows, ghost = np.array([[1.0], [2.0], [4.0], [9.0]]), State(np.zeros((1, 1, 1)), np.ones((1, 1, 1)))
    semantics = Semantics(stored_variance, all_masked=all_masked, virtual_statistics="pooled", mask="boolean")
    for mask in (np.array([1, 0, 1, 0]), np.zeros(4)):
        own = train(rows, Parameters(), ghost, Spec(virtual_batch_size=2, momentum=0.0), semantics, mask=mask).state
        whole = train(
            rows, Parameters(), State(np.zeros(1), np.ones(1)), Spec(momentum=0.0), semantics, mask=mask
        ).state
        assert np.array_equal(own.mean.ravel(), whole.mean, equal_nan=True)
        assert np.array_equal(own.variance.ravel(), whole.variance, equal_nan=True)


def test_what_does_not_count_has_no_part_in_the_gradient_of_statistics() -> None:
    """With epsilon outside the root and one value left by a mask the root has no derivative; others need none."""
    spec, semantics = Spec(epsilon=0.5), Semantics(epsilon_placement="outside", mask="boolean")
    dy = np.array([[1.0], [2.0], [3.0]])
    given = (X[:, :1], dy, Parameters(), State(np.zeros(1), np.ones(1)), spec, semantics)
    assert train_gradients(*given, mask=np.array([1, 0, 0])).dx[1:].ravel().tolist() == [4.0, 6.0]  # dy / epsilon
