"""Ctrl-C and SIGTERM: a run stops after the case in hand, and what was judged stays."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType


@contextlib.contextmanager
def interruptible(stop: threading.Event, kill: Callable[[], None]) -> Generator[None]:
    """Let Ctrl-C and SIGTERM set `stop`; a second one kills, and ends this process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_signal: int, _frame: FrameType | None) -> None:  # takes no lock: the main thread may hold it
        if stop.is_set():
            kill()
            os._exit(3)  # all that was judged is on disk, and a thread may wait for a worker that hangs
        stop.set()

    kept = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in kept.items():
            signal.signal(s, handler)
