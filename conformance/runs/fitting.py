"""Whether a case fits the memory that there is. One that does not is never asked, and said with what it would need."""

from __future__ import annotations

import math
from typing import NamedTuple

from conformance.hosts import machine
from conformance.hosts.environment import Limits

TIMES = 14
"""How many bytes asking a case takes at most for each byte of its tensors: 3 where it is judged, 11 in a worker.

Measured in training with a gradient (decision 25): 2.4 where it is judged; in a worker of NumPy 5, of PyTorch and of
JAX 6, of TensorFlow 10, beside their libraries.
"""
_GIB = 1 << 30


class Room(NamedTuple):
    """How many bytes asking one case may take, what decides that, and what allows more."""

    allowed: int
    rule: str
    fix: str

    def lacking(self, size: int) -> int:
        """Return how many bytes a case of this size would need, 0 if that fits."""
        needed = TIMES * size
        return needed if needed > self.allowed else 0

    def refusal(self, needed: int) -> str:
        """Return, in words, why a case that needs so many bytes is not asked, and what to do."""
        more = self.fix.format(gib=math.ceil(needed / _GIB))
        return (
            f"would need {needed:,} bytes of memory ({_gib(needed)}), {self.allowed:,} are allowed: {self.rule}; {more}"
        )


def room(limits: Limits, at_a_time: int = 1) -> Room:
    """Return how much room there is for each case: what was said, or else what each worker has here.

    at_a_time: how many workers are asked at a time.
    """
    most = int(limits.gib * _GIB)
    if limits.memory is not None:
        return Room(most, f"--memory {limits.memory:g}", "give --memory {gib}")
    there = machine.available_memory()
    if there // at_a_time >= most:
        return Room(most, f"--memory is {limits.gib:g} unless you say otherwise", "give --memory {gib}")
    rule = f"{_gib(there)} are available" + (f" to {at_a_time} workers at a time" if at_a_time > 1 else "")
    fewer = "ask fewer at a time with --jobs 1, " if at_a_time > 1 else ""
    return Room(there // at_a_time, rule, fewer + "free some, or give --memory {gib} to ask it all the same")


def _gib(size: int) -> str:
    return f"{size / _GIB:.3g} GiB"
