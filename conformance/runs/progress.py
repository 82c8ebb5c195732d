"""What a run tells while it runs."""

from __future__ import annotations


class Progress:
    """What a run tells while it runs; a command overrides what it shows."""

    def started(self, environment: str, questions: int) -> None:
        """An environment's worker has `questions` (case, implementation) pairs before it."""

    def advanced(self, environment: str) -> None:
        """One pair was judged."""

    def note(self, message: str) -> None:
        """Something a user should know."""
