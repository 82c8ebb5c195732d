"""All features: what a case may ask beyond the plain layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np

from conformance.cases.asking import ASKING
from conformance.cases.chance import CHANCE
from conformance.cases.edges import EDGES
from conformance.cases.ensembles import ENSEMBLES
from conformance.cases.feature import COMMON, DIVISIBLE, Feature, with_tensors
from conformance.cases.gpu_sizes import GPU_SIZES
from conformance.cases.graphs import GRAPHS
from conformance.cases.handed import HANDED
from conformance.cases.large import LARGE
from conformance.cases.odd import ODD
from conformance.cases.replicas import REPLICAS
from conformance.cases.shapes import SHAPES
from conformance.cases.sizes import SIZES
from conformance.cases.untracked import UNTRACKED
from conformance.cases.values import VALUES
from conformance.model.case import Case, Derivative, numpy_dtype
from reference.spec import Array, Clipping, broadcast, kept_shape


def _masks(case: Case, variant: str, rng: np.random.Generator) -> Case:
    """Add masks that let about three values of four through."""
    masks: dict[str, Array] = {}
    for t in range(len(case.steps)):
        shape = case.x(t).shape
        wanted = shape[:-1] if variant == "without_last" else shape
        if variant == "spread":
            kept = _for_channels(case)
            wanted = tuple(1 if one > 1 else size for one, size in zip(kept, shape, strict=True))
        masks[f"{t}.mask"] = rng.uniform(size=wanted) < 0.75
    return with_tensors(case, masks)


def _adjustment(case: Case, _variant: str, rng: np.random.Generator) -> Case:
    """Add what the adjustment returns in each training step, one value for each kept position."""
    shape, arrays = _for_channels(case), dict[str, Array]()
    dtype = numpy_dtype(case.dtypes.parameters)
    for t in (t for t, step in enumerate(case.steps) if step.mode == "train"):
        arrays[f"{t}.adjustment_scale"] = rng.uniform(0.5, 1.5, shape).astype(dtype)
        arrays[f"{t}.adjustment_bias"] = rng.uniform(-0.5, 0.5, shape).astype(dtype)
    return with_tensors(case, arrays)


def _for_channels(case: Case) -> tuple[int, ...]:
    """Return the shape in which one value for each kept position broadcasts against the input."""
    return broadcast(np.ones(kept_shape(case.spec, case.shape)), case.spec, len(case.shape)).shape


def _derivative(order: Literal[1, 2, 3]) -> Callable[[Case, str, np.random.Generator], Case]:
    def add(case: Case, variant: Any, rng: np.random.Generator) -> Case:
        """Ask each step for one more derivative, along a tangent of x."""
        steps = tuple(
            msgspec.structs.replace(step, derivatives=(Derivative(), Derivative(order=order, mode=variant)))
            for step in case.steps
        )
        inputs = {t: case.x(t) for t in range(len(steps))}
        tangents = {f"{t}.tangent": rng.normal(size=x.shape).astype(x.dtype) for t, x in inputs.items()}
        return msgspec.structs.replace(with_tensors(case, tangents), steps=steps)

    return add


def _without_updates(case: Case, _variant: str, rng: np.random.Generator) -> Case:
    """Run the update ops in about half of the steps."""
    steps = tuple(msgspec.structs.replace(step, update=bool(rng.uniform() < 0.5)) for step in case.steps)
    return msgspec.structs.replace(case, steps=steps)


_RENORM: dict[str, dict[str, Any]] = {
    "unclipped": {"renorm": True, "renorm_momentum": 0.9},
    "wide": {"renorm": True, "renorm_momentum": 0.9, "renorm_clipping": Clipping(rmin=0.25, rmax=4.0, dmax=5.0)},
    "tight": {"renorm": True, "renorm_momentum": 0.5, "renorm_clipping": Clipping(rmin=0.75, rmax=1.25, dmax=0.25)},
}
_VIRTUAL: dict[str, dict[str, Any]] = {str(size): {"virtual_batch_size": size} for size in (2, 4)}
_BOTH: dict[str, dict[str, Any]] = {name: {**_VIRTUAL["4"], **fields} for name, fields in _RENORM.items()}
_SEVERAL = (4, 6, 8, 9, 16, 33, 64, 128)  # enough rows for a mask to leave some and take some

FEATURES: dict[str, Feature] = {
    "mask": Feature(
        ("rank 2, axis 1", "rank 3, axis -1", "rank 4, axis 1", "rank 4, axis -1", "rank 5, axis -1"),
        ("full", "spread"),
        add=_masks,
        first=_SEVERAL,
    ),
    "mask without last": Feature(
        ("rank 3, axis -1", "rank 2, axis 1", "rank 4, axis -1", "rank 5, axis -1"),
        ("without_last",),
        add=_masks,
        first=_SEVERAL,
    ),
    "renorm": Feature((*COMMON, "rank 3, axis 1"), tuple(_RENORM), _RENORM),
    "virtual": Feature(
        ("rank 2, axis 1", "rank 3, axis -1", "rank 4, axis -1"), tuple(_VIRTUAL), _VIRTUAL, first=DIVISIBLE
    ),
    "virtual renorm": Feature(("rank 2, axis 1",), tuple(_BOTH), _BOTH, first=DIVISIBLE),
    "adjustment": Feature(("rank 2, axis 1", "rank 4, axis -1"), add=_adjustment),
    "forward": Feature((*COMMON, "rank 5, axis 1"), ("forward",), add=_derivative(1)),
    "second order": Feature(
        (*COMMON, "rank 3, axis 1", "rank 5, axis 1"), ("reverse", "forward_over_reverse"), add=_derivative(2)
    ),
    "forward over forward": Feature(("rank 2, axis 1", "rank 4, axis 1"), ("forward",), add=_derivative(2)),
    "third order": Feature(("rank 2, axis 1", "rank 4, axis 1"), ("reverse",), add=_derivative(3)),
    "frozen": Feature(COMMON, spec={"": {"trainable": False}}),
    "cumulative": Feature(("rank 2, axis 1", "rank 4, axis 1"), spec={"": {"momentum": None}}),
    "half parameters": Feature(COMMON, dtypes=("float16", "bfloat16"), halves=True),
    "update": Feature(("rank 2, axis 1", "rank 4, axis -1"), add=_without_updates),
    **EDGES,
    **ASKING,
    **ENSEMBLES,
    **REPLICAS,
    **SHAPES,
    **VALUES,
    **CHANCE,
    **ODD,
    **UNTRACKED,
    **GRAPHS,
    **HANDED,
    **SIZES,
    **LARGE,
    **GPU_SIZES,
}
"""Every feature by its name. Each of its placements is a cell, and a mandatory one if not only one profile asks it."""
