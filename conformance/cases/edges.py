"""Features at the edges: other starts, rebuilt layers, tiny batches, values that are not finite."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from conformance.cases.feature import COMMON, DIVISIBLE, Feature, stored, with_tensors
from conformance.model.case import OF_LAYER, Actions, Case, Dtype, Dtypes
from reference.spec import kept_axes, reduced_axes

_FLAT_AND_LAST = ("rank 2, axis 1", "rank 4, axis -1")
_DTYPES: dict[str, Dtype] = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
_MIXES = ("f64 f32 f32", "f32 f64 f64", "f16 f16 f32", "bf16 bf16 f32", "f32 f16 f16", "f32 f32 f64", "f16 f64 f64")
"""The dtypes of the input, of gamma and beta, and of the statistics.

Cases of mixed dtypes train first: statistics that no batch has entered come back in the dtype they were given in.
"""
_NOT_FINITE = {"nan": np.nan, "infinity": np.inf, "minus infinity": -np.inf}


def own_start(case: Case, _variant: str, _rng: np.random.Generator) -> Case:
    """Leave the start to the layer itself, and ask for no gradients.

    Its parameters are its own too, so that gradients with respect to them would have nothing to be held to.
    """
    kept = {n: array for n, array in case.tensors.items() if n not in OF_LAYER and not n.endswith(".dy")}
    steps = tuple(msgspec.structs.replace(step, derivatives=()) for step in case.steps)
    return msgspec.structs.replace(case, tensors=kept, steps=steps)


def _built_in_inference(case: Case, variant: str, rng: np.random.Generator) -> Case:
    return own_start(msgspec.structs.replace(case, actions=Actions(init_mode="infer")), variant, rng)


def _rebuilt(case: Case, variant: Any, _rng: np.random.Generator) -> Case:
    """Rebuild the layer before its first step, from its configuration or its state."""
    return msgspec.structs.replace(case, actions=Actions(round_trip="state" if variant == "state" else "config"))


def _shared(case: Case, _variant: str, _rng: np.random.Generator) -> Case:
    """Let two call sites of the same layer take turns."""
    steps = tuple(msgspec.structs.replace(step, site=t % 2) for t, step in enumerate(case.steps))
    return msgspec.structs.replace(case, steps=steps, actions=Actions(sites=2))


def _unknown(case: Case, variant: str, _rng: np.random.Generator) -> Case:
    """Hide sizes while the layer is built: of the averaged axes, or of the kept one."""
    axes = (reduced_axes if variant == "reduced" else kept_axes)(case.spec, len(case.shape))
    return msgspec.structs.replace(case, actions=Actions(unknown_sizes=axes))


def _told(case: Case, variant: Any, _rng: np.random.Generator) -> Case:
    """Tell the layer its mode as another type: an int, or a NumPy bool."""
    return msgspec.structs.replace(case, actions=Actions(flag=variant))


def _misplaced(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Ask for an axis that the input does not have, or for the same axis twice."""
    rank, (axis,) = len(case.shape), kept_axes(case.spec, len(case.shape))
    asked = {"too large": rank, "too small": -rank - 1, "twice": (axis, axis - rank)}[variant]
    return own_start(msgspec.structs.replace(case, spec=dataclasses.replace(case.spec, axis=asked)), variant, rng)


def _scalars(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Make every array a single value, of rank 0."""
    own = own_start(case, variant, rng)
    return with_tensors(own, {name: array.reshape(-1)[0].reshape(()) for name, array in own.tensors.items()})


def _mixed(case: Case, variant: str, _rng: np.random.Generator) -> Case:
    """Give the input, the parameters and the statistics different dtypes."""
    named: list[Dtype] = [_DTYPES[name] for name in variant.split()]
    return stored(case, Dtypes(*named))


def _toggled(case: Case, _variant: str, rng: np.random.Generator) -> Case:
    """Freeze the layer in about half of its steps."""
    steps = tuple(msgspec.structs.replace(step, trainable=bool(rng.uniform() < 0.5)) for step in case.steps)
    return msgspec.structs.replace(case, steps=steps)


# --- batches ----------------------------------------------------------------------------------------------------


def _cut(pick: Callable[[Case, int], tuple[slice, ...]]) -> Callable[[Case, str, np.random.Generator], Case]:
    """Return a function that cuts the batch of one step, and its cotangent.

    The step is drawn among those of the variant's mode; the variant `all` cuts every batch.
    """

    def add(case: Case, variant: str, rng: np.random.Generator) -> Case:
        steps = [t for t, step in enumerate(case.steps) if variant in ("all", step.mode)]
        chosen = steps if variant == "all" else [steps[rng.integers(len(steps))]]
        names = [f"{t}.{name}" for t in chosen for name in ("x", "dy")]
        return with_tensors(case, {n: case.tensors[n][pick(case, case.tensors[n].ndim)] for n in names})

    return add


def _one_row_less(_case: Case, _rank: int) -> tuple[slice, ...]:
    return (slice(-1),)


def _no_row(_case: Case, _rank: int) -> tuple[slice, ...]:
    return (slice(0),)


def _other_size(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Change the size of one batch along the first kept axis by one: larger, or smaller but not empty.

    The first batch stays, as it decides how many channels the layer has.
    """
    t, axis = int(rng.integers(1, len(case.steps))), kept_axes(case.spec, len(case.shape))[0]
    names = [f"{t}.{name}" for name in ("x", "dy")]
    size = case.shape[axis]
    where = range(size - 1) if variant == "fewer" and size > 1 else [*range(size), 0]
    return with_tensors(case, {n: np.moveaxis(np.moveaxis(case.tensors[n], axis, 0)[where], 0, axis) for n in names})


def _one_value(case: Case, rank: int) -> tuple[slice, ...]:
    """Keep one value of each channel."""
    reduced = reduced_axes(case.spec, rank)
    return tuple(slice(1) if axis in reduced else slice(None) for axis in range(rank))


def _not_finite(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Put NaN or an infinity into the batch of one step, or into its cotangent."""
    t, name = rng.integers(len(case.steps)), "dy" if rng.uniform() < 0.25 else "x"
    array = case.tensors[f"{t}.{name}"].copy()
    array.flat[rng.integers(array.size)] = _NOT_FINITE[variant]
    return with_tensors(case, {f"{t}.{name}": array})


def _extreme(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Replace the batches by zeros of either sign, by subnormal numbers, or by numbers whose squares overflow."""
    limits, tensors = np.finfo(case.x(0).dtype), dict[str, Any]()
    for t in range(len(case.steps)):
        shape, dtype = case.x(t).shape, case.x(t).dtype
        z = rng.normal(size=shape)
        size = {"signed zeros": 0.0, "subnormal": float(limits.tiny) / 8, "huge": float(limits.max) / 16}[variant]
        tensors[f"{t}.x"] = (np.clip(z, -8, 8) * size).astype(dtype)
    return with_tensors(case, tensors)


_LONG = (
    "train train train train train infer",
    "infer train infer train train train infer",
    "train infer train train infer train train infer",
)

EDGES: dict[str, Feature] = {
    "own start": Feature(COMMON, add=own_start, modes=("train infer", "infer train infer", "train train infer")),
    "built in inference": Feature(("rank 2, axis 1",), add=_built_in_inference, modes=("infer", "train infer")),
    "rebuilt": Feature(COMMON, ("config", "state"), add=_rebuilt),
    "rebuilt virtual": Feature(
        ("rank 2, axis 1",), ("config",), {"config": {"virtual_batch_size": 4}}, add=_rebuilt, first=DIVISIBLE
    ),
    "two call sites": Feature(("rank 2, axis 1",), add=_shared),
    "training flag": Feature(_FLAT_AND_LAST, ("int", "numpy"), add=_told),
    "toggled": Feature(COMMON, add=_toggled, modes=("train train infer", "train train train infer")),
    "misplaced axis": Feature(_FLAT_AND_LAST, ("twice", "too small", "too large"), add=_misplaced),
    "no axes": Feature(("rank 0, axis -1",), add=_scalars),
    "one axis": Feature(("rank 1, axis 0", "rank 1, axis -1")),
    "six axes": Feature(("rank 6, axis 1", "rank 6, axis -1")),
    "mixed dtypes": Feature(_FLAT_AND_LAST, _MIXES, add=_mixed, modes=("train infer", "train train train infer")),
    "unknown sizes": Feature(("rank 4, axis -1",), ("reduced", "kept"), add=_unknown),
    "indivisible": Feature(
        _FLAT_AND_LAST,
        ("infer", "train"),
        {mode: {"virtual_batch_size": 4} for mode in ("infer", "train")},
        add=_cut(_one_row_less),
        first=DIVISIBLE,
    ),
    "no rows": Feature(COMMON, ("train", "infer"), add=_cut(_no_row)),
    "another size": Feature(COMMON, ("more", "fewer"), add=_other_size),
    "one value": Feature(COMMON, ("train", "all", "infer"), add=_cut(_one_value)),
    "not finite": Feature(COMMON, tuple(_NOT_FINITE), add=_not_finite),
    "extreme": Feature(COMMON, ("signed zeros", "subnormal", "huge"), add=_extreme),
    "many steps": Feature(COMMON, modes=_LONG),
}
"""Features of cases at the edges."""
