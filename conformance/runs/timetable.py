"""The timetable of a run: what its seconds of CPU went to, in each environment and in the run itself."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping

from conformance.model import stopwatch
from conformance.model.outcome import Reply

PARTS: dict[str, str] = {
    "start": "workers until they say hello: imports",
    "draw": "cases are drawn and built",
    "plan": "who is asked what",
    "trace": "programs are traced, as far as JAX and torch.compile tell",
    "compile": "programs are compiled, as far as these tell",
    "compute": "the rest of the answers",
    "wire": "frames are written and read, on both sides",
    "expected": "the reference, and what it allows",
    "judge": "answers are compared with it",
    "write": "cases, results and answers are written",
}
"""The parts in the order of a run, each with what it is."""

ITSELF = "the run itself"
"""What is spent before the environments are asked; no environment is called so."""

Timetable = dict[str, dict[str, float]]
"""Seconds of CPU by environment and part."""


class Spent:
    """Seconds of CPU as they are spent; the thread of each environment adds to it."""

    def __init__(self) -> None:
        self._lock, self._seconds = threading.Lock(), defaultdict[tuple[str, str], float](float)

    def add(self, environment: str, seconds: Mapping[str, float]) -> None:
        """Add seconds by part."""
        with self._lock:
            for name, value in seconds.items():
                self._seconds[environment, name] += value

    def here(self, environment: str) -> None:
        """Add what the stopwatch of this thread shows."""
        self.add(environment, stopwatch.taken())

    def answered(self, environment: str, reply: Reply) -> None:
        """Add what a reply says of itself; what it does not know to be of another part is computing."""
        known = {name: value for name, value in reply.spent.items() if name in PARTS}
        compute = reply.cpu - known.get("trace", 0.0) - known.get("compile", 0.0)
        self.add(environment, {**known, "compute": max(compute, 0.0)})

    def table(self) -> Timetable:
        """Return it so far, without what is nothing."""
        found = defaultdict[str, dict[str, float]](dict)
        for (environment, name), value in sorted(self._seconds.items()):
            found[environment][name] = value
        shown = {environment: rounded(parts) for environment, parts in found.items()}
        return {environment: parts for environment, parts in shown.items() if parts}


def rounded(parts: Mapping[str, float]) -> dict[str, float]:
    """Return seconds to the millisecond, in the order of the parts.

    >>> rounded({"judge": 1.25004, "start": 2, "write": 0.0001})
    {'start': 2, 'judge': 1.25}
    """
    found = {name: round(parts.get(name, 0.0), 3) for name in PARTS}
    return {name: value for name, value in found.items() if value}


def added(tables: list[Timetable]) -> Timetable:
    """Return the sum of timetables, as of the shards of a run.

    >>> added([{"jax": {"start": 2.0}}, {"jax": {"start": 1.0, "judge": 0.5}}])
    {'jax': {'start': 3.0, 'judge': 0.5}}
    """
    whole = Spent()
    for table in tables:
        for environment, parts in table.items():
            whole.add(environment, parts)
    return whole.table()


def rows(table: Timetable) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """Return the heads and the rows of a table to show: parts that took time, each environment's, the dearest first.

    >>> rows({"a": {"start": 1.0}, "b": {"start": 2.0, "judge": 3.0}})
    (['start', 'judge', 'together'], [('b', [2.0, 3.0, 5.0]), ('a', [1.0, 0.0, 1.0]), ('together', [3.0, 3.0, 6.0])])
    """
    heads = [name for name in PARTS if any(name in parts for parts in table.values())]
    found = [(name, [parts.get(head, 0.0) for head in heads]) for name, parts in table.items()]
    found.sort(key=lambda row: -sum(row[1]))
    together = [sum(column) for column in zip(*(values for _, values in found), strict=True)]
    return [*heads, "together"], [(name, [*values, sum(values)]) for name, values in [*found, ("together", together)]]
