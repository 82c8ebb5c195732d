"""Where a thread's seconds of CPU go: each to the innermost part that it is in."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Generator


class _Parts(threading.local):
    def __init__(self) -> None:
        self.seconds, self.open, self.since = defaultdict[str, float](float), list[str](), 0.0

    def turned(self) -> None:
        now = time.thread_time()
        if self.open:
            self.seconds[self.open[-1]] += now - self.since
        self.since = now


_HERE = _Parts()


@contextlib.contextmanager
def part(name: str) -> Generator[None]:
    """Add the seconds of CPU that this thread spends here to a part, but for those of parts within it.

    >>> with part("judge"), part("expected"):
    ...     number = sum(range(100_000))
    >>> spent = taken()
    >>> spent["expected"] > 10 * spent["judge"], taken()
    (True, {})
    """
    _HERE.turned()
    _HERE.open.append(name)
    try:
        yield
    finally:
        _HERE.turned()
        _HERE.open.pop()


def taken() -> dict[str, float]:
    """Return this thread's seconds by part since it last asked."""
    found, _HERE.seconds = dict(_HERE.seconds), defaultdict[str, float](float)
    return found
