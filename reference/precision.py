"""How precisely the reference has to compute, to judge what was stored in which dtype (BN-30)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from reference.spec import Array, Refusal

NEEDED_BITS = 63
"""Bits of fraction that an oracle for float64 needs: an error of 2**-11 of float64's."""


def working_dtype(dtypes: Iterable[str], wide: type[Any] = np.longdouble) -> type[Any]:
    """Return the dtype to compute in: float64 to judge float32 and halves, longdouble to judge float64.

    dtypes: names of the storage dtypes in play. wide: this platform's longdouble. Where it has fewer than 63 bits of
    fraction (Apple's ARM, MSVC), IEEE binary128 of the package numpy-quaddtype stands in, some ten times slower. Either
    is a scalar type that arrays are made of, as float64 is. binary128's takes floats and integers: what is one of its
    own already it rounds to float64 (numpy-quaddtype 1.0.0).

    >>> working_dtype(["bfloat16", "float32"]).__name__
    'float64'
    >>> working_dtype(["float64"], wide=np.float64).__name__
    'QuadPrecision'
    """
    if "float64" not in dtypes:
        return np.float64
    bits = int(np.finfo(wide).nmant)
    if bits >= NEEDED_BITS:
        return wide
    try:
        from numpy_quaddtype import QuadPrecision
    except ImportError:
        raise Refusal(
            f"longdouble has {bits} bits of fraction here, and judging float64 needs {NEEDED_BITS}; "
            "pip install numpy-quaddtype, or judge float32"
        ) from None
    return QuadPrecision


def widened(values: Array, dtype: type[Any]) -> Array:
    """Return stored values in the working dtype, each exactly; by way of float64, as binary128 knows no bfloat16.

    `astype(np.float64)` leads back, and rounds.

    >>> widened(np.ones(1, np.float16), np.longdouble).dtype.type is np.longdouble
    True
    """
    return values.astype(np.float64).astype(dtype)


def roundoff(dtype: type[Any]) -> float:
    """Return the unit roundoff u of a dtype: half the distance from 1 to the next number.

    >>> roundoff(np.float64) == 2.0**-53
    True
    """
    return float(np.finfo(np.dtype(dtype)).eps / 2)


@cache
def summation_depth(n: int, dtype: type[Any] = np.float64) -> int:
    """Return how many additions that round a term of `total`'s sum of n passes through at most (BN-30).

    NumPy's pairwise sum adds fewer than 8 terms one by one; up to 128 in 8 accumulators, joined in 3 levels, and then
    the rest of up to 7 terms one by one; more it splits in two, at a multiple of 8. binary128 is added one by one.

    >>> summation_depth(7), summation_depth(8), summation_depth(100), summation_depth(1_000_000)
    (6, 3, 18, 31)
    """
    if n < 8 or np.dtype(dtype).isbuiltin != 1:
        return max(n - 1, 0)
    if n <= 128:
        return n // 8 + 2 + n % 8
    half = n // 16 * 8
    return 1 + max(summation_depth(half, dtype), summation_depth(n - half, dtype))
