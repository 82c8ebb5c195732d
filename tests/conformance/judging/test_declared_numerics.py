"""What a statement may say of its arithmetic: each word allows what it says, and no more."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from conformance.cases import whole_numbers
from conformance.hosts.roster import ADAPTERS, from_target
from conformance.judging.bounds.batch import BatchStatistics
from conformance.judging.bounds.bounds import Bounds
from conformance.judging.bounds.gradients import GradientBounds
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import trajectory
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.model.case import case_id
from conformance.model.numerics import Numerics, Units
from conformance.model.outcome import Outputs, Reply
from reference import Semantics, Spec
from reference.batches import observe

F32 = Units.of("float32", "float32")
LARGE = 2**17


def batch_of(x):
    """Return the exact statistics of an (n, channels) batch."""
    return BatchStatistics.of(observe(x, None, Spec(axis=1), Semantics()))


def bounds(n, **numerics):
    """Return float32 formulas."""
    return Bounds(Numerics(**numerics), F32, n, 1e-3)


@pytest.fixture(scope="module")
def large():
    """A batch of 131,072 values, whose sums round."""
    return batch_of(np.random.default_rng(3).normal(1, 1, (LARGE, 2)))


def test_a_compensated_sum_is_off_by_no_more_where_there_are_more_terms(large):
    """Its mean is within 12 roundings at any size, where a sum in any order may be off by thousands."""
    u, mean = F32.u, np.abs(large.mean).max()
    assert bounds(LARGE, sums="compensated", variance="fast").e_mean(large).max() < 12 * u * mean
    assert bounds(LARGE, variance="fast").e_mean(large).max() > 10_000 * u * mean


@pytest.mark.parametrize("variance", ["two_pass", "fast", "stable", "shifted"])
def test_partial_sums_are_as_deep_as_they_are_long(large, variance):
    """With 1,024 lanes, or blocks of 128 in a tree, mean and variance are allowed a tenth of any order's error."""
    any_order = bounds(LARGE, variance=variance)
    for words in ({"lanes": 1024, "sums": "tree"}, {"block": 128, "sums": "tree"}):
        told = bounds(LARGE, variance=variance, **words)
        assert (told.e_mean(large) * 10 < any_order.e_mean(large)).all()
        assert (told.e_variance(large) * 10 < any_order.e_variance(large)).all()


def test_a_shifted_variance_does_not_depend_on_the_mean():
    """At a mean of 1,000 standard deviations it is allowed a thousandth of what one pass is."""
    batch = batch_of(np.random.default_rng(0).normal(1e3, 1, (256, 4)))
    shifted, fast = bounds(256, variance="shifted").e_variance(batch), bounds(256, variance="fast").e_variance(batch)
    assert (shifted * 1e3 < fast).all()


@pytest.mark.parametrize("power", [-30, -3, 0, 3, 30])
def test_a_root_by_logarithm_is_off_in_proportion_to_the_logarithm(power):
    """exp(-log(w) / 2) in float32 is inside at any w; far from 1 it is outside what a root of 2 ulp may be."""
    w = (np.random.default_rng(1).uniform(1, 10, 4096) * 10.0**power).astype(np.float32)
    got = np.exp(np.float32(-0.5) * np.log(w)).astype(np.float64)
    exact, zero, none = w.astype(np.float64), np.zeros(4096), np.zeros(4096)
    errors = {
        root: np.abs(got - used.r) / used.e_r
        for root in ("logarithm", "approximate")
        for used in [Bounds(Numerics(root=root), F32, 1, 0.0).used(zero, exact, none, none)]
    }
    assert errors["logarithm"].max() <= 1
    assert abs(power) < 30 or errors["approximate"].max() > 1


def test_saved_statistics_are_rounded_unless_they_are_held():
    """A mean of 3 eighths is a bfloat16; one of 1 third is off by its rounding, and so is what is computed by it."""
    units = Units.of("float32", "float32", saved="bfloat16")
    exact, rounded = batch_of(np.array([[0.25], [0.5]])), batch_of(np.array([[0.25], [0.25], [0.5]]))
    told = [Bounds(Numerics(), units, n, 1e-3).e_mean(batch).item() for n, batch in ((2, exact), (3, rounded))]
    assert told[0] == 0
    assert 2.0**-8 * 0.25 <= told[1] <= 2.0**-8


def test_what_is_recovered_from_y_says_nothing_where_gamma_is_small():
    """z = (y - beta) / gamma is off by y's rounding over gamma, and dgamma by dy's mean of that."""
    batch, dy = batch_of(np.random.default_rng(2).normal(size=(64, 2))), np.random.default_rng(4).normal(size=(64, 2))
    b = bounds(64)
    parts = b, batch, b.used_of(batch), dy, np.zeros(())
    plain, off = GradientBounds(*parts), GradientBounds(*parts, np.full((64, 2), 1e-3))
    assert (off.e_mean_dyz - plain.e_mean_dyz >= 1e-3 * np.abs(dy).mean(0)).all()
    assert np.isinf(GradientBounds(*parts, np.full((64, 2), np.inf)).e_mean_dyz).all()


@pytest.mark.parametrize("size", [1e-8, 1e-4, 1.0, 1e4])
def test_a_variance_taken_back_from_its_root_is_off_by_the_rounding_of_epsilon(size):
    """1 / r² - epsilon in float32 is inside at any variance; far below epsilon it is outside what a variance may be."""
    v, epsilon = np.random.default_rng(3).uniform(1, 10, 512) * size, np.float32(1e-3)
    x = np.sqrt(v).astype(np.float32) * np.array([[1], [-1]], np.float32)
    variance = np.square(x).mean(0)
    r = 1 / np.sqrt(variance + epsilon)
    got, batch = (1 / (r * r) - epsilon).astype(np.float64), batch_of(x.astype(np.float64))
    off = np.abs(got - batch.variance.ravel())
    allowed = {way: bounds(2, entering=way).e_entering(batch).ravel() for way in ("variance", "recovered")}
    assert (off <= allowed["recovered"]).all()
    assert size > 1e-4 or (off > allowed["variance"]).any()
    assert (allowed["recovered"] <= 20 * F32.u * (batch.variance.ravel() + epsilon)).all()


@pytest.mark.parametrize(("name", "bits"), [("float16", 11), ("bfloat16", 8), ("tf32", 11), ("float32", 24)])
def test_arithmetic_has_the_bits_of_its_name(name, bits):
    """A named dtype rounds by half of its last bit, float32's input too."""
    units = Units.of(name, "float32", "float32")
    assert (units.u, units.taken_u) == (2.0**-bits, 2.0**-bits if bits < 24 else 0)


def test_dgamma_of_deviations_is_as_good_as_r_where_n_is_no_power_of_two():
    """At N = 1,000,000, balanced whole numbers and a quotient as IEEE 754 has it leave dgamma a few roundings of r.

    Sums of dy times normalized values are allowed 1 % of their size there, as r = 1 / sqrt(3/4 + epsilon) rounds each.
    """
    n, rng = 1_000_000, np.random.default_rng(0)
    z, dy = whole_numbers.channel(n, rng)
    batch, dy = batch_of(z[:, None] + 3), dy[:, None]
    found = {}
    for products in ("any", "deviations"):
        b = Bounds(Numerics(products=products, division="rounded"), F32, n, 1e-3)
        formulas = GradientBounds(b, batch, b.used_of(batch), dy, np.zeros(()))
        assert b.e_mean(batch).item() == b.e_variance(batch).item() == 0
        found[products] = (formulas.e_mean_dyz / np.abs(formulas.c2)).item()
    assert found["deviations"] < 8 * F32.u
    assert found["any"] > 1e-3


def test_a_returned_inverse_deviation_is_judged(small_case):
    """1 / sqrt(variance + epsilon) of the batch passes; without epsilon, or as the deviation itself, it fails."""
    listed = next(e.statement for e in from_target(str(ADAPTERS / "numpy.py")) if e.statement.id == "numpy.two_pass")
    statement = msgspec.structs.replace(listed, outputs=("y", "inverse_deviation"))
    case = small_case(modes="train")
    with np.errstate(all="ignore"):
        (step,) = trajectory(Promise.of(ExactCase(case), statement))
    y = step["y"].value.astype(np.float32)
    variance, epsilon = case.x(0).astype(float).var(0), case.spec.epsilon
    answers = {"right": (variance + epsilon) ** -0.5, "bare": variance**-0.5, "deviation": (variance + epsilon) ** 0.5}
    verdicts = {}
    for name, r in answers.items():
        reply = Reply(0, "i@cpu", (Outputs({"y": y, "inverse_deviation": r.astype(np.float32)}),))
        found = judge(case_id(case), ExactCase(case), statement, reply)
        verdicts[name] = next(one.verdict for one in found if one.output == "inverse_deviation")
    assert verdicts == {"right": "PASS", "bare": "FAIL", "deviation": "FAIL"}


def test_a_quotient_is_exact_only_where_it_is_said_to_be_rounded():
    """Of 12 values that add up to 3, a mean of 1/4 may be off where 1 / 12 is multiplied, and only there."""
    batch = batch_of(np.repeat([[1.0], [0.0]], [3, 9], axis=0))
    errors = [bounds(12, division=how).e_mean(batch).item() for how in ("approximate", "rounded")]
    assert errors[0] > 0 == errors[1]
