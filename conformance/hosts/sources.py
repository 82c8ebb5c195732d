"""What decides a verdict besides a framework: the sources of an adapter, and of this suite."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import reference

_SUITE = Path(__file__).parents[1]
_BUILT_IN = _SUITE / "implementations"
_IMPORTS = re.compile(r"^ *from \.(\w*) import \(?([\w, ]*)", re.MULTILINE)  # no `ast`: python/cpython#106905
_JUDGE = [_SUITE / "judging", _SUITE / "model", Path(reference.__file__).parent]


def digest(target: str) -> str:
    """Return a hash of an adapter's sources and of the suite's that draw, ask and judge; empty for another program's.

    target: what a worker loads. Of a user's own adapter every Python file beside it counts, as it may import them.
    """
    path = Path(target.partition(":")[0])
    if path.suffix != ".py" or not path.is_file():
        return ""
    own = _built_in(path) if path.parent == _BUILT_IN else _hashed(path.parent.glob("*.py"))
    return hashlib.sha256(f"{own} {of_the_suite()}".encode()).hexdigest()[:16]


@functools.cache
def of_the_suite() -> str:
    """Return a hash of what draws, asks and judges."""
    return _of([_SUITE / "cases", _SUITE / "hosts", *_JUDGE])


@functools.cache
def of_the_judge() -> str:
    """Return a hash of what judges: all that a verdict depends on besides the case, the answer and what is promised."""
    return _of(_JUDGE)


def _of(folders: list[Path]) -> str:
    return _hashed(file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".json", ".toml"))


@functools.cache
def _built_in(path: Path) -> str:
    return _hashed(_with_imported(path))


def _hashed(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(f"{file.name} ".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def _with_imported(path: Path) -> set[Path]:
    """Return a module and what it imports from beside it, and what that imports."""
    found, open_ = {path}, [path]
    while open_:
        for module, names in _IMPORTS.findall(open_.pop().read_text()):
            named = [module] if module else [name.split()[0] for name in names.split(",")]
            beside = {path.parent / f"{name}.py" for name in named} - found
            found |= beside
            open_ += beside
    return found
