"""What the host remembers is remembered by all that it was made of, and is the same to whoever asks, in any thread."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time

import numpy as np
import pytest

from conformance.hosts.participants import Participants
from conformance.hosts.roster import ADAPTERS, from_target
from conformance.judging import expectation
from conformance.judging.bounds import bounds
from conformance.judging.bounds.bounds import Bounds
from conformance.judging.bounds.statistics import once
from conformance.judging.carried import StateWithError
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.judging.step import ExpectedStep
from conformance.model.case import Case, Step, case_id, initial_state
from conformance.model.numerics import Numerics, Units
from conformance.model.outcome import Outputs, Reply
from conformance.runs import campaign
from reference import Semantics, Spec
from reference.batches import observe

TWO_PASS, _, _, RENORM, *_ = (entry.statement for entry in from_target(str(ADAPTERS / "numpy.py")))
UNITS = Units.of("float32", "float32")


def batch(n=6, channels=2):
    """Return a batch of normal values."""
    x = np.random.default_rng(0).normal(size=(n, channels))
    return bounds.BatchStatistics.of(observe(x, None, Spec(axis=1), Semantics()))


@pytest.mark.parametrize("field", ["affine", "stored", "shift", "accumulate"])
def test_a_remembered_formula_that_reads_what_it_is_not_remembered_by_is_caught(field):
    """A formula may read the variance and the sums; of what y and the mean differ in it gets an error that says so."""

    class Reading(Bounds):
        @once
        def formula(self, _batch):
            return self.numerics.variance, getattr(self.numerics, field)

    with pytest.raises(AttributeError, match=f"'{field}' is not among what is remembered by: variance, sums, "):
        Reading(Numerics(), UNITS, 6, 1e-3).formula(batch())


def test_a_batch_is_remembered_by_all_that_its_statistics_read(small_case, monkeypatch):
    """Whoever takes a batch's statistics by a word that it is not remembered by gets an error that names the word."""

    def careless(x, mask, spec, semantics):
        return observe(x, mask, spec, semantics) if semantics.frozen == "train" else None

    monkeypatch.setattr("conformance.judging.exact_case.observe", careless)
    with pytest.raises(AttributeError, match="'frozen' is not among what is remembered by"):
        ExactCase(small_case()).batch(0)


def test_a_promise_is_known_by_all_that_it_holds(small_case):
    """Whatever a promise holds beside the case is part of its key, by name, so that none is taken for another."""
    promise = Promise.of(ExactCase(small_case()), TWO_PASS)
    assert {name for name, _ in promise.key} | {"exact_case"} == {field.name for field in dataclasses.fields(promise)}
    other = promise.with_y(Numerics(variance="fast"))
    assert (other.key == promise.key, other.semantics) == (False, promise.semantics)
    with pytest.raises(dataclasses.FrozenInstanceError):
        promise.more = 1

    @dataclasses.dataclass(frozen=True)
    class Wider(Promise):
        more: int = 1

    assert ("more", 1) in Wider(promise.exact_case, promise.here).key


def renorm_case():
    """Return a case of renorm, whose y depends on the state before the step."""
    rng = np.random.default_rng(5)
    tensors = {f"{t}.x": rng.normal(size=(8, 3)).astype(np.float32) for t in range(3)}
    for name in ("gamma", "beta", "moving_mean"):
        tensors[name] = rng.normal(size=3).astype(np.float32)
    tensors["moving_variance"] = rng.uniform(0.5, 2, 3).astype(np.float32)
    spec = Spec(axis=1, momentum=0.9, renorm=True, renorm_momentum=0.9)
    return Case(spec=spec, steps=tuple(Step("train") for _ in range(3)), tensors=tensors)


class Slow(ExpectedStep):
    """A step on which two threads meet whenever it has remembered what renorm made of a state."""

    meeting = None

    def __setattr__(self, name, value):
        """Wait for the other thread once something was remembered."""
        object.__setattr__(self, name, value)
        if name == "_inner" and self.meeting is not None:
            self.meeting.wait(timeout=10)


def test_a_step_that_two_threads_ask_about_two_states_answers_each_of_its_own():
    """What a step remembers of one state is never given to who asked about another, however the threads interleave."""
    exact_case = ExactCase(renorm_case())
    state = initial_state(exact_case.case, Promise.of(exact_case, RENORM).semantics, exact_case.dtype)
    states = [
        StateWithError.exact(state),
        StateWithError.exact(type(state)(state.mean + 1, 2 * state.variance, 0, None)),
    ]
    alone = [Slow(Promise.of(exact_case, RENORM), 0).inner(before)[1].value for before in states]
    step, found = Slow(Promise.of(exact_case, RENORM), 0), {}
    step.meeting = threading.Barrier(2)

    def ask(which):
        found[which] = step.inner(states[which])[1].value

    in_threads(ask, range(2))
    assert (alone[0] != alone[1]).all()
    assert all((found[which] == alone[which]).all() for which in range(2))


def in_threads(function, arguments):
    """Call the function in one thread for each argument, all at once, with a switch at every chance."""
    kept, threads = sys.getswitchinterval(), [threading.Thread(target=function, args=(a,)) for a in arguments]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(kept)


def test_eight_threads_judge_one_question_as_one_does(small_case):
    """Implementations in several threads get the verdicts and figures that each gets alone, of the same question."""
    cases = [renorm_case(), *(small_case(modes="train train infer", momentum=m) for m in (0.5, 0.9))]
    for case in cases:
        replies = [answered(case, RENORM if case.spec.renorm else TWO_PASS, off) for off in range(8)]
        alone = [judge(case_id(case), ExactCase(case), *reply) for reply in replies]
        shared, found = ExactCase(case), {}

        def ask(i, shared=shared, found=found, replies=replies):
            found[i] = judge("", shared, *replies[i])

        in_threads(ask, range(8))
        assert {r.verdict for results in alone for r in results} == {"PASS", "FAIL"}
        assert [figures(found[i]) for i in range(8)] == [figures(results) for results in alone]


def answered(case, statement, off):
    """Return a statement and a reply, whose moving mean is off by so many parts in a million."""
    with np.errstate(all="ignore"):
        steps = expectation.trajectory(Promise.of(ExactCase(case), statement))
    tensors = [{name: np.asarray(e.value).astype(e.dtype) for name, e in step.items()} for step in steps]
    for arrays in tensors:
        arrays["moving_mean"] *= np.float32(1 + off * 1e-6)
    return statement, Reply(0, "i@cpu", tuple(Outputs(arrays) for arrays in tensors))


def figures(results):
    """Return what was found, without the case's name."""
    return [(r.step, r.output, r.verdict, r.rho, r.checks, r.deviation) for r in results]


def test_no_time_is_lost_that_threads_add_up(tmp_path, monkeypatch, small_case):
    """The seconds of judging are the sum of what each thread took, and so are those of an implementation."""
    clock = threading.local()

    def thread_time():
        time.sleep(0)
        clock.now = getattr(clock, "now", 0) + 1
        return clock.now

    monkeypatch.setattr(campaign.time, "thread_time", thread_time)
    monkeypatch.setattr(campaign, "judge", lambda *_: [])
    monkeypatch.setattr(campaign, "part", lambda _: contextlib.nullcontext())  # the stopwatch reads the clock, too
    entry = from_target(str(ADAPTERS / "numpy.py"))[0]
    going = campaign.Campaign(campaign.Options(Participants([entry]), tmp_path), campaign.Progress())
    monkeypatch.setattr(going.ledger, "write", lambda *_: None)
    item, reply = campaign.RunCase(0, None, small_case()), Reply(0, entry.id, (), 2.0)
    in_threads(lambda _: [going._judged(item, entry, reply) for _ in range(500)], range(8))
    assert going.ledger.cpu == {"judging": 4000.0, entry.id: 8000.0}
