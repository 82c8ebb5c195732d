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

ROOM = 256 << 20
"""Bytes of what is computed of the cases that are held."""
_EACH, _LARGE = 8 << 10, 512 << 10
"""What is known of a case takes 8 KiB and the bytes of its tensors, measured, each; large ones are taken in pieces."""
_TIMES = 8
"""How often memory is given back while as much is let go as there is room for."""


class Held:
    """Exact cases by use; one that was let go is made again when it is asked of."""

    def __init__(self) -> None:
        self._items: dict[int, tuple[RunCase, int]] = {}
        self._lock, self._size, self._gone = threading.Lock(), 0, 0

    def exact_case(self, item: RunCase) -> ExactCase:
        """Return the exact case of a case, and let others go, the longest unused first, where there is no room."""
        with self._lock:
            self._size -= self._items.pop(item.index, (item, 0))[1]
            self._items[item.index] = item, (size := _size(item))
            self._size += size
            while self._size > ROOM and len(self._items) > 1:
                self._let_go(*self._items.pop(next(iter(self._items))))
            return item.exact_case

    def _let_go(self, item: RunCase, size: int) -> None:
        item.exact_case.known = {}  # promises and their case point at one another; who looks one up has the old ones
        item.release()
        self._size -= size
        self._gone += size
        if self._gone >= ROOM // _TIMES:
            self._gone = 0
            _give_back()


def _size(item: RunCase) -> int:
    """Return about how many bytes there are of what was computed of a case so far."""
    return (1 + len(item.exact_case.known)) * (_EACH + min(item.case.nbytes, _LARGE))


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
