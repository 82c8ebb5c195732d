"""Prove that a run stays small: `python tests/benchmarks/prove_million.py [--cases N] [--out FOLDER] [PATTERN …]`.

One run of implementations that answer cheaply judges 1,000,000 arrays, without the large cases of a thorough run.
Printed by tenths of them: arrays a second, by the clock and of CPU, of host and workers together; resident memory of
the host; bytes of the folder. Cases come in an order of their own, small ones first, so that a tenth may ask more than
another: `alike` is what its answers took against the mean of all answers of the same implementation in the same cell.

Whoever fails arrays of half a million elements leaves a megabyte of each, so that those who often do are not asked.

Exits 1 where fewer arrays were judged, where the folder ever holds more than 200 MB, where after the first tenth the
median of resident memory is more than 10 % above that of the second, or where alike of the last tenth is more than 10 %
above that of the first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from conformance.cases import strategies
from conformance.cli import finished
from conformance.hosts import roster
from conformance.hosts.participants import Participants
from conformance.report.thinning import Thinning
from conformance.runs import counts, run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress

EAGER = ("numpy.*", "onnxruntime.*", "torch.nn.BatchNorm[13]d")
CASES = 12_500
ARRAYS, DISK, MORE, TENTHS = 1_000_000, 200e6, 1.1, 10
_EVERY = 2.0  # seconds between two looks


class Look(NamedTuple):
    """What is seen of a run: seconds by the clock, arrays judged, resident memory and the bytes of the folder."""

    at: float
    judged: int
    memory: int
    disk: int


class Watch(Progress):
    """What every answer took, in the order in which they were judged, in little memory."""

    def __init__(self) -> None:
        self.seconds, self.arrays, self.kinds = array("d"), array("i"), array("i")
        self.judged, self._lock, self._now = 0, threading.Lock(), threading.local()
        self._numbers: defaultdict[tuple[str, str], int] = defaultdict(lambda: len(self._numbers))

    def answered(self, item, entry, _reply, found) -> None:
        """Remember what is judged in this thread; `advanced` says what it took."""
        kind = getattr(item.origin, "cell", "corpus"), entry.id
        self._now.about = kind, sum(map(counts.is_judged, found))

    def advanced(self, environment: str, implementation: str, seconds: float) -> None:
        """Remember what the answer took."""
        kind, arrays = self._now.about
        with self._lock:
            self.judged += arrays
            self.seconds.append(seconds)
            self.arrays.append(arrays)
            self.kinds.append(self._numbers[kind])

    def tenths(self) -> list[tuple[float, float]]:
        """Return seconds of CPU by tenth of the arrays, and how these are to what is usual of such answers."""
        took, number = defaultdict[int, float](float), defaultdict[int, int](int)
        for kind, seconds in zip(self.kinds, self.seconds, strict=True):
            took[kind] += seconds
            number[kind] += 1
        spent, usual, judged = [0.0] * TENTHS, [0.0] * TENTHS, 0
        for kind, seconds, arrays in zip(self.kinds, self.seconds, self.arrays, strict=True):
            tenth = min(judged * TENTHS // self.judged, TENTHS - 1)
            spent[tenth] += seconds
            usual[tenth] += took[kind] / number[kind]
            judged += arrays
        return [(a, a / b) for a, b in zip(spent, usual, strict=True)]


def main() -> int:
    """Run, look, print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=CASES, help="How many are drawn.")
    parser.add_argument("--out", type=Path, help="Leave the run there.")
    parser.add_argument("patterns", nargs="*", default=list(EAGER))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        out = asked.out or Path(home) / "run"
        watch, looks = watched(asked.patterns, asked.cases, out)
        wrong = list(told(watch, looks))
    print("\n".join(wrong) or "all of it holds")
    return bool(wrong)


def watched(patterns: list[str], cases: int, out: Path) -> tuple[Watch, list[Look]]:
    """Make the run and show it as `bnconf run` does, looking at it meanwhile; the last look is at the end of both."""
    watch, looks, over, began = Watch(), list[Look](), threading.Event(), time.monotonic()

    def look() -> None:
        disk = sum(path.stat().st_size for path in (*out.glob("*"), *out.glob("*/*")) if path.is_file())
        looks.append(Look(time.monotonic() - began, watch.judged, resident(), disk))

    def often() -> None:
        while not over.wait(_EVERY):
            look()

    thread = threading.Thread(target=often)
    thread.start()
    try:
        strategies.LARGE = {}  # nor is what is drawn so kept for others, who want them
        who = Participants(roster.select(tuple(patterns)), requested=True, cache=False)
        Campaign(Options(who, out, cases=cases), watch, watch.answered).run()
        finished.print_run(run_file.read(out, thinned=Thinning()), out)
    finally:
        over.set()
        thread.join()
    look()
    return watch, looks


def resident() -> int:
    """Return the bytes of memory that this process has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) << 10


def told(watch: Watch, looks: list[Look]) -> Iterator[str]:
    """Print the run by tenths, and yield what is not as it should be."""
    spent, usual, of = watch.tenths(), list[float](), watch.judged // TENTHS
    print(f"{watch.judged:,} arrays in {looks[-1].at:.0f} s, {len(watch.seconds):,} answers")
    print("tenth  arrays/s  arrays/CPU s  alike  memory MB    most  folder MB")
    for n, (seconds, alike) in enumerate(spent):
        seen = [one for one in looks if n * of < one.judged <= (n + 1) * of] or looks[-1:]
        whole = looks[-1] if n == TENTHS - 1 else seen[-1]
        usual.append(statistics.median(one.memory for one in seen))
        most = max(one.memory for one in seen)
        rate = (seen[-1].judged - seen[0].judged) / max(seen[-1].at - seen[0].at, 1e-9)
        memory = f"{usual[-1] / 1e6:9,.0f}  {most / 1e6:6,.0f}  {whole.disk / 1e6:9,.1f}"
        print(f"{n + 1:5}  {rate:8,.0f}  {of / seconds:12,.0f}  {alike:5.2f}  {memory}")
    end = [one for one in looks if one.judged == watch.judged]
    disk = max(one.disk for one in looks)
    print(f"put in order and shown: {end[-1].at - end[0].at:.0f} s, {max(one.memory for one in end) / 1e6:,.0f} MB")
    print(f"the folder: {looks[-1].disk / 1e6:.0f} MB, at most {disk / 1e6:.0f}")
    if watch.judged < ARRAYS:
        yield f"{watch.judged:,} arrays are not {ARRAYS:,}"
    if disk > DISK:
        yield f"the folder held {disk / 1e6:.0f} MB"
    if max(usual[2:]) > MORE * usual[1]:
        yield f"memory grew from {usual[1] / 1e6:.0f} to {max(usual[2:]) / 1e6:.0f} MB"
    if spent[-1][1] > MORE * spent[0][1]:
        yield f"answers take {spent[-1][1] / spent[0][1]:.2f} times what they took at first"


if __name__ == "__main__":
    sys.exit(main())
