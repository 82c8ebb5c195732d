"""Who is asked, and where they run."""

from __future__ import annotations

import msgspec

from conformance.hosts.environment import Environment, Limits
from conformance.hosts.roster import RosterEntry, environments


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
