"""Features of the types that things are handed over as: another one than usual, of the same values (BN-26)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from conformance.cases.edges import own_start
from conformance.cases.feature import Feature, stored, with_tensors
from conformance.model.case import Actions, Case, Dtypes, Scalars
from reference.spec import Array

Add = Callable[[Case, str, np.random.Generator], Case]
_FLAT_AND_LAST = ("rank 2, axis 1", "rank 4, axis -1")
_NARROW = {
    "single": Dtypes(),
    "half": Dtypes("bfloat16"),
    "all half": Dtypes("float16", "float16", "float16"),
}
"""What input, parameters and statistics are stored in: a scalar may be wider than the first, or than all."""
_NUMBERS = {"momentum": 0.75, "epsilon": 2.0**-10}
"""They are the same in every dtype, so that nothing but the type differs."""


def _scalars(scalars: Scalars) -> Add:
    def add(case: Case, variant: str, _rng: np.random.Generator) -> Case:
        """Hand momentum and epsilon over as another type."""
        narrow = stored(case, _NARROW[variant])
        return msgspec.structs.replace(_plain(narrow), actions=Actions(scalars=scalars))

    return add


_DRAWN: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "complex64": lambda rng, shape: rng.integers(-16, 33, shape) / 8,
    "float8_e4m3fn": lambda rng, shape: rng.integers(-12, 13, shape) * 2.0 ** rng.integers(-2, 3, shape),
    "float8_e5m2": lambda rng, shape: rng.integers(-7, 8, shape) * 2.0 ** rng.integers(-4, 7, shape),
    "int32": lambda rng, shape: rng.integers(-1000, 1000, shape),
    "uint8": lambda rng, shape: rng.integers(0, 256, shape),
    "bool": lambda rng, shape: rng.integers(0, 2, shape),
}


def _input(case: Case, variant: Any, rng: np.random.Generator) -> Case:
    """Hand over batches of values that another dtype has, in that dtype; what the layer starts with may be its own."""
    dtype, _, own = variant.partition(", ")
    batches = {f"{t}.x": _DRAWN[dtype](rng, case.x(t).shape).astype(np.float32) for t in range(len(case.steps))}
    if dtype == "complex64":  # of i x all is i times as much only where nothing is added to it
        batches |= {n: np.zeros_like(a) for n in ("beta", "moving_mean") if (a := case.tensor(n)) is not None}
    told = msgspec.structs.replace(_plain(with_tensors(case, batches)), actions=Actions(input=dtype))
    return own_start(told, variant, rng) if own else told


def _plain(case: Case) -> Case:
    """Return the case without gradients."""
    steps = tuple(msgspec.structs.replace(step, derivatives=()) for step in case.steps)
    tensors: dict[str, Any] = {n: array for n, array in case.tensors.items() if not n.endswith(".dy")}
    return msgspec.structs.replace(case, steps=steps, tensors=tensors)


def _feature(places: tuple[str, ...], variants: Iterable[str], add: Add, modes: str) -> Feature:
    return Feature(
        places,
        tuple(variants),
        dict.fromkeys(variants, _NUMBERS),
        add=add,
        dtypes=("float32",),
        modes=(modes,),
        layouts=("C",),
        sizes=((8, 3), (2, 3, 2, 3)),
    )


HANDED: dict[str, Feature] = {
    "float64 scalars": _feature(_FLAT_AND_LAST, _NARROW, _scalars("float64"), "train train infer"),
    "float32 scalars": _feature(_FLAT_AND_LAST[:1], _NARROW, _scalars("float32"), "train train infer"),
    "array scalars": _feature(_FLAT_AND_LAST, _NARROW, _scalars("array"), "train train infer"),
    "integer input": _feature(_FLAT_AND_LAST, ("int32", "int32, own"), _input, "infer train infer"),
    "uint8 input": _feature(_FLAT_AND_LAST[:1], ("uint8", "uint8, own"), _input, "infer train infer"),
    "complex input": _feature(_FLAT_AND_LAST[:1], ("complex64",), _input, "infer train infer"),
    "float8 input": _feature(_FLAT_AND_LAST[:1], ("float8_e4m3fn", "float8_e5m2"), _input, "infer train infer"),
    "bool input": _feature(_FLAT_AND_LAST[:1], ("bool",), _input, "infer train infer"),
}
"""They by name."""
