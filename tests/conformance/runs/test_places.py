"""Places for workers: taken in order, and by second workers where a core is idle and they pay for their start."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from conformance.hosts import participants, roster
from conformance.hosts.environment import Environment, WorkerDied
from conformance.hosts.going_on import AskedCase
from conformance.hosts.participants import Participants
from conformance.model.case import Case, Step
from conformance.runs import campaign
from conformance.runs.campaign import Campaign, Options
from conformance.runs.places import Places
from conformance.runs.progress import Progress
from conformance.runs.turns import Turns
from reference import Spec

PATIENCE = 10  # seconds for threads that only wait for one another


class Workers:
    """Threads that take places, each until it is told to end; who runs, and who has."""

    def __init__(self, places, number):
        self.places, self.changed, self.running, self.ended = places, threading.Condition(), [], set()
        self.threads = [threading.Thread(target=self.work, args=(n,), daemon=True) for n in range(number)]

    def work(self, number):
        """Take a place, and leave it when told."""
        with self.places.taken(number), self.changed:
            self.running.append(number)
            self.changed.notify_all()
            self.changed.wait_for(lambda: number in self.ended, PATIENCE)
            self.running.remove(number)
            self.changed.notify_all()

    def end(self, *numbers):
        """Let some leave their places."""
        with self.changed:
            self.ended |= set(numbers)
            self.changed.notify_all()

    def are(self, *numbers):
        """Return whether just these run, soon, and no other a moment later."""
        with self.changed:
            there = self.changed.wait_for(lambda: sorted(self.running) == sorted(numbers), PATIENCE)
            return there and not self.changed.wait_for(lambda: sorted(self.running) != sorted(numbers), 0.05)


@pytest.fixture
def workers():
    """Return a function that starts workers, the last of them first."""

    def started(most, cores, number, firsts):
        found = Workers(Places(most, cores, number, firsts), number)
        for thread in reversed(found.threads):
            thread.start()
        return found

    return started


def test_places_are_taken_in_order(workers):
    """Whoever asks first: the longest is the first, and who leaves makes room for the next."""
    found = workers(2, 2, 4, 4)
    assert found.are(0, 1)
    found.end(1)
    assert found.are(0, 2)
    found.end(0, 2)
    assert found.are(3)
    found.end(3)
    assert found.are()


def test_a_second_worker_waits_for_an_idle_core(workers):
    """Three first ones run at once on two cores; the second ones come when one alone is left, and one by one."""
    found = workers(3, 2, 5, 3)
    assert found.are(0, 1, 2)
    found.end(1)
    assert found.are(0, 2)
    found.end(2)
    assert found.are(0, 3)
    found.end(0)
    assert found.are(3, 4)
    found.end(3, 4)
    assert found.are()


def asked(*rows):
    """Return a question of each number of rows: what one program answers stays together."""
    cases = (Case(Spec(), (Step("infer"),), tensors={"0.x": np.zeros((n, 2), np.float32)}) for n in rows)
    return [AskedCase(n, case, ["numpy.two_pass@cpu"]) for n, case in enumerate(cases)]


@pytest.mark.parametrize(("seconds", "pays"), [(1.0, False), (1.5, True)])
def test_a_second_worker_pays_if_half_of_what_is_left_takes_longer_than_its_start(seconds, pays):
    """Two answers took so many seconds each; two are left, and a start takes 1.25 s."""
    turns = Turns(Environment("numpy"), [], 2)
    assert turns.pays()  # who may ask where the first cannot start
    turns.plan(lambda: asked(1, 2, 3, 3), 1.25)
    assert turns.pays()
    taken = turns.turn()
    next(taken)
    next(taken)
    assert turns.pays()  # nobody knows yet how long an answer takes
    for _ in range(2):
        turns.took(seconds)
    assert turns.pays() is pays
    list(taken)
    assert not turns.pays()


def test_as_many_run_as_there_are_cores_where_it_is_known_what_takes_long(tmp_path, monkeypatch):
    """Without an earlier run all first ones begin at once; --jobs is what it says."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(participants, "_PAYS", 1)
    who = Participants(roster.select(("numpy.two_pass", "torch.F.batch_norm", "flax.linen.BatchNorm")))
    costs = dict.fromkeys((entry.id for entry in who.entries), 1.0)

    def jobs(known, **options):
        return Campaign(Options(who, tmp_path / "run", **options), Progress(), costs=known)._jobs

    places = []
    monkeypatch.setattr(campaign, "Places", lambda *told: places.append(told) or Places(*told))
    for options in ({}, {"jobs": 4}):
        list(Campaign(Options(who, tmp_path / "run", **options), Progress(), costs=costs)._in_turn())
    assert places == [(2, 2, 5, 3), (4, 4, 5, 3)]
    assert (jobs(costs), jobs(None), jobs({"numpy.two_pass@cpu": 1.0}), jobs(costs, jobs=4)) == (2, 5, 5, 4)


def test_second_workers_come_last(tmp_path, monkeypatch):
    """After the first of every environment, which come in the order of what they and their starts cost."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(participants, "_PAYS", 1)
    who = Participants(roster.select(("numpy.two_pass", "torch.F.batch_norm", "flax.linen.BatchNorm")))
    costs = {"numpy.two_pass@cpu": 4.0, "torch.F.batch_norm@cpu": 2.0, "flax.linen.BatchNorm@cpu": 3.0, "torch": 3.0}
    turns = Campaign(Options(who, tmp_path / "run"), Progress(), costs=costs)._in_turn()
    found = [(worker.name, of.name) for worker, of, _ in turns]
    assert found == [("torch", "torch"), ("numpy", "numpy"), ("jax", "jax"), ("torch-2", "torch"), ("jax-2", "jax")]


def test_a_run_tells_what_answers_take(tmp_path, monkeypatch):
    """Every answer is noted with its seconds of CPU, by which a second worker pays or does not."""
    found, took = [], Turns.took
    monkeypatch.setattr(Turns, "took", lambda self, seconds: found.append(seconds) or took(self, seconds))
    who = Participants(roster.select(("numpy.two_pass",)), requested=True)
    Campaign(Options(who, tmp_path / "run", cases=6, corpus=False), Progress()).run()
    assert len(found) > 3
    assert min(found) > 0


def test_who_is_not_there_costs_nothing(tmp_path, monkeypatch):
    """The next run knows what every environment took, those that are not installed too, and goes by that."""
    process = Environment.process

    def without_onnx(self, limits, log):
        if self.name == "onnx":
            raise WorkerDied("it is not installed")
        return process(self, limits, log)

    monkeypatch.setattr(Environment, "process", without_onnx)
    who = Participants(roster.select(("numpy.two_pass", "onnx.reference.BatchNormalization+opset15")))
    end = Campaign(Options(who, tmp_path / "run", cases=6, corpus=False), Progress()).run()
    assert end.cpu["onnx.reference.BatchNormalization+opset15@cpu"] == 0.0
    assert end.cpu["numpy.two_pass@cpu"] > 0.0
    assert who.measured(end.cpu)
