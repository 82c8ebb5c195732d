"""The releases of a package on the index that pip and uv are configured with: their versions, dates and files."""

from __future__ import annotations

import ast
import datetime as dt
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from conformance.model.errors import Incomplete, InvalidInput

PYPI = "https://pypi.org/simple"
_ACCEPTED = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_LINK = re.compile(r"<a\s[^>]*?>\s*([^<\s]+)\s*</a>", re.IGNORECASE)
_SECONDS = 60


class PackageIndex(NamedTuple):
    """Where packages are found: the simple index, further folders or pages of files, and further indexes."""

    url: str
    find_links: tuple[str, ...] = ()
    further: tuple[str, ...] = ()


class Release(msgspec.Struct, frozen=True):
    """One version of a package.

    date: the day on which its first file was uploaded; None where the index does not say.
    python: what its files require of Python, such as `>=3.9`.
    tags: what its wheels are for, such as `cp311-cp311-manylinux_2_28_x86_64`; a source distribution has none.
    """

    version: Version
    date: dt.date | None = None
    python: str = ""
    tags: frozenset[str] = frozenset()
    source: bool = False

    def runs_on(self, python: str) -> bool:
        """Return whether a Python, such as `3.11`, may install it.

        >>> Release(Version("1"), python=">=3.9", tags=frozenset({"cp39-cp39-win32"})).runs_on("3.9")
        False
        """
        return self._allows(python) and (self.source or any(fits(tag, python) for tag in self.tags))

    def _allows(self, python: str) -> bool:
        try:
            return SpecifierSet(self.python).contains(f"{python}.99")
        except InvalidSpecifier:
            return True


def fits(tag: str, python: str) -> bool:
    """Return whether a wheel of this tag is for this Python and this machine.

    >>> fits("py3-none-any", "3.11"), fits("cp311-cp311-win_amd64", "3.11"), fits("cp39-abi3-any", "3.11")
    (True, False, True)
    """
    interpreter, abi, platform = tag.split("-")
    own = "cp" + python.replace(".", "")
    stable = abi == "abi3" and int(interpreter[3:] or 0) <= int(python.partition(".")[2])
    here = platform == "any" or (platform.startswith(_SYSTEM) and platform.endswith(_MACHINE))
    return here and (interpreter in (own, "py3", "py2.py3") or stable)


_SYSTEM = {"linux": ("manylinux", "linux"), "darwin": ("macosx",)}.get(sys.platform, ("win",))
_MACHINE = {"win32": ("amd64", "win32", "arm64")}.get(sys.platform, (os.uname().machine, "universal2"))


def index() -> PackageIndex:
    """Return the index that uv's or pip's environment variables name, or that pip is configured with.

    What pip is configured with besides, uv does not read.
    """
    told = _configured()
    named = (os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"))
    url = next(filter(None, named), None) or told.get("index-url", PYPI)
    links = f"{told.get('find-links', '')} {os.environ.get('UV_FIND_LINKS', '').replace(',', ' ')}"
    further = f"{told.get('extra-index-url', '')} {os.environ.get('UV_EXTRA_INDEX_URL', '')}"
    return PackageIndex(url.rstrip("/"), *(tuple(dict.fromkeys(words.split())) for words in (links, further)))


def _configured() -> dict[str, str]:
    """Return pip's configuration, by the names of its options; empty where there is no pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (line.partition("=") for line in asked.stdout.splitlines())
    return {name.rpartition(".")[2]: str(ast.literal_eval(value)) for name, _, value in lines if value}


def of(package: str, where: PackageIndex) -> list[Release]:
    """Return the final releases of a package, oldest first; neither yanked ones nor pre-releases.

    Raise `InvalidInput` where the index has no such package, `Incomplete` where it does not answer.
    """
    files = defaultdict[Version, list[dict[str, Any]]](list)
    for file in _files(package, where):
        version = _version(str(file["filename"]))
        if version is not None and not version.is_prerelease and not file.get("yanked"):
            files[version].append(file)
    if not files:
        raise InvalidInput(f"--package {package}: {where.url} has no final release of it")
    return [_release(version, files[version]) for version in sorted(files)]


def _files(package: str, where: PackageIndex) -> list[dict[str, Any]]:
    url = f"{where.url}/{canonicalize_name(package)}/"
    try:
        asked = urllib.request.Request(url, headers={"Accept": _ACCEPTED})  # noqa: S310 - the configured index
        with urllib.request.urlopen(asked, timeout=_SECONDS) as answer:  # noqa: S310 - likewise
            kind, text = answer.headers.get("Content-Type", ""), answer.read().decode()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise InvalidInput(f"--package {package}: {where.url} has no such package; give its name there") from error
        raise Incomplete(f"{url} answers {error.code} {error.reason}; try again, or name another index") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise Incomplete(f"{url} does not answer ({why}); releases are found on the index that pip uses") from error
    return json.loads(text)["files"] if "json" in kind else [{"filename": name} for name in _LINK.findall(text)]


def _version(filename: str) -> Version | None:
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1]
        return parse_sdist_filename(filename)[1]
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def _release(version: Version, files: list[dict[str, Any]]) -> Release:
    dates = sorted(str(file["upload-time"])[:10] for file in files if file.get("upload-time"))
    wheels = [str(file["filename"]) for file in files if str(file["filename"]).endswith(".whl")]
    python = next((str(file["requires-python"]) for file in files if file.get("requires-python")), "")
    tags = frozenset(tag for name in wheels for tag in _tags(name))
    day = dt.date.fromisoformat(dates[0]) if dates else None
    return Release(version, day, python, tags, source=len(wheels) < len(files))


def _tags(wheel: str) -> Iterator[str]:
    yield from (str(tag) for tag in parse_wheel_filename(wheel)[3])


def chosen(found: list[Release], wanted: str | None) -> list[Release]:
    """Return the releases that `--versions` names: a specifier such as `>=3.8,<4`, or versions between commas."""
    if not wanted:
        return found
    listed = wanted if wanted[0] in "<>=!~" else ",".join(f"=={one.strip()}" for one in wanted.split(","))
    try:
        specifiers = SpecifierSet(wanted) if listed == wanted else None
        versions = set[Version]() if specifiers is not None else {Version(v.strip()) for v in wanted.split(",")}
    except (InvalidSpecifier, InvalidVersion) as error:
        raise InvalidInput(f"--versions {wanted}: {error}; give >=3.8,<4 or 3.8,3.9,3.10") from error
    kept = [one for one in found if (specifiers is not None and one.version in specifiers) or one.version in versions]
    if not kept:
        raise InvalidInput(f"--versions {wanted}: none of {found[0].version} to {found[-1].version} is")
    return kept


def named(found: list[Release], option: str, wanted: str) -> Release:
    """Return the release of a version; raise `InvalidInput` where there is none."""
    try:
        version = Version(wanted)
    except InvalidVersion as error:
        raise InvalidInput(f"{option} {wanted}: is no version; give one such as {found[-1].version}") from error
    for one in found:
        if one.version == version:
            return one
    raise InvalidInput(f"{option} {wanted}: is none of the releases {found[0].version} to {found[-1].version}")
