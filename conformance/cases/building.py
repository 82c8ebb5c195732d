"""From a recipe to its case."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from conformance.cases.features import FEATURES
from conformance.cases.recipe import Recipe, seed_of
from conformance.model.case import Case, Derivative, Dtype, Step, numpy_dtype
from reference import Spec
from reference.spec import Array, broadcast, kept_axes, kept_shape


def build(recipe: Recipe, run_seed: int) -> Case:
    """Return the case of a recipe."""
    sig, rng = recipe.signature, np.random.default_rng(seed_of(run_seed, recipe))
    modes = recipe.modes.split()
    spec, feature = _spec(recipe), FEATURES.get(sig.feature)
    tensors = _initial(recipe, spec, rng)
    drawn_otherwise = feature is not None and feature.shapes(recipe)
    tensors |= feature.draw(recipe, rng) if feature and drawn_otherwise else _batches(recipe, spec, len(modes), rng)
    steps = tuple(Step(mode="train" if m == "train" else "infer", derivatives=(Derivative(),)) for m in modes)
    case = Case(spec=spec, steps=steps, dtypes=sig.dtypes, layout=recipe.layout, tensors=tensors)
    return feature.add(case, sig.variant, rng) if feature else case


def size(recipe: Recipe) -> int:
    """Return how many bytes the batches of a recipe's case and their cotangents have, before any is drawn."""
    sig, modes = recipe.signature, recipe.modes.split()
    shapes = FEATURES[sig.feature].shapes(recipe) if sig.feature else {}
    if shapes:
        return sum(map(math.prod, shapes.values())) * numpy_dtype(sig.variant).itemsize
    return 2 * len(modes) * math.prod(sig.shape) * numpy_dtype(sig.dtypes.x).itemsize


def _batches(recipe: Recipe, spec: Spec, steps: int, rng: np.random.Generator) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for t in range(steps):
        shape = _shape(recipe, t, steps)
        found[f"{t}.x"] = _cast(_data(recipe, spec, shape, t, rng), recipe.signature.dtypes.x)
        found[f"{t}.dy"] = _cast(rng.normal(size=shape), recipe.signature.dtypes.x)
    return found


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
    """Return the channels' typical standard deviation; half-precision data stays below the largest float16."""
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
