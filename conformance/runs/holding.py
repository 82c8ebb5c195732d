"""The exact cases that a run holds in memory: those that were asked of late, so that it needs no more as it goes on."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
from collections.abc import Generator

from conformance.judging.exact_case import ExactCase
from conformance.runs.run_case import RunCase

ROOM = 16 << 20
"""Bytes of the tensors of cases that are held; what is computed of them takes some twenty times as much."""
_TIMES = 8
"""How often memory is given back while as much is let go as there is room for."""


class Held:
    """Exact cases by use; one that was let go is made again when it is asked of."""

    def __init__(self) -> None:
        self._items: dict[int, RunCase] = {}
        self._lock, self._size, self._gone, self._times = threading.Lock(), 0, 0, 0

    def exact_case(self, item: RunCase) -> ExactCase:
        """Return the exact case of a case, and let others go, the longest unused first, where there is no room."""
        with self._lock:
            if self._items.pop(item.index, None) is None:
                self._size += item.case.nbytes
            self._items[item.index] = item
            while self._size > ROOM and len(self._items) > 1:
                self._let_go(self._items.pop(next(iter(self._items))))
            return item.exact_case

    def _let_go(self, item: RunCase) -> None:
        item.release()
        self._size -= item.case.nbytes
        self._gone += item.case.nbytes
        if self._gone >= ROOM // _TIMES:
            self._gone, self._times = 0, self._times + 1
            if self._times % _TIMES == 0:
                gc.collect()  # promises and their cases point at one another
            _give_back()


@contextlib.contextmanager
def lasting() -> Generator[None]:
    """Keep the garbage collector from all that there is: the more that lasts, the longer it lets garbage lie."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _give_back() -> None:
    """Give back what is free to the system: glibc keeps its pages for itself."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)
