"""What is known of the second roster: each prediction explains the value that was measured, and no other."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from conformance.cases import corpus
from conformance.gate import divergences
from conformance.gate.explanation import FailedAnswer
from conformance.hosts import roster
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.outcome import Outputs, Reply
from conformance.model.results import ImplementationRecord

KNOWN = {one.id: one for one in divergences.read() if one.id.partition("-")[0] in ("mlx", "mxnet", "paddle", "tfjs")}


def kinds(name, asked, *outputs):
    """Return what a divergence says of each failure of an answer, by step and output."""
    one = KNOWN[name]
    like = one.implementations[0].removesuffix("@cpu")
    (entry,) = roster.select((like if not like.startswith("tfjs.") else "mxnet.nd.BatchNorm",))
    supports = {**entry.statement.supports, "channel": ["second", "last"]}
    statement = msgspec.structs.replace(entry.statement, id=like, supports=supports)
    versions = {package: wanted.split(",")[0].lstrip(">=") for package, wanted in one.versions.items()}
    record = ImplementationRecord(
        f"{like}@cpu", statement.framework, "", True, statement=msgspec.to_builtins(statement), versions=versions
    )
    exact_case, reply = ExactCase(asked), Reply(0, record.id, tuple(map(Outputs, outputs)))
    failures = [r for r in judge("", exact_case, statement, reply) if r.failed]
    explained = FailedAnswer(record, exact_case, reply).explained(failures, [one])
    return {(e.result.step, e.result.output): e.kind for e in explained}


def named(name):
    """Return a case of the corpus."""
    return next(one.case for one in corpus.every() if one.name == name)


def test_every_divergence_has_a_witness_that_its_library_is_asked():
    """The witness is a case of each run of the library, and its statement supports it where it is in the roster."""
    assert len(KNOWN) == 10
    for one in KNOWN.values():
        assert one.witness in {case.name for case in corpus.of_run(one.implementations)}


@pytest.mark.parametrize("step", [0, 1])
def test_statistics_dealt_in_turn_are_explained_and_no_others(step):
    """Value i of memory is normalized as one of channel i modulo 2: by the batch in training, else by the state."""
    asked = named("second-axis-of-lines")
    x, given = asked.x(0).astype(float), asked.tensors
    mean, variance = x.mean((0, 2)), x.var((0, 2))
    state = {
        "moving_mean": (mean + given["moving_mean"]) / 2,
        "moving_variance": (variance + given["moving_variance"]) / 2,
    }
    of = (mean, variance) if step == 0 else tuple(state.values())
    dealt = [np.resize(a, x.shape) for a in (*of, given["gamma"], given["beta"])]
    y = ((x - dealt[0]) / np.sqrt(dealt[1] + 0.25) * dealt[2] + dealt[3]).astype(np.float32)
    right = {name: array.astype(np.float32) for name, array in state.items()}
    for wrong, said in ((y, "explained"), (y[::-1].copy(), "changed")):
        answers = [{"y": wrong, **right}] * 2
        assert kinds("tfjs-deals-statistics-in-turn", asked, *answers)[step, "y"] == said


@pytest.mark.parametrize(
    ("recovered", "said"), [(6.250390782724935e-08, "explained"), (6.3e-08, "explained"), (6.5e-08, "changed")]
)
def test_a_variance_taken_back_from_its_root_is_explained_up_to_the_rounding_of_epsilon(recovered, said):
    """1 / r² - epsilon in float32 may be off by a few roundings of 1e-3, which are a hundredth of 6.25e-8; not more."""
    asked = named("variance-far-below-epsilon")
    x = asked.x(0)
    answer = {"y": x, "moving_mean": x.mean(0), "moving_variance": np.array([recovered], np.float32)}
    assert kinds("mxnet-recovers-its-variance", asked, answer)[0, "moving_variance"] == said


def test_a_gradient_that_is_not_returned_is_explained_and_a_wrong_one_is_not():
    """None for dgamma is as predicted; a number is judged."""
    asked = named("gradient-of-gamma-alone")
    name = "paddle-gradient-of-one-parameter"
    assert kinds(name, asked, {})[0, "dgamma"] == "explained"
    assert kinds(name, asked, {})[0, "y"] == "unexplained"
    assert kinds(name, asked, {"dgamma": np.full(2, 9, np.float32)})[0, "dgamma"] == "changed"
