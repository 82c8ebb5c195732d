"""What a run asks, of whom, and how much of it; and the record of that, which opens its file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from conformance.cases import cells
from conformance.hosts.machine import describe_host
from conformance.hosts.participants import Participants
from conformance.model import results
from conformance.model.version import version


class Options(msgspec.Struct, frozen=True):
    """What to ask, of whom, and how much of it.

    jobs: how many workers run at a time; 0: as many as there are cores where it is known what takes long, else all but
        second ones.
    corpus: the named cases are asked too.
    hands: among how many implementations of the roster drawn cases are dealt; 1: each gets all that it can pay for.
    profile: only the cases that this profile alone asks; empty: as many of each cell as `cases` says.
    shard: (k, n): every n-th case, from the k-th on.
    resume: what the folder's run judged is kept, and the rest is asked.
    fail_fast: nothing more is asked after the first failure.
    keeps: what is drawn and judged is kept for other runs, and taken from earlier ones.
    changed_since: the folder of an earlier run, whose results are taken over of whoever has not changed since.
    command: what the user typed, for the record.
    """

    who: Participants
    out: Path
    seed: int = 0
    cases: int = cells.DEFAULT
    corpus: bool = True
    hands: int = 1
    profile: str = ""
    jobs: int = 0
    shard: tuple[int, int] = (1, 1)
    resume: bool = False
    fail_fast: bool = False
    keeps: bool = True
    changed_since: Path | None = None
    command: list[str] = []

    @property
    def recorded_profile(self) -> str:
        """The profile, where the number of cases does not say what is asked."""
        return self.profile or ("smoke" if self.hands > 1 else "")


def header(options: Options) -> results.RunRecord:
    """Return the record that opens the file of a run, which begins now."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return results.RunRecord(
        results.SCHEMA,
        version(),
        options.seed,
        options.cases,
        options.command,
        started,
        describe_host(),
        "{}/{}".format(*options.shard),
        options.who.requested,
        options.recorded_profile,
    )
