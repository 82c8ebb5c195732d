"""Prove that correct code passes: ways of computing of our own answer generated cases, and nothing may be an alarm.

    python tests/benchmarks/prove_correct.py [--seeds 2] [--first 1701] [--cases 459] [--jobs 2] [--minutes M] [--only]

Prints, of each way (tests/calibration/ways.py), how many arrays were judged, and the worst ρ of each output; then each
alarm, with the command that asks its case again. Exits 1 where there is an alarm, or where an output of a way was never
judged.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

CALIBRATION = Path(__file__).resolve().parents[1] / "calibration"
sys.path[:0] = [str(CALIBRATION)]

import ways  # noqa: E402 - found by the path above
from panel import WAYS, Panel  # noqa: E402

from conformance.cases import cells, strategies  # noqa: E402
from conformance.cases.recipe import Recipe  # noqa: E402
from conformance.model.case import Case  # noqa: E402
from conformance.model.codec import encode_case  # noqa: E402
from conformance.model.results import Result  # noqa: E402
from conformance.runs.run_case import RunCase  # noqa: E402

PART = 3  # cases that one task asks
MOST = 20_000  # elements of a batch


@dataclass
class Tally:
    """The worst ρ of each way's outputs, how many arrays were judged and how many were not, and the alarms' lines."""

    worst: defaultdict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    judged: Counter[str] = field(default_factory=Counter)
    unjudged: Counter[str] = field(default_factory=Counter)
    alarms: dict[tuple[str, str], tuple[int, float, str]] = field(default_factory=dict)

    def add(self, result: Result, file: Path) -> None:
        """Count a result."""
        name = result.implementation.removeprefix("way.").removesuffix("@cpu")
        if result.failed:
            self._alarm((name, result.output), 1, result.size, _line(result, name, file))
        elif result.size < 0:
            self.unjudged[name] += 1
        if result.output != "outcome" and result.size >= 0:
            self.judged[name] += 1
            self.worst[name][result.output] = max(self.worst[name].get(result.output, 0.0), result.size)

    def merge(self, other: Tally) -> None:
        """Add what another has counted."""
        self.judged.update(other.judged)
        self.unjudged.update(other.unjudged)
        for name, row in other.worst.items():
            for output, rho in row.items():
                self.worst[name][output] = max(self.worst[name].get(output, 0.0), rho)
        for where, alarm in other.alarms.items():
            self._alarm(where, *alarm)

    def _alarm(self, where: tuple[str, str], count: int, rho: float, line: str) -> None:
        """Keep the worst alarm of a way's output."""
        before, worst, kept = self.alarms.get(where, (0, -1.0, ""))
        self.alarms[where] = before + count, max(rho, worst), line if rho > worst else kept


def _line(result: Result, name: str, file: Path) -> str:
    rho = f", ρ {result.size:.4g}" if result.output != "outcome" else ""
    return f"{result.output} of step {result.step}, {result.mode}{rho}: bnconf replay {file} -i {WAYS}:{name}"


@functools.cache  # for all tasks of a process
def hosted(names: tuple[str, ...]) -> Panel:
    """Return the ways."""
    return Panel(names=names)


@functools.cache  # likewise
def drawn(seed: int, cases: int) -> list[tuple[Recipe, Case]]:
    """Return the cases of a seed, but for those with more elements than ways can add up, row by row in Python.

    `prove_blocks.py` asks these of kernels that add blocks at once.
    """
    return [(recipe, case) for recipe, case in strategies.cases(seed, cases) if case.x(0).size <= MOST]


def asked(seed: int, cases: int, part: int, names: list[str], out: Path) -> Tally:
    """Ask every way the part-th few cases of a seed, and keep those that raise an alarm."""
    tally, panel = Tally(), hosted(tuple(names))
    for index, (recipe, case) in list(enumerate(drawn(seed, cases)))[part * PART : (part + 1) * PART]:
        item = RunCase(index, recipe, case)
        file = out / f"{item.id}.safetensors"
        with np.errstate(all="ignore"):
            found = list(panel.results(item))
        if any(result.failed for result in found):
            file.write_bytes(encode_case(case, sealed=True))
        for result in found:
            tally.add(result, file)
    return tally


def show(tally: Tally) -> int:
    """Print the table and the alarms; return the exit status."""
    outputs = list(dict.fromkeys(output for row in tally.worst.values() for output in row))
    print(f"{'way':34}{'arrays':>8}{'not judged':>11}  " + " ".join(f"{output:>15}" for output in outputs))
    for name in sorted(tally.judged):
        rhos = " ".join(f"{tally.worst[name].get(output, -1):>15.3f}" for output in outputs)
        print(f"{name:34}{tally.judged[name]:>8}{tally.unjudged[name]:>11}  {rhos}")
    promised = {made.__name__: made.statement["outputs"] for made in ways.IMPLEMENTATIONS}
    lacking = [name for name, row in tally.worst.items() if len(row) < len(promised[name])]
    highest = sorted(max(row.values()) for row in tally.worst.values())
    tenths = [highest[i * (len(highest) - 1) // 4] for i in range(5)]
    print(f"worst ρ of the ways, in quarters: {', '.join(f'{rho:.3f}' for rho in tenths)}")
    for (name, output), (count, _, line) in sorted(tally.alarms.items()):
        print(f"ALARM {name}, {output}, {count} times; worst: {line}")
    alarms = sum(count for count, _, _ in tally.alarms.values())
    print(f"{len(tally.judged)} ways, {tally.judged.total()} arrays, {alarms} alarms")
    print("".join(f"never judged, some output of {name}\n" for name in lacking), end="")
    return int(alarms > 0 or bool(lacking))


def tasks(options: argparse.Namespace) -> Iterable[tuple[int, int]]:
    """Return the seeds, each with the number of every part of its cases, in a random order."""
    seeds = range(options.first, options.first + options.seeds)
    parts = [(seed, part) for seed in seeds for part in range(-(-options.cases // PART))]
    order = np.random.default_rng(options.first).permutation(len(parts))  # so that the first parts tell of all
    return [parts[i] for i in order]


def main() -> int:
    """Ask, judge, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first", type=int, default=1701, help="the first seed")
    parser.add_argument("--cases", type=int, default=cells.DEFAULT, help="of each seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no more parts after so many")
    parser.add_argument("--only", nargs="*", default=[], help="names of ways; all where there are none")
    parser.add_argument("--out", type=Path, default=Path("reports/prove-correct"), help="where cases are kept")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tally, began, todo = Tally(), time.monotonic(), list(tasks(options))
    with ProcessPoolExecutor(options.jobs) as pool:
        running = [pool.submit(asked, seed, options.cases, part, options.only, options.out) for seed, part in todo]
        for done, future in enumerate(as_completed(running), 1):
            tally.merge(future.result())
            about = f"{tally.judged.total()} arrays, {len(tally.alarms)} outputs with an alarm"
            print(f"part {done} of {len(todo)}: {about}, {time.monotonic() - began:.0f} s", flush=True)
            if time.monotonic() - began > 60 * options.minutes:
                pool.shutdown(wait=False, cancel_futures=True)
                print(f"the time is over: {len(todo) - done} of {len(todo)} parts were not waited for")
                break
            if done % 8 == 0:
                for (name, output), (count, _, line) in sorted(tally.alarms.items()):
                    print(f"  so far {name}, {output}, {count} times; worst: {line}", flush=True)
    return show(tally)


if __name__ == "__main__":
    sys.exit(main())
