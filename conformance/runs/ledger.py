"""What a run in progress has found: its records, why it is incomplete, and how long it took."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import UNSET

from conformance.model.results import CANNOT, EndRecord, Record, Result
from conformance.model.stopwatch import part
from conformance.runs.run_file import RunFile
from conformance.runs.timetable import ITSELF, Spent


class Counted:
    """What a run remembers of its results: numbers, since results may be more than memory holds.

    verdicts: how many there are of each.
    """

    def __init__(self) -> None:
        self.verdicts = Counter[str]()
        self._excluded = Counter[tuple[str, str]]()
        self._not_callable: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def add(self, record: Record) -> None:
        """Count a record, if it is a result."""
        if not isinstance(record, Result):
            return
        self.verdicts[record.verdict] += 1
        if record.verdict == "UNSUPPORTED":
            why = record.implementation, record.reason
            self._excluded[why] += 1
            if record.reason.startswith(CANNOT):
                self._not_callable[why].add(record.case)

    @property
    def compared(self) -> bool:
        """Whether anything was compared."""
        return bool(self.verdicts["PASS"] or self.verdicts["FAIL"])

    def excluded(self) -> Iterator[tuple[str, str]]:
        """Yield the implementation and the reason of each result that is UNSUPPORTED."""
        return self._excluded.elements()

    def not_callable(self) -> list[tuple[str, str, int]]:
        """Return who was asked what the installed version cannot be called with: why, and in how many cases."""
        return [(*why, len(cases)) for why, cases in sorted(self._not_callable.items())]


class Ledger:
    """The records of a run, on disk and counted. The thread of each environment writes to it.

    counted: what is remembered of its results.
    reasons: why the run is incomplete.
    whose: the implementation that a reason is about, by the reason.
    cpu: seconds of CPU, by what took them.
    spent: the same by environment and part.
    taken: how many results are those of an earlier run, by implementation.
    """

    def __init__(self) -> None:
        self.counted = Counted()
        self.reasons: list[str] = []
        self.whose: dict[str, str] = {}
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self.taken, self.spent = Counter[str](), Spent()
        self._lock, self._began = threading.Lock(), time.monotonic()

    @contextlib.contextmanager
    def opened(self, folder: Path, begins: Iterable[Record], *, clear: bool) -> Generator[None]:
        """Open the run file of a folder, with its first records; clear: cases that are there are removed."""
        with RunFile(folder, map(self._counted, begins), clear=clear) as self._file:
            yield

    def _counted(self, record: Record) -> Record:
        self.counted.add(record)
        return record

    @property
    def path(self) -> Path:
        """The run file."""
        return self._file.path

    @part("write")
    def write(self, *records: Record) -> None:
        """Append records; raise OSError if the file cannot hold them."""
        with self._lock:
            self._file.write(*records)
            for record in records:
                self.counted.add(record)

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

    def close(self, ids: Sequence[str], *, nothing: bool = False) -> EndRecord:
        """Write how the run ended, and sort the file.

        ids: the implementations in their order.
        nothing: that nothing was compared is why the run is incomplete.
        """
        cpu = {name: round(value, 3) for name, value in sorted(self.cpu.items())}
        verdicts = dict(sorted(self.counted.verdicts.items()))
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
        self._file.finish(ids)
        return end
