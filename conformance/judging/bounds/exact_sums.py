"""Sums that no order of adding rounds, found in the data (decision 22).

Where all terms are multiples of a quantum q, a power of 2, and their magnitudes add up to no more than 2^p q, every sum
of some of them is a multiple of q of no more than 2^p q, which a format of p bits holds. So nothing is rounded,
whatever is added to whatever first, by lanes, blocks, trees or atomics, with fused products or without.
"""

from __future__ import annotations

import numpy as np

from conformance.judging.bounds.roundings import binade
from reference.spec import Array

_LOOKED_AT = 8  # of each axis first: ordinary data shows there already that its sums round


def unrounded(*terms: Array, axes: tuple[int, ...], bits: int, smallest: float) -> Array:
    """Return for each channel whether no sum over `axes` of any of these terms rounds in a format of so many bits.

    terms: arrays that broadcast against one another, exact in float64; a sum may be of several arrays' terms.
    smallest: the format's smallest normal number, which no quantum may be below.

    >>> x = np.array([[1.0, 0.5, 0.3], [3.0, 2.0**24, 0.6]])
    >>> unrounded(x, axes=(0,), bits=24, smallest=0.0)
    array([[ True, False, False]])
    """
    few = [values[_first(values, axes)] for values in terms]
    found = _unrounded(few, axes, bits, smallest)
    return _unrounded(list(terms), axes, bits, smallest) if found.any() else found


def _first(values: Array, axes: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(_LOOKED_AT) if axis in axes else slice(None) for axis in range(values.ndim))


def _unrounded(terms: list[Array], axes: tuple[int, ...], bits: int, smallest: float) -> Array:
    sizes = [np.add.reduce(np.abs(values), axes, keepdims=True, initial=0) for values in terms]
    size = sum(sizes[1:], sizes[0])
    below = binade(size)
    quantum = np.where(size == below, below, below + below) / 2.0**bits
    right = ((quantum >= smallest) | (size == 0)) & np.isfinite(size)
    step = np.where(right & (size > 0), quantum, 1)
    for values in terms:
        right = right & whole(values / step).all(axes, keepdims=True)
    return right


def whole(values: Array) -> Array:
    """Return where values are whole numbers; infinities and NaN are none."""
    return (np.rint(values) == values) & np.isfinite(values)


def held(values: Array, bits: int) -> Array:
    """Return where values are numbers of so many bits.

    >>> held(np.array([0.0, 0.75, 2.0**24 + 1, 0.1]), 24).tolist()
    [True, True, False, False]
    """
    size = binade(np.abs(values))
    return whole(values / np.where(size > 0, size, 1) * 2.0 ** (bits - 1))


def power_of_two(values: Array) -> Array:
    """Return where values are powers of 2, by which nothing that is multiplied is rounded.

    >>> power_of_two(np.array([-0.25, 8.0, 3.0, 0.0])).tolist()
    [True, True, False, False]
    """
    size = np.abs(values)
    return (size > 0) & (binade(size) == size)
