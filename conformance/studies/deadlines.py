"""Runs in processes of their own that end by a moment: asked to stop, then killed; what they judged is on disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGINT, SIGKILL

import psutil

BNCONF = (sys.executable, "-m", "conformance")
_LOOK = 0.2  # seconds from one look at whether they are done to the next


class Deadline:
    """Commands of bnconf that run at a time until a moment.

    until: when they are asked to stop, by the monotonic clock; last: when those are killed that go on.
    tell: called with what is said of those that are cut short.
    command: what they begin with.
    """

    def __init__(
        self, until: float, last: float, tell: Callable[[str], None], command: Sequence[str] = (*BNCONF, "run")
    ) -> None:
        self._until, self._last, self._tell, self._command = until, last, tell, command
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, out: Path, words: list[str]) -> None:
        """Start a command into a folder; what it says goes into a file beside the folder."""
        with out.with_suffix(".log").open("wb") as log:
            command = [*self._command, *words, "--out", str(out)]
            self._running[out.name] = subprocess.Popen(command, stdout=log, stderr=log)

    def end(self) -> None:
        """Wait for all, ask those to stop that are not done in time, and kill those that do not."""
        late = _still(list(self._running.values()), self._until)
        for name, process in self._running.items():
            if process in late:
                self._tell(f"{name} is not done in time, and is cut short")
                process.send_signal(SIGINT)
        for process in _still(late, self._last):
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, each of which leads a session of its own, at once."""
    started: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):  # it has ended
        started = psutil.Process(process.pid).children()
    process.kill()
    for each in started:
        with contextlib.suppress(OSError):  # it leads no session, or has ended
            os.killpg(each.pid, SIGKILL)
    process.wait()


def _still(processes: list[subprocess.Popen[bytes]], moment: float) -> list[subprocess.Popen[bytes]]:
    """Wait for processes until a moment, and return those that go on."""
    while time.monotonic() < moment and any(process.poll() is None for process in processes):
        time.sleep(_LOOK)
    return [process for process in processes if process.poll() is None]
