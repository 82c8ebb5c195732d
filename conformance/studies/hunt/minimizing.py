"""Make a failing case smaller, element by element: fewer steps, rows and channels, plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from conformance.model import ensembles
from conformance.model.case import Case
from conformance.model.results import Result
from reference.spec import Array, kept_axes

Still = Callable[[Case], Result | None]
"""Returns the failure that a case still shows; None if it no longer does."""
DIGITS = (0, 1, 2, 3)


def smallest(case: Case, result: Result, still: Still) -> tuple[Case, Result]:
    """Return the smallest case found to fail in the same way, with its failure; `still` is None when time is up."""
    improved = True
    while improved:
        improved = False
        for smaller in candidates(case):
            found = still(smaller)
            if found is not None:
                case, result, improved = smaller, found, True
                break
    return case, result


def candidates(case: Case) -> Iterator[Case]:
    """Yield cases that are simpler by one change, the largest changes first."""
    for make in (_fewer_steps, _shorter, _plainer):
        for smaller in make(case):
            if not same(smaller, case) and not ensembles.wrong(smaller):
                yield smaller


def same(one: Case, other: Case) -> bool:
    """Return whether two cases hold the same numbers."""
    if one.tensors.keys() != other.tensors.keys() or len(one.steps) != len(other.steps):
        return False
    return all(one.tensors[name].tobytes() == other.tensors[name].tobytes() for name in one.tensors)


def _fewer_steps(case: Case) -> Iterator[Case]:
    """Leave out each call in turn, the last first: a step, or one of each member of an ensemble."""
    members = case.actions.members
    for gone in reversed(range(len(case.steps) // members)):
        if len(case.steps) > members:
            kept = [t for t in range(len(case.steps)) if t // members != gone]
            tensors = {n: a for n, a in case.tensors.items() if not n[0].isdigit()}
            for new, old in enumerate(kept):
                tensors |= {f"{new}.{name}": a for name, a in _of_step(case, old).items()}
            yield msgspec.structs.replace(case, steps=tuple(case.steps[t] for t in kept), tensors=tensors)


def _of_step(case: Case, t: int) -> dict[str, Array]:
    return {name.partition(".")[2]: a for name, a in case.tensors.items() if name.startswith(f"{t}.")}


def _shorter(case: Case) -> Iterator[Case]:
    """Halve each axis of the input, or take one entry away, from either end, in every step alike."""
    rank = len(case.shape)
    for axis in range(rank):
        size = case.shape[axis]
        for left in dict.fromkeys((size // 2, size - 1)):
            if left >= 1 and all(case.x(t).shape[axis] == size for t in range(len(case.steps))):
                for part in (range(left), range(size - left, size)):
                    yield msgspec.structs.replace(case, tensors=_cut(case, axis, part))


def _cut(case: Case, axis: int, part: range) -> dict[str, Array]:
    """Return the tensors with these entries alone of one axis of the input."""
    rank, size = len(case.shape), case.shape[axis]
    kept = kept_axes(case.spec, rank)
    tensors: dict[str, Array] = {}
    for name, array in case.tensors.items():
        along = axis if array.ndim == rank or name[0].isdigit() else 0 if kept == (axis,) else None
        fits = along is not None and array.ndim > along and array.shape[along] == size
        tensors[name] = np.take(array, part, along) if fits else array
    return tensors


def _plainer(case: Case) -> Iterator[Case]:
    """Put 0 or 1 into each whole tensor, then use fewer digits, then put 0 or 1 into each element of a small tensor."""
    for name, array in case.tensors.items():
        if array.dtype == bool:
            continue
        for plain in _plain(array):
            yield _with(case, name, plain)
        for i in range(array.size if array.size <= 16 else 0):
            for plain in _plain(array.reshape(-1)[i : i + 1]):
                flat = array.reshape(-1).copy()
                flat[i] = plain[0]
                yield _with(case, name, flat.reshape(array.shape))


def _plain(array: Array) -> Iterator[Array]:
    """Yield arrays of plainer numbers in the same shape, unless the array is as plain already."""
    wide = array.astype(np.float64)
    if not np.isin(wide, (0.0, 1.0)).all():
        yield np.zeros_like(array)
        yield np.ones_like(array)
    for digits in DIGITS:
        rounded = np.round(wide, digits)
        if (wide == rounded).all():
            return
        yield rounded.astype(array.dtype)


def _with(case: Case, name: str, array: Any) -> Case:
    return msgspec.structs.replace(case, tensors=case.tensors | {name: array})
