"""The file of a run, JSON lines: written as the run goes, and read back by all who ask about a run.

One object a line: `run` opens the file, then one `implementation` each, one `case` each, one `skipped` each that memory
does not hold, the `result`s, and `end` closes it. A file of many lines is in gzip (`gzipped.LARGE`). Each record is on
disk before the next is judged, in gzip within a second or a few hundred of them, and what was written outlives a full
disk. A file without `end` is an interrupted run; a torn last line is tolerated and said.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Self

import msgspec

from conformance.model.errors import InvalidInput
from conformance.model.results import (
    SCHEMA,
    CaseRecord,
    EndRecord,
    ImplementationRecord,
    Record,
    Result,
    Run,
    RunRecord,
    SkippedRecord,
)
from conformance.runs import gzipped
from conformance.runs.ordering import Order

FILE = "run.jsonl"
_BATCH, _PATIENCE = 1 << 16, 1.0
"""How many bytes of lines wait for others in gzip, and for how many seconds."""


def answer_file(case: str, implementation: str) -> str:
    """Return where a run folder keeps an answer that failed, so that it can be judged again; in gzip it ends in .gz.

    >>> answer_file("034287ab02e95a33", "torch.F.batch_norm@cpu")
    'answers/034287ab02e95a33.torch.F.batch_norm@cpu.safetensors'
    """
    slug = re.sub(r"[^\w.+@-]", "_", implementation)
    return f"answers/{case}.{slug}.safetensors"


def path_of(folder: Path) -> Path:
    """Return the path of the run file in a folder, in gzip or not, whether it is there or not."""
    packed = folder / f"{FILE}.gz"
    return packed if packed.exists() else folder / FILE


def is_run(folder: Path) -> bool:
    """Return whether a folder has a run file."""
    return path_of(folder).exists()


def folders(reports: Path) -> list[Path]:
    """Return the folders beside each other that have a run file, by name."""
    return sorted({path.parent for path in reports.glob(f"*/{FILE}*") if is_run(path.parent)})


class RunFile:
    """The file of a run. A record that does not fit leaves no part of a line, and nothing is written after it."""

    def __init__(self, folder: Path, begins: Iterable[Record] = (), *, clear: bool = True) -> None:
        """Make the folder and the file; begins: its first records. An earlier file stays until these are written."""
        self._folder, self._cases = folder, dict[str, int]()
        self._unwritten: OSError | None = None
        try:
            for part in ("cases", "answers"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            self._store(map(self._line, begins))
            for old in (p for part in ("cases", "answers") for p in (folder / part).glob("*.safetensors*") if clear):
                old.unlink()
        except OSError as error:
            raise InvalidInput(f"--out {folder}: cannot be written ({error}); name a folder that can be") from error

    def _line(self, record: Record) -> bytes:
        """Return a record as a line; note which cases there are."""
        if isinstance(record, CaseRecord):
            self._cases[record.case] = record.index
        return msgspec.json.encode(record) + b"\n"

    def _store(self, lines: Iterable[bytes]) -> None:
        """Replace the file, and go on behind these lines."""
        self.path = gzipped.store(self._folder / FILE, lines)
        self._stream = self.path.open("ab", buffering=0)
        self._whole = self.path.stat().st_size
        self._batches = gzipped.Batches() if self.path.suffix == ".gz" else None
        self._waiting, self._since = bytearray(), time.monotonic()

    def write(self, *records: Record) -> None:
        """Append records; raise OSError if they do not fit, or earlier ones did not."""
        if self._unwritten:
            raise OSError(self._unwritten.errno, self._unwritten.strerror, str(self.path))
        try:
            self._append(b"".join(map(self._line, records)))
        except OSError as error:
            self._unwritten = error
            raise

    def _append(self, lines: bytes) -> None:
        self._waiting += lines
        patient = len(self._waiting) < _BATCH and time.monotonic() < self._since + _PATIENCE
        if self._batches and patient:
            return
        self._flush()
        if not self._batches and self._whole >= gzipped.LARGE:
            self._stream.close()
            self._store(gzipped.read(self.path))

    def _flush(self) -> None:
        rest = self._batches.made(bytes(self._waiting)) if self._batches and self._waiting else bytes(self._waiting)
        self._waiting.clear()
        size, self._since = len(rest), time.monotonic()
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
            self._whole += size
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._stream.fileno(), self._whole)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def __enter__(self) -> Self:
        """Return the open file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file. What was written stays."""
        if not self._unwritten:
            self._flush()
        self._stream.close()

    def finish(self, implementations: Sequence[str]) -> None:
        """Replace the file by the same records in a stable order, so that equal runs are equal files."""
        self._flush()
        size = self._whole if self._batches is None else gzipped.size(self.path)
        order = Order(self._cases, implementations)
        self._stream.close()
        self._store(order.sorted(gzipped.read(self.path), size, self._folder))


def read(folder: Path, *, mend: bool = False, thinned: Callable[[Record], None] | None = None) -> Run:
    """Return the run in a folder; raise `InvalidInput` where there is none, or a line of it is damaged.

    mend: leave damaged lines out, and with each the answers beside it, of which it may have been a part.
    thinned: sees every record, and takes out what its reader has no use for, so that more of them fit into memory.
    """
    path = path_of(folder) if folder.is_dir() else folder
    try:
        with _uncollected():
            lines = ((n, line) for n, line in enumerate(gzipped.read(path), 1) if not line.isspace())
            records, torn = _parse(path, lines, thinned or _whole, mend=mend)
    except zlib.error as error:  # a checksum that is wrong says nothing of where
        raise InvalidInput(f"{path}: is damaged ({error}); run it again without --resume") from error
    except OSError as error:
        raise InvalidInput(f"{folder}: holds no run ({error.strerror}); give the folder of a `bnconf run`") from error
    if not records or not isinstance(records[0], RunRecord):
        raise InvalidInput(f"{path}: is no run file; its first line must be the record of a run")
    if records[0].schema > SCHEMA:
        raise InvalidInput(f"{path}: has schema {records[0].schema}, this version reads up to {SCHEMA}; update bnconf")
    return Run(
        records[0],
        [r for r in records if isinstance(r, ImplementationRecord)],
        {r.case: r for r in records if isinstance(r, CaseRecord)},
        [r for r in records if isinstance(r, Result)],
        next((r for r in records if isinstance(r, EndRecord)), None),
        torn,
        [r for r in records if isinstance(r, SkippedRecord)],
    )


@contextlib.contextmanager
def _uncollected() -> Generator[None]:
    """Do not look for garbage: what is read is kept, and looking at a million records again and again takes long."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _whole(_: Record) -> None:
    """Take nothing out."""


_END = (0, b"")


def _parse(
    path: Path, lines: Iterable[tuple[int, bytes]], thinned: Callable[[Record], None], *, mend: bool
) -> tuple[list[Record], bool]:
    decoder, records, damaged = msgspec.json.Decoder[Record](Record), list[Record](), list[int]()
    words: dict[str, str] = {}
    for (number, line), following in itertools.pairwise(itertools.chain(lines, [_END])):
        try:
            record = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if following is _END and number > 1:
                return _without_neighbours(records, damaged), True
            if not mend or number == 1:
                rest = number > 1 and path.suffix != ".gz"
                fix = "the same `bnconf run` again with --resume keeps the rest" if rest else "run again"
                kept = sum(isinstance(record, Result) for record in records)
                raise InvalidInput(
                    f"{path}, line {number}: {_damage(line, error)}; {kept} results before it are whole; {fix}"
                ) from error
            damaged.append(len(records))
            continue
        if isinstance(record, Result):
            _share(record, words)
        thinned(record)
        records.append(record)
    return _without_neighbours(records, damaged), False


_WORDS = ("case", "implementation", "mode", "output", "numerics", "dtype")


def _share(result: Result, words: dict[str, str]) -> None:
    """Let equal words of results be one: there are few, and many results."""
    for name in _WORDS:
        word = getattr(result, name)
        msgspec.structs.force_setattr(result, name, words.setdefault(word, word))


def _damage(line: bytes, error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    try:
        line.decode()
    except UnicodeDecodeError as found:
        return f"byte {found.start} ({line[found.start]:#04x}) is no UTF-8"
    return str(error)


def _without_neighbours(records: list[Record], damaged: list[int]) -> list[Record]:
    """Return records without the answers that a damaged line, lost before one of these places, stood beside."""
    gone: set[tuple[str, str]] = set()
    for place in damaged:
        for near in (records[place - 1 : place], records[place : place + 1]):
            gone |= {(r.case, r.implementation) for r in near if isinstance(r, Result)}
    return [r for r in records if not (isinstance(r, Result) and (r.case, r.implementation) in gone)]
