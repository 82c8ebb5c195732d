"""What JAX, XLA in TensorFlow and inductor compiled, kept in the user's cache: once on a machine, not in every run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from conformance.hosts import machine, undamaged

_NAME = "JAX_COMPILATION_CACHE_DIR"
_OTHERS = "BNCONF_COMPILED"  # read by worker.py, whose keeping.py tells TensorFlow and PyTorch
_PROGRAMS = ("-cache", ".pb", ".so")
_MOST = 512 << 20
"""Bytes of JAX's programs, and of the others: beyond, what was not used for longest goes."""


class Kept(NamedTuple):
    """What is kept in a folder: how many programs, and the bytes of all that is there."""

    folder: Path
    programs: int
    size: int


def folder() -> Path:
    """Return where it is kept for this processor: frameworks tell versions and flags apart, not instruction sets."""
    return _everything() / hashlib.sha256(machine.processor().encode()).hexdigest()[:12]


def variables() -> dict[str, str]:
    """Return the environment variables that make frameworks keep what they compile; none where the user has said where.

    https://docs.jax.dev/en/latest/persistent_compilation_cache.html
    """
    others = _others()
    found = {_OTHERS: str(others)} if _in_use(others) else {}
    if _NAME in os.environ:
        return found
    every = {"MIN_COMPILE_TIME_SECS": "0", "MIN_ENTRY_SIZE_BYTES": "-1"}
    return found | {_NAME: str(folder())} | {f"JAX_PERSISTENT_CACHE_{name}": value for name, value in every.items()}


def none() -> dict[str, str]:
    """Return the environment variables that make frameworks compile anew: JAX and TensorFlow do unless told."""
    return {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}


def make_room() -> None:
    """Remove what is too much, between two runs of a process; each does so once at its beginning."""
    undamaged.make_room(_others(), _MOST)
    _limit_jax()


def kept() -> list[Kept]:
    """Return what is kept, for each processor."""
    found: list[Kept] = []
    for place in sorted(_everything().glob("*/")):
        sizes = {path.name: path.stat().st_size for path in place.rglob("*") if path.is_file()}
        found.append(Kept(place, sum(name.endswith(_PROGRAMS) for name in sizes), sum(sizes.values())))
    return found


def clear() -> None:
    """Remove all of it."""
    shutil.rmtree(_everything(), ignore_errors=True)


def _others() -> Path:
    return folder() / "others"


@functools.cache
def _in_use(place: Path) -> bool:
    _limit_jax()
    return undamaged.in_use(place, _MOST)


def _everything() -> Path:
    return machine.cache() / "compiled"


def _limit_jax() -> None:
    """Remove what was not used for longest; JAX would ask a lock and the whole folder for each program it keeps."""
    size = 0
    with contextlib.suppress(OSError):  # there is none yet, or somebody else removes them
        places = [folder(), *folder().glob("jax-*")]
        files = [entry for place in places for entry in os.scandir(place) if entry.is_file()]
        for entry in sorted(files, key=undamaged.last_used, reverse=True):
            size += entry.stat().st_size  # which an entry remembers: there are thousands
            if size > _MOST:
                Path(entry).unlink()
