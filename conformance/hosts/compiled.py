"""What JAX has compiled, kept in the user's cache: once on a machine, not once in every run."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from conformance.hosts import machine

_NAME = "JAX_COMPILATION_CACHE_DIR"


class Kept(NamedTuple):
    """What is kept in a folder: how many programs, and their bytes."""

    folder: Path
    programs: int
    size: int


def folder() -> Path:
    """Return where it is kept for this processor: JAX tells versions and flags apart, but not instruction sets."""
    return _everything() / hashlib.sha256(machine.processor().encode()).hexdigest()[:12]


def variables() -> dict[str, str]:
    """Return the environment variables that make JAX keep what it compiles; none where the user has said where.

    https://docs.jax.dev/en/latest/persistent_compilation_cache.html
    """
    if _NAME in os.environ:
        return {}
    every = {"MIN_COMPILE_TIME_SECS": "0", "MIN_ENTRY_SIZE_BYTES": "-1"}
    return {_NAME: str(folder())} | {f"JAX_PERSISTENT_CACHE_{name}": value for name, value in every.items()}


def kept() -> list[Kept]:
    """Return what is kept, for each processor."""
    found: list[Kept] = []
    for place in sorted(_everything().glob("*/")):
        sizes = [path.stat().st_size for path in place.iterdir() if path.is_file()]
        found.append(Kept(place, sum(path.name.endswith("-cache") for path in place.iterdir()), sum(sizes)))
    return found


def clear() -> None:
    """Remove all of it."""
    shutil.rmtree(_everything(), ignore_errors=True)


def _everything() -> Path:
    return machine.cache() / "compiled"
