"""Who is asked by which worker: environments that take long have two, where there are cores for them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from conformance.hosts import going_on, participants, roster
from conformance.hosts.environment import Environment, WorkerDied
from conformance.hosts.participants import Participants
from conformance.model.case import Case, Step
from conformance.runs.turns import Turns
from reference import Spec


@pytest.mark.parametrize("most", [1, 2])
def test_each_environment_has_workers_of_its_own(most):
    """No two workers share a name, and each environment has one that bears its own."""
    who = Participants(roster.select(()))
    found = who.workers(most)
    names = [worker.name for _, workers in found for worker in workers]
    assert len(set(names)) == len(names)
    assert [host for host, _ in found] == [workers[0] for _, workers in found]
    assert sorted(host.name for host, _ in found) == sorted(host.name for host in who.environments())


def test_what_takes_longest_is_shared_by_two_workers():
    """TensorFlow, JAX and PyTorch have two workers, each of which hosts all that the first does."""
    found = {host.name: workers for host, workers in Participants(roster.select(())).workers(2)}
    assert {name for name, workers in found.items() if len(workers) > 1} == {"tensorflow", "jax", "torch"}
    assert list(found)[:3] == ["tensorflow", "jax", "torch"]  # where one runs at a time, what is short comes last
    for first, second in (found["tensorflow"], found["jax"], found["torch"]):
        assert msgspec.structs.replace(second, name=first.name) == first


def test_what_an_earlier_run_measured_decides_what_begins_first():
    """The environment that cost most is first; one that nothing is known of leaves all as they are without."""
    who = Participants(roster.select(("numpy.two_pass", "numpy.fast", "torch.F.batch_norm", "flax.linen.BatchNorm")))
    costs = {"numpy.two_pass@cpu": 7.0, "numpy.fast@cpu": 8.0, "torch.F.batch_norm@cpu": 9.0}
    assert [host.name for host, _ in who.workers(1, costs)] == ["jax", "torch", "numpy"]
    assert [host.name for host, _ in who.workers(1, costs | {"flax.linen.BatchNorm@cpu": 1.0})] == [
        "numpy",
        "torch",
        "jax",
    ]


def test_one_implementation_has_one_worker():
    """A second start would cost more than it saves."""
    ((_, workers),) = Participants(roster.select(("flax.linen.BatchNorm", "flax.linen.BatchNorm+jit"))).workers(2)
    assert len(workers) == 1


def test_what_compiles_to_the_same_programs_is_asked_of_one_worker():
    """Questions of one shape and dtype are taken together, and none is taken twice."""
    asked = [going_on.AskedCase(n, _of(shape), ["numpy.two_pass@cpu"]) for n, shape in enumerate((2, 3, 2, 4, 3))]
    turns = Turns(Environment("numpy"), [], 2)
    for _ in range(2):
        turns.plan(lambda: asked, 1.0)
    first, second = turns.turn(), turns.turn()
    taken = [next(first).number, next(second).number, *(q.number for q in first), *(q.number for q in second)]
    assert taken == [0, 1, 2, 3, 4]


def _of(rows):
    return Case(Spec(), (Step("infer"),), tensors={"0.x": np.zeros((rows, 2), np.float32)})


def test_a_second_worker_that_does_not_start_costs_time_alone(monkeypatch, tmp_path, run):
    """The first answers everything, and the run is complete; where none starts, nobody is available."""
    _two_workers(monkeypatch)
    process = Environment.process

    def second_fails(self, limits, log):
        if self.name.endswith("-2"):
            raise WorkerDied("it is ill")
        return process(self, limits, log)

    monkeypatch.setattr(Environment, "process", second_fails)
    found = run("numpy.*", cases=14, out="one", afresh=True)
    assert found.complete
    assert found.results
    monkeypatch.setattr(Environment, "process", lambda _self, _limits, _log: second_fails(_SICK, _limits, _log))
    found = run("numpy.*", cases=14, out="none", afresh=True)
    assert not found.complete
    assert not [record for record in found.implementations if record.available]


_SICK = Environment("any-2")


def _two_workers(monkeypatch):
    monkeypatch.setattr(participants, "_LONG", ("numpy",))
    monkeypatch.setattr(participants, "_PAYS", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)


def test_two_workers_give_the_verdicts_of_one(run, monkeypatch, tmp_path):
    """Who asks makes no difference to what is found."""
    alone = run("numpy.*", cases=14, out="alone")
    _two_workers(monkeypatch)
    shared = run("numpy.*", cases=14, out="shared", afresh=True)
    assert shared.complete
    assert {path.name for path in (tmp_path / "shared").glob("*.log")} == {"numpy.log", "numpy-2.log"}
    assert shared.results == alone.results
    assert shared.implementations == alone.implementations
