"""How long a worker may be silent: counted by what it does with the time, since others use the machine too."""

from __future__ import annotations

import contextlib
import sys

import psutil  # processes of every system, where /proc is Linux alone

_SLICE = 1.0  # s of the clock: how often it is looked at
_WORKING = 0.02  # of a slice: whoever takes less of a processor waits
_AT_MOST = 10  # times the limit, by the clock: who looks every millisecond whether it may go on waits too


class Patience:
    """How long a process is still waited for, counted in slices of the clock.

    A slice in which it computes, or waits for a processor, counts for the seconds of CPU that it was given, any other
    one whole: a deadlock is at its end after the limit, and whoever others starve is waited for ten times as long.

    limit: seconds.
    """

    def __init__(self, process: int, limit: float) -> None:
        self.slice = min(_SLICE, limit / 4)
        self._process, self._limit = process, limit
        self._counted = self._clock = 0.0
        self._spent: float | None = None

    def is_over(self) -> bool:
        """Count a slice that has passed, and return whether the limit is reached."""
        processes = _started(self._process)
        spent, before = cpu(processes), self._spent
        given = self.slice if before is None else max(spent - before, 0.0)
        computes = given < self.slice and (given >= _WORKING * self.slice or any(map(_waits_for_processor, processes)))
        self._spent = spent
        self._counted += given if computes else self.slice
        self._clock += self.slice
        return self._counted >= self._limit or self._clock >= _AT_MOST * self._limit


def _started(process: int) -> list[psutil.Process]:
    """Return a process and all that it started; none if it is gone."""
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process)
        return [parent, *parent.children(recursive=True)]
    return []


def cpu(processes: list[psutil.Process]) -> float:
    """Return the seconds of CPU that processes took, and on Linux those that they waited for the end of."""
    spent = 0.0
    for each in processes:
        with contextlib.suppress(psutil.Error):  # this one ended meanwhile
            spent += sum(each.cpu_times()[:4])
    return spent


def _waits_for_processor(process: psutil.Process) -> bool:
    """Return whether it would compute if it were let; macOS says so of all."""
    with contextlib.suppress(psutil.Error):
        return sys.platform == "linux" and process.status() == psutil.STATUS_RUNNING
    return False
