"""A worker's process: frames in, frames out, and what it said last when it dies."""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from conformance.hosts.patience import Patience
from conformance.hosts.worker import MARK
from conformance.model.buffers import Parts

LARGEST_FRAME = 1 << 34
"""Beyond the largest answer there is, 4 GiB, and below what a line of text would be as a length."""


class WorkerDied(Exception):
    """The process ended, or wrote something that is no frame."""


class WorkerSilent(Exception):
    """No frame came in time."""


class Process:
    """One worker process: frames in, frames out. Neither direction ever blocks the host.

    variables: environment variables, besides those of this process.
    limit: how many GiB it may allocate; None if it limits itself.
    """

    def __init__(self, command: list[str], variables: dict[str, str], log: Path, limit: float | None = None) -> None:
        self._path, self._log = log, log.open("ab")
        self._begins = self._log.tell()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=os.environ | variables,
                start_new_session=True,  # Ctrl-C is the host's to handle
            )
        except OSError as error:
            self._log.close()
            raise WorkerDied(f"{command[0]} cannot be started: {error.strerror}") from error
        if limit is not None:
            _limit_memory(self._process.pid, limit)
        self._out: queue.SimpleQueue[bytes | Parts | None] = queue.SimpleQueue()
        self._in: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, body: bytes | Parts) -> None:
        """Queue a frame; its body may come in parts."""
        self._out.put(body)

    def receive(self, limit: float) -> bytes:
        """Return the next frame's body; raise WorkerSilent if none comes within a limit, in seconds of `Patience`."""
        patience = Patience(self._process.pid, limit)
        while True:
            try:
                frame = self._in.get(timeout=patience.slice)
                break
            except queue.Empty:
                if patience.is_over():
                    raise WorkerSilent from None
        if isinstance(frame, Exception):
            raise frame
        return frame

    def kill(self) -> None:
        """End the process and all that it started; the worker leads a session of its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process, now, and wait for it."""
        self._out.put(None)
        self.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(OSError):  # a pipe whose other end is gone
                if stream:
                    stream.close()

    def _write(self) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # the reader notices that the process is gone
            while (body := self._out.get()) is not None:
                parts = [body] if isinstance(body, bytes) else body
                self._process.stdin.write(struct.pack("<Q", sum(map(len, parts))))
                self._process.stdin.writelines(parts)
                self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout
        try:
            while True:
                self._in.put(_read_frame(self._process.stdout))
        except (WorkerDied, OSError, ValueError) as error:
            self._in.put(WorkerDied(str(error) or self._epitaph()))

    def _epitaph(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=5)
            if code < 0:
                return f"the worker died: {signal.strsignal(-code) or 'signal'} ({-code})"
            return f"the worker ended with exit code {code}: {self._last_words()}"
        return "the worker closed its output"

    def _last_words(self) -> str:
        """Return the last line that it wrote about the present request; what it wrote of others explains nothing."""
        written = self._path.read_bytes()[self._begins :].decode(errors="replace").splitlines()
        marks = [n for n, line in enumerate(written, 1) if line.startswith(MARK)]
        lines = [line.strip() for line in written[marks[-1] if marks else 0 :] if line.strip()]
        return lines[-1][:200] if lines else "it said nothing"


def _limit_memory(pid: int, gib: float) -> None:
    """Make allocations beyond the limit fail in a process that is not ours, if the system can."""
    if sys.platform == "linux":
        size = int(gib * 2**30)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended already
            resource.prlimit(pid, resource.RLIMIT_DATA, (size, size))


def _read_frame(stream: IO[bytes]) -> bytes:
    head = stream.read(8)
    if not head:
        raise WorkerDied
    (length,) = struct.unpack("<Q", head.ljust(8, b"\0"))
    if length > LARGEST_FRAME:
        raise WorkerDied(f"the worker wrote garbage: {head!r} is no frame length")
    body = stream.read(length)
    if len(body) < length:
        raise WorkerDied
    return body
