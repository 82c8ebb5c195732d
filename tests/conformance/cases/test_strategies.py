"""Generated cases: every cell, no repetition, the same everywhere."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, find, settings

from conformance.cases import building, cells, strategies, whole_numbers
from conformance.cases.asking import ASKING
from conformance.cases.chance import CHANCE
from conformance.cases.edges import EDGES
from conformance.cases.ensembles import ENSEMBLES
from conformance.cases.features import FEATURES
from conformance.cases.gpu_sizes import GPU_SIZES, HUGE_BYTES
from conformance.cases.large import LARGE
from conformance.cases.odd import ODD
from conformance.cases.recipe import Signature
from conformance.cases.replicas import REPLICAS
from conformance.cases.shapes import SHAPES
from conformance.cases.values import VALUES
from conformance.model.case import Derivative, Dtypes, case_id, content
from conformance.model.case_facts import differentiation, mask, step_facts
from conformance.studies.hunt.hunting import recipes

SHRINKING = settings(
    max_examples=2000, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def small():
    """Return the cases of a small run, each with its recipe."""
    return strategies.cases(0, 60)


@pytest.fixture(scope="module")
def default():
    """Return those of a default run."""
    return strategies.cases(5, cells.DEFAULT)


def test_a_default_run_reaches_every_cell_and_repeats_no_case(default):
    """Each cell has three cases, and all have different ids."""
    assert Counter(recipe.cell for recipe, _ in default) == {str(cell): 3 for cell in cells.CELLS}
    assert len({case_id(case) for _, case in default}) == cells.DEFAULT == 3 * len(cells.CELLS)


def test_compiled_implementations_get_at_least_60_cases_from_at_most_16_signatures(default):
    """The pool is small, and large enough; each feature adds a few of its own."""
    pooled = [(recipe, case) for recipe, case in default if recipe.pooled]
    plain = [recipe for recipe, _ in pooled if not recipe.signature.feature]
    assert len(plain) >= 60
    assert len({recipe.signature for recipe in plain}) <= strategies.POOL_SIZE == 16
    assert {r.signature.feature for r, _ in pooled} == {"", *(cell.feature for cell in cells.CELLS)}
    assert len(FEATURES) <= len({r.signature for r, _ in pooled if r.signature.feature}) < 3 * len(FEATURES)
    for recipe, case in (
        (r, c)
        for r, c in pooled
        if r.signature.feature not in {"another size", "indivisible", "no rows", "one value", "no axes", *SHAPES, *ODD}
    ):
        assert {case.x(t).shape for t in range(len(case.steps))} == {recipe.signature.shape}


def test_cases_are_the_same_in_another_process_and_under_another_hash_seed(small):
    """A seed means the same cases everywhere: no process state decides."""
    code = (
        "from conformance.cases import strategies as s; from conformance.model import case; "
        "print([case.case_id(c) for _, c in s.cases(0, 60)])"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": h}, capture_output=True, text=True, check=True
        )
        for h in ("1", "2")
    ]
    assert {f.stdout.strip() for f in found} == {str([case_id(case) for _, case in small])}


def test_cases_are_pinned(small):
    """The first cases of seed 0 are what they were; a change here changes everyone's cases, and is to be announced."""
    assert [case_id(case) for _, case in small[:3]] == ["83a27773020554dd", "4742680289e59f65", "df8f1a09089d2ea2"]


def test_a_thorough_run_asks_every_large_variant_last(default, monkeypatch):
    """Large cases come beside as many of each mandatory cell as ever, and no smaller run pays for them."""
    large = {str(cell): number for cell, number in cells.LARGE.items()}
    assert not large.keys() & {recipe.cell for recipe, _ in default}
    monkeypatch.setattr(strategies, "THOROUGH", cells.SMOKE + sum(large.values()))
    drawn = strategies.chosen(0, strategies.THOROUGH)
    assert Counter(recipe.cell for recipe in drawn) == Counter(map(str, cells.CELLS)) | Counter(large)
    last = drawn[cells.SMOKE :]
    assert Counter(recipe.cell for recipe in last) == large
    asked = {(recipe.signature.feature, recipe.signature.variant) for recipe in last}
    assert asked == {(name, variant) for name, feature in LARGE.items() for variant in feature.variants}


def test_sizes_of_gpus_are_of_profiles_of_their_own(default):
    """Each variant of a size is a case of its profile and of no other run; all but one have odd channels."""
    own = {name: strategies.of_profile(name, 0) for name in cells.ALONE}
    for profile, found in own.items():
        wanted = {(n, v) for n, f in GPU_SIZES.items() if f.profile == profile for v in f.variants}
        assert Counter((r.signature.feature, r.signature.variant) for r in found) == Counter(wanted)
        even = {r.signature.feature for r in found if r.signature.shape[1] % 2 == 0}
        assert even == ({"64 channels last"} if profile == "sizes" else set())
    assert not {r.cell for found in own.values() for r in found} & {recipe.cell for recipe, _ in default}
    values = {math.prod(r.signature.shape) // r.signature.shape[1] for r in own["sizes"]}
    assert values == {3136, 65534, 65535, 65536, 131069, 131070, 131071, 2**24, 2**24 + 1}
    assert math.prod(own["huge"][0].signature.shape) > 2**31
    assert building.size(own["huge"][0]) == HUGE_BYTES


def test_a_huge_batch_is_the_same_example_shifted(monkeypatch):
    """Its sums are whole, no example is like its neighbour, and it has no cotangent."""
    (huge,) = strategies.of_profile("huge", 0)
    small = msgspec.structs.replace(huge, signature=msgspec.structs.replace(huge.signature, shape=(3, 5, 16, 8)))
    case = building.build(small, 0)
    x = case.x(0).astype(float)
    assert (case.dtypes.x, set(case.tensors) & {"0.dy"}, case.steps[0].derivatives) == ("float16", set(), ())
    assert (x.mean((0, 2, 3)) == np.resize(whole_numbers.OFFSETS, 5)).all()
    assert (np.sort(x[0].reshape(5, -1)) == np.sort(x[1].reshape(5, -1))).all()
    assert (x[0] != x[1]).any((1, 2)).all()


def test_fewer_cases_are_spread_over_cells():
    """Ten cases come from ten cells, and one more than there are cells repeats one."""
    assert len({r.cell for r, _ in strategies.cases(1, 10)}) == 10
    assert max(Counter(r.cell for r, _ in strategies.cases(1, cells.SMOKE + 1)).values()) == 2


def test_every_plain_case_has_several_steps_finite_data_and_cotangents(small):
    """Each ends in inference after training, and everything stored is finite."""
    for case in (
        case
        for recipe, case in small
        if recipe.signature.feature not in {**EDGES, **ASKING, **ENSEMBLES, **REPLICAS, **VALUES, **CHANCE}
    ):
        modes = [step.mode for step in case.steps]
        assert "train" in modes
        assert modes[-1] == "infer"
        assert all(f"{t}.dy" in case.tensors for t in range(len(modes)))
        assert all(np.isfinite(a.astype(np.float64)).all() for a in case.tensors.values())


def modes_and_counts(case):
    """Return the mode of each step, and whether it has no value per channel, one, or many."""
    about = [step_facts(case, t) for t in range(len(case.steps))]
    return {(one.mode, one.n) for one in about}


def indivisible(case, mode):
    """Return whether a step of this mode has rows that the virtual batch size does not divide."""
    size = case.spec.virtual_batch_size
    return bool(size) and any(case.x(t).shape[0] % size for t, step in enumerate(case.steps) if step.mode == mode)


def modes(case):
    """Return the modes of a case's steps."""
    return [step.mode for step in case.steps]


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("a negative axis", lambda r, c: isinstance(c.spec.axis, int) and c.spec.axis < 0),
        ("several axes", lambda r, c: isinstance(c.spec.axis, tuple)),
        ("two values per channel", lambda r, c: "(2, 3)" in str(r.signature.shape)),
        ("a smaller last batch", lambda r, c: c.x(len(c.steps) - 1).shape != c.shape),
        ("inference before the first step", lambda r, c: c.steps[0].mode == "infer"),
        ("a constant channel", lambda r, c: r.pattern == "constant"),
        ("mean / standard deviation of a million", lambda r, c: r.ratio == 1e6),
        ("momentum 0", lambda r, c: c.spec.momentum == 0),
        ("momentum 1", lambda r, c: c.spec.momentum == 1),
        ("no gamma", lambda r, c: not c.spec.scale and "gamma" not in c.tensors),
        ("gamma of 0", lambda r, c: r.values == "zero_channel"),
        ("Fortran order", lambda r, c: c.layout == "F"),
        ("bfloat16", lambda r, c: c.x(0).dtype.name == "bfloat16"),
        ("float16", lambda r, c: c.x(0).dtype.name == "float16"),
        ("float64", lambda r, c: c.x(0).dtype.name == "float64"),
        ("channels last", lambda r, c: c.layout == "channels_last" and len(c.shape) > 2),
        ("a mask of every value", lambda r, c: mask(c) == "full"),
        ("a mask for all channels", lambda r, c: mask(c) == "spread"),
        ("a mask without the last axis", lambda r, c: mask(c) == "without_last"),
        ("renorm, clipped", lambda r, c: c.spec.renorm and c.spec.renorm_clipping),
        ("renorm, not clipped", lambda r, c: c.spec.renorm and not c.spec.renorm_clipping),
        ("virtual batches with renorm", lambda r, c: c.spec.virtual_batch_size and c.spec.renorm),
        ("adjustment", lambda r, c: "adjustment_scale" in str(c.tensors)),
        ("reverse over reverse", lambda r, c: differentiation(c) == "reverse_over_reverse"),
        ("forward over reverse", lambda r, c: differentiation(c) == "forward_over_reverse"),
        ("forward", lambda r, c: differentiation(c) == "forward"),
        ("a frozen layer", lambda r, c: not c.spec.trainable),
        ("a cumulative average", lambda r, c: c.spec.momentum is None),
        ("half-precision parameters", lambda r, c: c.dtypes.parameters == "float16"),
        ("update ops that do not run", lambda r, c: not all(step.update for step in c.steps)),
        ("a start of the layer's own", lambda r, c: "moving_mean" not in c.tensors and "gamma" not in c.tensors),
        ("built in inference", lambda r, c: c.actions.init_mode == "infer"),
        ("rebuilt from its configuration", lambda r, c: c.actions.round_trip == "config"),
        ("rebuilt from its state", lambda r, c: c.actions.round_trip == "state"),
        ("rebuilt with virtual batches", lambda r, c: c.actions.round_trip != "none" and c.spec.virtual_batch_size),
        ("two call sites", lambda r, c: {step.site for step in c.steps} == {0, 1}),
        ("unknown sizes of the kept axis", lambda r, c: step_facts(c, 0).unknown_sizes == "kept"),
        ("unknown sizes of the others", lambda r, c: step_facts(c, 0).unknown_sizes == "reduced"),
        ("indivisible inference", lambda r, c: indivisible(c, "infer")),
        ("an indivisible training batch", lambda r, c: indivisible(c, "train")),
        ("training on no rows", lambda r, c: ("train", "0") in modes_and_counts(c)),
        ("inference on no rows", lambda r, c: ("infer", "0") in modes_and_counts(c)),
        ("training on one value", lambda r, c: ("train", "1") in modes_and_counts(c)),
        ("NaN", lambda r, c: any(np.isnan(a).any() for a in c.tensors.values())),
        ("infinity", lambda r, c: any(np.isposinf(a).any() for a in c.tensors.values())),
        ("zeros of either sign", lambda r, c: not c.x(0).any() and len(set(np.signbit(c.x(0)).flat)) == 2),
        ("subnormal numbers", lambda r, c: 0 < np.abs(c.x(0).astype(float)).max(initial=0) < np.finfo("f").tiny),
        ("squares that overflow", lambda r, c: r.signature.variant == "huge"),
        ("six steps or more", lambda r, c: len(c.steps) >= 6),
        ("a third derivative", lambda r, c: differentiation(c) == "third"),
        ("forward over forward", lambda r, c: differentiation(c) == "forward_over_forward"),
        (
            "gradients after all calls",
            lambda r, c: c.actions.backward == "after_all" and modes(c)[:2] == ["infer", "train"],
        ),
        ("a gradient of the batch's variance", lambda r, c: any("dvariance" in name for name in c.tensors)),
        (
            "two calls of one graph that train",
            lambda r, c: c.actions.backward == "together" and "infer" not in modes(c),
        ),
        ("a tangent of gamma", lambda r, c: "0.gamma_tangent" in c.tensors),
        ("a tangent of inference's variance", lambda r, c: any("variance_tangent" in name for name in c.tensors)),
        ("a gradient of the new state", lambda r, c: "0.dmoving_mean" in c.tensors),
        ("nested maps", lambda r, c: c.actions.mapped == "nested" and not np.array_equal(c.x(0), c.x(1))),
        ("a row of a Jacobian", lambda r, c: c.actions.mapped == "dy" and c.tensors["0.dy"].sum() == 1),
        ("a call made once more", lambda r, c: c.actions.backward == "recomputed" and "train" in modes(c)),
        ("replicas of unlike sizes", lambda r, c: len(set(c.actions.replicas)) > 1),
        ("a replica without rows", lambda r, c: 0 in c.actions.replicas),
        ("gradients twice", lambda r, c: c.actions.backward == "twice"),
        ("dy of another memory than x", lambda r, c: c.dy_layout == "channels_last" and c.layout == "C"),
        ("gamma that is not contiguous", lambda r, c: c.layer_layout == "strided"),
        ("a cotangent of zeros", lambda r, c: any(n.endswith(".dy") and not a.any() for n, a in c.tensors.items())),
        ("a mean whose square overflows", lambda r, c: np.abs(c.x(0).astype(float)).max(initial=0) > 2e19),
        ("epsilon 1e-8 in a half", lambda r, c: c.spec.epsilon == 1e-8 and c.x(0).dtype == "float16"),
        ("a momentum of no list", lambda r, c: c.spec.momentum not in (None, 0, 0.5, 0.9, 0.99, 0.999, 1)),
        ("gamma of -0", lambda r, c: any((g == 0) & np.signbit(g) for g in c.tensors.get("gamma", np.ones(1)).flat)),
        ("one limit of renorm", lambda r, c: c.spec.renorm_clipping and c.spec.renorm_clipping.rmin is None),
        ("axes in another order", lambda r, c: c.spec.axis == (3, 1)),
        ("batches that have entered before", lambda r, c: c.batches > 0),
        ("a mask of weights", lambda r, c: step_facts(c, 0).weights),
        ("a mask of one channel", lambda r, c: step_facts(c, 0).one_channel and mask(c) == "without_last"),
        ("NaN under a mask", lambda r, c: mask(c) and any(np.isnan(a).any() for a in c.tensors.values())),
        ("an adjustment of the last axis", lambda r, c: np.ndim(c.tensors.get("0.adjustment_scale", 0)) == 1),
        ("gamma's gradient alone", lambda r, c: (Derivative(wrt=("gamma",)),) in [s.derivatives for s in c.steps]),
        ("beta's gradient alone", lambda r, c: (Derivative(wrt=("beta",)),) in [s.derivatives for s in c.steps]),
    ],
)
def test_corner_is_reached(default, what, found):
    """A default run contains each corner that known bugs live in."""
    assert any(found(recipe, case) for recipe, case in default), what


@pytest.mark.parametrize("cell", [cell for cell in cells.CELLS if cell.feature in {*EDGES, *ASKING}], ids=str)
def test_every_variant_of_an_edge_can_be_drawn_and_makes_a_case(cell):
    """Hypothesis finds each, and shrinking ends at the first of everything else."""
    for variant in FEATURES[cell.feature].variants:
        recipe = find(strategies.recipe(cell), lambda drawn, wanted=variant: drawn.signature.variant == wanted)
        case, misplaced = building.build(recipe, 0), cell.feature == "misplaced axis"
        assert step_facts(case, 0).misplaced == misplaced
        assert misplaced or case.spec.axis == cells.PLACEMENTS[cell.placement][1]
        assert (recipe.epsilon, recipe.pattern, recipe.values, recipe.layout) == (1e-3, "normal", "random", "C")


def test_every_rank_is_in_a_default_run(default):
    """Ranks 0, 1 and 6 beside the usual ones."""
    assert {step_facts(case, 0).rank for _, case in default} == set(range(7))


def test_axes_out_of_range_and_every_mix_of_dtypes_are_in_the_runs_of_a_few_seeds():
    """Seeds begin at other variants, so that together they reach all of them, with three cases of each cell."""
    asked = [cell for cell in cells.CELLS if cell.feature in ("misplaced axis", "mixed dtypes")]
    drawn = [(r, seed) for seed in range(5) for cell in asked for r in strategies.recipes(cell, seed, 3)]
    found = [step_facts(building.build(*one), 0) for one in drawn]
    axes = {(about.rank, str(about.said("axis"))) for about in found if about.misplaced and about.rank}
    assert axes == {(2, "[1, -1]"), (2, "-3"), (2, "2"), (4, "[3, -1]"), (4, "-5"), (4, "4")}
    mixes = {(about.dtype, about.parameters, about.statistics) for about in found if about.mixed}
    assert len(mixes) == len(FEATURES["mixed dtypes"].variants) == 7


@pytest.mark.parametrize(
    ("predicate", "elements"),
    [
        (lambda case: case.x(0).shape[:1] >= (3,), 8),
        (lambda case: not case.x(len(case.steps) - 1).size, 4),
        (lambda case: case.spec.renorm and case.spec.virtual_batch_size, 16),
        (lambda case: case.layout == "strided", 16),
        (lambda case: len(case.shape) == 5, 64),  # four rows, where there is a mask
    ],
)
def test_shrinking_gets_to_small_cases(predicate, elements):
    """A batch of three rows, one of none, a memory layout: what is left is about as small as it can be."""
    recipe = find(recipes(), lambda drawn: predicate(building.build(drawn, 0)), settings=SHRINKING)
    assert building.build(recipe, 0).x(0).size <= elements


def test_question_spells_out_every_default(small):
    """What is sent to a worker needs no knowledge of our defaults."""
    fields = content(small[0][1])
    assert set(fields["spec"]) == {
        "axis",
        "epsilon",
        "momentum",
        "center",
        "scale",
        "trainable",
        "virtual_batch_size",
    } | (set(fields["spec"]) - set())
    assert {"init_mode", "round_trip", "sites", "unknown_sizes", "flag"} == set(fields["actions"])


def test_an_infinite_variance_in_half_precision_is_no_warning(small):
    """A wide spread has a variance that float16 cannot hold: the case is built all the same, without a word."""
    signature = Signature((2, 2), 1, Dtypes(), 0.9, "both", "mixed dtypes", "f32 f16 f16")
    recipe = next(r for r, _ in small)
    wide = msgspec.structs.replace(recipe, signature=signature, epsilon=0.1, spread=2000.0, modes="train infer")
    assert np.isinf(building.build(wide, 0).tensors["moving_variance"]).any()
