"""The command lines that outputs print. Each works as it stands, from where it is printed, and ends its line.

All of them are made here, so that none forgets what the answer depended on: the interpreter (`--env`), the device, the
limits, and what a user's own implementation is called by.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from conformance.model.results import ImplementationRecord, Result, Run


class Around(NamedTuple):
    """The text around the file in `bnconf replay FILE`: a change of the directory before it, the options after it."""

    before: str
    after: str


def line(*words: str | Path) -> str:
    """Return `bnconf` and its arguments as a shell takes them.

    >>> line("report", Path("my runs/latest"))
    "bnconf report 'my runs/latest'"
    """
    return " ".join(["bnconf", *(quoted(str(word)) for word in words)])


def quoted(word: str) -> str:
    r"""Return a word as a shell takes it, printable, and without what a build server would obey (`##[…]`).

    >>> quoted("a b"), quoted("a\nb"), quoted("##[error]")
    ("'a b'", "$'a\\nb'", "'##''[error]'")
    """
    if word.isprintable():
        return shlex.quote(word).replace("##[", "##''[")
    escaped = "".join(_escaped(c) for c in word)
    return f"$'{escaped}'".replace("##[", "##\\x5b")


def _escaped(c: str) -> str:
    if c.isprintable():
        return f"\\{c}" if c in "\\'" else c
    return c.encode("unicode_escape").decode()


def file(path: Path) -> str:
    """Return a path as an argument that cannot be mistaken for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def replay(run: Run, result: Result, folder: Path) -> str:
    """Return the line that asks the case of a result again, of the same implementation; folder: the run's."""
    record = next((r for r in run.implementations if r.id == result.implementation), None)
    return with_file("replay", folder / run.cases[result.case].file, record, result.implementation)


def with_file(command: str, path: Path, record: ImplementationRecord | None, identity: str = "") -> str:
    """Return the line of a command with a file and an implementation; identity: its id, used without a record."""
    around = options(record, identity)
    place = path.absolute() if around.before else path
    return f"{around.before}{line(command, file(place))}{around.after}"


def options(record: ImplementationRecord | None, identity: str = "") -> Around:
    """Return the options that name an implementation as it was asked, and the directory if that matters."""
    if record is None:
        return Around("", f" -i {quoted(identity)}")
    before, name = target(record)
    return Around(before, "".join(f" {quoted(word)}" for word in ("-i", name, *record.options)))


def target(record: ImplementationRecord) -> tuple[str, str]:
    """Return what `-i` names an implementation by from here, and the change of directory that this needs.

    A file is found by its path from anywhere; a module or a program only from where it was asked.
    """
    name = record.named or record.id
    there = Path(record.directory)
    if not record.directory or there == Path.cwd() or not there.is_dir():
        return "", name
    path, colon, cls = name.partition(":")
    if path.endswith(".py"):
        return "", f"{there / path}{colon}{cls}"
    return f"cd {quoted(record.directory)} && ", name


def kept(assignments: Iterable[tuple[str, str]]) -> list[str]:
    """Return `--env` options for interpreters by environment, with paths that are valid anywhere."""
    return [
        word
        for name, python in assignments
        for word in ("--env", f"{name}={Path(python).absolute() if os.sep in python else python}")
    ]
