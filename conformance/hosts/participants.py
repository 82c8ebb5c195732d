"""Who is asked, and where they run."""

from __future__ import annotations

import msgspec

from conformance.hosts.environment import Environment, Limits
from conformance.hosts.roster import RosterEntry, environments

_LONG = ("tensorflow", "jax")
"""Environments whose answers take most of a run of everything. One worker of each would keep the others' cores idle."""
_PAYS = 8
"""From this many implementations on, a second worker pays for its start."""


class Participants(msgspec.Struct, frozen=True):
    """Who is asked, and where they run.

    requested: they were asked for by name, so that a missing one makes a run incomplete.
    in_process: they are called directly, without a process, for debugging.
    interpreters: the Python of an environment, by the environment's name.
    """

    entries: list[RosterEntry]
    requested: bool = False
    in_process: bool = False
    interpreters: dict[str, str] = {}
    limits: Limits = Limits()

    def environments(self) -> list[Environment]:
        """Return the environments that host the participants."""
        return environments(self.entries, self.interpreters)

    def hosted(self, host: Environment) -> list[RosterEntry]:
        """Return the participants that an environment hosts."""
        return [entry for entry in self.entries if entry.host == host.name]

    def shares(self, most: int) -> list[tuple[Environment, list[RosterEntry]]]:
        """Return which worker asks whom: one of each environment, or as many as `most` where that takes long."""
        found: list[tuple[Environment, list[RosterEntry]]] = []
        for host in self.environments():
            hosted = self.hosted(host)
            parts = most if host.name in _LONG and len(hosted) >= _PAYS else 1
            found += [(_part(host, hosted[n::parts], n), hosted[n::parts]) for n in range(parts)]
        return found


def _part(host: Environment, entries: list[RosterEntry], number: int) -> Environment:
    """Return an environment as the worker of some of its implementations knows it."""
    targets, ids = dict.fromkeys(entry.target for entry in entries), tuple(entry.id for entry in entries)
    name = f"{host.name}-{number + 1}" if number else host.name
    return host if ids == host.only else msgspec.structs.replace(host, name=name, adapters=tuple(targets), only=ids)
