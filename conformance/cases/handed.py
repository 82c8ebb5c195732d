"""Features of the types that things are handed over as: another one than usual, of the same values (BN-26)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from conformance.cases.feature import Feature, stored
from conformance.model.case import Actions, Case, Dtypes, Scalars

_FLAT_AND_LAST = ("rank 2, axis 1", "rank 4, axis -1")
_NARROW = {
    "single": Dtypes(),
    "half": Dtypes("bfloat16"),
    "all half": Dtypes("float16", "float16", "float16"),
}
"""What input, parameters and statistics are stored in: a scalar may be wider than the first, or than all."""
_NUMBERS = {"momentum": 0.75, "epsilon": 2.0**-10}
"""They are the same in every dtype, so that nothing but the type differs."""


def _scalars(scalars: Scalars) -> Callable[[Case, str, np.random.Generator], Case]:
    def add(case: Case, variant: str, _rng: np.random.Generator) -> Case:
        """Hand momentum and epsilon over as another type."""
        narrow = stored(case, _NARROW[variant])
        return msgspec.structs.replace(_plain(narrow), actions=Actions(scalars=scalars))

    return add


def _plain(case: Case) -> Case:
    """Return the case without gradients."""
    steps = tuple(msgspec.structs.replace(step, derivatives=()) for step in case.steps)
    tensors: dict[str, Any] = {n: array for n, array in case.tensors.items() if not n.endswith(".dy")}
    return msgspec.structs.replace(case, steps=steps, tensors=tensors)


def _feature(scalars: Scalars, places: tuple[str, ...]) -> Feature:
    return Feature(
        places,
        tuple(_NARROW),
        dict.fromkeys(_NARROW, _NUMBERS),
        add=_scalars(scalars),
        dtypes=("float32",),
        modes=("train train infer",),
        layouts=("C",),
        sizes=((8, 3), (2, 3, 2, 3)),
    )


HANDED: dict[str, Feature] = {
    "float64 scalars": _feature("float64", _FLAT_AND_LAST),
    "float32 scalars": _feature("float32", _FLAT_AND_LAST[:1]),
    "array scalars": _feature("array", _FLAT_AND_LAST),
}
"""They by name."""
