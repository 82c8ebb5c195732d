"""Rules by which others decide whether two arrays are near enough, as published, to be measured beside the bounds.

Each compares with the exact answer, rounded once to the dtype of the output: nobody has a better one to compare with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

HALVES = ("float16", "bfloat16")
DTYPES = (*HALVES, "float32", "float64")


def _same(tolerance: float) -> tuple[float, float]:
    return tolerance, tolerance


TOLERANCES: dict[str, dict[str, tuple[float, float]]] = {
    # torch/testing/_comparison.py, _DTYPE_PRECISIONS
    "torch.testing": dict(zip(DTYPES, [(1e-3, 1e-5), (1.6e-2, 1e-5), (1.3e-6, 1e-5), (1e-7, 1e-7)], strict=True)),
    # numpy.testing.assert_allclose, and numpy.allclose
    "NumPy assert_allclose": dict.fromkeys(DTYPES, (1e-7, 0.0)),
    "NumPy allclose": dict.fromkeys(DTYPES, (1e-5, 1e-8)),
    # jax/_src/public_test_util.py, _default_tolerance, for rtol and atol alike
    "JAX": dict(zip(DTYPES, map(_same, (1e-3, 1e-2, 1e-6, 1e-15)), strict=True)),
    # tensorflow/python/framework/test_util.py, assertAllCloseAccordingToType; float32 as in assertAllClose
    "TensorFlow": dict(zip(DTYPES, map(_same, (1e-3, 1e-2, 1e-6, 1e-6)), strict=True)),
    # onnx/backend/test: rtol 1e-3, atol 1e-7, and two units of bfloat16
    "ONNX": dict.fromkeys(DTYPES, (1e-3, 1e-7)) | {"bfloat16": (2.0**-6, 1e-7)},
}
"""(rtol, atol) per dtype of the output: |got - exact| must be at most atol + rtol |exact|."""

ULPS = 6
"""WebNN's tolerance for batchNormalization in the web platform tests, in units in the last place."""


def _close(got: Any, exact: Any, rtol: float, atol: float) -> bool:
    wide, want = np.promote_types(got.dtype, np.float32), _rounded(exact, got)
    return np.allclose(got.astype(wide), want.astype(wide), rtol=rtol, atol=atol, equal_nan=True)


def _rounded(exact: Any, got: Any) -> Any:
    with np.errstate(over="ignore"):  # beyond the largest number of a dtype is infinity
        return exact.astype(got.dtype)


def _distance(got: Any, exact: Any) -> float:
    """Return how many numbers of the dtype lie between the two at most; infinite where one alone is not finite."""
    want = _rounded(exact, got)
    if not np.array_equal(np.isfinite(got), np.isfinite(want)):
        return np.inf
    steps = np.abs(_ordered(got) - _ordered(want))
    return float(np.where(np.isnan(got), 0.0, steps).max(initial=0.0))


def _ordered(array: Any) -> Any:
    """Return the place of each number among those of its dtype, as a float."""
    bits = array.view(f"i{array.dtype.itemsize}")
    lowest = np.iinfo(bits.dtype).min
    return np.where(bits < 0, lowest - bits, bits).astype(np.longdouble)


RULES: dict[str, Callable[[Any, Any], bool]] = {
    **{name: lambda got, exact, by=by: _close(got, exact, *by[got.dtype.name]) for name, by in TOLERANCES.items()},
    f"WebNN {ULPS} ulp": lambda got, exact: _distance(got, exact) <= ULPS,
}
"""Whether an output passes, of what was got and the exact answer.

>>> [name for name, passes in RULES.items() if passes(np.float32([1.00001]), np.ones(1))]
['torch.testing', 'NumPy allclose', 'ONNX']
"""
