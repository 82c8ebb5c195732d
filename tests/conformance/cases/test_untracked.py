"""A layer that keeps no statistics: inference normalizes by its batch, and nothing moves."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from plain_numpy import TwoPass, asked, judged

from conformance.cases.features import FEATURES
from conformance.model.case import Case, Step, content
from conformance.model.case_facts import every_step
from conformance.model.codec import case_from_json, case_to_json, check
from conformance.model.statement import stated
from reference import Parameters, Semantics, Spec, State, infer_gradients, train_gradients


class KeepsAnyway(TwoPass):
    """Keeps statistics whatever it is asked, and infers by them."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        for step in case.steps:
            step.tracked = True
        return TwoPass.steps(self, case)


def test_a_fault_that_nothing_else_finds():
    """Who keeps statistics anyway fails these cases and no plain one, nor those of the layer's own start."""
    others = ("", "own start", "frozen", "many steps", "toggled")
    assert not {*others} - {"", *FEATURES}
    found = {
        f: {r.verdict for e in asked(f, 3 if f else 1) for r in judged(KeepsAnyway, e)} for f in ("untracked", *others)
    }
    failing = [feature for feature, verdicts in found.items() if "FAIL" in verdicts]
    assert failing == ["untracked"]


def test_plain_numpy_passes_and_no_moving_statistics_are_judged():
    """Each mode's output and gradients are compared, the batch's statistics too, and none that would move."""
    found = [r for e in asked("untracked", 3) for r in judged(TwoPass, e)]
    assert {r.verdict for r in found} == {"PASS"}, [r for r in found if r.verdict != "PASS"][:2]
    assert {"y", "dx", "mean", "variance"} <= {r.output for r in found if r.mode == "infer"}
    assert not {"moving_mean", "moving_variance"} & {r.output for r in found}


def test_old_adapters_are_not_asked_and_old_cases_are_as_they_were():
    """The field is spelled out only where it says something, and read again."""
    x = np.float32([[1, 2], [4, 3]])
    plain = Case(Spec(axis=1), (Step("infer"),), tensors={"0.x": x})
    bare = msgspec.structs.replace(plain, spec=Spec(axis=1, track=False))
    assert "track" not in content(plain)["spec"]
    assert content(bare)["spec"]["track"] is False
    check(again := case_from_json(case_to_json(bare)))
    assert again.spec == bare.spec
    old = stated({"id": "old.bn", "packages": [], "documentation": "", "conventions": {}}, "old")
    given = msgspec.structs.replace(bare, tensors={"0.x": x, "gamma": x[0], "beta": x[0]})
    assert every_step(given)[0].start == "given"
    assert old.unsupported(*every_step(given)) == "tracked is False; supported: True"


@pytest.mark.parametrize("frozen", ["batch", "infer"])
def test_gradients_of_inference_are_those_of_training(frozen):
    """Through the batch's statistics, frozen or not."""
    x, dy = np.array([[1.0], [3.0], [8.0]]), np.array([[1.0], [0.0], [0.0]])
    spec, semantics = Spec(track=False, trainable=False), Semantics(frozen=frozen)
    given = x, dy, Parameters(), State(np.zeros(1), np.ones(1)), spec, semantics
    assert np.array_equal(infer_gradients(*given).dx, train_gradients(*given).dx)
    assert abs(infer_gradients(*given).dx.sum()) < 1e-15


class MovesAnyway(TwoPass):
    """Moves its statistics in every training call, whether they are switched off or not."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        for step in case.steps:
            step.update = True
        return TwoPass.steps(self, case)


class InfersByBatchWhereOff(TwoPass):
    """Infers by the batch where statistics are switched off, though there are some: as torch did before 1.6."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        for step in case.steps:
            step.tracked = step.tracked and (step.training or step.update)
        return TwoPass.steps(self, case)


@pytest.mark.parametrize("fault", [MovesAnyway, InfersByBatchWhereOff])
def test_a_switch_of_statistics_is_looked_at_in_each_call(fault):
    """Who does otherwise than to leave the statistics that are there fails where they are switched, not elsewhere."""
    found = {
        f: {r.verdict for e in asked(f, 3) for r in judged(fault, e)}
        for f in ("switched statistics", "update", "", "untracked", "frozen", "toggled")
    }
    assert [feature for feature, verdicts in found.items() if "FAIL" in verdicts] == ["switched statistics", "update"]
    assert {r.verdict for e in asked("switched statistics", 3) for r in judged(TwoPass, e)} == {"PASS"}
