"""What is missing here, the one command that adds it, and what works without it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata

import msgspec

from conformance.hosts import roster, venvs
from conformance.model.errors import Incomplete
from conformance.model.version import NAME, extras

_NOT_ROSTER = ("all", "dev")  # extras that bring no framework of their own


class Part(msgspec.Struct, frozen=True):
    """One thing that some implementations need.

    needed: whether its absence counts. That of a GPU counts if one was asked for.
    found: what is there, or what is missing.
    command: what adds it; empty if no command can.
    without: what cannot run without it.
    """

    part: str
    there: bool
    needed: bool
    found: str
    command: str = ""
    without: str = ""


def examine(device: str = "cpu") -> list[Part]:
    """Return every part, those that are there and those that are not."""
    return [_python(), *_extras(), *map(_environment, venvs.RECIPES.values()), *_gpu(needed=device == "cuda")]


def _python() -> Part:
    return Part("Python", True, True, platform.python_version())  # an older one could not have started this


def _extras() -> Iterator[Part]:
    for extra, names in extras().items():
        if extra in _NOT_ROSTER:
            continue
        versions = {name: _version(name) for name in names}
        missing = [name for name, version in versions.items() if not version]
        hosts = [name for name, those in roster.EXTRAS.items() if extra in those.split(",")]
        if missing:
            command = f"pip install '{NAME}[{extra}]'"
            yield Part(f"packages: {extra}", False, True, f"no {', '.join(missing)}", command, _without(*hosts))
        else:
            found = ", ".join(f"{name} {version}" for name, version in versions.items())
            yield Part(f"packages: {extra}", True, True, found)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _environment(recipe: venvs.EnvironmentSpec) -> Part:
    part, command = f"environment: {recipe.name}", f"bnconf env create {recipe.name}"
    if python := venvs.python(recipe.name):
        return Part(part, True, True, python)
    try:
        found = f"not created; {venvs.interpreter(recipe)} can make it"
    except Incomplete:
        found = f"not created, and no Python {recipe.version}"
        command = f"pyenv install {recipe.version} && {command}"
    return Part(part, False, True, found, command, _without(recipe.name))


def _gpu(*, needed: bool) -> Iterator[Part]:
    """Yield the GPU and, where there is one, the builds of frameworks that can use it."""
    found, without = _nvidia(), "no …@cuda can run; every …@cpu can"
    if not found:
        yield Part("GPU", False, needed, "nvidia-smi finds none", "", without)
        return
    yield Part("GPU", True, needed, found)
    torch = _version("torch")
    if torch:
        command = f"pip install --force-reinstall torch=={torch.partition('+')[0]}"
        yield _build("torch", torch, torch.endswith("+cpu"), needed, command)
    if jax := _version("jax"):
        plugins = [name for name in ("jax-cuda12-plugin", "jax-cuda13-plugin") if _version(name)]
        yield _build("jax", " ".join([jax, *plugins]), not plugins, needed, f"pip install 'jax[cuda12]=={jax}'")


def _build(name: str, found: str, cpu_only: bool, needed: bool, command: str) -> Part:
    part = f"CUDA build: {name}"
    if cpu_only:
        return Part(part, False, needed, f"{found} is for the CPU only", command, "its implementations run …@cpu only")
    return Part(part, True, needed, found)


def _nvidia() -> str:
    """Return the GPUs and their driver, as nvidia-smi reports them; empty if there are none."""
    program = shutil.which("nvidia-smi")
    if not program:
        return ""
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return "; ".join(asked.stdout.strip().splitlines()) if asked.returncode == 0 else ""


def _without(*hosts: str) -> str:
    known = roster.built_in()
    lost = [entry.id for entry in known if entry.environment in hosts]
    names = sorted({identity.partition(".")[0] for identity in lost})
    return f"{len(lost)} of {len(known)} implementations cannot run ({', '.join(names)}); the others can"
