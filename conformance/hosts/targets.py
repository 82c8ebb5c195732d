"""A user's own implementations: an adapter's path, a class's dotted name, an executable, an installed package.

Nothing of theirs is imported here: a worker hosts them, and its hello says what they promise.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import msgspec

from conformance.hosts.environment import Environment, Hello, Limits, Listing, Unreadable, Worker, WorkerDied
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.facts import DEVICES
from conformance.model.spelling import Misspelt, stray
from conformance.model.statement import Statement, stated

GROUP = "bnconf.implementations"  # the entry points of installed packages
EXEC = "exec:"
START = Limits().start
_ABSENT = re.compile(r"No module named '([^']+)'")
_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class RosterEntry(msgspec.Struct, frozen=True):
    """One implementation on one device.

    id: as the roster lists it.
    statement: what it promises on the device.
    environment: the name of the environment that hosts it.
    target: what the worker loads.
    named: what `-i` names it by.
    options: what else it is asked with, as a command takes it (`commands`).
    fault: what is misspelt in its statement, so that it cannot be asked.
    """

    id: str
    statement: Statement
    environment: str
    target: str
    named: str
    options: tuple[str, ...] = ()
    fault: str = ""

    @property
    def device(self) -> str:
        """The device that it runs on."""
        return self.id.rpartition("@")[2]

    @property
    def host(self) -> str:
        """The name of its worker: the environment, and the device unless that is the CPU."""
        return self.environment if self.device == "cpu" else f"{self.environment}@{self.device}"


def is_target(pattern: str) -> bool:
    """Return whether a name is that of a user's own implementation, and not an id.

    >>> [is_target(p) for p in ("mine.py", "mine.py:Mine", "pkg.mod:Mine", "exec:./mine --fast", "torch.*@cuda")]
    [True, True, True, True, False]
    """
    is_file = pattern.partition(":")[0].endswith(".py")
    return is_file or pattern.startswith(EXEC) or bool(_CLASS.fullmatch(pattern))


def introduced(
    target: str, device: str = "cpu", python: str = sys.executable, start: float = START
) -> list[RosterEntry]:
    """Start the worker that hosts a target, within seconds, and return the implementations that it announces."""
    path = Path(target.partition(":")[0])
    if path.suffix == ".py" and not path.is_file():
        raise InvalidInput(f"-i {target}: {path}: no such adapter; give the path of a Python file")
    hello = _hello(target, device, python, Limits(start=start))
    entries = [_entry(target, listing, device) for listing in hello.implementations]
    if target.startswith(EXEC):  # a worker of its own
        entries = [msgspec.structs.replace(e, environment=f"exec-{entries[0].statement.id}") for e in entries]
    if twice := [entry.id for n, entry in enumerate(entries) if entry.id in [other.id for other in entries[:n]]]:
        raise InvalidInput(f"-i {target}: announces {twice[0]} twice; give each implementation an id of its own")
    here = [entry for entry in entries if entry.device == device]
    if not here:
        said = ", ".join(entry.id for entry in entries) or "none at all"
        raise Incomplete(f"-i {target}: announces no implementation on {device}, but {said}")
    return here


def program(target: str) -> tuple[str, ...]:
    """Return the command line that an `exec:` target names, after a check that it can be started; else nothing."""
    if not target.startswith(EXEC):
        return ()
    try:
        words = shlex.split(target.removeprefix(EXEC))
    except ValueError as error:
        raise InvalidInput(f"-i {target}: {error}; quote it as a shell would have it") from error
    if not words:
        raise InvalidInput(f"-i {target}: names no program; give one, such as exec:./mine or 'exec:node mine.js'")
    if shutil.which(words[0]) is None:
        there = Path(words[0]).exists()
        fix = f"is not executable; chmod +x {words[0]}" if there else "no such program; give its path"
        raise InvalidInput(f"-i {target}: {words[0]}: {fix}")
    return tuple(words)


def _hello(target: str, device: str, python: str, limits: Limits) -> Hello:
    command = program(target)
    host = Environment("user", () if command else (target,), python=python, device=device, program=command)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        try:
            worker = Worker(host, limits, log)
        except WorkerDied as error:
            reason = str(error).removesuffix(f"; see {log}")  # which is gone in a moment
            if isinstance(error, Unreadable):
                raise InvalidInput(f"-i {target}: {reason}; conformance/hosts/PROTOCOL.md has its words") from error
            if command:
                raise Incomplete(f"-i {target}: {reason}") from error
            reason = elsewhere(reason)
            rule = "give PATH.py[:Class] or package.module:Class, a class with a `statement`"
            raise InvalidInput(f"-i {target}: names no implementation: {reason}; {rule}") from error
        worker.close()
    return worker.hello


def elsewhere(reason: str) -> str:
    """Return the reason and, where the Python lacks a module that the adapter needs, what to do about it.

    >>> elsewhere("ModuleNotFoundError: No module named 'mylib'")[44:]
    '; where another Python has it, add --env user=/path/to/python: one with numpy and mylib, and no need of bnconf'
    >>> elsewhere("ValueError: no")
    'ValueError: no'
    """
    found = _ABSENT.search(reason)
    if not found:
        return reason
    needs = " and ".join(dict.fromkeys(("numpy", found[1].partition(".")[0])))
    fix = f"where another Python has it, add --env user=/path/to/python: one with {needs}, and no need of bnconf"
    return f"{reason}; {fix}"


def _entry(target: str, listing: Listing, device: str) -> RosterEntry:
    statement = stated(listing.statement, f"-i {target}: the statement of {listing.id}")
    base, _, place = listing.id.rpartition("@")
    if place not in DEVICES:
        raise InvalidInput(f"-i {target}: " + stray(f"the id {listing.id}", "device", place, DEVICES))
    if base != statement.id:
        raise InvalidInput(f"-i {target}: announces {listing.id}; its statement says {statement.id}@{device}")
    return RosterEntry(listing.id, statement.on(place), "user", target, target)


def installed(device: str, python: str = sys.executable) -> Iterator[RosterEntry]:
    """Yield the implementations of installed packages. One that cannot be loaded is listed, and not available."""
    for point in entry_points(group=GROUP):
        try:
            found = introduced(point.value, device, python)
        except (InvalidInput, Incomplete) as error:  # if not here, its worker will say why
            fault = str(error) if isinstance(error.__cause__, Misspelt) else ""
            name = re.sub(r"[^\w.+-]", "-", point.name)
            stated = Statement(id=name, packages=[], documentation="", conventions={})
            found = [RosterEntry(f"{name}@{device}", stated.on(device), f"user-{name}", point.value, "", fault=fault)]
        for entry in found:
            yield msgspec.structs.replace(entry, named=entry.id)
