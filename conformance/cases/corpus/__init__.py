"""Named cases: each a file with the rule and the public source that it stands for."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

from conformance.model.case import Case
from conformance.model.codec import read_case
from conformance.model.errors import InvalidInput

FOLDER = Path(__file__).with_name("scenarios")
OTHERS = FOLDER.with_name("others")


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file says of its case.

    title: what happens in it.
    rule: the rule of `reference/README.md` that it is about.
    source: a public page, or `unreported`.
    compiled: patterns of compiled implementations that are asked too; each pays for its signature.
    only: patterns of the implementations that a run of them asks it for; none where every run does.
    """

    title: str
    rule: str
    source: str
    compiled: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def asks(self, identity: str) -> bool:
        """Return whether a compiled implementation is asked too."""
        return any(fnmatch.fnmatchcase(identity, pattern) for pattern in self.compiled)


class Named(msgspec.Struct, frozen=True):
    """A case of the corpus."""

    name: str
    about: About
    case: Case


def every() -> tuple[Named, ...]:
    """Return all cases of the corpus: those of every run, and those that only runs of some implementations ask."""
    return read() + read(OTHERS)


def of_run(ids: Iterable[str]) -> tuple[Named, ...]:
    """Return the cases of a run of these implementations."""
    asked = list(ids)
    return read() + tuple(n for n in read(OTHERS) if any(fnmatch.filter(asked, pattern) for pattern in n.about.only))


@cache
def read(folder: Path = FOLDER) -> tuple[Named, ...]:
    """Return the cases of a folder, by name."""
    return tuple(_read(path) for path in sorted(folder.glob("*.json")))


def _read(path: Path) -> Named:
    case, _ = read_case(path)
    try:
        about = msgspec.convert(json.loads(path.read_text())["about"], About)
    except (KeyError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{path}: does not say what it is about ({error}); give title, rule and source") from error
    return Named(path.stem, about, case)
