"""Features of ensembles: several layers that one mapped call makes (BN-35)."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from conformance.cases.feature import Feature
from conformance.model.case import OF_MEMBER, Actions, Case
from conformance.model.ensembles import like
from reference.spec import Array

_PLACEMENTS = ("rank 2, axis 1", "rank 4, axis -1", "rank 4, axis 1")
_SMALL = ((4, 3), (8, 2), (9, 4), (2, 3, 2, 2), (4, 2, 2, 3))
_MODES = ("train infer", "infer train", "train train")
_MEMBERS = {"x": 3, "both": 2, "parameters": 2, "nested": 4}
_ROWS = 4


def _ensemble(case: Case, variant: Any, rng: np.random.Generator) -> Case:
    return of_members(case, Actions(members=_MEMBERS[variant], mapped=variant), rng)


def of_members(case: Case, actions: Actions, rng: np.random.Generator) -> Case:
    """Let members make each call together. What is a member's own is of another size and in another order."""
    sources, sizes = [like(actions, m) for m in range(actions.members)], rng.uniform(0.5, 2.0, actions.members)
    tensors = {name: array for name, array in case.tensors.items() if "." not in name}
    for m, (own, _) in enumerate(sources):
        layer = {name: case.tensors[name] for name in OF_MEMBER if own and name in case.tensors}
        tensors |= {f"{m}.{name}": _changed(array, own, sizes[own]) for name, array in layer.items()}
    for t in range(len(case.steps) * len(sources)):
        call, m = divmod(t, len(sources))
        x, dy, own = case.x(call), case.tensors[f"{call}.dy"], sources[m][1]
        tensors |= {f"{t}.x": _changed(x, own, sizes[own] if own else 1.0), f"{t}.dy": _changed(dy, m, sizes[m])}
    steps = tuple(step for step in case.steps for _ in sources)
    return msgspec.structs.replace(case, actions=actions, steps=steps, tensors=tensors)


def _changed(array: Array, by: int, size: float) -> Array:
    return (size * np.roll(array.astype(np.float64), by, 0)).astype(array.dtype)


def _jacobian(case: Case, _variant: str, rng: np.random.Generator) -> Case:
    """Ask each call for some rows of its Jacobian, whose cotangents are 1 in one element and 0 elsewhere."""
    tensors = {name: array for name, array in case.tensors.items() if "." not in name}
    for call in range(len(case.steps)):
        x = case.x(call)
        for m, element in enumerate(rng.choice(x.size, _ROWS, replace=x.size < _ROWS)):
            dy = np.zeros_like(x)
            dy.flat[element] = 1
            tensors |= {f"{_ROWS * call + m}.x": x, f"{_ROWS * call + m}.dy": dy}
    steps = tuple(step for step in case.steps for _ in range(_ROWS))
    return msgspec.structs.replace(case, actions=Actions(members=_ROWS, mapped="dy"), steps=steps, tensors=tensors)


ENSEMBLES: dict[str, Feature] = {
    "ensemble": Feature(_PLACEMENTS, tuple(_MEMBERS), add=_ensemble, modes=_MODES, sizes=_SMALL, layouts=("C",)),
    "jacobian": Feature(_PLACEMENTS[:2], add=_jacobian, modes=_MODES[:1], sizes=_SMALL, layouts=("C",)),
}
"""They by name."""
