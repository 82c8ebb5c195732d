"""One thing that a case may ask beyond the plain layer, as a kind of case to generate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from conformance.model.case import Case, Dtype
from reference.spec import Array

COMMON = ("rank 2, axis 1", "rank 4, axis 1", "rank 4, axis -1")
DIVISIBLE = (4, 8, 16, 64, 128)


class Feature(NamedTuple):
    """One feature.

    placements: the cells that must have it. variants: its forms, as `add` knows them. spec: what each form asks of the
    `Spec`. add: puts a form's tensors and derivatives into a case. dtypes: of the input. first: the sizes that the
    first axis may have, any where empty. halves: parameters and statistics are of the input's half precision too.
    modes: of the steps, to draw from; those of a plain case where empty. sizes: likewise, channels second; those are
    the business of a thorough run alone.
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


def with_tensors(case: Case, tensors: dict[str, Array]) -> Case:
    """Return the case with these tensors too, or instead of those of the same name."""
    return msgspec.structs.replace(case, tensors=case.tensors | tensors)
