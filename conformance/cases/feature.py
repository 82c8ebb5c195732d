"""What one feature is: a thing that a case may ask beyond the plain layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from conformance.cases.recipe import Recipe
from conformance.model.case import Case, Dtype, Dtypes, Layout, numpy_dtype
from reference.spec import Array

COMMON = ("rank 2, axis 1", "rank 4, axis 1", "rank 4, axis -1")
DIVISIBLE = (4, 8, 16, 64, 128)


class Feature(NamedTuple):
    """One feature, and how to generate its cases.

    placements: where the kept axes are; each placement is a cell.
    variants: the forms of the feature, by names that `add` understands.
    spec: the fields of `Spec` that each variant sets.
    add: puts the tensors and derivatives of a variant into a plain case.
    dtypes: those of the input to draw from.
    first: the sizes that the first axis may have; empty: any.
    halves: parameters and statistics have the input's half precision too.
    modes: the modes of the steps to draw from; empty: those of a plain case.
    sizes: the shapes to draw from, channels second; empty: those of a plain case.
    layouts: the layouts of the input's memory to draw from; empty: all.
    profile: the only one whose runs ask it, a case of each variant; empty: every run does.
    shapes: those of the batches and of their cotangents, by name; empty: those of a plain case.
    draw: draws these; not asked for where there are no such shapes.
    source: where its sizes are from; empty: from nowhere in particular.
    """

    placements: tuple[str, ...]
    variants: tuple[str, ...] = ("",)
    spec: Mapping[str, Mapping[str, Any]] = {}
    add: Callable[[Case, str, np.random.Generator], Case] = lambda case, _variant, _rng: case
    dtypes: tuple[Dtype, ...] = ("float32", "float64")
    first: tuple[int, ...] = ()
    halves: bool = False
    modes: tuple[str, ...] = ()
    sizes: tuple[tuple[int, ...], ...] = ()
    layouts: tuple[Layout, ...] = ()
    profile: Literal["", "thorough", "sizes", "huge"] = ""
    shapes: Callable[[Recipe], dict[str, tuple[int, ...]]] = lambda _recipe: {}
    draw: Callable[[Recipe, np.random.Generator], dict[str, Array]] = lambda _recipe, _rng: {}
    source: str = ""


def with_tensors(case: Case, tensors: dict[str, Array]) -> Case:
    """Return the case with these tensors added; those of the same name are replaced."""
    return msgspec.structs.replace(case, tensors=case.tensors | tensors)


def stored(case: Case, dtypes: Dtypes) -> Case:
    """Return the case with its tensors stored in other dtypes."""
    with np.errstate(over="ignore"):  # a variance of a wide spread is infinite in float16
        cast = {n: a.astype(numpy_dtype(dtypes.of(n) or a.dtype.name)) for n, a in case.tensors.items()}
    return msgspec.structs.replace(case, dtypes=dtypes, tensors=cast)
