"""Run the collected tests against mutants, in forked processes, several at a time; who will kill it comes first."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import selectors
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import coverage
import pytest

SECONDS = 25
MEMORY = 6


class Target(Protocol):
    """What the order depends on: the module that is changed, and the lines."""

    module: str
    lines: range


class Runner:
    """Runs the tests against mutants; no test is ever left out, so that a survivor has survived them all.

    A first run without a mutant measures how long each test takes and which lines of the reference it executes. Against
    a mutant come first the tests that killed others in its module, then those that execute its lines, the fastest
    first, then the rest.
    """

    def __init__(self, session: pytest.Session, source: Path) -> None:
        self.items, self.source = list(session.items), source
        self.seconds: list[float] = []
        self.executing: dict[str, dict[int, set[int]]] = {}
        self.recent: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def measure(self) -> list[str]:
        """Run every test once without a mutant; return the names of those that fail."""
        read, _ = _fork(lambda write: write(pickle.dumps(self._measured())))
        with os.fdopen(read, "rb") as pipe:
            failed, self.seconds, self.executing = pickle.loads(pipe.read())
        os.wait()
        return [self.items[i].nodeid for i in failed]

    def judge(
        self, targets: Iterable[Any], mutate: Callable[[Any], Callable[[], bool] | None], jobs: int
    ) -> Iterator[tuple[Any, bool]]:
        """Yield each target with whether it is killed, as they end; `jobs` of them run at a time.

        mutate: called in the forked process; changes the code for the tests to be run, or returns another judge of it.
        """
        waiting, running = iter(targets), selectors.DefaultSelector()
        while True:
            while len(running.get_map()) < jobs and (target := next(waiting, None)) is not None:
                read, child = _fork(lambda write, target=target: write(self._answer(target, mutate).encode()))
                running.register(read, selectors.EVENT_READ, (target, child))
            if not running.get_map():
                return
            for key, _ in running.select():
                target, child = key.data
                with os.fdopen(running.unregister(key.fd).fd) as pipe:
                    answer = pipe.read()
                os.waitpid(child, 0)
                if answer.isdecimal():
                    self.recent[target.module][int(answer)] += 1
                yield target, answer != "survived"

    def order(self, target: Target) -> list[int]:
        """Return the numbers of all tests, in the order in which they meet this mutant."""
        lines = self.executing.get(target.module, {})
        executing = set[int]().union(*(lines.get(line, set()) for line in target.lines))
        recent = [i for i, _ in self.recent[target.module].most_common(MEMORY) if i in executing]
        rest = [i for i in range(len(self.items)) if i not in set(recent)]
        return recent + sorted(rest, key=lambda i: (i not in executing, self.seconds[i]))

    def _measured(self) -> tuple[list[int], list[float], dict[str, dict[int, set[int]]]]:
        failed, seconds = [], []
        measuring = coverage.Coverage(data_file=None, config_file=False, source=[str(self.source)])
        measuring.start()
        for i, item in enumerate(self.items):
            measuring.switch_context(str(i))
            began = time.process_time()
            if _fails(item):
                failed.append(i)
            seconds.append(time.process_time() - began)
        measuring.stop()
        data = measuring.get_data()
        executing = {
            Path(file).stem: {line: {int(i) for i in c if i} for line, c in data.contexts_by_lineno(file).items()}
            for file in data.measured_files()
        }
        return failed, seconds, executing

    def _answer(self, target: Any, mutate: Callable[[Any], Callable[[], bool] | None]) -> str:
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)  # of this process alone: what never ends counts as killed
        try:
            judge = mutate(target)
            if judge is not None:
                return "killed" if judge() else "survived"
            return next((str(i) for i in self.order(target) if _fails(self.items[i])), "survived")
        except BaseException:  # a mutant may break anything
            return "killed"


def _fork(work: Callable[[Callable[[bytes], Any]], Any]) -> tuple[int, int]:
    """Do some work in a silent child; return where to read what it writes, and its number."""
    read, write = os.pipe()
    if child := os.fork():
        os.close(write)
        return read, child
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        with contextlib.redirect_stdout(io.StringIO()), os.fdopen(write, "wb") as pipe:
            work(pipe.write)
    finally:
        os._exit(0)


def _fails(item: pytest.Item) -> bool:
    reports: list[Any] = []
    for phase in ("setup", "call", "teardown"):
        call = pytest.CallInfo.from_call(lambda phase=phase: _phase(item, phase), when=phase)  # type: ignore
        reports.append(item.ihook.pytest_runtest_makereport(item=item, call=call))
        if reports[-1].failed:
            return True
        if reports[-1].skipped:
            break
    return False


def _phase(item: pytest.Item, phase: str) -> None:
    keywords = {"nextitem": None} if phase == "teardown" else {}
    getattr(item.ihook, f"pytest_runtest_{phase}")(item=item, **keywords)
