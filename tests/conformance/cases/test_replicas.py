"""Replicas: expected is what the whole batch gives, nonsense is refused, and a state that differs is seen."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from plain_numpy import TwoPass, asked, judged

from conformance.cases import corpus
from conformance.cases.replicas import REPLICAS
from conformance.gate.predicted import explains
from conformance.gate.predicted.asked import WrongValue
from conformance.hosts import worker
from conformance.hosts.roster import ADAPTERS
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import trajectory
from conformance.judging.promise import Promise
from conformance.model.case import Actions, Case, Derivative, Step, content
from conformance.model.case_facts import step_facts
from conformance.model.codec import case_from_json, case_to_json, check
from conformance.model.outcome import Outputs, Reply
from conformance.model.statement import stated
from reference import Spec

joined = worker.by_path(str(ADAPTERS / "replicas.py")).joined
MASKED = {
    **TwoPass.statement,
    "supports": {**TwoPass.statement["supports"], "mask": [False, "full", "without_last"]},
    "rules": [{"cite": "this file", "semantics": {"mask": "boolean", "frozen": "train"}}],
}


def named(name):
    """Return a case of the corpus."""
    (found,) = (one.case for one in corpus.read() if one.name == name)
    return found


@pytest.mark.parametrize(
    "feature", [name for name in REPLICAS if name not in ("masked replicas", "replicas of halves")]
)
def test_the_whole_batch_is_what_replicas_are_held_to(feature):
    """Values and bounds are those without replicas, and NumPy, which adds up each replica's sums, passes."""
    for exact_case in asked(feature):
        case = exact_case.case
        whole = msgspec.structs.replace(case, actions=msgspec.structs.replace(case.actions, replicas=()))
        answers = [trajectory(Promise.of(ExactCase(c), stated(TwoPass.statement, "numpy"))) for c in (case, whole)]
        for found, wanted in zip(*answers, strict=True):
            assert all(np.array_equal(found[n].value, wanted[n].value) for n in wanted)
            assert all(np.array_equal(found[n].bound, wanted[n].bound) for n in wanted)
        assert {result.verdict for result in judged(TwoPass, exact_case)} == {"PASS"}


X = np.float32([[1, 2], [4, 3], [0, 7], [5, 5]])


def shared(*replicas, axis=1, size=None, derivative=Derivative(), tensors=None, **actions):  # noqa: B008 - it is frozen
    """Return a small case of a batch that replicas share."""
    steps = (Step("train", derivatives=(derivative,)),) * actions.get("members", 1)
    given = {f"{t}.{name}": X for t in range(len(steps)) for name in ("x", "dy")}
    return Case(
        Spec(axis=axis), steps, actions=Actions(replicas=replicas, **actions), tensors={**given, **(tensors or {})}
    )


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (shared(3, 1), "uneven"),
        (shared(2, 2), "even"),
        (shared(2, 0, 2), "empty"),
        (shared(3, 1, members=2, mapped="x"), "uneven"),
        (shared(4), "actions.replicas is [4]; give 2 sizes or more"),
        (shared(5, -1), "none below 0"),
        (shared(2, 1), "0.x has shape (4, 2); give each of its rows to one replica"),
        (shared(2, 2, axis=0), "axis 0 of 0.x is kept"),
        (shared(2, 2, sites=2), "leave out all actions but replicas"),
        (shared(2, 2, members=2, mapped="dy"), "members mapped over x"),
        (shared(2, 2, derivative=Derivative(order=2), tensors={"0.tangent": X}), "leave out other derivatives"),
        (
            msgspec.structs.replace(shared(2, 2), spec=Spec(axis=1, virtual_batch_size=2)),
            "leave out virtual_batch_size",
        ),
    ],
)
def test_what_replicas_must_be(case, said):
    """A case says what is wrong with it; where nothing is, it is read back, and its facts say how the rows lie."""
    if said in ("even", "uneven", "empty"):
        check(again := case_from_json(case_to_json(case)))
        assert again.actions == case.actions
        assert step_facts(case, 0).replicas == said
        return
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the message is looked at below
        check(case)
    assert said in str(raised.value)


def test_a_worker_that_is_too_old_for_replicas_is_told_nothing_of_them():
    """The field is sent only where it says something."""
    assert "replicas" not in content(shared())["actions"]
    assert content(shared(3, 1))["actions"]["replicas"] == [3, 1]


def test_a_state_that_differs_is_what_is_seen():
    """y lies one after another, gradients of parameters add up, and of states the one that differs is answered."""
    one, other = np.float32([1, 2]), np.float32([1, 3])
    found = joined({"y": [X[:3], X[3:]], "dgamma": [one, other], "moving_mean": [one, one, other]})
    assert np.array_equal(found["y"], X)
    assert found["dgamma"].tolist() == [2.0, 5.0]
    assert found["moving_mean"].tolist() == [1.0, 3.0]
    assert joined({"moving_mean": [one, one]})["moving_mean"].tolist() == [1.0, 2.0]


class OfMeans:
    """The formula of flax in float64: the mean and E[x²] are means of the replicas'."""

    statement = MASKED

    def moments(self, x, mask, replicas):
        """Return the mean and variance that each row is normalized by."""
        parts = [np.split(a, np.cumsum(replicas)[:-1]) for a in (x, mask)]
        pairs = list(zip(*parts, strict=True))
        mean, square = (np.mean([(w * v**k).sum(0) / w.sum(0) for v, w in pairs], 0) for k in (1, 2))
        return np.broadcast_to(mean, x.shape), np.broadcast_to(square - mean**2, x.shape)


class ByItself(OfMeans):
    """Each replica normalizes by its own rows, and keeps moving statistics of its own."""

    def moments(self, x, mask, replicas):
        """Return the mean and variance that each row is normalized by."""
        found = [np.split(a, np.cumsum(replicas)[:-1]) for a in (x, mask)]
        parts = [OfMeans.moments(self, v, w, (len(v),)) for v, w in zip(*found, strict=True)]
        return [np.concatenate(both) for both in zip(*parts, strict=True)]


def answer(subject, case):
    """Return y and the moving mean by a subject's moments, rounded to float32."""
    x, mask = case.x(0).astype(np.float64), case.tensors["0.mask"].astype(np.float64)
    mask = np.broadcast_to(mask[:, np.newaxis] if mask.ndim < 2 else mask, x.shape)
    with np.errstate(invalid="ignore"):
        mean, variance = subject().moments(x, mask, case.actions.replicas)
    layer = {name: case.tensors[name].astype(np.float64) for name in ("gamma", "beta", "moving_mean")}
    y = layer["gamma"] * (x - mean) / np.sqrt(variance + case.spec.epsilon) + layer["beta"]
    moved = 0.5 * layer["moving_mean"] + 0.5 * mean[-1]
    return Reply(0, "x", (Outputs({"y": y.astype(np.float32), "moving_mean": moved.astype(np.float32)}),))


@pytest.mark.parametrize(
    ("name", "subject", "formula"),
    [
        ("replicas-masked-unevenly", OfMeans, "of the replicas' means"),
        ("a-replica-that-is-all-masked", OfMeans, "of the replicas' means"),
        ("replicas-whose-rows-are-masked-unevenly", ByItself, "each replica by itself"),
    ],
)
def test_a_formula_explains_its_mistake_alone(name, subject, formula):
    """What a mistake gives is explained by its formula, and by no other; what is off by more, by none."""
    case, statement = named(name), stated(MASKED, "a mistake")
    exact_case, reply = ExactCase(case), answer(subject, case)
    formulas = ("of the replicas' means", "each replica by itself", "of a replica without rows")
    for output in ("y", "moving_mean"):
        explained = [f for f in formulas if explains(f, WrongValue(exact_case, statement, reply, 0, output))]
        assert explained == [formula]
    (outputs,) = reply.outcomes
    moved = Reply(0, "x", (Outputs({name: array + np.float32(0.01) for name, array in outputs.tensors.items()}),))
    if np.isfinite(outputs.tensors["y"]).all():
        assert not explains(formula, WrongValue(exact_case, statement, moved, 0, "y"))


def test_the_state_of_a_replica_without_rows_stays():
    """What is explained is the state as it was, of each step, and nothing that moved."""
    case, statement = named("a-replica-without-rows"), stated(TwoPass.statement, "numpy")
    fields = json.loads(json.dumps(content(case)))
    _, got = worker.run(TwoPass("cpu"), worker.Case(fields, case.tensors, TwoPass.statement))
    kept = tuple(Outputs({n: case.tensors[n] for n in ("moving_mean", "moving_variance")}) for _ in case.steps)
    moved = tuple(Outputs({n: got[f"{t}.{n}"] for n in ("moving_mean", "moving_variance")}) for t in range(2))
    for t, output in ((0, "moving_mean"), (1, "moving_variance")):
        ask = [WrongValue(ExactCase(case), statement, Reply(0, "x", reply), t, output) for reply in (kept, moved)]
        assert [explains("of a replica without rows", one) for one in ask] == [True, False]


_PROCESS = """
import sys, torch
rank, store = int(sys.argv[1]), torch.distributed.FileStore(sys.argv[2], 2)
torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
x, layer = torch.arange(8.0).reshape(4, 2) + rank, torch.nn.SyncBatchNorm(2)
total = torch.ones(1)
torch.distributed.all_reduce(total)
try:
    layer(x)
    print("trained")
except ValueError as error:
    print(int(total), error)
print(bool((layer.eval()(x) == torch.nn.functional.batch_norm(x, torch.zeros(2), torch.ones(2), eps=1e-5)).all()))
"""


@pytest.mark.proof
@pytest.mark.framework("torch")
def test_two_processes_over_gloo_refuse_to_train_and_infer(tmp_path):
    """Both add up numbers together; SyncBatchNorm raises in both before it does, and infers as one layer does."""
    command = [sys.executable, "-c", _PROCESS]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=240)[0].splitlines() for process in both]
    assert said == [["2 SyncBatchNorm expected input tensor to be on GPU or XPU or privateuseone", "True"]] * 2
