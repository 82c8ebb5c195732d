"""Features of size: many values in each channel, and many channels; 262,154 numbers a step at most in a default run.

Each variant is a dtype. Its case trains on whole numbers, whose sums round nothing, on nothing but marks, and on
ordinary data that drifts, all of one size, and infers. So it is one signature for what compiles, and asks for N in
three ways.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conformance.cases import whole_numbers
from conformance.cases.feature import Feature, stored, with_tensors
from conformance.model.case import Case, Dtypes
from reference.spec import Array, reduced_axes

_MODES = ("train train train infer",)
_DTYPES = ("float32", "float16", "bfloat16")

_VALUES: dict[str, tuple[str, tuple[int, ...]]] = {
    "1,025 values": ("rank 4, axis 1", (5, 2, 5, 41)),
    "4,099 values": ("rank 2, axis 1", (4099, 3)),
    "32,771 values": ("rank 3, axis -1", (1, 2, 32771)),
    "65,536 values": ("rank 4, axis -1", (16, 2, 64, 64)),
    "131,077 values": ("rank 4, axis 1", (23, 2, 41, 139)),
    "129 channels": ("rank 2, axis 1", (24, 129)),
    "1,025 channels": ("rank 4, axis -1", (2, 1025, 2, 2)),
}
"""Where the channels are, and the shape with the channels second.

N is just above a power of 2, where a block's tail is short, or a power of 2, where means are exact.
"""


def _asked(case: Case, variant: Any, rng: np.random.Generator) -> Case:
    """Give the case a variant's dtype, and its first two steps data that shows what is left out of a sum."""
    ordinary = stored(case, Dtypes(x=variant))
    whole, marked = (make(ordinary, rng) for make in (whole_numbers.balanced, whole_numbers.marked))
    tensors = {name: (marked if name.startswith("1.") else whole).tensors[name] for name in whole.tensors}
    kept = {name: array for name, array in ordinary.tensors.items() if name.startswith(("2.", "3."))}
    return with_tensors(whole, tensors | kept | {"2.x": _drifting(case, kept["2.x"])})


def _drifting(case: Case, x: Array) -> Array:
    """Return a batch whose blocks and lanes have means of their own, a standard deviation apart and two."""
    axes = reduced_axes(case.spec, x.ndim)
    n = math.prod(x.shape[axis] for axis in axes)
    rows = np.broadcast_to(whole_numbers.drift(n), (x.size // n, n))
    wide = x.astype(np.float64)
    return (wide + wide.std() * whole_numbers.laid_out(rows, x.shape, axes)).astype(x.dtype)


SIZES: dict[str, Feature] = {
    name: Feature((place,), _DTYPES, add=_asked, dtypes=("float32",), modes=_MODES, sizes=(shape,))
    for name, (place, shape) in _VALUES.items()
}
"""Features of size by name."""
