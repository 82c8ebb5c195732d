"""Verdicts, kept in the user's cache: an answer that was judged once is not judged again, as long as nothing changes.

A verdict depends on the case, the promise and the answer alone, and on what judges: its sources, the versions of Python
and of what it computes with, and the machine. It is kept by a hash of them all, sealed, and taken if the seal fits.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import shutil
import threading
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from conformance.hosts import machine, sources
from conformance.model.outcome import Crashed, Reply, TimedOut, split_reply
from conformance.model.results import Result
from conformance.model.statement import Statement

if TYPE_CHECKING:
    from sqlite3 import Connection

_MOST = 256 << 20
"""Bytes that are kept of one judge; the oldest verdicts make way."""
_FILES = 3
"""How many judges' verdicts are kept."""
_BATCH = 1024
"""How many verdicts are written at a time: each time costs as much as a hundred verdicts."""
_SEAL = 16
_TABLE = "CREATE TABLE IF NOT EXISTS verdicts (answer BLOB PRIMARY KEY, found BLOB NOT NULL)"
_OLDEST = (
    "DELETE FROM verdicts WHERE rowid IN "
    "(SELECT rowid FROM verdicts ORDER BY rowid LIMIT (SELECT count(*) / 4 FROM verdicts))"
)


class KeptVerdicts:
    """The verdicts that are kept. Threads share it; whatever is wrong with the file, answers are judged as without it.

    use: whether it is used at all.
    taken: how many verdicts were there.
    """

    def __init__(self, *, use: bool) -> None:
        self._lock, self._new = threading.Lock(), dict[bytes, bytes]()
        self._use, self.taken = use, 0
        self._database: Connection | None = None

    def of(self, case: str, statement: Statement, reply: Reply) -> tuple[bytes, list[Result] | None]:
        """Return the hash of an answer, by which `add` takes what is found, and what was; None if it is to be judged.

        case: its id. The hash is empty where nothing is kept: who crashed or did not end is judged at once.
        """
        if self._database is None or any(isinstance(outcome, Crashed | TimedOut) for outcome in reply.outcomes):
            return b"", None
        bare, tensors = split_reply(reply)
        arrays = [(name, str(array.dtype), array.shape) for name, array in tensors.items()]
        told = case, reply.implementation, statement, bare.outcomes, arrays
        answer = hashlib.blake2b(msgspec.msgpack.encode(told), digest_size=_SEAL)
        for array in tensors.values():
            answer.update(array.reshape(-1).view(np.uint8).data)  # no copy: it may be most of what memory holds
        return (key := answer.digest()), self._found(key)

    def add(self, answer: bytes, found: list[Result]) -> None:
        """Keep what was found of an answer, unless it is a fault of ours."""
        if not answer or any(result.verdict == "ERROR" for result in found):
            return
        sealed = _sealed(answer, found)
        with self._lock:
            self._new[answer] = sealed
            if len(self._new) >= _BATCH:
                self._write()

    def told(self) -> str:
        """Return in a sentence how many verdicts were there."""
        return f"{self.taken:,} answers are bit for bit those that an earlier run judged; --no-cache judges them again"

    @contextlib.contextmanager
    def opened(self) -> Generator[None]:
        """Use the file, and write at the end what is new."""
        self._database = _opened() if self._use else None
        try:
            yield
        finally:
            with self._lock:
                self._write()
                self._let_go()

    def _found(self, answer: bytes) -> list[Result] | None:
        with self._lock, self._fault_is_the_end():
            if self._database is not None:
                row = self._database.execute("SELECT found FROM verdicts WHERE answer = ?", [answer]).fetchone()
                found = _unsealed(answer, row[0]) if row else None
                self.taken += found is not None
                return found
        return None

    def _write(self) -> None:
        with self._fault_is_the_end():
            if self._database is not None and self._new:
                with self._database as written:
                    written.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", self._new.items())
                    if _size(written) > _MOST:
                        written.execute(_OLDEST)
        self._new.clear()

    @contextlib.contextmanager
    def _fault_is_the_end(self) -> Generator[None]:
        """Use the file no more if it is damaged, in use for long, or the disk is full; the next run begins anew."""
        if self._database is None:
            yield
            return
        import sqlite3

        try:
            yield
        except sqlite3.Error as error:
            self._let_go()
            if not isinstance(error, sqlite3.OperationalError):
                _remove(_path())

    def _let_go(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None


def folder() -> Path:
    """Return where they are kept."""
    return machine.cache() / "verdicts"


def kept() -> tuple[int, int]:
    """Return how many answers there are verdicts on, and the bytes of the files."""
    answers, size = 0, 0
    for path in folder().glob("*.sqlite"):
        size += path.stat().st_size
        with contextlib.suppress(Exception), contextlib.closing(_connected(path)) as database:
            answers += database.execute("SELECT count(*) FROM verdicts").fetchone()[0]
    return answers, size


def clear() -> None:
    """Remove them all."""
    shutil.rmtree(folder(), ignore_errors=True)


def _path() -> Path:
    return folder() / f"{_judges()}.sqlite"


def _opened() -> Connection | None:
    """Return the file of what judges here and now, a new one if it is damaged; None where there can be none."""
    try:
        import sqlite3
    except ImportError:  # a Python that was built without it
        return None
    path = _path()
    for _ in range(2):
        try:
            return _begun(path)
        except (OSError, sqlite3.OperationalError):
            return None
        except sqlite3.DatabaseError:
            _remove(path)
    return None


def _begun(path: Path) -> Connection:
    """Return a file that is ready for verdicts; it is closed where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        found = opened.enter_context(contextlib.closing(_connected(path)))
        found.execute("PRAGMA synchronous = OFF")  # what a crash of the system leaves torn has no seal
        found.execute(_TABLE)
        with contextlib.suppress(OSError):  # where it cannot be written to it may be read
            path.touch()
        machine.keep_newest(folder().glob("*.sqlite"), _FILES)
        opened.pop_all()
        return found


def _connected(path: Path) -> Connection:
    import sqlite3

    return sqlite3.connect(path, timeout=1.0, check_same_thread=False)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _size(database: Connection) -> int:
    """Return the bytes in use: pages that are free are written to again."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, each = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return (pages - free) * each


@functools.cache
def _judges() -> str:
    """Return a hash of what decides a verdict besides the case, the promise and the answer, and of how it is kept."""
    versions = [importlib.metadata.version(name) for name in ("numpy", "ml_dtypes", "msgspec")]
    here = machine.describe_host(), os.environ.get("NPY_DISABLE_CPU_FEATURES", "")
    return hashlib.sha256(repr((sources.of_the_judge(), versions, here, _TABLE)).encode()).hexdigest()[:24]


def _sealed(answer: bytes, found: list[Result]) -> bytes:
    body = zlib.compress(msgspec.msgpack.encode(found), 1)
    return hashlib.blake2b(answer + body, digest_size=_SEAL).digest() + body


def _unsealed(answer: bytes, kept: object) -> list[Result] | None:
    """Return what was found of an answer; None if what is kept was not written so, or is damaged."""
    seal, body = (kept[:_SEAL], kept[_SEAL:]) if isinstance(kept, bytes) else (b"", b"")
    if hashlib.blake2b(answer + body, digest_size=_SEAL).digest() != seal:
        return None
    return msgspec.msgpack.decode(zlib.decompress(body), type=list[Result])
