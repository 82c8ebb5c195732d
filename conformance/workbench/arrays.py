"""Arrays of any library as NumPy's: without a copy where that is possible, and never written to."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from conformance.model.case import numpy_dtype
from conformance.model.errors import InvalidInput
from reference.spec import Array

FLOATS = ("float16", "bfloat16", "float32", "float64")
_HOST = (1, 3, 11, 13)  # DLDeviceType of DLPack: CPU, and memory of CUDA, ROCm and CUDA's manager that a CPU reads


class Unusable(InvalidInput, ValueError):
    """An argument that makes no sense. The message names the value, the rule and the fix."""


class Read(NamedTuple):
    """An array as NumPy's, and whether it came from a GPU."""

    array: Array
    gpu: bool


def read(name: str, value: Any) -> Read:
    """Return an array of floating-point numbers; raise `Unusable`, which names the argument, if it is none.

    >>> read("x", [[1.0, 2.0]]).array.shape
    (1, 2)
    >>> read("x", np.array([1, 2]))
    Traceback (most recent call last):
    conformance.workbench.arrays.Unusable: x is of int64; give one of float16, bfloat16, float32, float64
    """
    array, gpu = _as_numpy(name, value)
    if array.dtype.name not in FLOATS:
        raise Unusable(f"{name} is of {array.dtype.name}; give one of {', '.join(FLOATS)}")
    return Read(array, gpu)


def read_mask(value: Any) -> Array:
    """Return a mask, of booleans or of weights."""
    array, _ = _as_numpy("mask", value)
    if array.dtype != np.bool_ and array.dtype.name not in FLOATS:
        raise Unusable(f"mask is of {array.dtype.name}; give one of bool, or of weights in {', '.join(FLOATS)}")
    return array


def _as_numpy(name: str, value: Any) -> Read:
    here = _detached(value)
    gpu = _on_gpu(here)
    try:
        array = _host(here) if gpu else _without_copy(here)
    except Exception as error:
        raise Unusable(f"{name} cannot be read: {_kind(value)}: {error}; give it as a NumPy array") from error
    if array.dtype == object or not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Unusable(
            f"{name} is {_kind(value)}, which is no array of numbers; give a NumPy array, or one with DLPack"
        )
    return Read(array, gpu)


def _detached(value: Any) -> Any:
    """Return a tensor without its history: torch gives no array of one that has it."""
    return value.detach() if hasattr(value, "detach") and getattr(value, "requires_grad", False) else value


def _on_gpu(value: Any) -> bool:
    try:
        return int(value.__dlpack_device__()[0]) not in _HOST
    except Exception:  # noqa: BLE001 - a stranger's array may raise anything
        return False


def _host(value: Any) -> Array:
    """Return an array of a GPU: torch calls it `cpu`, CuPy `get`, and JAX copies when it is asked for an array."""
    for name in ("cpu", "get"):
        copied = getattr(value, name, None)
        if callable(copied):
            return _without_copy(copied())
    return _without_copy(value)


def _without_copy(value: Any) -> Array:
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # which NumPy takes as integers of as many bits
        return value.view(sys.modules["torch"].int16).numpy().view(numpy_dtype("bfloat16"))
    by_dlpack = hasattr(value, "__dlpack__") and not hasattr(value, "__array__")
    return np.from_dlpack(value) if by_dlpack else np.asarray(value)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
