"""What is missing here, the one command that adds it, and what works without it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata

import msgspec
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from conformance.hosts import builds, roster, venvs
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.version import NAME, extras

_NOT_ROSTER = ("all", "dev", "ray")  # extras that bring no framework of their own


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


def examine(device: str = "cpu", interpreters: Mapping[str, str] | None = None) -> list[Part]:
    """Return every part, those that are there and those that are not.

    interpreters: the Python of an environment, by its name: what it has is held to what its implementations need.
    """
    others = [_hosted(name, python) for name, python in (interpreters or {}).items()]
    return [_python(), *_extras(), *map(_environment, venvs.RECIPES.values()), *others, *_gpu(needed=device == "cuda")]


def _python() -> Part:
    return Part("Python", True, True, platform.python_version())  # an older one could not have started this


def _extras() -> Iterator[Part]:
    for extra, those in sorted(extras().items()):
        needed = sorted(those, key=lambda one: one.name)
        if extra not in _NOT_ROSTER:
            there = {one.name: _version(one.name) for one in needed}
            hosts = [name for name, brought in roster.EXTRAS.items() if extra in brought.split(",")]
            yield _packages(f"packages: {extra}", needed, there, f"pip install -U '{NAME}[{extra}]'", hosts)


def _packages(part: str, needed: list[Requirement], there: Mapping[str, str], command: str, hosts: list[str]) -> Part:
    """Return whether packages are there, and new enough.

    needed: with the versions that are proven. there: the versions that are installed, empty for those that are not.
    hosts: the environments whose implementations need them.
    """
    missing = [one.name for one in needed if not there[one.name]]
    old = [one for one in needed if there[one.name] and not one.specifier.contains(there[one.name], prereleases=True)]
    lacks = [f"no {', '.join(missing)}"] if missing else []
    lacks += [f"{one.name} {there[one.name]} is older than what is proven, {one.specifier}" for one in old]
    found = ", ".join(f"{one.name} {there[one.name]}" for one in needed)
    if not lacks:
        return Part(part, True, True, found)
    command = command if old else command.replace(" -U", "")
    without = "; ".join([*_lost(missing, hosts), *_unproven([one.name for one in old], hosts)])
    return Part(part, False, True, "; ".join(lacks), command, without)


def _lost(missing: list[str], hosts: list[str]) -> list[str]:
    return [_without(_needing(missing, hosts))] if missing else []


def _unproven(old: list[str], hosts: list[str]) -> list[str]:
    lost = _needing(old, hosts)
    names = ", ".join(sorted({identity.partition(".")[0] for identity in lost}))
    return [f"{len(lost)} implementations ({names}) run, and may be asked less"] if lost else []


def _needing(packages: list[str], hosts: list[str]) -> list[str]:
    """Return the ids of those of some environments whose statements name one of these distributions."""
    wanted = {canonicalize_name(name) for name in packages}
    entries = [entry for entry in roster.built_in() if entry.environment in hosts]
    return [entry.id for entry in entries if wanted & _distributions(entry)]


def _distributions(entry: roster.RosterEntry) -> set[NormalizedName]:
    brought = (builds.distribution(module).partition("[")[0] for module in entry.statement.packages)
    return {canonicalize_name(name) for name in brought}


def _hosted(name: str, python: str) -> Part:
    """Return what another Python lacks of what the implementations of an environment need."""
    entries = [entry for entry in roster.built_in() if entry.environment == name]
    if not entries and name != "user":
        known = sorted({entry.environment for entry in roster.built_in()})
        raise InvalidInput(f"--env {name}: no such environment; use one of {[*known, 'user']}")
    names = {"numpy"}.union(*map(_distributions, entries)) - {"jaxlib"}
    floors = {canonicalize_name(one.name): one for of_extra in extras().values() for one in of_extra}
    proven = floors if name in roster.EXTRAS else {}
    needed = [proven.get(canonicalize_name(one), Requirement(one)) for one in sorted(names)]
    found = venvs.installed(python)
    there = {one.name: found.get(canonicalize_name(one.name), "") for one in needed}
    wanted = " ".join(f"'{one.name}{one.specifier}'" for one in needed)
    return _packages(f"--env {name}={python}", needed, there, f"{python} -m pip install -U {wanted}", [name])


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
    lost = [entry.id for entry in roster.built_in() if entry.environment == recipe.name]
    return Part(part, False, True, found, command, _without(lost))


def _gpu(*, needed: bool) -> Iterator[Part]:
    """Yield the GPU and, where there is one, the builds of frameworks that can use it."""
    found, without = gpu(), "no …@cuda can run; every …@cpu can"
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


def gpu() -> str:
    """Return the GPUs and their driver, as nvidia-smi reports them; empty if there are none."""
    program = shutil.which("nvidia-smi")
    if not program:
        return ""
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return "; ".join(asked.stdout.strip().splitlines()) if asked.returncode == 0 else ""


def gpu_memory() -> int:
    """Return how many bytes are free on the GPU that has the least, as nvidia-smi reports them; 0 if there is none."""
    program = shutil.which("nvidia-smi")
    if not program:
        return 0
    command = [program, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return min((int(mib) << 20 for mib in asked.stdout.split() if mib.isdecimal()), default=0)


def _without(lost: list[str]) -> str:
    names = sorted({identity.partition(".")[0] for identity in lost})
    return f"{len(lost)} of {len(roster.built_in())} implementations cannot run ({', '.join(names)}); the others can"
