"""How long a worker may be silent: what it is given of a processor counts, not what others take."""

import itertools
import os
import subprocess
import sys

import pytest

from conformance.hosts import patience
from conformance.hosts.patience import Patience
from conformance.hosts.process import Process, WorkerSilent

LIMIT = 4
FOREVER = 1000


def slices(monkeypatch, given: list[float], *, runnable: bool = False) -> int:
    """Return how many slices a process is waited for that is given so much of a processor in each, again and again."""
    spent = itertools.accumulate(itertools.cycle(given), initial=0.0)
    monkeypatch.setattr(patience, "cpu", lambda _processes: next(spent))
    monkeypatch.setattr(patience, "_started", lambda _process: [None])
    monkeypatch.setattr(patience, "_waits_for_processor", lambda _process: runnable)
    waits = Patience(0, LIMIT)
    return 1 + next(n for n in range(FOREVER) if waits.is_over())


@pytest.mark.parametrize(
    ("given", "waited"),
    [
        ([0.0], LIMIT),  # it sleeps
        ([0.01], LIMIT),  # it looks now and then whether it may go on
        ([1.0], LIMIT),  # it computes
        ([7.5], LIMIT),  # on eight cores
        ([-3.0], LIMIT),  # something that it started is gone
        ([0.25], 1 + 3 / 0.25),  # three others compute on its core
        ([0.25, 0.0], 7),  # and in every other slice it waits: 1, 1/4, 1, 1/4, 1, 1/4, 1
        ([0.03], 10 * LIMIT),  # it never does anything else
    ],
)
def test_who_computes_has_seconds_of_cpu_and_who_waits_those_of_the_clock(monkeypatch, given, waited):
    """A deadlock ends at the limit, and a worker that others starve has as much time as if it were alone."""
    assert slices(monkeypatch, given) == waited


@pytest.mark.parametrize(("given", "waited"), [([0.0], 10 * LIMIT), ([0.01], 10 * LIMIT), ([1.0], LIMIT)])
def test_who_waits_for_a_processor_waits_for_nothing_else(monkeypatch, given, waited):
    """Whoever is runnable and is given nothing has ten times the limit."""
    assert slices(monkeypatch, given, runnable=True) == waited


ANSWERS = "import time, sys; end = time.process_time() + {}\nwhile time.process_time() < end: pass\n"
SAYS = "sys.stdout.buffer.write(b'\\x02' + bytes(7) + b'ok'); sys.stdout.flush(); time.sleep(60)"


@pytest.fixture
def others():
    """Let three processes compute on the core of this one, whose children run there too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    loop = [sys.executable, "-c", "while True: pass"]
    started = [subprocess.Popen(loop, start_new_session=True) for _ in range(3)]
    yield
    os.sched_setaffinity(0, before)
    for each in started:
        each.kill()
        each.wait()


@pytest.fixture
def saying(tmp_path):
    """Return a function that starts a process, which says something after so many seconds of CPU."""
    started: list[Process] = []

    def start(seconds: float, lines: str = ANSWERS) -> Process:
        started.append(Process([sys.executable, "-c", lines.format(seconds) + SAYS], {}, tmp_path / "log"))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot say where a process runs")
@pytest.mark.usefixtures("others")
def test_a_starved_worker_answers_and_one_that_computes_for_too_long_does_not(saying):
    """Beside three others an answer of 0.4 s of CPU comes within a limit of 0.7 s, one of 60 s does not."""
    assert saying(0.4).receive(0.7) == b"ok"
    with pytest.raises(WorkerSilent):
        saying(60).receive(0.7)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what has ended")
def test_what_a_worker_started_computes_for_it(saying):
    """A compiler that a worker waits for counts as the worker, and so does one that has ended."""
    process = saying(0.5, f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {ANSWERS!r}])\n")
    assert process.receive(30) == b"ok"
    processes = patience._started(process.pid)
    assert patience.cpu(processes) > 0.5
    process.close()
    assert (patience.cpu(processes), patience._started(process.pid)) == (0, [])
