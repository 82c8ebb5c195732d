"""Measure what judging costs: `python tests/benchmarks/judging_cost.py [CASES [PATTERN...]]`.

For every case of up to 10,000 elements a step, the CPU of three parts of what is expected of one implementation: exact
statistics of the batches, once for all; the reference's derivatives; and the rest, which is bounds. Then a run of the
calibration subjects, or of what the patterns name: which share of the host's CPU judging takes, and expectations of it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np

from conformance.cases import cells, strategies
from conformance.hosts import roster
from conformance.hosts.participants import Participants
from conformance.judging import derivatives, expectation
from conformance.judging.exact_case import ExactCase
from conformance.judging.promise import Promise
from conformance.judging.step import ExpectedStep
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress

ELEMENTS = 10_000
REFERENCE = [f"{mode}_{what}" for mode in ("train", "infer") for what in ("gradients", "second_order", "tangents")]


class Clock:
    """A function, timed: the CPU of whichever thread calls it."""

    def __init__(self, function) -> None:
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, *arguments, **named):
        """Call the function."""
        began = time.thread_time()
        try:
            return self.function(*arguments, **named)
        finally:
            self.seconds, self.calls = self.seconds + time.thread_time() - began, self.calls + 1


def timed(module: ModuleType, names: Iterable[str]) -> list[Clock]:
    """Time these functions of a module, as it calls them."""
    clocks = {name: Clock(getattr(module, name)) for name in names}
    for name, clock in clocks.items():
        setattr(module, name, clock)
    return list(clocks.values())


@np.errstate(all="ignore")
def of_cases(cases: int, entries: list[roster.RosterEntry]) -> list[list[float]]:
    """Return the milliseconds of each part for each (case, implementation)."""
    found: list[list[float]] = []
    reference = timed(derivatives, REFERENCE)
    for _, case in strategies.cases(0, cases):
        if max(case.x(t).size for t in range(len(case.steps))) > ELEMENTS:
            continue
        for entry in entries:
            promise = Promise.of(ExactCase(case), entry.statement)
            times = [time.thread_time()]
            for t in range(len(case.steps)):
                ExpectedStep(promise, t)
            times.append(time.thread_time())
            before = sum(clock.seconds for clock in reference)
            expectation.trajectory(promise)
            times.append(time.thread_time())
            own = sum(clock.seconds for clock in reference) - before
            found.append([1e3 * (times[1] - times[0]), 1e3 * own, 1e3 * (times[2] - times[1] - own)])
    return found


def shares_of_a_run(cases: int, entries: list[roster.RosterEntry]) -> tuple[float, float, float]:
    """Return the host's CPU seconds of a run, those of judging, and those of expectations."""
    clocks = timed(expectation, ("trajectory", "after", "residual"))
    with tempfile.TemporaryDirectory() as folder:
        who = Participants(entries, cache=False)
        campaign = Campaign(Options(who, Path(folder), cases=cases, corpus=False), Progress())
        began = time.process_time()
        campaign.run()
        total = time.process_time() - began
    return total, campaign.ledger.cpu["judging"], sum(clock.seconds for clock in clocks)


def main() -> None:
    """Print both."""
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else cells.SMOKE
    entries = roster.select(tuple(sys.argv[2:]) or ("numpy.*",))
    found = np.array(of_cases(cases, entries))
    print(f"CPU of {len(found)} cases in milliseconds:")
    for name, each in zip(("exact statistics", "derivatives", "bounds"), found.T, strict=True):
        print(f"  {name:16} median {np.median(each):.2f}, mean {each.mean():.2f}, worst {each.max():.2f}")
    total, judging, expecting = shares_of_a_run(cases, entries)
    print(f"a run's host CPU {total:.2f} s: judging {judging / total:.0%}, of which bounds {expecting / total:.0%}")


if __name__ == "__main__":
    main()
