"""What a run reports while it runs."""

from __future__ import annotations

from conformance.model.results import Result


class Progress:
    """What a run reports while it runs. A command overrides how it is shown."""

    def started(self, environment: str, questions: int) -> None:
        """The worker of an environment has this many pairs of a case and an implementation before it."""

    def advanced(self, environment: str) -> None:
        """One pair was judged."""

    def failed(self, result: Result) -> None:
        """An implementation failed for the first time in this run."""

    def note(self, message: str) -> None:
        """There is something that the user should know."""
