"""A folder of files of which none is taken that is not as it was written.

TensorFlow takes a damaged program for an error of the caller, and a library that inductor made may crash. What is there
at the end of a process is noted; the next one that uses the folder alone removes whatever is not as noted.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

_NOTES, _LOCK = "notes.json", "lock"
_LOCKS: dict[Path, IO[str]] = {}
"""Those of the folders that this process uses."""
_FREE = 1 << 30
"""Bytes that must be free: a program that cannot be written is an error too."""


class Note(msgspec.Struct, frozen=True):
    """A file as it was: its size, when it was written, in ns, and the hash of its bytes, which a copy has too."""

    size: int
    written: int
    digest: str


def in_use(place: Path, most: int) -> bool:
    """Return whether a folder can be used; if so it is noted when this process ends, unless others use it then.

    most: bytes of its files; beyond them what was not used for longest is removed.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / _LOCK).open("a")
        if shutil.disk_usage(place).free > _FREE and _begun(lock, place, most):
            atexit.register(_leave, lock, place, os.getpid())
            _LOCKS[place] = lock
            return True
    except OSError:  # nobody may write here, or lock
        return False
    lock.close()
    return False


def make_room(place: Path, most: int) -> None:
    """Do between two runs of a process what its end and the next one's beginning do, unless others use the folder."""
    lock = _LOCKS.get(place)
    if lock is not None:
        with contextlib.suppress(OSError):
            if _locked(lock, alone=True):
                _write_notes(place)
                _check(place, most)
        _locked(lock)  # which asking for it alone may have lost


def last_used(path: Path | os.DirEntry[str]) -> int:
    """Return when a file was written or, as far as the file system tells, read, in ns."""
    about = path.stat()
    return max(about.st_mtime_ns, about.st_atime_ns)


def _begun(lock: IO[str], place: Path, most: int) -> bool:
    if _locked(lock, alone=True):
        _check(place, most)
    return _locked(lock)


def _check(place: Path, most: int) -> None:
    """Remove what is not as it was noted, and what is too much."""
    noted, size = _noted(place), 0
    for path in sorted(_files(place), key=last_used, reverse=True):
        size += path.stat().st_size
        note = noted.get(path.relative_to(place).as_posix())
        if note is None or size > most or _note(path, note) != note:
            path.unlink()


def _leave(lock: IO[str], place: Path, process: int) -> None:
    """Note what there is, if nobody else uses it."""
    if os.getpid() != process:  # a fork of ours
        return
    with contextlib.suppress(OSError):
        if _locked(lock, alone=True):
            _write_notes(place)
    lock.close()


def _write_notes(place: Path) -> None:
    noted = _noted(place)
    names = {path.relative_to(place).as_posix(): path for path in _files(place)}
    notes = {name: _note(path, noted.get(name)) for name, path in names.items()}
    draft = place / f"{_NOTES}.new"
    draft.write_bytes(msgspec.json.encode(notes))
    draft.replace(place / _NOTES)


def _noted(place: Path) -> dict[str, Note]:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((place / _NOTES).read_bytes(), type=dict[str, Note])
    return {}


def _note(path: Path, earlier: Note | None) -> Note:
    """Return the note of a file: the earlier one if size and time are as they were, or its bytes are."""
    about = path.stat()
    if earlier and (earlier.size, earlier.written) == (about.st_size, about.st_mtime_ns):
        return earlier
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    if earlier and (earlier.size, earlier.digest) == (about.st_size, digest):
        return earlier
    return Note(about.st_size, about.st_mtime_ns, digest)


def _files(place: Path) -> Iterator[Path]:
    """Yield the files that are kept, each in a folder of its framework."""
    yield from (path for path in place.glob("*/**/*") if path.is_file() and not path.is_symlink())


def _locked(lock: IO[str], *, alone: bool = False) -> bool:
    """Take a lock, beside others or alone; return whether this process has it, at once if it is to be alone."""
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except BlockingIOError:
        return False
    return True
