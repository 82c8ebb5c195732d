"""Environments made for one release of a package, by uv or else pip, and kept outside the project."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import importlib.metadata
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from conformance.hosts import machine, venvs
from conformance.hosts.releases import PackageIndex, Release
from conformance.model.errors import Incomplete

PYTHONS = ("3.14", "3.13", "3.12", "3.11", "3.10", "3.9", "3.8", "3.7", "3.6")
_OCTOBER = 10
"""Since 3.9 a Python comes out in October: 3.9 in 2020, 3.10 in 2021; the older ones are near enough."""
_AFTER = (dt.timedelta(days=14), dt.timedelta(days=365))
"""Companions may follow a release by some days; those of its day may be gone from the index, as jaxlib's are."""
_INTERPRETERS = 2
_SECONDS = 900
_COMPILED = "grpcio h5py jax jaxlib llvmlite ml-dtypes numpy onnx onnxruntime optree protobuf scipy tensorflow torch"
"""What takes minutes to build, or is built again and again until versions fit: only its wheels are taken."""
_KNOWN = {
    "haiku": "dm-haiku",
    "sonnet": "dm-sonnet",
    "jax": "jax[cpu]",
    "tf_keras": "tf-keras",
    "pkg_resources": "setuptools<81",  # the last that have it
}
_MARK = "bnconf.json"
_MARKS = re.compile(r"^(ERROR|error|cause): ")
_PIP = (sys.executable, "-m", "pip")


class Unbuildable(Exception):
    """No environment can be made of a release; the message says why."""


class Setup(msgspec.Struct, frozen=True):
    """How an environment of a release is made.

    python: the interpreter that it is made with; minor: its version, such as `3.11`.
    requirements: what is installed.
    held: the versions that are to be as they are here; empty: the companions are those of `day`.
    day: nothing that was uploaded later; None where no day is known.
    """

    python: str
    minor: str
    requirements: tuple[str, ...]
    held: tuple[str, ...] = ()
    day: dt.date | None = None

    def folder(self, package: str, release: Release) -> Path:
        """Return where its environment is kept."""
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]
        return kept() / f"{canonicalize_name(package)}-{release.version}-py{self.minor}-{digest}"


class Built(msgspec.Struct, frozen=True):
    """An environment that was made: its interpreter, and the version of everything installed in it."""

    python: str
    minor: str
    versions: dict[str, str]


def kept() -> Path:
    """Return the folder that holds all of them."""
    return machine.cache() / "releases"


def setups(package: str, release: Release, modules: tuple[str, ...]) -> Iterator[Setup]:
    """Yield ways to make an environment, the best first: all else as it is here, then of its day, then of a year later.

    modules: what the adapters import.
    """
    others = [distribution(module) for module in modules]
    own = next((name for name in others if _plain(name) == canonicalize_name(package)), package)
    wanted = (f"{own}=={release.version}", *(name for name in others if name != own), "numpy")
    here = "{}.{}".format(*sys.version_info)
    if release.runs_on(here):
        yield Setup(sys.executable, here, wanted, tuple(_installed(package)))
    for after in _AFTER if release.date else (None,):
        day = release.date + after if release.date and after else None
        for minor in pythons(release, here)[:_INTERPRETERS]:
            if found := next(venvs.interpreters(minor), ""):
                yield Setup(found, minor, wanted, day=day)


def also(setup: Setup, modules: Iterable[str]) -> Setup:
    """Return a setup that installs further modules too."""
    wanted = dict.fromkeys([*setup.requirements, *map(distribution, modules)])
    return msgspec.structs.replace(setup, requirements=tuple(wanted))


def pythons(release: Release, here: str) -> list[str]:
    """Return the Pythons that were there when a release came out and that it runs on, this one first."""
    allowed = [minor for minor in PYTHONS if release.runs_on(minor) and not _younger(minor, release.date)]
    return sorted(allowed, key=lambda minor: minor != here)


def _younger(minor: str, date: dt.date | None) -> bool:
    return date is not None and dt.date(2011 + int(minor.partition(".")[2]), _OCTOBER, 1) > date


def distribution(module: str) -> str:
    """Return what is installed to import a module: what brought it here, or else what bears its name.

    >>> distribution("haiku.BatchNorm"), distribution("no_module")
    ('dm-haiku', 'no_module')
    """
    top = module.partition(".")[0]
    return _KNOWN.get(top) or next(iter(_here().get(top, [])), top)


def known(module: str) -> bool:
    """Return whether it is known what brings a module."""
    return module in _KNOWN or module in _here()


@functools.cache
def _here() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _plain(requirement: str) -> str:
    return canonicalize_name(requirement.partition("[")[0])


def _installed(package: str) -> Iterator[str]:
    """Yield what is installed here but for the package, as exact requirements."""
    for found in importlib.metadata.distributions():
        name = found.metadata["Name"]
        if name and canonicalize_name(name) not in (canonicalize_name(package), "batchnorm-conformance", "pip"):
            yield f"{name}=={found.version}"


def build(package: str, release: Release, setup: Setup, where: PackageIndex) -> Built:
    """Make the environment, or take the one that is kept; raise `Unbuildable` where something cannot be installed."""
    place = setup.folder(package, release)
    if not (place / _MARK).exists():
        shutil.rmtree(place, ignore_errors=True)
        try:
            _run([setup.python, "-m", "venv", "--without-pip", str(place)])
            _run(_command(setup, place, where))
            (place / _MARK).write_text(json.dumps(_inside(venvs.python_in(place))))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    return Built(str(venvs.python_in(place)), setup.minor, json.loads((place / _MARK).read_text()))


def _command(setup: Setup, place: Path, where: PackageIndex) -> list[str]:
    """Return the command that installs, by uv where there is one."""
    (place / "held.txt").write_text("\n".join(setup.held))
    made, uv = str(venvs.python_in(place)), _uv()
    start = [uv, "pip", "install", "--python", made] if uv else [*_PIP, "--python", made, "install"]
    shared = ["--index-url", where.url, "--constraint", str(place / "held.txt")]
    shared += [word for link in where.find_links for word in ("--find-links", link)]
    shared += [word for other in where.further for word in ("--extra-index-url", other)]
    shared += ["--index-strategy", "unsafe-best-match"] if uv and where.further else []  # as pip takes indexes
    shared += [word for name in _COMPILED.split() for word in ("--only-binary", name)]
    before = ["--exclude-newer" if uv else "--uploaded-prior-to", f"{setup.day}T00:00:00Z"]
    return [*start, *shared, *(before if setup.day and (uv or _pip_knows_dates()) else []), *setup.requirements]


def _uv() -> str:
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent)) or ""


def _pip_knows_dates() -> bool:
    return int(importlib.metadata.version("pip").partition(".")[0]) >= 26


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise Unbuildable(f"not installed within {_SECONDS} s") from error
    except OSError as error:
        raise Incomplete(f"{command[0]} does not run: {error}") from error
    if done.returncode:
        raise Unbuildable(_last(done.stdout))


def _last(said: str) -> str:
    r"""Return why an installer gave up, on one line.

    >>> _last("Resolving\nERROR: No matching distribution found for jax==9\n")
    'No matching distribution found for jax==9'
    >>> _last("error: No solution found when resolving dependencies\n  cause: Because of jax\nhint: `jax` was filtered")
    'Because of jax'
    """
    lines = [_MARKS.sub("", line.strip(" ×╰─▶│")) for line in said.splitlines() if line.strip()]
    at = next((n for n, line in enumerate(lines) if line.startswith("No solution found")), len(lines) - 2)
    why = itertools.takewhile(lambda line: not line.startswith("hint:"), lines[max(at + 1, 0) :])
    return " ".join(why)[:300]


def _inside(python: Path) -> dict[str, str]:
    """Return the version of everything that is installed in an environment."""
    site = next(python.parents[1].glob("lib/python*/site-packages"), None) or python.parents[1] / "Lib/site-packages"
    found = importlib.metadata.distributions(path=[str(site)])
    return {canonicalize_name(one.metadata["Name"]): one.version for one in found if one.metadata["Name"]}
