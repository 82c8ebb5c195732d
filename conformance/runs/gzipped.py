"""Lines on disk: as they are while they are few, and in gzip from then on, which takes a tenth.

What is in gzip is appended in batches, and a batch that is on disk can be read whether or not anything follows it. The
last line that `store` writes is a member of its own, to be found without reading what is before it.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

LARGE = 1 << 24
"""Bytes of lines from which on they are kept in gzip."""
_MAGIC = b"\x1f\x8b\x08"
_FORMAT = 31  # of zlib: gzip, with its largest window
_BLOCK = 1 << 18
_TAIL = 1 << 16
"""Bytes at the end of a file that hold its last line."""


class Batches:
    """Makes batches of lines, all of one member."""

    def __init__(self) -> None:
        self._member = zlib.compressobj(wbits=_FORMAT)

    def made(self, lines: bytes) -> bytes:
        """Return the next batch."""
        return self._member.compress(lines) + self._member.flush(zlib.Z_SYNC_FLUSH)


def store(plain: Path, lines: Iterable[bytes]) -> Path:
    """Write lines in place of what is there, and return the path: `plain`, or beside it with .gz if they are many."""
    few, rest = _begin(lines)
    path, other = plain, plain.with_name(f"{plain.name}.gz")
    draft = plain.with_suffix(".draft")
    try:
        if rest is None:
            draft.write_bytes(few)
        else:
            path, other = other, path
            with draft.open("wb") as stream:
                _pack(stream, itertools.chain([few], rest))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    other.unlink(missing_ok=True)
    return path


def _begin(lines: Iterable[bytes]) -> tuple[bytes, Iterator[bytes] | None]:
    """Return all lines as one, and None; or the first of many, and the rest."""
    lines, found, size = iter(lines), list[bytes](), 0
    for line in lines:
        found.append(line)
        size += len(line)
        if size >= LARGE:
            return b"".join(found), lines
    return b"".join(found), None


def _pack(stream: BinaryIO, lines: Iterable[bytes]) -> None:
    member = zlib.compressobj(wbits=_FORMAT)
    for line, following in itertools.pairwise(itertools.chain(lines, [b""])):
        if not following:
            stream.write(member.flush())
            member = zlib.compressobj(wbits=_FORMAT)
        stream.write(member.compress(line))
    stream.write(member.flush())


def read(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, in gzip or not; the last may lack its end. Raise zlib.error where gzip is damaged."""
    with path.open("rb") as stream:
        if stream.peek(len(_MAGIC))[: len(_MAGIC)] != _MAGIC:
            yield from stream
            return
        rest = b""
        for text in _unpacked(iter(lambda: stream.read(_BLOCK), b"")):
            *lines, rest = (rest + text).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest


def _unpacked(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text of members, the last of which may have no end."""
    member = zlib.decompressobj(_FORMAT)
    for block in blocks:
        rest = block
        while rest:
            yield member.decompress(rest)
            rest = member.unused_data
            if member.eof:
                member = zlib.decompressobj(_FORMAT)


def size(path: Path) -> int:
    """Return the bytes of the lines of a file."""
    return sum(map(len, read(path)))


def ends(path: Path) -> tuple[bytes, bytes]:
    """Return the first line of a file, and the last that `store` wrote; raise ValueError where they are not found."""
    try:
        first = next(read(path), b"")
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL))
            tail = stream.read()
        if path.suffix == ".gz":
            tail = zlib.decompress(tail[tail.rindex(_MAGIC) :], _FORMAT)
        return first, tail.splitlines()[-1]
    except (zlib.error, IndexError) as error:
        raise ValueError(f"{path}: has no last line") from error
