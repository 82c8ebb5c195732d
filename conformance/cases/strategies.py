"""How cases are generated: Hypothesis draws recipes, and the hash of a recipe seeds its data.

Only enumerated values are drawn, so that a case depends on nothing but the run's seed. Each mandatory cell gets a small
seeded run of its own, since one run over everything repeats itself and leaves cells empty. Every second case takes its
static signature from a pool that compiled implementations share. The pool has a signature for each placement and
precision, and for each feature.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import TypeVar, get_args

import msgspec
import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from conformance.cases.building import build
from conformance.cases.cells import CELLS, LARGE, OF_PROFILE, PLACEMENTS, PLAIN, PRECISION, THOROUGH, Cell
from conformance.cases.features import FEATURES
from conformance.cases.recipe import Recipe, Signature, seed_of
from conformance.model.case import Case, Dtype, Dtypes, Layout

POOL_SIZE = 16

_SIZES: dict[int, list[tuple[int, ...]]] = {}
_SIZES[0], _SIZES[1] = [(1,)], [(3,), (1,), (64,)]
_SIZES[2] = [(2, 3), (8, 2), (9, 4), (64, 5), (33, 8), (257, 1), (16, 127), (129, 2)]
_SIZES[3] = [(2, 3, 2), (4, 2, 3), (6, 4, 5), (16, 7, 9), (1, 5, 64), (128, 2, 3)]
_SIZES[4] = [(2, 2, 2, 3), (4, 3, 5, 5), (8, 4, 3, 2), (3, 8, 8, 8), (1, 5, 7, 3)]
_SIZES[5] = [(2, 3, 2, 3, 2), (4, 2, 3, 2, 5), (2, 5, 4, 4, 3)]
_SIZES[6] = [(2, 3, 2, 1, 2, 2), (4, 2, 1, 3, 2, 3)]
_RATIOS = {"easy": [0.0, 1.0, -3.0, 10.0], "offset": [1e2, -3e2, 1e3, 1e4, 1e6], "degenerate": [0.0, 1.0, 1e2]}
_PATTERNS = {
    "easy": ["normal", "uniform", "sorted", "two_point"],
    "offset": ["normal", "sorted"],
    "degenerate": ["constant", "near_constant", "outlier", "sparse", "tiny", "large"],
}
_MODES = ["train infer", "train train infer", "infer train infer", "train train train infer", "train infer train infer"]
_PLAIN_POOL = [Cell(placement, precision=precision) for precision in PRECISION for placement in PLAIN][:POOL_SIZE]
T = TypeVar("T")


def cases(run_seed: int, count: int) -> list[tuple[Recipe, Case]]:
    """Return `count` cases, the same for the same seed, spread evenly over the cells."""
    return [(recipe, build(recipe, run_seed)) for recipe in chosen(run_seed, count)]


def chosen(run_seed: int, count: int) -> list[Recipe]:
    """Return the recipes of `count` cases.

    Cells come in a seeded order. Plain ones come first, one of each placement in turn and float32 before the others, so
    that even a few cases tell something. The large ones of a thorough run come last.
    """
    large = LARGE if count >= THOROUGH else {}
    count -= sum(large.values())
    order = _ordered([CELLS[int(i)] for i in np.random.default_rng(run_seed).permutation(len(CELLS))])
    per_cell = [count // len(CELLS) + (i < count % len(CELLS)) for i in range(len(CELLS))]
    drawn = [recipes(cell, run_seed, number) for cell, number in zip(order, per_cell, strict=True)]
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*drawn))
    return [*(recipe for recipe in rounds if recipe is not None), *_of_cells(large, run_seed)]


def of_profile(profile: str, run_seed: int) -> list[Recipe]:
    """Return the recipes of the cases that only one profile asks."""
    return list(_of_cells(OF_PROFILE[profile], run_seed))


def _of_cells(numbers: dict[Cell, int], run_seed: int) -> Iterator[Recipe]:
    return itertools.chain.from_iterable(recipes(cell, run_seed, number) for cell, number in numbers.items())


def _ordered(cells: list[Cell]) -> list[Cell]:
    plain = [[cell for cell in cells if not cell.feature and cell.placement == place] for place in PLAIN]
    plain = [sorted(found, key=lambda cell: PRECISION.index(cell.precision)) for found in plain]
    return [*itertools.chain(*zip(*plain, strict=True)), *(cell for cell in cells if cell.feature)]


def recipes(cell: Cell, run_seed: int, count: int) -> list[Recipe]:
    """Return `count` different recipes of a cell. The first that Hypothesis draws is its simplest, and is left out."""
    found: list[Recipe] = []
    budget = count + 1
    while len(unique := list(dict.fromkeys(found[1:]))) < count:
        found = _draw(recipe(cell), (run_seed, *filter(None, cell)), budget)
        budget *= 2
    shared = pooled(cell._replace(conditioning=""), run_seed) if unique else []
    variants = _variants(cell.feature, run_seed)
    return [_numbered(r, i, shared, variants) for i, r in enumerate(unique[:count])]


def _variants(feature: str, run_seed: int) -> tuple[str, ...]:
    """Return the variants of a feature in a seeded order.

    Each seed starts at another one, as a run may have fewer cases than there are variants.
    """
    found = FEATURES[feature].variants if feature else ("",)
    first = run_seed % len(found)
    return found[first:] + found[:first]


def _numbered(recipe: Recipe, number: int, shared: list[Signature], variants: tuple[str, ...]) -> Recipe:
    """Number a recipe of a cell. One with an even number takes the next pooled signature, if the cell has any.

    The others take the variants of the feature in turn, from the last one on.
    """
    if number % 2 == 0 and shared:
        return msgspec.structs.replace(recipe, number=number, signature=shared[number // 2 % len(shared)], pooled=True)
    signature, name = recipe.signature, recipe.signature.feature
    turn = variants[-1 - number // (2 if shared else 1) % len(variants)]
    affine = "both" if name and not number else signature.affine  # which every layer takes
    asked = msgspec.structs.replace(signature, variant=turn, affine=affine)
    return msgspec.structs.replace(recipe, number=number, signature=asked)


@functools.lru_cache(maxsize=1024)  # those of a few seeds
def pooled(cell: Cell, run_seed: int) -> list[Signature]:
    """Return the pooled signatures of a cell, whose conditioning is left open: those that it shares with other cells.

    There are `POOL_SIZE` plain ones, float32 first. Each feature has one for each of its variants, at its first
    placement and at rank 4 with the channels last, where fused kernels want float32.
    """
    if not cell.feature:
        return [_pool_draw(cell, run_seed)] if cell in _PLAIN_POOL else []
    feature = FEATURES[cell.feature]
    if cell.placement not in (feature.placements[0], "rank 4, axis -1"):
        return []
    drawn = _pool_draw(cell, run_seed)
    if cell.placement != feature.placements[0] and not feature.halves:
        drawn = msgspec.structs.replace(drawn, dtypes=Dtypes())
    return [msgspec.structs.replace(drawn, variant=v) for v in _variants(cell.feature, run_seed)]


def _pool_draw(cell: Cell, run_seed: int) -> Signature:
    named = (cell.placement, cell.precision, *([cell.feature] if cell.feature else []))
    return _draw(signature(cell), (run_seed, "pool", *named), 2)[-1]


def _draw(strategy: st.SearchStrategy[T], key: tuple[object, ...], examples: int) -> list[T]:
    found: list[T] = []

    @seed(seed_of(*key))
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def collect(drawn: T) -> None:
        found.append(drawn)

    collect()
    return found


@functools.cache
def signature(cell: Cell) -> st.SearchStrategy[Signature]:
    """Draw what a compiled implementation would compile for."""
    rank, axis = PLACEMENTS[cell.placement]
    feature = FEATURES.get(cell.feature)
    sizes = [size for size in feature.sizes if len(size) == rank] if feature and feature.sizes else _SIZES[rank]
    sizes = [size for size in sizes if not feature or not feature.first or size[0] in feature.first]
    return st.builds(
        Signature,
        shape=st.sampled_from(sizes).map(lambda shape: _moved(shape, rank, axis)),
        axis=st.just(axis),
        dtypes=st.sampled_from(_kinds(cell)).map(lambda kind: Dtypes(kind[0], kind[1], kind[1])),
        momentum=st.sampled_from([0.9, 0.99, 0.5, 0.999, 0.0, 1.0]),
        affine=st.sampled_from(["both"] if feature and feature.sizes else ["both", "both", "none", "scale", "center"]),
        feature=st.just(cell.feature),
        variant=st.sampled_from(feature.variants if feature else ("",)),
    )


def _kinds(cell: Cell) -> list[tuple[Dtype, Dtype]]:
    """Return the pairs of dtypes to draw from: that of the input, and that of parameters and statistics."""
    if cell.feature:
        feature = FEATURES[cell.feature]
        return [(dtype, dtype if feature.halves or dtype == "float64" else "float32") for dtype in feature.dtypes]
    if cell.precision == "other":
        return [("float64", "float64"), ("bfloat16", "float32"), ("float16", "float32")]
    return [("float32", "float32")]


@functools.cache
def recipe(cell: Cell) -> st.SearchStrategy[Recipe]:
    """Draw a recipe of one cell. Each value has its simplest choice first: shrinking ends there."""
    return st.builds(
        Recipe,
        cell=st.just(str(cell)),
        signature=signature(cell),
        pooled=st.just(False),
        epsilon=st.sampled_from([1e-3, 1e-5, 1e-1, 1e-8]),
        modes=st.sampled_from((FEATURES[cell.feature].modes if cell.feature else ()) or _MODES),
        layout=st.sampled_from((FEATURES[cell.feature].layouts if cell.feature else ()) or get_args(Layout)),
        last_batch_smaller=st.booleans(),
        pattern=st.sampled_from(_PATTERNS[cell.conditioning or "easy"]),
        ratio=st.sampled_from(_RATIOS[cell.conditioning or "easy"]),
        spread=st.sampled_from([30.0, 1.0, 1e-2, 1e2, 1e3]),
        drift=st.sampled_from([0.0, 0.5, 3.0]),
        values=st.sampled_from(["random", "identity", "negative", "zero_channel", "large"]),
        number=st.just(0),
    )


def _moved(shape: tuple[int, ...], rank: int, axis: int | tuple[int, ...]) -> tuple[int, ...]:
    """Move the channel sizes, which are written second, to where the kept axes are."""
    if rank < 2 or axis in (1, (1, 3)):
        return shape
    kept = axis % rank if isinstance(axis, int) else 1
    others = [size for i, size in enumerate(shape) if i != 1]
    return (*others[:kept], shape[1], *others[kept:])
