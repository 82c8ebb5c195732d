"""Options that several commands have: which implementations, where they run, and within which limits."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from conformance.gate import divergences
from conformance.hosts import installing, roster, targets
from conformance.hosts.environment import Limits
from conformance.hosts.participants import Participants
from conformance.model.errors import InvalidInput
from conformance.runs import commands

LEAST = 0.1
"""GiB of memory: with less no worker starts."""


def gibibytes(text: str) -> float:
    """Return how many GiB `8`, `8GiB` or `512MiB` are; raise where that is no number, or too small a one."""
    found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+) ?(|gib|mib)", str(text).lower())
    number = float(found[1]) / (1024 if found[2] == "mib" else 1) if found else 0.0
    if number < LEAST:
        said = f"{text!r} is no memory of {LEAST:g} GiB or more; give a number of GiB, such as 8, or 512MiB"
        raise click.BadParameter(said)
    return number


def implementations_and_limits(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose implementations and say where they run."""
    option = click.option(
        "-i",
        "--implementation",
        "patterns",
        multiple=True,
        metavar="ID",
        help="Id or pattern (torch.*, torch.*@cuda), or one of your own: PATH.py[:Class], package.module:Class, "
        "'exec:PROGRAM ARGUMENTS'. Repeatable. Default: all.",
    )
    return where_they_run(option(command))


def where_they_run(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where implementations run, and within which limits."""
    for option in (
        click.option("--device", type=click.Choice(roster.DEVICES), default="cpu", show_default=True,
                     help="Where an id that names no device runs."),
        click.option("--env", "interpreters", multiple=True, metavar="NAME=PYTHON",
                     help="Host an environment in another interpreter: torch=/opt/mine/bin/python judges your own "
                     "build, user=/path/to/python hosts what -i names of your own. It needs Python 3.6 or later, numpy "
                     "and what is judged, not bnconf. torch=torch==2.12.1 makes one of a release, once, and "
                     "torch=torch==2.12.1,numpy==2.2.6 with another package too. Repeatable."),
        click.option("--in-process", is_flag=True, help="Call implementations directly, for debugging."),
        click.option("--cache/--no-cache", default=True,
                     help="Keep what is compiled, drawn and judged for other runs; bnconf cache shows it. "
                     "Default: yes."),
        click.option("--timeout", type=click.FloatRange(min=0.1), default=120.0, show_default=True,
                     help="Seconds for one case and implementation: of CPU while it computes, whatever else the "
                     "machine does, of the clock while it waits; ten times as many by the clock at most."),
        click.option("--memory", type=gibibytes, metavar="GIB",
                     help="GiB that a worker may allocate on a CPU, and that asking one case may take, 14 times its "
                     "tensors where it is judged and in a worker: 8, or 512MiB. A case that would need more is "
                     "skipped, and a run without it incomplete. Default: 8, for a case no more than is free for each."),
    ):  # fmt: skip
        command = option(command)
    return command


def of_vectors(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `export` that are about vectors."""
    for option in (
        click.option("--vectors", type=click.Path(path_type=Path), metavar="FOLDER",
                     help="Write vectors, not recordings."),
        click.option("--promises", default="numpy.two_pass", show_default=True, metavar="ID",
                     help="Of vectors: whose semantics and bounds they are, an id of bnconf implementations."),
        click.option("--count", type=click.IntRange(min=0),
                     help="Of vectors: how many cases are drawn, beside the corpus.  [default: one of each cell]"),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                     help="Of vectors: decides which are drawn."),
    ):  # fmt: skip
        command = option(command)
    return command


def what_the_gate_reads(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what the gate decides by: `manifests`, `baseline` and `today`."""
    for option in (
        click.option("--today", type=click.DateTime(["%Y-%m-%d"]), help="The day that review dates are held to."),
        click.option(
            "--baseline",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Baseline that the gate compares with, a JSON lines file.",
        ),
        click.option(
            "--divergences",
            "manifests",
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            default=divergences.FOLDER,
            help="Folder of manifests. Default: the one that comes with the suite.",
        ),
    ):
        command = option(command)
    return command


def chosen(
    patterns: tuple[str, ...],
    device: str,
    interpreters: tuple[str, ...],
    in_process: bool,
    cache: bool,
    timeout: float,
    memory: float | None,
    installs: bool = True,
) -> Participants:
    """Return whom the options choose, and where they run; raise `InvalidInput` if they name nothing known.

    installs: an environment is made of the requirements that an interpreter is named by.
    """
    said = dict(assignment(text) for text in interpreters)
    pythons = said | (_made(said, "user", ()) if installs else {})
    entries = roster.select(patterns, device, pythons.get("user", sys.executable))
    for name in {entry.host for entry in entries} - {"user"} if installs else ():
        packages = (package for entry in entries if entry.host == name for package in entry.statement.packages)
        pythons |= _made(said, name, tuple(dict.fromkeys(packages)))
    if in_process and (apart := [entry.target for entry in entries if targets.program(entry.target)]):
        raise InvalidInput(f"--in-process -i {apart[0]}: an executable is a process of its own; leave one of them out")
    limits = Limits(case=timeout, memory=memory)
    shared = (*_limits(limits), *(["--in-process"] if in_process else []))
    return Participants(
        [msgspec.structs.replace(entry, options=(*_where(entry, said), *shared)) for entry in entries],
        requested=bool(patterns),
        in_process=in_process,
        interpreters=pythons,
        limits=limits,
        cache=cache,
    )


def _made(said: dict[str, str], name: str, modules: tuple[str, ...]) -> dict[str, str]:
    """Return the interpreter that an environment's requirements mean; nothing where none are said."""
    wanted = roster.requirements(said.get(name, ""))
    return {name: installing.python(wanted, modules, lambda line: click.echo(line, err=True))} if wanted else {}


def _where(entry: roster.RosterEntry, pythons: dict[str, str]) -> list[str]:
    """Return the options, beyond `-i`, that host an implementation in the same place again."""
    theirs = "user" if entry.environment.startswith("user") else entry.environment
    found = commands.kept((name, python) for name, python in pythons.items() if name == theirs)
    away = targets.is_target(entry.named) and entry.device != "cpu"
    return [*found, *(["--device", entry.device] if away else [])]


def _limits(limits: Limits) -> list[str]:
    usual = Limits()
    found = [("--timeout", limits.case, usual.case), ("--memory", limits.memory, usual.memory)]
    return [word for name, value, default in found if value != default for word in (name, f"{value:g}")]


def assignment(text: str) -> tuple[str, str]:
    """Return the two sides of NAME=PYTHON."""
    name, found, python = text.partition("=")
    if not found or not python:
        raise InvalidInput(f"--env {text}: must be NAME=PYTHON, for example torch=/opt/mine/bin/python")
    return name, python
