"""The lines of a run file in a stable order, whichever worker was faster: equal runs give equal files.

More of them than memory is to hold are dealt to files first, by case, and each of these is sorted by itself.
"""

from __future__ import annotations

import contextlib
import gzip
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

_PART = 1 << 25
"""Bytes of lines that are sorted at a time."""
_KINDS = ("run", "worker", "implementation", "case", "skipped", "result", "end")
_RESULT = _KINDS.index("result")


class _Placed(msgspec.Struct):
    """What the place of a record depends on."""

    type: str
    case: str = ""
    implementation: str = ""
    id: str = ""
    step: int = -1
    index: int = 0


_Key = tuple[int, int, int, int]


class Order:
    """The order of the records of a run.

    cases: the index of each; implementations: in their order.
    """

    def __init__(self, cases: dict[str, int], implementations: Sequence[str]) -> None:
        self._cases, self._ids = cases, {identity: n for n, identity in enumerate(implementations)}
        self._decoder = msgspec.json.Decoder(_Placed)

    def _key(self, line: bytes) -> _Key:
        record = self._decoder.decode(line)
        kind, last = _KINDS.index(record.type), len(self._ids)
        if record.type == "result":
            return kind, self._cases[record.case], self._ids.get(record.implementation, last), record.step
        return kind, record.index, self._ids.get(record.id, last), 0

    def sorted(self, lines: Iterable[bytes], size: int, beside: Path) -> Iterator[bytes]:
        """Yield lines in their order. size: their bytes in all; beside: a folder with room for what memory is not."""
        parts = 1 + size // _PART
        if parts == 1:
            yield from sorted(lines, key=self._key)
            return
        most = 1 + max(self._cases.values(), default=0)

        def part(line: bytes) -> int:
            kind, index, *_ = self._key(line)
            return 1 + index * parts // most if kind == _RESULT else (parts + 1) * (kind > _RESULT)

        yield from _in_parts(lines, parts + 2, part, self._key, beside)


def _in_parts(
    lines: Iterable[bytes], parts: int, part: Callable[[bytes], int], key: Callable[[bytes], _Key], beside: Path
) -> Iterator[bytes]:
    """Yield lines part by part, each sorted; the parts are in gzip until then."""
    with tempfile.TemporaryDirectory(dir=beside, prefix="ordering-") as place:
        paths = [Path(place) / str(n) for n in range(parts)]
        with contextlib.ExitStack() as open_files:
            files = [cast("BinaryIO", open_files.enter_context(gzip.open(path, "wb", 1))) for path in paths]
            for line in lines:
                files[part(line)].write(line)
        for path in paths:
            with gzip.open(path, "rb") as file:
                yield from sorted(file, key=key)
            path.unlink()
