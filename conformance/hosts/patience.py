"""How long a worker may be silent: counted by what it does with the time, since others use the machine too."""

from __future__ import annotations

import contextlib

import psutil  # processes of every system, where /proc is Linux alone

_SLICE = 1.0  # s of the clock: how often it is looked at
_WORKING = 0.02  # of a slice: whoever takes less of a processor waits
_AT_MOST = 10  # times the limit, by the clock: who looks every millisecond whether it may go on waits too


class Patience:
    """How long a process is still waited for, counted in slices of the clock.

    A slice in which it computes counts for the seconds of CPU that it was given, any other one whole: a deadlock is at
    its end after the limit, and whoever is starved of a processor is waited for.

    limit: seconds.
    """

    def __init__(self, process: int, limit: float) -> None:
        self.slice = min(_SLICE, limit / 4)
        self._process, self._limit = process, limit
        self._counted = self._clock = 0.0
        self._spent: float | None = None

    def is_over(self) -> bool:
        """Count a slice that has passed, and return whether the limit is reached."""
        spent, before = cpu(self._process), self._spent
        given = self.slice if before is None else spent - before
        computes = _WORKING * self.slice <= given < self.slice
        self._spent = spent
        self._counted += given if computes else self.slice
        self._clock += self.slice
        return self._counted >= self._limit or self._clock >= _AT_MOST * self._limit


def cpu(process: int) -> float:
    """Return the seconds of CPU that a process took, and all that it started; 0 if it is gone."""
    spent = 0.0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process)
        for each in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # this one ended meanwhile
                spent += sum(each.cpu_times()[:4])  # its own, and what it waited for the end of
    return spent
