"""Features of how gradients are asked for: with respect to what, when they are taken, of which outputs."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np

from conformance.cases.feature import COMMON, Feature, with_tensors
from conformance.model.case import Actions, Case, Derivative, Step, numpy_dtype
from reference.spec import Array, kept_shape

_FLAT_AND_LAST = ("rank 2, axis 1", "rank 4, axis -1")
Name = Literal["x", "gamma", "beta"]
Returned = Literal["y", "mean", "variance", "moving_mean", "moving_variance"]
_ALL: tuple[Name, ...] = ("x", "gamma", "beta")
_SOME: dict[str, tuple[Name, ...]] = {
    "gamma": ("gamma",),
    "x": ("x",),
    "beta": ("beta",),
    "gamma beta": ("gamma", "beta"),
    "x gamma": ("x", "gamma"),
    "x beta": ("x", "beta"),
}
"""What training is differentiated with respect to; inference, with respect to the rest."""
_AFFINE = {"center": True, "scale": True}

_AROUND = ("infer train infer", "train infer train", "infer train train infer", "train train infer")
"""Modes whose calls lie between others that might change what their gradients are made of."""


def _some(case: Case, variant: str, _rng: np.random.Generator) -> Case:
    """Ask training for the gradients that the variant names, and inference for the others."""
    named = _SOME[variant]
    others: tuple[Name, ...] = tuple(name for name in _ALL if name not in named)
    steps = tuple(_with_respect_to(step, named if step.mode == "train" else others) for step in case.steps)
    return msgspec.structs.replace(case, steps=steps)


def _with_respect_to(step: Step, names: tuple[Name, ...]) -> Step:
    return msgspec.structs.replace(step, derivatives=(Derivative(wrt=names),))


def _later(case: Case, variant: Any, _rng: np.random.Generator) -> Case:
    """Take gradients after all calls were made, or twice, or by the call made once more."""
    return msgspec.structs.replace(case, actions=Actions(backward=variant))


def _of_statistics(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Differentiate what training returns of the batch too; a statistic counts as much as n values do."""
    names: tuple[Literal["mean", "variance"], ...] = tuple(name for name in _STATISTICS if name in variant.split())
    tensors, steps = dict[str, Array](), list(case.steps)
    for t in (t for t, step in enumerate(steps) if step.mode == "train"):
        steps[t] = msgspec.structs.replace(steps[t], derivatives=(Derivative(of=("y", *names)),))
        kept = kept_shape(case.spec, case.x(t).shape)
        n = case.x(t).size / math.prod(kept)
        dtype = numpy_dtype(case.dtypes.statistics)
        tensors |= {f"{t}.d{name}": (n * rng.normal(size=kept)).astype(dtype) for name in names}
    return msgspec.structs.replace(with_tensors(case, tensors), steps=tuple(steps))


def _of_new_state(case: Case, _variant: str, rng: np.random.Generator) -> Case:
    """Differentiate the new moving statistics too; they have as much to do with the batch as the momentum leaves."""
    tensors, steps = dict[str, Array](), list(case.steps)
    dtype, left = numpy_dtype(case.dtypes.statistics), 1 - (case.spec.momentum or 0)
    for t in (t for t, step in enumerate(steps) if step.mode == "train"):
        steps[t] = msgspec.structs.replace(steps[t], derivatives=(Derivative(of=("y", *_STATE)),))
        kept = kept_shape(case.spec, case.x(t).shape)
        size = case.x(t).size / math.prod(kept) / max(left, 1e-3)
        tensors |= {f"{t}.d{name}": (size * rng.normal(size=kept)).astype(dtype) for name in _STATE}
    return msgspec.structs.replace(with_tensors(case, tensors), steps=tuple(steps))


_STATE: tuple[Literal["moving_mean", "moving_variance"], ...] = ("moving_mean", "moving_variance")
_STATISTICS: tuple[Literal["mean", "variance"], ...] = ("mean", "variance")


def _along_parameters(case: Case, variant: Any, rng: np.random.Generator) -> Case:
    """Ask for the derivative of the gradients along one of gamma and beta, as through a step of gradient descent."""
    again = Derivative(order=2, mode=variant, along="parameters")
    steps = tuple(msgspec.structs.replace(step, derivatives=(Derivative(), again)) for step in case.steps)
    dtype, kept = numpy_dtype(case.dtypes.parameters), kept_shape(case.spec, case.shape)
    names = [f"{t}.{name}_tangent" for t in range(len(steps)) for name in ("gamma", "beta")]
    tangents = {name: rng.normal(size=kept).astype(dtype) for name in names}
    return msgspec.structs.replace(with_tensors(case, tangents), steps=steps)


def _along_all(case: Case, _variant: str, rng: np.random.Generator) -> Case:
    """Let all inputs move at once: x, gamma, beta and, in inference, the moving statistics, the spread by a part."""
    tensors, kept = dict[str, Array](), kept_shape(case.spec, case.shape)
    ofs: dict[str, tuple[Returned, ...]] = {"train": ("y", "moving_mean", "moving_variance"), "infer": ("y",)}
    for t, step in enumerate(case.steps):
        tensors[f"{t}.tangent"] = rng.normal(size=case.x(t).shape)
        tensors |= {f"{t}.{name}_tangent": rng.normal(size=kept) for name in ("gamma", "beta")}
        if step.mode == "infer":
            tensors[f"{t}.mean_tangent"] = rng.normal(size=kept)
            tensors[f"{t}.variance_tangent"] = rng.normal(size=kept) * case.tensors["moving_variance"]
    tensors = {name: a.astype(numpy_dtype(case.dtypes.of(name) or case.dtypes.x)) for name, a in tensors.items()}
    asked = {mode: (Derivative(), Derivative(mode="forward", of=of, along="all")) for mode, of in ofs.items()}
    steps = tuple(msgspec.structs.replace(step, derivatives=asked[step.mode]) for step in case.steps)
    return msgspec.structs.replace(with_tensors(case, tensors), steps=steps)


_MOVING = ("train infer", "train train", "infer train")
_MODES = ("reverse", "forward_over_reverse")

ASKING: dict[str, Feature] = {
    "some gradients": Feature(_FLAT_AND_LAST, tuple(_SOME), dict.fromkeys(_SOME, _AFFINE), add=_some),
    "recomputed": Feature(("rank 2, axis 1", "rank 4, axis 1"), ("recomputed",), add=_later, modes=_AROUND),
    "later gradients": Feature(COMMON, ("after_all", "twice"), add=_later, modes=_AROUND),
    "gradients of statistics": Feature(_FLAT_AND_LAST, ("mean variance", "mean", "variance"), add=_of_statistics),
    "along parameters": Feature(
        _FLAT_AND_LAST,
        _MODES,
        dict.fromkeys(_MODES, _AFFINE),
        add=_along_parameters,
        modes=("train infer", "train train"),
    ),
    # Of these two one placement: compiled functions alone answer them, and each is dealt one program of a feature.
    "gradients of the new state": Feature(_FLAT_AND_LAST[:1], add=_of_new_state, modes=_MOVING),
    "along all": Feature(_FLAT_AND_LAST[:1], spec={"": _AFFINE}, add=_along_all, modes=_MOVING),
}
"""Features of how gradients are asked for."""
