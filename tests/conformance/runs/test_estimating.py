"""How long a run still takes: within a third of the truth from the first tenth on, without a jump."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from conformance.model.results import EndRecord, RunRecord
from conformance.runs import estimating, run_file
from conformance.runs.estimating import Costs, Estimate

ASKED = {
    "tensorflow": {"tf.nn+xla": 18.4, "tf.nn": 14.7, "tf.raw_ops": 7.0, "tf.raw_ops+graph": 3.6, "tf.fused": 1.4},
    "jax": {"haiku+jit": 22.9, "haiku": 15.6, "flax+jit": 22.2, "flax": 13.3, "flax+half": 3.2},
    "torch": {"torch+compile": 31.8, "torch+export": 17.0, "torch+func": 2.3, "torch": 1.5, "torch.nn": 0.3},
    "numpy": {"numpy.two_pass": 2.0, "numpy.welford": 6.0, "numpy.fast": 2.0},
}
"""Seconds of CPU that a default run measured, by environment and implementation."""
STARTS = {"numpy": 1.0, "torch": 5.0, "jax": 7.0, "tensorflow": 14.0}
WORKERS = {"tensorflow": 2, "jax": 2, "torch": 1, "numpy": 1}
CPU = {name: seconds for those in ASKED.values() for name, seconds in those.items()}


def events(speed=1.0, cores=2, places=4):
    """Yield the time and what is told of a run on so many cores, which the workers that are there share.

    places: how many environments run at a time; where a core is idle, one that may has two workers.
    """
    random, now = np.random.default_rng(5), 0.0
    yield now, "begun", ({name: list(those) for name, those in ASKED.items()}, WORKERS, places)
    left = {}
    for environment, those in ASKED.items():
        each = [
            (name, seconds / 100 * random.lognormal(-0.3, 0.8)) for name, seconds in those.items() for _ in range(100)
        ]
        left[environment] = [each[i] for i in random.permutation(len(each))]
    waiting, busy = dict(STARTS), {}
    while waiting or any(left.values()):
        for environment, asked in left.items():
            while environment not in waiting and asked and busy.get(environment, 0) <= 0:
                busy[environment] = busy.get(environment, 0) + asked[0][1]
                yield now, "advanced", asked.pop(0)
        running = [e for e in left if e in waiting or left[e]][:places]
        active = {e: min(WORKERS[e], cores) if len(running) < min(places, cores) else 1 for e in running}
        share = speed * min(1.0, cores / max(sum(active.values()), 1))
        now += 0.05
        for environment, workers in active.items():
            if environment in waiting:
                waiting[environment] -= 0.05 * share
                if waiting[environment] <= 0:
                    del waiting[environment]
                    yield now, "started", (environment, dict.fromkeys(ASKED[environment], 100))
            else:
                busy[environment] = busy.get(environment, 0) - 0.05 * share * workers
    yield now, "ended", ()


def estimated(costs=None, **how):
    """Return the share of the run that is over, and the whole as it is then estimated, in shares of the truth."""
    told, now, found = list(events(**how)), [0.0], []
    whole, estimate = told[-1][0], Estimate(costs, lambda: now[0])
    for at, what, arguments in told[:-1]:
        while now[0] + 0.5 < at:
            now[0] += 0.5
            left = estimate.left()
            found.append((now[0] / whole, None if left is None else (now[0] + left) / whole))
        getattr(estimate, what)(*arguments)
    return found


@pytest.mark.parametrize("places", [len(ASKED), 2])
@pytest.mark.parametrize("speed", [1.0, 0.7, 1.4])
def test_an_earlier_run_makes_it_right_from_the_first_tenth_on(speed, places):
    """Within a third at every moment; where the machine is not as fast as it was, once that shows in the answers."""
    wall = list(events(places=places))[-1][0]
    found = estimated(Costs(645, wall, CPU, starts=STARTS), speed=speed, places=places)
    assert all(whole is not None for share, whole in found if share > 0.02)
    wrong = [(round(share, 2), round(whole, 2)) for share, whole in found if share >= 0.1 and abs(whole - 1) > 1 / 3]
    assert [one for one in wrong if speed == 1.0 or one[0] > 0.4] == []


@pytest.mark.parametrize("cores", [2, 16])
def test_an_earlier_run_of_other_cases_makes_it_right_too(cores, monkeypatch):
    """Within a third from the first tenth on, though most have yet to begin and how long they took is not known."""
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    found = estimated(Costs(645, 0.0, CPU, starts=STARTS), places=2, cores=cores)
    assert all(whole is not None for share, whole in found if share >= 0.1)
    assert [(share, whole) for share, whole in found if share >= 0.1 and abs(whole - 1) > 1 / 3] == []


def test_without_an_earlier_run_it_is_right_once_all_have_started():
    """Nothing is said while somebody has not started; then it is within a third, by what this run has measured."""
    found = [(share, whole) for share, whole in estimated() if whole is not None]
    assert found[0][0] < 0.35
    assert [(share, whole) for share, whole in found if abs(whole - 1) > 1 / 3] == []


@pytest.mark.parametrize("known", [True, False])
def test_what_is_said_does_not_jump(known):
    """From one half second to the next the whole changes by no more than a tenth."""
    found = [whole for _, whole in estimated(Costs(645, 140.0, CPU) if known else None) if whole is not None]
    assert len(found) > 100
    assert max(abs(np.diff(found))) < 0.1


def test_one_that_cannot_start_is_waited_for_no_longer():
    """Its environment is told to have nothing to ask, and the estimate goes by the others."""
    now = [0.0]
    estimate = Estimate(None, lambda: now[0])
    estimate.begun({"a": ["one"], "b": ["two"]}, {"a": 1, "b": 1}, 2)
    now[0] = 3.0
    estimate.started("a", {"one": 10})
    estimate.advanced("one", 1.0)
    assert estimate.left() is None
    estimate.started("b", {})
    assert estimate.left() == pytest.approx(9.0, abs=4)


def left_of(costs, asked, took, now=1.0, places=2):
    """Return what is left at a moment, of two environments with an implementation each, by what the first answered."""
    clock = [0.0]
    estimate = Estimate(costs, lambda: clock[0])
    estimate.begun({"a": ["one"], "b": ["two"]}, {"a": 1, "b": 1}, places)
    for environment, questions in asked.items():
        estimate.started(environment, questions)
    clock[0] = now
    for seconds in took:
        estimate.advanced("one", seconds)
    return estimate.left()


def test_one_environment_alone_may_take_longest(monkeypatch):
    """A core beside it is idle, whoever else has ended."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    costs = Costs(20, 0.0, {"one": 100.0, "two": 1.0})
    assert left_of(costs, {"a": {"one": 100}, "b": {"two": 1}}, [1.0]) == pytest.approx(99.0, abs=5.0)


def test_a_start_takes_what_it_took():
    """One that has yet to begin takes its start, and what its answers took."""
    costs = Costs(20, 0.0, {"one": 10.0, "two": 10.0}, starts={"a": 0.0, "b": 40.0})
    assert left_of(costs, {"a": {"one": 10}}, [1.0] * 10, 10.0, 1) == pytest.approx(50.0, abs=10.0)


@pytest.mark.parametrize(("known", "left"), [({"one": 10.0, "two": 0.0}, 9.0), ({"one": 10.0}, 18.0)])
def test_who_was_not_there_takes_no_time(known, left):
    """One that an earlier run did not find is taken for one that takes nothing, and one that it did not ask is not."""
    costs = Costs(20, 0.0, known, starts={"a": 0.0, "b": 0.0})
    assert left_of(costs, {"a": {"one": 10}}, [1.0], places=1) == pytest.approx(left, abs=1.0)


def test_before_it_begins_nothing_is_said():
    """Whoever shows it may ask before the run has said who is asked, and where nobody is."""
    estimate = Estimate(Costs(20, 10.0, {"one": 10.0}))
    assert estimate.left() is None
    estimate.begun({}, {}, 1)
    assert estimate.left() is None


def test_nothing_left_is_no_time():
    """When all has been answered nothing is left."""
    now = [0.0]
    estimate = Estimate(None, lambda: now[0])
    estimate.begun({"a": ["one"]}, {"a": 1}, 1)
    estimate.started("a", {"one": 1})
    now[0] = 5.0
    estimate.advanced("one", 1.0)
    assert estimate.left() == pytest.approx(0.0, abs=0.01)


def written(folder, cases, cpu, *, complete=True):
    """Write the first and last record of a run."""
    folder.mkdir()
    header = RunRecord(1, "1", 0, cases, [], "2026-01-02T03:04:05+00:00", {})
    lines = [msgspec.json.encode(one) for one in (header, EndRecord(complete, [], 10.0, cpu, {}))]
    (folder / run_file.FILE).write_bytes(b"\n".join([*lines, b""]))


def test_earlier_costs_are_those_of_as_many_cases_or_else_scaled(tmp_path):
    """Of the runs beside a folder one of as many cases is taken, judging shared out; cut and torn ones are not."""
    written(tmp_path / "many", 100, {"a": 8.0, "judging": 2.0, "generating": 1.0})
    written(tmp_path / "few", 20, {"a": 1.0, "b": 3.0, "judging": 2.0, "not there": 0.0})
    written(tmp_path / "cut", 20, {"a": 99.0}, complete=False)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / run_file.FILE).write_bytes(b'{"type":"run"')
    assert estimating.earlier(tmp_path / "new", 20) == Costs(20, 10.0, {"a": 2.0, "b": 4.0, "not there": 0.0})
    assert estimating.earlier(tmp_path / "many", 50) == Costs(50, 0.0, {"a": 5.0})
    assert estimating.earlier(tmp_path / "new" / "nested", 20) is None
