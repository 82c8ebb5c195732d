"""How precisely the reference has to compute, to judge what was stored in which dtype (BN-30)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from reference.spec import Refusal

NEEDED_BITS = 63
"""Bits of fraction that an oracle for float64 needs: an error of 2**-11 of float64's."""


def working_dtype(dtypes: Iterable[str], wide: type[np.floating[Any]] = np.longdouble) -> type[np.floating[Any]]:
    """Return the dtype to compute in: float64 to judge float32 and halves, longdouble to judge float64.

    dtypes: names of the storage dtypes in play. wide: this platform's longdouble. Where it has fewer than 63 bits of
    fraction (ARM, MSVC), nothing here can judge float64, and that is said, not done badly.

    >>> working_dtype(["bfloat16", "float32"]).__name__
    'float64'
    """
    if "float64" not in dtypes:
        return np.float64
    bits = int(np.finfo(wide).nmant)
    if bits < NEEDED_BITS:
        raise Refusal(
            f"longdouble has {bits} bits of fraction here, and judging float64 needs {NEEDED_BITS}; judge float32, "
            "or run on a platform with an 80-bit or wider longdouble, such as x86-64 Linux"
        )
    return wide


def roundoff(dtype: type[np.floating[Any]]) -> float:
    """Return the unit roundoff u of a dtype: half the distance from 1 to the next number.

    >>> roundoff(np.float64) == 2.0**-53
    True
    """
    return float(np.finfo(dtype).eps / 2)


def summation_depth(n: int) -> int:
    """Return how many additions at most a term of the reference's sums passes through (BN-30).

    NumPy's pairwise sum adds up to 128 terms in 8 accumulators, at most 14 additions deep where a rest of up to 7 terms
    is added after the 3 levels that join them; more terms it splits in two, at a multiple of 8 terms.

    >>> summation_depth(100), summation_depth(1_000_000)
    (24, 37)
    """
    levels = 0
    while n > 128:
        n, levels = n - n // 16 * 8, levels + 1
    return 24 + levels
