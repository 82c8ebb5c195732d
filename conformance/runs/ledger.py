"""What a run in progress has found: its records, why it is incomplete, and how long it took."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from pathlib import Path

from msgspec import UNSET

from conformance.model.results import EndRecord, Record, Result
from conformance.model.stopwatch import part
from conformance.runs import run_file
from conformance.runs.run_file import RunFile
from conformance.runs.timetable import ITSELF, Spent


class Ledger:
    """The records of a run, each on disk before the next. The thread of each environment writes to it.

    reasons: why the run is incomplete.
    whose: the implementation that a reason is about, by the reason.
    cpu: seconds of CPU, by what took them.
    spent: the same by environment and part.
    taken: how many results are those of an earlier run, by implementation.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.reasons: list[str] = []
        self.whose: dict[str, str] = {}
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self.taken, self.spent = Counter[str](), Spent()
        self._lock, self._began = threading.Lock(), time.monotonic()

    @contextlib.contextmanager
    def opened(self, folder: Path, begins: Sequence[Record], *, clear: bool) -> Generator[None]:
        """Open the run file of a folder, with its first records; clear: cases that are there are removed."""
        self.records += begins
        with RunFile(folder, begins, clear=clear) as self._file:
            yield

    @property
    def path(self) -> Path:
        """The run file."""
        return self._file.path

    @part("write")
    def write(self, *records: Record) -> None:
        """Append records; raise OSError if the file cannot hold them."""
        with self._lock:
            self._file.write(*records)
            self.records.extend(records)

    def took(self, cpu: dict[str, float]) -> None:
        """Add seconds of CPU to what took them."""
        with self._lock:
            for name, seconds in cpu.items():
                self.cpu[name] += seconds

    def take(self, implementation: str, found: Sequence[Result]) -> None:
        """Append the results of an earlier run."""
        self.write(*found)
        if found:
            self.taken[implementation] += len(found)

    def incomplete(self, reason: str, whose: str = "") -> None:
        """Add a reason why the run is incomplete. whose: the implementation that it is about, if any."""
        with self._lock:
            self.reasons.append(reason)
            if whose:
                self.whose[reason] = whose

    def results(self) -> list[Result]:
        """Return the results so far."""
        with self._lock:
            return [record for record in self.records if isinstance(record, Result)]

    def close(self, ids: Sequence[str], *, nothing: bool = False) -> EndRecord:
        """Write how the run ended, and sort the file.

        ids: the implementations in their order.
        nothing: that nothing was compared is why the run is incomplete.
        """
        cpu = {name: round(value, 3) for name, value in sorted(self.cpu.items())}
        verdicts = dict(sorted(Counter(result.verdict for result in self.results()).items()))
        seconds = round(time.monotonic() - self._began, 3)
        whose = dict(sorted(self.whose.items())) or UNSET
        taken = dict(sorted(self.taken.items())) or UNSET
        self.spent.here(ITSELF)
        end = EndRecord(
            not self.reasons,
            sorted(self.reasons),
            seconds,
            cpu,
            verdicts,
            whose,
            nothing or UNSET,
            taken,
            self.spent.table() or UNSET,
        )
        self.write(end)
        self._file.finish(run_file.ordered(self.records, ids))
        return end
