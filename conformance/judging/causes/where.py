"""Where in an array the wrong elements are, in the shortest true words."""

from __future__ import annotations

import math

import numpy as np

from reference.spec import Array

_FEW = 4


def described(wrong: Array, kept: tuple[int, ...]) -> str:
    """Return where an array is true; kept: the axes along which the channels are, none for an array of channels.

    >>> wrong = np.zeros((8, 3), bool)
    >>> wrong[6:, 1] = True
    >>> described(wrong, (1,))
    'in 2 of 24 elements: in channel 1 alone, from its value 6 on'
    >>> described(np.array([True, False, False]), (0,))
    'in 1 of 3 channels: 0'
    """
    found = int(np.count_nonzero(wrong))
    if found == wrong.size:
        return f"in all of its {wrong.size:,} element{'s' * (wrong.size != 1)}"
    rows = np.moveaxis(wrong, kept, range(len(kept))).reshape(math.prod(wrong.shape[axis] for axis in kept), -1)
    channels = np.flatnonzero(rows.any(1))
    if rows.shape[1] == 1:
        return f"in {found:,} of {wrong.size:,} channels{_listed(channels)}"
    parts = [_of_channels(channels, len(rows)), _of_values(rows[channels])]
    return f"in {found:,} of {wrong.size:,} elements: {', '.join(part for part in parts if part)}"


def _listed(numbers: Array) -> str:
    return f": {', '.join(map(str, numbers))}" if len(numbers) <= _FEW else ""


def _of_channels(channels: Array, count: int) -> str:
    if count == 1:
        return ""
    if len(channels) == 1:
        return f"in channel {channels[0]} alone"
    if len(channels) == count:
        return "in every channel"
    if (np.diff(channels) == 1).all() and channels[-1] == count - 1:
        return f"in the channels from {channels[0]} on"
    return f"in {len(channels):,} of {count:,} channels{_listed(channels)}"


def _of_values(rows: Array) -> str:
    """Return which values of its channel are wrong, where that has a shape."""
    values = np.flatnonzero(rows.any(0))
    n, first = rows.shape[1], int(values[0])
    if not rows[:, values].all():
        return f"at {len(values):,} of its {n:,} values"
    if len(values) == n:
        return "at every value"
    if len(values) == 1:
        return f"at its value {first} of {n:,}"
    if len(values) == n - first:
        return f"from its value {first} on"
    step = np.diff(values)
    if (step == 1).all():
        return f"at its values {first} to {int(values[-1])}"
    if (step == step[0]).all():
        return f"at every {int(step[0])}th value, from {first} on"
    return f"at {len(values):,} of its {n:,} values"
