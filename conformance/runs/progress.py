"""What a run reports while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from conformance.model.outcome import Reply
from conformance.model.results import ImplementationRecord, Result
from conformance.runs.run_case import RunCase


class FailedReply(msgspec.Struct, frozen=True):
    """An answer in which something fails.

    record: who gave it; failures: its results that fail, in the order of the steps.
    """

    item: RunCase
    record: ImplementationRecord
    reply: Reply
    failures: list[Result]


class Progress:
    """What a run reports while it runs. A command overrides how it is shown. Every environment's thread calls it."""

    def begun(self, asked: Mapping[str, Sequence[str]], workers: Mapping[str, int], places: int) -> None:
        """The run begins. asked: the implementations, and workers: how many there are, by environment.

        places: how many workers run at a time.
        """

    def started(self, environment: str, questions: Mapping[str, int]) -> None:
        """An environment has so many cases before it, by implementation; none if it cannot start."""

    def advanced(self, environment: str, implementation: str, seconds: float) -> None:
        """One case was answered and judged. seconds: of CPU that both took."""

    def failed(self, failed: FailedReply) -> None:
        """An answer was judged, and something in it fails."""

    def note(self, message: str) -> None:
        """There is something that the user should know."""
