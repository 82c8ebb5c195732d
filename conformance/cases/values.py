"""Features of values: what a number in a case may be beside the ordinary, most of them a channel or a step apart.

Cases of one placement have one shape, so that what compiles a program for one compiles none for the others. They have
128 values of each channel, where the last warp, block or vector is full (decision 28 has the table of what is asked).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from conformance.cases.feature import Feature, stored, with_tensors
from conformance.model.case import Case, Dtypes, Layout
from conformance.model.numerics import finfo
from reference.spec import Array, Clipping, broadcast, kept_axes, kept_shape

_FLAT, _IMAGE = "rank 2, axis 1", "rank 4, axis -1"
_SIZES = ((128, 4), (2, 4, 8, 8))
_DTYPES = ("float32", "float16", "bfloat16")


def _each(case: Case, values: Any) -> Array:
    """Return one number for each channel, shaped to broadcast against the input; they repeat."""
    return broadcast(
        np.resize(np.asarray(values, float), kept_shape(case.spec, case.shape)), case.spec, len(case.shape)
    )


def _given(case: Case, arrays: dict[str, Any]) -> Case:
    """Return the case with numbers in the place of its own, in the dtypes of its own."""
    own = case.tensors
    return with_tensors(
        case, {n: np.resize(a, own[n].shape).astype(own[n].dtype) for n, a in arrays.items() if n in own}
    )


# --- cotangents ---------------------------------------------------------------------------------------------------


def _cotangents(case: Case, variant: Any, rng: np.random.Generator) -> Case:
    """Give each training step a cotangent of its own kind, and each channel of the last step one of them.

    They are zeros of either sign, one number everywhere, tiny, and so large that a half's sum of them overflows; there
    the input is spread so widely that the gradients fit.
    """
    half, shape, limits = variant == "float16", case.shape, finfo(variant)
    tiny, huge = float(limits.tiny) * (1 if half else 1e8), 3e4 if half else float(limits.max) / 8192
    z = [rng.normal(size=shape) for _ in range(5)]
    kinds = [np.copysign(0, z[0]), np.full(shape, 1.5), tiny * z[2], huge * np.clip(z[3] + 1, -2, 2)]
    kinds.append(np.choose(np.broadcast_to(_each(case, range(4)), shape).astype(int), kinds))
    x = {f"{t}.x": rng.normal(size=shape) * (200.0 if half and t > 2 else 1.0) for t in range(5)}
    return _given(stored(case, Dtypes(x=variant)), x | {f"{t}.dy": dy for t, dy in enumerate(kinds)})


# --- magnitudes ---------------------------------------------------------------------------------------------------


class _Magnitudes(NamedTuple):
    """Of each channel its mean, its standard deviation, and that of its cotangent."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    cotangent: tuple[float, ...]


_MAGNITUDES = {
    "float32": _Magnitudes((0, 1e20, 0, 3), (1e18, 1e15, 1e-18, 0), (1, 1e10, 1, 1)),
    "float16": _Magnitudes((0, 3e4, 0, 0.1), (600, 300, 1e-5, 0), (300, 300, 0.3, 0.3)),
    "bfloat16": _Magnitudes((0, 1e20, 0, 0.1), (1e15, 3e18, 1e-18, 0), (1, 1e10, 1, 1)),
}
"""Squares near the largest number, or beyond it where the mean is not subtracted first; beyond float16's range in
bfloat16; products and variances above 65,504 in float16; nearly nothing; constant, where epsilon is all there is."""


def _magnitudes(case: Case, variant: Any, rng: np.random.Generator) -> Case:
    """Give each channel a magnitude of its own, and the moving statistics the same."""
    mean, deviation, cotangent = (_each(case, values) for values in _MAGNITUDES[variant])
    found: dict[str, Any] = {}
    for t in range(len(case.steps)):
        x, dy = (rng.normal(size=case.shape) for _ in range(2))
        found |= {f"{t}.x": mean + deviation * x, f"{t}.dy": cotangent * dy}
    found["moving_mean"] = (mean + 0.5 * deviation).ravel()
    found["moving_variance"] = np.square(deviation).ravel()
    return _given(stored(case, Dtypes(x=variant)), found)


def _averages(case: Case, variant: Any, rng: np.random.Generator) -> Case:
    """Keep everything in half precision, where batches are far from what is kept: 0.999 of it must not be all of it.

    One channel's variance is above 65,504, of which a thousandth is stored.
    """
    mean, deviation = _each(case, (50, -20, 0, 8)), _each(case, (1, 4, 400, 0.5))
    drawn = {f"{t}.x": mean + deviation * rng.normal(size=case.shape) for t in range(len(case.steps))}
    own = {"moving_mean": [1.0, -0.5, 0.25, 0.0], "moving_variance": [0.01, 0.02, 1.0, 0.0]}
    return _given(stored(case, Dtypes(variant, variant, variant)), drawn | own)


# --- epsilon, momentum, parameters --------------------------------------------------------------------------------

_CONSTANTS: dict[str, dict[str, Any]] = {
    "epsilon 0": {"epsilon": 0.0, "momentum": 0.37},
    "epsilon 1e-12": {"epsilon": 1e-12, "momentum": 0.9999},
    "epsilon 1": {"epsilon": 1.0, "momentum": 2.0**-10},
    "epsilon 1e-30": {"epsilon": 1e-30, "momentum": 0.7123},
    "epsilon 100": {"epsilon": 100.0, "momentum": 1 - 2.0**-20},
    "epsilon 3e-4": {"epsilon": 3e-4, "momentum": 0.003},
}


def _constants(case: Case, _variant: str, _rng: np.random.Generator) -> Case:
    """Give the channels parameters that are large, tiny, zeros of a negative sign, and -1."""
    given = {"gamma": [1e12, 1e-12, -0.0, -1.0], "beta": [0.5, 1e6, -0.0, -0.0], "moving_mean": [0.5, -0.5, -0.0, 2.0]}
    zeros = {n: np.where(_each(case, (0, 0, 1, 0)) * (a > 0), -0.0, a) for n, a in case.tensors.items() if n[-1] == "x"}
    return _given(case, {**given, **zeros})


# --- NaN and infinity ---------------------------------------------------------------------------------------------

_PLACES: dict[str, Callable[[int], int]] = {"first": lambda _: 0, "middle": lambda n: n // 3, "last": lambda n: n - 1}
_HOLES = (
    ("0.x", 0, 0, np.nan),
    ("0.dy", 1, 0, np.nan),
    ("1.x", 2, 0, np.inf),
    ("1.x", 2, 1, -np.inf),
    ("1.x", 3, 0, np.nan),
    ("2.dy", 2, 0, np.inf),
    ("2.dy", 2, 1, np.nan),
    ("2.dy", 3, 0, -np.inf),
)
"""Of which array, in which channel, how far from the variant's place, and what."""


def _not_finite_parts(case: Case, variant: str, _rng: np.random.Generator) -> Case:
    """Put NaN into one channel of a training batch and of another's cotangent, and infinities into inference."""
    found = dict(case.tensors)
    for name, channel, shift, value in _HOLES:
        rows, axis = found[name].copy(), kept_axes(case.spec, found[name].ndim)[0]
        one = np.moveaxis(rows, axis, 0)[channel % rows.shape[axis]]
        one.flat[(_PLACES[variant](one.size) + shift) % one.size] = value
        found[name] = rows
    return with_tensors(case, found)


# --- memory -------------------------------------------------------------------------------------------------------

_MEMORY: dict[str, tuple[Layout, Layout]] = {
    "dy": ("channels_last", "C"),
    "layer": ("C", "strided"),
    "strided dy": ("strided", "offset"),
    "transposed dy": ("F", "reversed"),
}
"""Of each variant the memory of dy, and of what the layer is given."""


def _memory(case: Case, variant: str, _rng: np.random.Generator) -> Case:
    """Give dy and the layer's arrays a memory of their own, unlike the input's."""
    dy, layer = _MEMORY[variant]
    return msgspec.structs.replace(case, dy_layout=dy, layer_layout=layer)


# --- renorm -------------------------------------------------------------------------------------------------------

_LIMITS: dict[str, dict[str, Any]] = {
    "rmin": {"renorm": True, "renorm_clipping": Clipping(rmin=0.5), "renorm_momentum": 0.0},
    "rmax": {"renorm": True, "renorm_clipping": Clipping(rmax=2.0), "renorm_momentum": 1.0},
    "dmax": {"renorm": True, "renorm_clipping": Clipping(dmax=1.0), "renorm_momentum": 0.99},
}


def _one_limit(case: Case, _variant: str, rng: np.random.Generator) -> Case:
    """Let batches be far on either side of what is kept, so that each limit that there is, or is not, decides."""
    mean, deviation = _each(case, (3, -3, 0.5, 0)), _each(case, (1, 1, 5, 0.1))
    drawn = {f"{t}.x": mean + deviation * rng.normal(size=case.shape) for t in range(len(case.steps))}
    return _given(case, drawn | {"moving_mean": 0.0, "moving_variance": 1.0})


def _feature(
    places: tuple[str, ...],
    variants: Iterable[str],
    add: Callable[[Case, str, np.random.Generator], Case],
    modes: str,
    asked: Mapping[str, dict[str, Any]] | None = None,
    **spec: Any,
) -> Feature:
    """Return a feature of one shape for each rank, and of one momentum where nothing else is asked.

    asked: what each variant asks of the layer; spec: what all of them ask.
    """
    own = asked or {}
    given = {name: {"momentum": 0.9, **spec, **own.get(name, {})} for name in variants}
    return Feature(places, tuple(given), given, add, ("float32",), modes=(modes,), sizes=_SIZES)


_BOTH = (_FLAT, _IMAGE)
VALUES: dict[str, Feature] = {
    "cotangents": _feature(_BOTH, _DTYPES, _cotangents, "train train train train infer"),
    "magnitudes": _feature(_BOTH, _DTYPES, _magnitudes, "infer train infer", epsilon=1e-8),
    "half averages": _feature((_FLAT,), _DTYPES[1:], _averages, "train train train infer", momentum=0.999),
    "constants": _feature((_FLAT,), _CONSTANTS, _constants, "train train infer", _CONSTANTS),
    "not finite parts": _feature(_BOTH, _PLACES, _not_finite_parts, "train infer infer"),
    "memory": Feature(
        ("rank 4, axis 1",),
        tuple(_MEMORY),
        add=_memory,
        dtypes=_DTYPES,
        modes=("train train infer",),
        layouts=("C", "F", "channels_last"),
        sizes=((4, 3, 5, 2),),
    ),
    "one limit": _feature((_FLAT,), _LIMITS, _one_limit, "train train infer", _LIMITS),
}
"""Features of values by name."""
