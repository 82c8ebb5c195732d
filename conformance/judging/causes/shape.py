"""The shape that wrong elements have in an array, in words that several arrays can share, and as a picture of text."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator

import numpy as np

from reference.spec import Array

WIDE, HIGH = 64, 8
"""Columns and rows that a picture has at most."""
_DENSE = 0.6
"""The part of a shape's elements that must be wrong: some are right by chance, such as a 0 for a 0."""


def rows_of(wrong: Array, kept: tuple[int, ...]) -> Array:
    """Return an array as channels × values; kept: the axes along which the channels are."""
    channels = math.prod(wrong.shape[axis] for axis in kept)
    return np.moveaxis(wrong, kept, range(len(kept))).reshape(channels, -1)


def shape(wrong: Array, kept: tuple[int, ...]) -> str:
    """Return the shape of what is wrong; empty where it is all over the array, or has none.

    >>> wrong = np.zeros((96, 3), bool)
    >>> wrong[::32] = True
    >>> shape(wrong, (1,)), shape(wrong[:, :1] | True, (1,)), shape(np.array([False, False, True]), (0,))
    ('every 32nd value', '', 'the last channel alone')
    """
    if not wrong.any():
        return ""
    rows = rows_of(wrong, kept)
    channels = np.flatnonzero(rows.any(1))
    along = _along_axes(wrong, kept) or _of_values(rows[channels])
    return ", ".join(filter(None, (_of_channels(channels, len(rows)), along)))


def _along_axes(wrong: Array, kept: tuple[int, ...]) -> str:
    """Return the one place along an axis that all is at, where a channel has several axes."""
    several = [axis for axis, size in enumerate(wrong.shape) if axis not in kept and size > 1]
    for axis in several if len(several) > 1 else ():
        places = np.flatnonzero(wrong.any(tuple(other for other in range(wrong.ndim) if other != axis)))
        if len(places) == 1 and wrong.take(places[0], axis).mean() >= _DENSE:
            ends = {0: "the first place", wrong.shape[axis] - 1: "the last place"}
            return f"{ends.get(int(places[0]), f'place {places[0]}')} along axis {axis}"
    return ""


def _of_channels(channels: Array, count: int) -> str:
    """Return which channels are wrong, where that is one of three or more, or a part that begins or ends with them."""
    if count < 2 or len(channels) == count:
        return ""
    if len(channels) == 1:
        ends = {0: "the first channel alone", count - 1: "the last channel alone"}
        return ends.get(int(channels[0]), f"channel {channels[0]} alone")
    if (step := _step(channels)) > 1 and len(channels) >= 3:
        return f"every {_ordinal(step)} channel"
    if channels[-1] - channels[0] == len(channels) - 1 and channels[-1] == count - 1:
        return f"the last {len(channels):,} channels"
    return ""


def _of_values(rows: Array) -> str:
    """Return which values of its channels are wrong."""
    n, share = rows.shape[1], rows.mean(0)
    values = np.flatnonzero(share)
    if n < 2 or len(values) == n:
        return ""
    first, last = int(values[0]), int(values[-1])
    whole = len(values) >= _DENSE * (last - first + 1)
    if len(values) == 1:
        return {0: "the first value alone", n - 1: "the last value alone"}.get(first, f"value {first} alone")
    if last == n - 1 and first > n // 4 and whole:
        return f"the last {n - first:,} values"
    if first == 0 and last < n - 1 - n // 4 and whole:
        return f"the first {last + 1:,} values"
    if (step := _step(values)) > 1 and len(values) >= max(_DENSE * (n / step - 1), 2):
        return f"every {_ordinal(step)} value"
    return f"values {first:,} to {last:,}" if whole and last - first < n // 2 else ""


def _step(numbers: Array) -> int:
    """Return the largest step with which all of some numbers can be counted."""
    return functools.reduce(math.gcd, np.diff(numbers).tolist(), 0)


def _ordinal(number: int) -> str:
    """Return a number as a place.

    >>> [_ordinal(n) for n in (2, 3, 11, 21, 32)]
    ['2nd', '3rd', '11th', '21st', '32nd']
    """
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def picture(wrong: Array, kept: tuple[int, ...]) -> list[str]:
    """Return lines of text, one for each channel or several: `#` all wrong there, `+` some, `·` none.

    >>> wrong = np.zeros((4, 2), bool)
    >>> wrong[3:, 1] = True
    >>> picture(wrong, (1,))
    ['channel 0  ····', 'channel 1  ···#']
    """
    rows = rows_of(wrong, kept)
    if rows.shape[1] == 1:
        return [f"channels   {_line(rows[:, 0])}"]
    return list(_drawn(rows))


def _drawn(rows: Array) -> Iterator[str]:
    ends = np.linspace(0, len(rows), min(len(rows), HIGH) + 1).astype(int)
    for first, end in itertools.pairwise(ends):
        name = f"channel {first}" if end - first == 1 else f"channels {first} to {end - 1}"
        yield f"{name}  {_line(rows[first:end].T)}"


def _line(values: Array) -> str:
    """Return one character for each value, or for several side by side."""
    parts = np.array_split(values, min(len(values), WIDE))
    return "".join("#" if part.all() else "+" if part.any() else "·" for part in parts)
