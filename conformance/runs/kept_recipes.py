"""The recipes of a seed, kept in the user's cache: Hypothesis draws them once, not in every run.

They are kept by all that they depend on: the suite's sources, the versions of Python, NumPy and Hypothesis, and what is
asked for. A file that is damaged is drawn anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from conformance.cases.recipe import Recipe
from conformance.hosts import machine, sources

_MOST = 32
"""How many lists are kept; the oldest make way."""


class WantedRecipes(NamedTuple):
    """Which recipes: as many of a seed, or those of a profile that has some of its own."""

    seed: int
    cases: int
    profile: str = ""


def recipes(asked: WantedRecipes, *, cache: bool) -> list[Recipe]:
    """Return the recipes of a run, from the cache or drawn; cache: whether it is used."""
    path = folder() / f"{_key(asked)}.json"
    found = _read(path) if cache else None
    if found is None:
        from conformance.cases import strategies

        profile, seed = asked.profile, asked.seed
        found = strategies.of_profile(profile, seed) if profile else strategies.chosen(seed, asked.cases)
        if cache:
            with contextlib.suppress(OSError):  # a cache that is full, or not ours, is done without
                _write(path, found)
    return found


def folder() -> Path:
    """Return where they are kept."""
    return machine.cache() / "recipes"


def kept() -> list[int]:
    """Return the bytes of each list that is kept."""
    return [path.stat().st_size for path in folder().glob("*.json")]


def clear() -> None:
    """Remove them all."""
    shutil.rmtree(folder(), ignore_errors=True)


def _key(asked: WantedRecipes) -> str:
    versions = [sys.version, *(importlib.metadata.version(name) for name in ("numpy", "hypothesis"))]
    return hashlib.sha256(repr((sources.of_the_suite(), versions, tuple(asked))).encode()).hexdigest()[:24]


def _read(path: Path) -> list[Recipe] | None:
    """Return what a file holds; None where there is none, or its checksum is another."""
    try:
        seal, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(body).hexdigest() != seal.decode(errors="replace"):
        return None
    try:
        return msgspec.json.decode(body, type=list[Recipe])
    except msgspec.DecodeError:
        return None


def _write(path: Path, found: list[Recipe]) -> None:
    body, draft = msgspec.json.encode(found), path.with_suffix(f".{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    draft.replace(path)
    machine.keep_newest(path.parent.glob("*.json"), _MOST)
