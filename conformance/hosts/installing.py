"""The interpreter that `--env NAME=PACKAGE==VERSION` means: that of an environment which is made for it, once."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from conformance.hosts import builds, releases
from conformance.model.errors import Incomplete, InvalidInput

_TRIES = 3
"""How many environments are tried: all else as it is here, then of the release's day."""


def python(wanted: tuple[str, ...], modules: tuple[str, ...], say: Callable[[str], None]) -> str:
    """Return the interpreter of an environment with exact requirements, and with what brings these modules.

    It is made by uv or pip where there is none yet, and kept. wanted: the first is the package whose release decides
    which Python it is. Raise `InvalidInput` where the index has no such release, `Incomplete` where it does not answer,
    or nothing can be made.
    """
    key = hashlib.sha256(msgspec.json.encode((wanted, modules))).hexdigest()[:12]
    note = builds.kept() / f"{key}.txt"
    if note.exists() and Path(made := note.read_text()).exists():
        return made
    package, _, version = wanted[0].partition("==")
    where, why = releases.index(), "no Python here runs it"
    release = releases.named(_released(package, where), package, version)
    for number, setup in enumerate(itertools.islice(builds.setups(package, release, modules), _TRIES)):
        say(f"making an environment of {', '.join(wanted)} with Python {setup.minor}")
        try:
            made = builds.build(package, release, _also(setup, wanted[1:]), where).python
        except builds.Unbuildable as error:
            why = why if number else str(error)
            continue
        note.write_text(made)
        return made
    raise Incomplete(f"{', '.join(wanted)}: no environment can be made of it here: {why}")


def _released(package: str, where: releases.PackageIndex) -> list[releases.Release]:
    try:
        return releases.of(package, where)
    except InvalidInput as error:
        said = f"{package}: {where.url} has no final release of it; give the name that the index has"
        raise InvalidInput(said) from error


def _also(setup: builds.Setup, wanted: tuple[str, ...]) -> builds.Setup:
    """Return a setup with further exact requirements, which take the place of what it has of the same packages."""
    names = {_name(one) for one in wanted}
    requirements = (*(one for one in setup.requirements if _name(one) not in names), *wanted)
    held = tuple(one for one in setup.held if _name(one) not in names)
    return msgspec.structs.replace(setup, requirements=requirements, held=held)


def _name(requirement: str) -> str:
    return canonicalize_name(requirement.partition("==")[0].partition("[")[0])
