"""What a run in progress has found: records, each on disk before the next, why it is incomplete, and what it took."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from pathlib import Path

from conformance.model.results import EndRecord, Record, Result
from conformance.runs import run_file
from conformance.runs.run_file import RunFile


class Ledger:
    """Each environment writes to it from a thread of its own.

    reasons: why the run is incomplete.
    cpu: seconds, by what took them.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.reasons: list[str] = []
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self._lock, self._began = threading.Lock(), time.monotonic()

    @contextlib.contextmanager
    def opened(self, folder: Path, begins: Sequence[Record], *, clear: bool) -> Generator[None]:
        """Write to the run file of a folder, which begins with some records. clear: remove the cases that are there."""
        self.records += begins
        with RunFile(folder, begins, clear=clear) as self._file:
            yield

    @property
    def path(self) -> Path:
        """The run file."""
        return self._file.path

    def write(self, *records: Record) -> None:
        """Append records; raise OSError where the file cannot hold them."""
        with self._lock:
            self._file.write(*records)
            self.records.extend(records)

    def took(self, cpu: dict[str, float]) -> None:
        """Add seconds of CPU, by what took them."""
        with self._lock:
            for name, seconds in cpu.items():
                self.cpu[name] += seconds

    def incomplete(self, reason: str) -> None:
        """Say why the run is incomplete."""
        with self._lock:
            self.reasons.append(reason)

    def results(self) -> list[Result]:
        """Return the results so far."""
        with self._lock:
            return [record for record in self.records if isinstance(record, Result)]

    def close(self, ids: Sequence[str]) -> EndRecord:
        """Write how the run ended, and put the file in order. ids: of the implementations, in theirs."""
        cpu = {name: round(value, 3) for name, value in sorted(self.cpu.items())}
        verdicts = dict(sorted(Counter(result.verdict for result in self.results()).items()))
        seconds = round(time.monotonic() - self._began, 3)
        end = EndRecord(not self.reasons, sorted(self.reasons), seconds, cpu, verdicts)
        self.write(end)
        self._file.finish(run_file.ordered(self.records, ids))
        return end
