"""Who is asked, and where they run."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from conformance.hosts import compiled
from conformance.hosts.environment import Environment, Limits
from conformance.hosts.roster import RosterEntry, environments

_LONG = ("tensorflow", "jax", "torch")
"""Environments whose answers take most of a run of everything. One worker of each would keep the others' cores idle."""
_PAYS = 8
"""From this many implementations on, a second worker pays for its start."""


class Participants(msgspec.Struct, frozen=True):
    """Who is asked, and where they run.

    requested: they were asked for by name, so that a missing one makes a run incomplete.
    in_process: they are called directly, without a process, for debugging.
    interpreters: the Python of an environment, by the environment's name.
    cache: what is compiled is kept for other runs (`compiled`), and so is what is drawn and judged
        (`runs/kept_recipes`, `runs/kept_verdicts`).
    """

    entries: list[RosterEntry]
    requested: bool = False
    in_process: bool = False
    interpreters: dict[str, str] = {}
    limits: Limits = Limits()
    cache: bool = True

    def environments(self) -> list[Environment]:
        """Return the environments that host the participants."""
        kept = compiled.variables() if self.cache else compiled.none()
        found = environments(self.entries, self.interpreters)
        return [msgspec.structs.replace(one, variables=kept | one.variables) for one in found]

    def hosted(self, host: Environment) -> list[RosterEntry]:
        """Return the participants that an environment hosts."""
        return [entry for entry in self.entries if entry.host == host.name]

    def workers(
        self, most: int, costs: Mapping[str, float] | None = None
    ) -> list[tuple[Environment, list[Environment]]]:
        """Return each environment with its workers: one, or as many as `most` where its answers take long.

        Those that take longest come first, so that where few may run at a time none of them is left alone at the end.

        costs: seconds of CPU of implementations, and by its name of an environment's start, where an earlier run has
        measured them.
        """
        found: list[tuple[Environment, list[Environment]]] = []
        for host in self._longest_first(costs or {}):
            takes_long = host.name in _LONG and len(self.hosted(host)) >= _PAYS
            others = [f"{host.name}-{number}" for number in range(2, most + 1)] if takes_long else []
            found.append((host, [host, *(msgspec.structs.replace(host, name=name) for name in others)]))
        return found

    def measured(self, costs: Mapping[str, float] | None) -> bool:
        """Return whether something is known of what each environment costs."""
        return all(any(entry.id in (costs or {}) for entry in self.hosted(host)) for host in self.environments())

    def _longest_first(self, costs: Mapping[str, float]) -> list[Environment]:
        """Return the environments by what their implementations cost, or by what is known to take long."""
        hosts = self.environments()
        if self.measured(costs):
            who = {host.name: [host.name, *(entry.id for entry in self.hosted(host))] for host in hosts}
            return sorted(hosts, key=lambda host: -sum(costs.get(name, 0.0) for name in who[host.name]))
        return sorted(hosts, key=lambda host: [*_LONG, host.name].index(host.name))
