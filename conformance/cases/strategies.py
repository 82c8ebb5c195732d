"""Generated cases: Hypothesis draws recipes, and a recipe's hash seeds its data.

Only enumerated values are drawn, so that a case depends on the run's seed and on nothing else. Each mandatory cell
(placement × conditioning × precision, and placement × feature) gets a small seeded run of its own: one run over
everything repeats itself and leaves cells empty. Every second case takes its static signature from a pool, which
compiled implementations share: one per placement and precision, and one per feature.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import msgspec
import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from conformance.cases.features import FEATURES
from conformance.model.case import Case, Derivative, Dtype, Dtypes, Layout, Step, numpy_dtype
from reference import Spec
from reference.spec import Array, broadcast, kept_axes, kept_shape

_PLAIN: dict[str, tuple[int, int | tuple[int, ...]]] = {
    "rank 2, axis 1": (2, 1),
    "rank 2, axis 0": (2, 0),
    "rank 3, axis 1": (3, 1),
    "rank 3, axis -1": (3, -1),
    "rank 4, axis 1": (4, 1),
    "rank 4, axis -1": (4, -1),
    "rank 4, axis 2": (4, 2),
    "rank 4, axes 1 and 3": (4, (1, 3)),
    "rank 5, axis 1": (5, 1),
    "rank 5, axis -1": (5, -1),
}
PLAIN = tuple(_PLAIN)
"""Where plain cases are asked; features have other ranks too."""
PLACEMENTS = _PLAIN | {
    "rank 0, axis -1": (0, -1),
    "rank 1, axis 0": (1, 0),
    "rank 1, axis -1": (1, -1),
    "rank 6, axis 1": (6, 1),
    "rank 6, axis -1": (6, -1),
}
CONDITIONING = ("easy", "offset", "degenerate")
PRECISION = ("float32", "other")
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
T = TypeVar("T")

_MODES = ["train infer", "train train infer", "infer train infer", "train train train infer", "train infer train infer"]


class Cell(NamedTuple):
    """One mandatory combination; with a feature, conditioning and precision are free."""

    placement: str
    conditioning: str = ""
    precision: str = ""
    feature: str = ""

    def __str__(self) -> str:
        """Return the cell's name in coverage tables."""
        return "; ".join(part for part in self if part)


CELLS = [
    *(Cell(*c) for c in itertools.product(PLAIN, CONDITIONING, PRECISION)),
    *(Cell(place, feature=name) for name, f in FEATURES.items() if not f.sizes for place in f.placements),
]
LARGE = [Cell(place, feature=name) for name, f in FEATURES.items() if f.sizes for place in f.placements]
"""Asked of thorough runs alone, one case of each."""


SMOKE, DEFAULT, THOROUGH = (each * len(CELLS) for each in (1, 3, 20))
"""How many cases the profiles generate: so many of each cell. Fewer than the default are not sufficient."""


class Signature(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a compiled implementation compiles for. feature, variant: what the case asks beyond the plain layer."""

    shape: tuple[int, ...]
    axis: int | tuple[int, ...]
    dtypes: Dtypes
    momentum: float
    affine: Literal["both", "none", "scale", "center"]
    feature: str = ""
    variant: str = ""


class Recipe(msgspec.Struct, frozen=True):
    """Everything a case is made from. ratio: mean / standard deviation; spread: standard deviation / √epsilon."""

    cell: str
    signature: Signature
    pooled: bool
    epsilon: float
    modes: str
    layout: Layout
    last_batch_smaller: bool
    pattern: str
    ratio: float
    spread: float
    drift: float
    values: str
    number: int


def cases(run_seed: int, count: int) -> list[tuple[Recipe, Case]]:
    """Return `count` cases, the same for the same seed; as many per cell as go round.

    Cells come in a seeded order; plain ones first, one of each placement in turn and float32 before the others, so that
    few cases say something.
    """
    large = LARGE if count >= THOROUGH else []
    count -= len(large)
    order = _ordered([CELLS[int(i)] for i in np.random.default_rng(run_seed).permutation(len(CELLS))])
    per_cell = [count // len(CELLS) + (i < count % len(CELLS)) for i in range(len(CELLS))]
    drawn = [recipes(cell, run_seed, number) for cell, number in zip(order, per_cell, strict=True)]
    drawn += [recipes(cell, run_seed, 1) for cell in large]
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*drawn))
    return [(recipe, build(recipe, run_seed)) for recipe in rounds if recipe is not None]


def _ordered(cells: list[Cell]) -> list[Cell]:
    plain = [[cell for cell in cells if not cell.feature and cell.placement == place] for place in PLAIN]
    plain = [sorted(found, key=lambda cell: PRECISION.index(cell.precision)) for found in plain]
    return [*itertools.chain(*zip(*plain, strict=True)), *(cell for cell in cells if cell.feature)]


def recipes(cell: Cell, run_seed: int, count: int) -> list[Recipe]:
    """Return `count` different recipes of a cell; the first that Hypothesis draws is the simplest and is dropped."""
    found: list[Recipe] = []
    budget = count + 1
    while len(unique := list(dict.fromkeys(found[1:]))) < count:
        found = _draw(recipe(cell), (run_seed, *filter(None, cell)), budget)
        budget *= 2
    shared = pool(run_seed).get(_named(cell), [])
    variants = _variants(cell.feature, run_seed)
    return [_numbered(r, i, shared, variants) for i, r in enumerate(unique[:count])]


def _variants(feature: str, run_seed: int) -> tuple[str, ...]:
    """Return the variants of a feature, begun at another for each seed: a run may have fewer cases than there are."""
    found = FEATURES[feature].variants if feature else ("",)
    first = run_seed % len(found)
    return found[first:] + found[:first]


def _numbered(recipe: Recipe, number: int, shared: list[Signature], variants: tuple[str, ...]) -> Recipe:
    """Number a cell's recipes; those with an even number take a pooled signature in turn, where the cell has any.

    The others take the variants of the feature in turn, from the last on.
    """
    if number % 2 == 0 and shared:
        return msgspec.structs.replace(recipe, number=number, signature=shared[number // 2 % len(shared)], pooled=True)
    signature, name = recipe.signature, recipe.signature.feature
    turn = variants[-1 - number // (2 if shared else 1) % len(variants)]
    affine = "both" if name and not number else signature.affine  # which every layer takes
    asked = msgspec.structs.replace(signature, variant=turn, affine=affine)
    return msgspec.structs.replace(recipe, number=number, signature=asked)


@functools.cache
def pool(run_seed: int) -> dict[tuple[str, ...], list[Signature]]:
    """Return the pooled signatures by placement, precision and feature.

    There are `POOL_SIZE` plain ones, float32 first; and for the first placement of each feature, and for rank 4 with
    the channels last, which fused kernels want in float32, one for each of its variants.
    """
    slots = [Cell(placement, precision=precision) for precision in PRECISION for placement in PLAIN][:POOL_SIZE]
    found = {_named(cell): _draw(signature(cell), (run_seed, "pool", *_named(cell)), 2)[-1:] for cell in slots}
    for name, feature in FEATURES.items():
        for placement in {feature.placements[0], "rank 4, axis -1"} & set(feature.placements):
            cell = Cell(placement, feature=name)
            drawn = _draw(signature(cell), (run_seed, "pool", *_named(cell)), 2)[-1]
            if placement != feature.placements[0] and not feature.halves:
                drawn = msgspec.structs.replace(drawn, dtypes=Dtypes())
            found[_named(cell)] = [msgspec.structs.replace(drawn, variant=v) for v in _variants(name, run_seed)]
    return found


def _named(cell: Cell) -> tuple[str, ...]:
    return (cell.placement, cell.precision, cell.feature) if cell.feature else (cell.placement, cell.precision)


def _draw(strategy: st.SearchStrategy[T], key: tuple[object, ...], examples: int) -> list[T]:
    found: list[T] = []

    @seed(_hash(*key))
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


def signature(cell: Cell) -> st.SearchStrategy[Signature]:
    """Draw what a compiled implementation would compile for."""
    rank, axis = PLACEMENTS[cell.placement]
    feature = FEATURES.get(cell.feature)
    sizes = list(feature.sizes) if feature and feature.sizes else _SIZES[rank]
    sizes = [size for size in sizes if not feature or not feature.first or size[0] in feature.first]
    return st.builds(
        Signature,
        shape=st.sampled_from(sizes).map(lambda shape: _moved(shape, rank, axis)),
        axis=st.just(axis),
        dtypes=st.sampled_from(_kinds(cell)).map(lambda kind: Dtypes(kind[0], kind[1], kind[1])),
        momentum=st.sampled_from([0.9, 0.99, 0.5, 0.999, 0.0, 1.0]),
        affine=st.sampled_from(["both", "both", "none", "scale", "center"]),
        feature=st.just(cell.feature),
        variant=st.sampled_from(feature.variants if feature else ("",)),
    )


def _kinds(cell: Cell) -> list[tuple[Dtype, Dtype]]:
    """Return the pairs of dtypes to draw from: of the input, and of parameters and statistics."""
    if cell.feature:
        feature = FEATURES[cell.feature]
        return [(dtype, dtype if feature.halves or dtype == "float64" else "float32") for dtype in feature.dtypes]
    if cell.precision == "other":
        return [("float64", "float64"), ("bfloat16", "float32"), ("float16", "float32")]
    return [("float32", "float32")]


def recipe(cell: Cell) -> st.SearchStrategy[Recipe]:
    """Draw a recipe of one cell. Values come simplest first, which is where shrinking ends."""
    return st.builds(
        Recipe,
        cell=st.just(str(cell)),
        signature=signature(cell),
        pooled=st.just(False),
        epsilon=st.sampled_from([1e-3, 1e-5, 1e-1, 1e-8]),
        modes=st.sampled_from((FEATURES[cell.feature].modes if cell.feature else ()) or _MODES),
        layout=st.sampled_from(get_args(Layout)),
        last_batch_smaller=st.booleans(),
        pattern=st.sampled_from(_PATTERNS[cell.conditioning or "easy"]),
        ratio=st.sampled_from(_RATIOS[cell.conditioning or "easy"]),
        spread=st.sampled_from([30.0, 1.0, 1e-2, 1e2, 1e3]),
        drift=st.sampled_from([0.0, 0.5, 3.0]),
        values=st.sampled_from(["random", "identity", "negative", "zero_channel", "large"]),
        number=st.just(0),
    )


def _moved(shape: tuple[int, ...], rank: int, axis: int | tuple[int, ...]) -> tuple[int, ...]:
    """Move the channel sizes, written second, to where the kept axes are."""
    if rank < 2 or axis in (1, (1, 3)):
        return shape
    kept = axis % rank if isinstance(axis, int) else 1
    others = [size for i, size in enumerate(shape) if i != 1]
    return (*others[:kept], shape[1], *others[kept:])


# --- from recipe to case ----------------------------------------------------------------------------------------


def build(recipe: Recipe, run_seed: int) -> Case:
    """Return the case of a recipe."""
    sig, rng = recipe.signature, np.random.default_rng(_hash(run_seed, recipe))
    modes = recipe.modes.split()
    spec, feature = _spec(recipe), FEATURES.get(sig.feature)
    tensors = _initial(recipe, spec, rng)
    for t in range(len(modes)):
        shape = _shape(recipe, t, len(modes))
        tensors[f"{t}.x"] = _cast(_data(recipe, spec, shape, t, rng), sig.dtypes.x)
        tensors[f"{t}.dy"] = _cast(rng.normal(size=shape), sig.dtypes.x)
    steps = tuple(Step(mode="train" if m == "train" else "infer", derivatives=(Derivative(),)) for m in modes)
    case = Case(spec=spec, steps=steps, dtypes=sig.dtypes, layout=recipe.layout, tensors=tensors)
    return feature.add(case, sig.variant, rng) if feature else case


def _spec(recipe: Recipe) -> Spec:
    sig = recipe.signature
    center, scale = sig.affine in ("both", "center"), sig.affine in ("both", "scale")
    asked: Mapping[str, Any] = FEATURES[sig.feature].spec.get(sig.variant, {}) if sig.feature else {}
    spec = Spec(axis=sig.axis, epsilon=recipe.epsilon, momentum=sig.momentum, center=center, scale=scale)
    return dataclasses.replace(spec, **asked)


def _shape(recipe: Recipe, t: int, steps: int) -> tuple[int, ...]:
    shape = recipe.signature.shape
    divisible = recipe.signature.feature and FEATURES[recipe.signature.feature].first
    smaller = recipe.last_batch_smaller and not (recipe.pooled or divisible) and t == steps - 1 and shape[0] > 2
    if smaller and 0 not in kept_axes(Spec(axis=recipe.signature.axis), len(shape)):
        return (shape[0] - 1, *shape[1:])
    return shape


def _initial(recipe: Recipe, spec: Spec, rng: np.random.Generator) -> dict[str, Array]:
    kept, sig = kept_shape(spec, recipe.signature.shape), recipe.signature
    std = _std(recipe)
    gamma, beta = rng.normal(1.0, 0.5, kept), rng.normal(size=kept)
    if recipe.values == "identity":
        gamma, beta = np.ones(kept), np.zeros(kept)
    if recipe.values == "negative":
        gamma = -np.abs(gamma)
    if recipe.values == "zero_channel":
        gamma.flat[0] = 0.0
    if recipe.values == "large":
        gamma, beta = 30 * gamma, 30 * beta
    mean = recipe.ratio * std + std * rng.normal(size=kept)
    variance = std**2 * rng.uniform(0.5, 2.0, kept)
    tensors = {
        "moving_mean": _cast(mean, sig.dtypes.statistics),
        "moving_variance": _cast(variance, sig.dtypes.statistics),
    }
    if spec.scale:
        tensors["gamma"] = _cast(gamma, sig.dtypes.parameters)
    if spec.center:
        tensors["beta"] = _cast(beta, sig.dtypes.parameters)
    return tensors


def _std(recipe: Recipe) -> float:
    """Return the channels' typical standard deviation; half-precision data must stay below the largest float16."""
    std = recipe.spread * recipe.epsilon**0.5
    if recipe.pattern == "large":
        std *= 1e4
    if recipe.signature.dtypes.x == "float16":
        std = min(std, 3e4 / (abs(recipe.ratio) + (5e3 if recipe.pattern == "outlier" else 20)))
    if recipe.signature.dtypes.statistics == "float16":  # a variance is stored, and must stay below it too
        std = min(std, 100.0)
    return std


def _data(recipe: Recipe, spec: Spec, shape: tuple[int, ...], t: int, rng: np.random.Generator) -> Array:
    """Return one batch: a pattern of unit size, times each channel's standard deviation, around its mean."""
    std, kept = _std(recipe), kept_shape(spec, shape)
    each = std * broadcast(rng.uniform(0.5, 2.0, kept), spec, len(shape))
    centre = each * (recipe.ratio + recipe.drift * t + broadcast(rng.normal(size=kept), spec, len(shape)))
    return centre + each * _pattern(recipe.pattern, shape, rng)


def _pattern(pattern: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    z = rng.normal(size=shape)
    if pattern == "uniform":
        return rng.uniform(-1.7, 1.7, shape)
    if pattern == "sorted":
        return np.sort(z, axis=0)
    if pattern == "two_point":
        return np.sign(z)
    if pattern == "constant":
        return np.zeros(shape)
    if pattern in ("near_constant", "tiny"):
        return z * (1e-3 if pattern == "near_constant" else 1e-6)
    if pattern == "outlier":
        return np.where(np.arange(z.size).reshape(shape) == 0, 1e3, 1.0) * z
    if pattern == "sparse":
        return z * (rng.uniform(size=shape) < 0.1)
    return z


def _cast(array: Array, dtype: Dtype) -> Array:
    return array.astype(numpy_dtype(dtype))


def _hash(*parts: object) -> int:
    """Return a seed that depends on the parts and on nothing else."""
    text = json.dumps([msgspec.to_builtins(part) for part in parts], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
