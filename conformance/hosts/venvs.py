"""Environments that `bnconf env create` makes: an older Python with the packages of its time, or one other library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from conformance.hosts import machine
from conformance.model.errors import Incomplete, InvalidInput

ADAPTERS = Path(__file__).parents[1] / "implementations"
PIP = "pip==21.3.1"  # the last that runs on Python 3.6; the one that comes with it takes no current wheel


class EnvironmentSpec(msgspec.Struct, frozen=True):
    """What an environment is made of: a Python version, and a file of exact requirements.

    other: it hosts a library of the second roster.
    megabytes: how much is downloaded the first time.
    """

    name: str
    version: str
    other: bool = False
    megabytes: int = 500

    @property
    def requirements(self) -> Path:
        """The file with one exact version per line."""
        return ADAPTERS / ("others" if self.other else "") / f"{self.name}.txt"


RECIPES = {recipe.name: recipe for recipe in (EnvironmentSpec("tf-1.15", "3.7"), EnvironmentSpec("tf-1.7", "3.6"))}
OTHERS = {
    name: EnvironmentSpec(name, version, True, megabytes)
    for name, version, megabytes in (
        ("tinygrad", "3.11", 20),
        ("mlx", "3.11", 30),
        ("paddle", "3.11", 250),
        ("openvino", "3.11", 70),
        ("numba", "3.11", 60),
        ("torchvision", "3.11", 3000),
        ("mxnet", "3.7", 60),
        ("litert", "3.11", 400),
    )
}
"""Those of the second roster (`roster.others`)."""
MADE = RECIPES | OTHERS


def folder(name: str) -> Path:
    """Return where an environment is made, and looked for."""
    return machine.cache() / "envs" / name


def python_in(place: Path) -> Path:
    """Return the interpreter of an environment in a folder."""
    return place / "bin" / "python"


def python(name: str) -> str:
    """Return the interpreter of an environment by name; empty if it was not created."""
    found = python_in(folder(name))
    return str(found) if found.exists() else ""


def create(name: str, asked: str | None, into: Path | None, say: Callable[[str], None]) -> Path:
    """Make an environment, or complete an existing one; return its interpreter."""
    recipe, place = MADE[name], into or folder(name)
    if place.exists() and any(place.iterdir()) and not (place / "pyvenv.cfg").exists():
        raise InvalidInput(f"--into {place}: holds something that is no environment; name a new or an empty folder")
    made = python_in(place)
    if version(str(made)) != recipe.version:
        found = interpreter(recipe, asked)
        say(f"Making {place} with {found}, Python {recipe.version}")
        _run("make the environment", [found, "-m", "venv", "--clear", str(place)])
    say(f"Installing what {recipe.requirements.name} lists, about {recipe.megabytes} MB the first time")
    _run("install pip", [str(made), "-m", "pip", "install", PIP if recipe.version < "3.8" else "pip"])
    _run("install the packages", [str(made), "-m", "pip", "install", "-r", str(recipe.requirements)])
    return made


def interpreter(recipe: EnvironmentSpec, asked: str | None = None) -> str:
    """Return an interpreter of the version that an environment needs: the one given, or the first found."""
    if asked is not None:
        found = version(asked)
        if found != recipe.version:
            is_ = f"is Python {found}" if found else "does not run"
            raise InvalidInput(f"--python {asked}: {is_}; {recipe.name} needs Python {recipe.version}")
        return asked
    if found := next(interpreters(recipe.version), ""):
        return found
    raise Incomplete(
        f"{recipe.name} needs Python {recipe.version}, and none was found on PATH or in pyenv; install one, such as by "
        f"`pyenv install {recipe.version}`, or name one: bnconf env create {recipe.name} --python /path/to/python"
    )


def interpreters(wanted: str) -> Iterator[str]:
    """Yield the interpreters of a version, such as 3.7: this one, on PATH, pyenv's."""
    for candidate in _candidates(wanted):
        if version(candidate) == wanted:
            yield candidate


def _candidates(wanted: str) -> Iterator[str]:
    """Yield interpreters that may have this version: on PATH, then pyenv's, whose shims run only the active ones."""
    if wanted == "{}.{}".format(*sys.version_info):
        yield sys.executable
    on_path = shutil.which(f"python{wanted}")
    if on_path:
        yield on_path
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from (str(path) for path in sorted(root.glob(f"versions/{wanted}.*/bin/python{wanted}"), reverse=True))


def version(program: str) -> str:
    """Return the version of a Python, such as 3.7; empty if it does not run."""
    command = [program, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


_LISTING = """
import json
try:
    from importlib.metadata import distributions
    found = [(one.metadata["Name"], one.version) for one in distributions()]
except ImportError:
    import pkg_resources
    found = [(one.project_name, one.version) for one in pkg_resources.working_set]
print(json.dumps(dict((name, version) for name, version in found if name)))
"""


def installed(program: str) -> dict[str, str]:
    """Return the version of each distribution that a Python has, by its normalized name; raise if it does not run."""
    try:
        asked = subprocess.run([program, "-c", _LISTING], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise InvalidInput(f"{program}: does not run as a Python; give the path of an interpreter") from error
    return {canonicalize_name(name): version for name, version in json.loads(asked.stdout).items()}


def _run(what: str, command: list[str]) -> None:
    """Run a command; if it fails, raise with its last words."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        last = " ".join(line.strip() for line in done.stdout.splitlines()[-5:])
        raise Incomplete(f"could not {what}: `{' '.join(command)}` ended with {done.returncode}: {last[-600:]}")
