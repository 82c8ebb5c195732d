"""How long a run still takes: what is left of each implementation, weighed by what its answers cost.

What they cost is what an earlier run beside this one measured, corrected by what this one does; without an earlier run,
what this one has measured so far, each implementation by itself, and the others by the mean of these.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from conformance.model.results import EndRecord, RunRecord
from conformance.runs import gzipped, run_file

_TRUST = 0.2
"""What an earlier run measured weighs as much as this share of an implementation's cases."""
_START = 3.0
"""Seconds of CPU that a worker takes for its start where no run has measured it: between NumPy's and TensorFlow's."""
_HOST = ("generating", "judging")
"""What a record of costs has beside implementations."""


class Costs(msgspec.Struct, frozen=True):
    """What a run measured.

    seconds: how long it took; 0 where that is not known.
    cpu: seconds of CPU of each implementation, judging included; 0 of one that was not there.
    profile: of the run, as its record has it.
    starts: seconds of CPU that the workers of each environment took to start.
    """

    cases: int
    seconds: float
    cpu: dict[str, float]
    profile: str = ""
    starts: dict[str, float] = {}

    def scaled(self, cases: int) -> Costs:
        """Return what another number of cases would have cost; how long they would have taken is not known."""
        by = cases / self.cases
        return Costs(cases, 0.0, {name: value * by for name, value in self.cpu.items()}, starts=self.starts)


def earlier(out: Path, cases: int, profile: str = "") -> Costs | None:
    """Return what the run in a folder measured, or one beside it: of the same cases if there is one, else the latest.

    profile: as a run's record has it.
    """
    found = [costs for path in _beside(out) if (costs := _costs(path))]
    alike = [costs for costs in found if (costs.cases, costs.profile) == (cases, profile)]
    return alike[0] if alike else found[0].scaled(cases) if found else None


def _beside(out: Path) -> Iterator[Path]:
    """Yield run files: that of the folder, then those beside it, the latest first."""
    yield run_file.path_of(out)
    try:
        beside = map(run_file.path_of, run_file.folders(out.resolve().parent))
        yield from sorted(beside, key=lambda path: -path.stat().st_mtime)
    except OSError:  # one that is gone meanwhile; an estimate does without
        return


def _costs(path: Path) -> Costs | None:
    """Return what a run measured, read off its first and last record; None where it has not ended as asked."""
    try:
        first, last = gzipped.ends(path)
        header, end = msgspec.json.decode(first, type=RunRecord), msgspec.json.decode(last, type=EndRecord)
    except (OSError, ValueError):
        return None
    asked = [name for name in end.cpu if name not in _HOST]
    answered = [name for name in asked if end.cpu[name]]
    if not (end.complete and answered and header.shard == "1/1") or end.taken:
        return None
    judging = end.cpu.get("judging", 0.0) / len(answered)
    cpu = dict.fromkeys(asked, 0.0) | {name: end.cpu[name] + judging for name in answered}
    starts = {name: parts["start"] for name, parts in (end.timetable or {}).items() if "start" in parts}
    return Costs(header.cases, end.seconds, cpu, header.profile, starts)


class _Share(msgspec.Struct):
    """One implementation's part of a run.

    prior: seconds of CPU that all of it took earlier; None where that is not known.
    asked: how many cases; None before its worker has started.
    spent: seconds of CPU that the answered ones took.
    """

    environment: str
    prior: float | None = None
    asked: int | None = None
    answered: int = 0
    spent: float = 0.0

    def left(self, mean: float, whole: float) -> float:
        """Return what is left of it in seconds of CPU; mean: of one answer, whole: of all of one's, where unknown."""
        if self.asked is None:
            return whole if self.prior is None else self.prior
        if self.prior:
            each = (self.prior * _TRUST + self.spent) / (self.asked * _TRUST + self.answered or 1)
        else:
            each = (mean + self.spent) / (1 + self.answered)
        return each * (self.asked - self.answered)


class Estimate:
    """How long a run takes, as far as can be said. The threads of its environments tell it what happens.

    costs: what an earlier run measured.
    clock: seconds, for tests.
    """

    def __init__(self, costs: Costs | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._costs, self._clock, self._lock = costs, clock, threading.Lock()
        self._shares: dict[str, _Share] = {}
        self._workers: Mapping[str, int] = {}
        self._most = 1  # how many cores are busy at most
        self._began = self._at = clock()
        self._shown, self._seen = math.nan, deque[tuple[float, float]]()

    def begun(self, asked: Mapping[str, Sequence[str]], workers: Mapping[str, int], places: int) -> None:
        """The run begins. asked: implementations, workers: how many, by environment; places: for so many at a time."""
        with self._lock:
            prior = self._costs.cpu if self._costs else {}
            self._shares = {i: _Share(e, prior.get(i)) for e, ids in asked.items() for i in ids}
            self._workers, self._began, self._shown = workers, self._clock(), math.nan
            self._most = min(sum(workers.values()), os.cpu_count() or 1, places)
            self._seen.clear()

    def started(self, environment: str, questions: Mapping[str, int]) -> None:
        """An environment has so many cases before it, by implementation."""
        with self._lock:
            for name, share in self._shares.items():
                if share.environment == environment:
                    share.asked = questions.get(name, 0)

    def advanced(self, implementation: str, seconds: float) -> None:
        """One case was judged, and took so many seconds of CPU."""
        with self._lock:
            share = self._shares[implementation]
            share.answered, share.spent = share.answered + 1, share.spent + seconds

    def left(self) -> float | None:
        """Return the seconds left; None where nothing can be said yet. What is said changes slowly."""
        with self._lock:
            now = self._clock()
            whole = self._whole(now - self._began)
            if whole is None:
                return None
            if math.isnan(self._shown):
                self._shown = whole
            slow = max(2.0, 0.05 * (now - self._began))
            self._shown += (whole - self._shown) * -math.expm1(-(now - self._at) / slow)
            self._at = now
            return max(0.0, self._shown - (now - self._began))

    def _whole(self, elapsed: float) -> float | None:
        """Return how long the whole run takes, from what is done of it and, at first, from an earlier run."""
        shares = self._shares.values()
        started = {share.environment for share in shares if share.asked is not None}
        answered, spent = sum(share.answered for share in shares), sum(share.spent for share in shares)
        left = self._by_environment(spent / answered if answered else 0.0)
        to_start = sum(map(self._start, left.keys() - started))
        done = spent + sum(map(self._start, started))
        work = done + sum(left.values()) + to_start
        answers = spent + sum(left.values())
        alone = max(seconds / self._workers.get(name, 1) for name, seconds in left.items()) if left else 0.0
        earlier = self._earlier(answers, alone)
        if not answered or (earlier is None and to_start):
            return earlier
        now = elapsed + max(alone, (work - done) / max(done / elapsed, self._lately(elapsed, spent)))
        told = min(1.0, 3 * spent / answers) if earlier else 1.0
        return now**told * (earlier or 1.0) ** (1 - told)

    def _start(self, environment: str) -> float:
        """Return the seconds of CPU that an environment takes to start: what its workers took in the earlier run."""
        return (self._costs.starts if self._costs else {}).get(environment, _START)

    def _lately(self, elapsed: float, spent: float) -> float:
        """Return how many seconds of CPU answers took in a second, over the last third of the time."""
        self._seen.append((elapsed, spent))
        while len(self._seen) > 1 and self._seen[1][0] < elapsed * 2 / 3:
            self._seen.popleft()
        at, before = self._seen[0]
        return (spent - before) / (elapsed - at) if elapsed > at else 0.0

    def _by_environment(self, mean: float) -> dict[str, float]:
        """Return what is left of each environment, in seconds of CPU."""
        known = [share.spent + share.left(mean, 0.0) for share in self._shares.values() if share.asked is not None]
        whole = sum(known) / len(known) if known else 0.0
        found: dict[str, float] = {}
        for share in self._shares.values():
            found[share.environment] = found.get(share.environment, 0.0) + share.left(mean, whole)
        return found

    def _earlier(self, work: float, alone: float) -> float | None:
        """Return how long so much work took in an earlier run, or takes without an idle core; None without one.

        alone: seconds that what is left of one environment takes.
        """
        if not (self._costs and any(share.prior for share in self._shares.values())):
            return None
        if not self._costs.seconds:
            return max(work / self._most, alone)
        return work / min(sum(self._costs.cpu.values()) / self._costs.seconds, self._most)


def words(seconds: float | None) -> str:
    """Return how long is left, no finer than it can be known.

    >>> words(None), words(3), words(41), words(130), words(3700)
    ('', 'a few seconds left', 'about 40 s left', 'about 2 min left', 'about 62 min left')
    """
    if seconds is None:
        return ""
    if seconds < 7.5:
        return "a few seconds left"
    if seconds < 95:
        return f"about {5 * round(seconds / 5)} s left"
    return f"about {round(seconds / 60)} min left" if seconds < 5700 else f"about {round(seconds / 3600)} h left"
