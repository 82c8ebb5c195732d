"""A run that is being written: each record is on disk before the next is judged, even as the disk fills up."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from conformance.model.errors import InvalidInput
from conformance.model.results import FILE, Record


def lines(records: Sequence[Record]) -> bytes:
    """Return records as lines of a run file."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


class RunFile:
    """The file of a run. A record that does not fit leaves no part of a line, and nothing is written after it."""

    def __init__(self, folder: Path, begins: Sequence[Record] = (), *, clear: bool = True) -> None:
        """Make the folder and the file; begins: its first records. An earlier file stays until these are written."""
        self.path = folder / FILE
        try:
            for part in ("cases", "answers"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            self._replace(lines(begins))
            for old in (p for part in ("cases", "answers") for p in (folder / part).glob("*.safetensors") if clear):
                old.unlink()
            self._stream = self.path.open("ab", buffering=0)
        except OSError as error:
            raise InvalidInput(f"--out {folder}: cannot be written ({error}); name a folder that can be") from error
        self._whole, self._full = self.path.stat().st_size, False

    def write(self, *records: Record) -> None:
        """Append records; raise OSError if they do not fit."""
        if self._full:
            raise OSError(0, "what came before it could not be written", str(self.path))
        rest = lines(records)
        size = len(rest)
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
            self._whole += size
        except OSError as error:
            self._full = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._stream.fileno(), self._whole)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def __enter__(self) -> Self:
        """Return the open file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file. What was written stays."""
        self._stream.close()

    def finish(self, order: Sequence[Record]) -> None:
        """Replace the file by the same records in a stable order, so that equal runs are equal files."""
        self._replace(lines(order))

    def _replace(self, content: bytes) -> None:
        draft = self.path.with_suffix(".draft")
        try:
            draft.write_bytes(content)
            draft.replace(self.path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
