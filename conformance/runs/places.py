"""Places for workers: who takes longest begins first, and a second worker of an environment where a core is idle."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator


class Places:
    """Places that workers take in their order, and leave.

    most: how many there are.
    busy: how many workers keep every core busy; a second one takes no place beyond.
    workers: how many are to come.
    firsts: how many of these are the first of their environment; they come first.
    """

    def __init__(self, most: int, busy: int, workers: int, firsts: int) -> None:
        self._most, self._busy, self._firsts = most, busy, firsts
        self._waiting, self._running, self._free = list(range(workers)), 0, threading.Condition()

    @contextlib.contextmanager
    def taken(self, number: int) -> Generator[None]:
        """Wait for a place, and leave it at the end. number: the worker's, by which they are served."""
        with self._free:
            self._free.wait_for(lambda: self._waiting[0] == number and self._running < self._room(number))
            self._waiting.pop(0)
            self._running += 1
            self._free.notify_all()
        try:
            yield
        finally:
            with self._free:
                self._running -= 1
                self._free.notify_all()

    def _room(self, number: int) -> int:
        return self._most if number < self._firsts else min(self._most, self._busy)
