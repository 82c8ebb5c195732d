"""Blocks: a run cut up for a cluster, and what a node does with one of them."""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import msgspec

from conformance.hosts import roster, targets
from conformance.hosts.environment import Environment
from conformance.hosts.participants import Participants
from conformance.hosts.roster import RosterEntry, requirements
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress

_START = 600.0
"""Seconds for a worker to say hello: Ray runs what it starts at nice 15, behind everything else on a busy node."""


class Block(msgspec.Struct, frozen=True):
    """A shard of the cases for the implementations of one environment: what one task of a cluster answers.

    environment: its name, with the device unless that is the CPU.
    options: the run that answers it.
    packages: what is installed for it first, as exact requirements; empty: it takes what a node has.
    """

    environment: str
    options: Options
    packages: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What messages and files call it."""
        return "{}-{}-of-{}".format(self.environment, *self.options.shard)

    @property
    def ids(self) -> list[str]:
        """The implementations that it asks."""
        return [entry.id for entry in self.options.who.entries]

    @property
    def device(self) -> str:
        """Where they run."""
        return self.options.who.entries[0].device


def cut(options: Options, shards: int) -> list[Block]:
    """Return the blocks of a run, so many of each environment; those that ask most implementations come first."""
    hosts = sorted(_here(options.who).environments(), key=lambda host: -len(options.who.hosted(host)))
    return [_block(options, host, (k, shards)) for host in hosts for k in range(1, shards + 1)]


def _block(options: Options, host: Environment, shard: tuple[int, int]) -> Block:
    entries = [_placed(entry) for entry in options.who.hosted(host)]
    limits = msgspec.structs.replace(options.who.limits, start=_START)
    theirs = msgspec.structs.replace(options.who, entries=entries, limits=limits)
    # One worker for one CPU; the folder is the node's to choose.
    asked = msgspec.structs.replace(options, who=theirs, shard=shard, jobs=1, out=Path(), resume=False)
    return Block(host.name, asked, requirements(theirs.interpreters.get(entries[0].environment, "")))


def _placed(entry: RosterEntry) -> RosterEntry:
    """Return an implementation of a user's own with a path that does not depend on where it is read."""
    path, colon, name = entry.target.partition(":")
    if not path.endswith(".py"):
        return entry
    return msgspec.structs.replace(entry, target=f"{Path(path).absolute()}{colon}{name}")


def answer(block: Block) -> bytes:
    """Run a block on this node, and return the folder of its run as an archive."""
    with tempfile.TemporaryDirectory(prefix="bnconf-") as folder:
        out = Path(folder)
        Campaign(msgspec.structs.replace(block.options, who=_here(block.options.who), out=out), Progress()).run()
        return _packed(out)


def _here(who: Participants) -> Participants:
    """Return the same participants where this machine has them: adapters of the suite, and its own interpreter."""
    pythons = {name: sys.executable if requirements(python) else python for name, python in who.interpreters.items()}
    return msgspec.structs.replace(who, entries=[_found(entry) for entry in who.entries], interpreters=pythons)


def _found(entry: RosterEntry) -> RosterEntry:
    if targets.is_target(entry.named):
        return entry
    ours = (*roster.built_in(entry.device), *roster.others(entry.device))
    here = next((one for one in ours if one.id == entry.id), entry)
    return msgspec.structs.replace(here, options=entry.options)


def _packed(folder: Path) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            file.write(path, path.relative_to(folder))
    return archive.getvalue()
