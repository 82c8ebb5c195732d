"""Which version of bnconf this is and what it needs, installed, or as a source tree that is not."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

NAME = "batchnorm-conformance"
_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_OF_AN_EXTRA = re.compile(r"""extra\s*==\s*['"](\w+)['"]""")


def version() -> str:
    """Return the version that is installed, or else the one that the source tree says."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return _source()["version"]


def extras() -> dict[str, list[Requirement]]:
    """Return what each extra brings, each distribution with the versions that are proven.

    A source tree says so itself, even where it is installed: the installed distribution may be older.
    """
    if _PROJECT.exists():
        told: dict[str, list[str]] = _source()["optional-dependencies"]
        return {extra: [Requirement(text) for text in texts] for extra, texts in told.items()}
    found = defaultdict[str, list[Requirement]](list)
    for text in metadata.requires(NAME) or []:
        if of_extra := _OF_AN_EXTRA.search(text):
            found[of_extra[1]].append(Requirement(text))
    return dict(found)


def _source() -> dict[str, Any]:
    return tomllib.loads(_PROJECT.read_text())["project"]
