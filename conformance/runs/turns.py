"""What one environment is asked: its workers take turns, and what the same programs answer stays with one of them."""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

from conformance.hosts.environment import Environment
from conformance.hosts.going_on import AskedCase
from conformance.hosts.roster import RosterEntry
from conformance.model.case import Case

Plan = Callable[[], list[AskedCase]]


class Turns:
    """The questions to one environment. The first of its workers that says hello decides what they are.

    name: the environment's.
    entries: the implementations that it hosts.
    """

    def __init__(self, host: Environment, entries: list[RosterEntry], workers: int) -> None:
        self.name, self.entries = host.name, entries
        self._lock, self._to_come, self._groups = threading.Lock(), workers, deque[list[AskedCase]]()
        self._planned, self._answered, self._took, self._start = False, 0, 0.0, 0.0

    def plan(self, plan: Plan, start: float) -> None:
        """Let a worker that can answer say what is asked, if it is the first.

        start: seconds of CPU that its start took.
        """
        with self._lock:
            self._to_come -= 1
            if not self._planned:
                self._planned, self._start = True, start
                self._groups.extend(_together(plan()))

    def unanswerable(self) -> bool:
        """Note that a worker cannot answer; return whether none will."""
        with self._lock:
            self._to_come -= 1
            return not self._planned and not self._to_come

    def took(self, seconds: float) -> None:
        """Note an answer, and the seconds of CPU that it took."""
        with self._lock:
            self._answered += 1
            self._took += seconds

    def pays(self) -> bool:
        """Return whether one more worker pays for its start: half of what is left takes longer, as far as is known."""
        with self._lock:
            if not self._planned:
                return True
            left = sum(len(question.implementations) for group in self._groups for question in group)
            each = self._took / self._answered if self._answered else math.inf
            return bool(left) and left * each / 2 > self._start

    def turn(self) -> Iterator[AskedCase]:
        """Yield questions that no other worker has: group after group, until none is left."""
        while group := self._next():
            yield from group

    def _next(self) -> list[AskedCase]:
        with self._lock:
            return self._groups.popleft() if self._groups else []


def _together(asked: list[AskedCase]) -> list[list[AskedCase]]:
    """Return questions in groups of what the same programs answer."""
    found: defaultdict[Any, list[AskedCase]] = defaultdict(list)
    for question in asked:
        found[_compiled_for(question.case)].append(question)
    return list(found.values())


def _compiled_for(case: Case) -> Any:
    """Return what frameworks compile an operation for, one that is called by itself: shapes and dtypes."""
    return case.shape, case.dtypes
