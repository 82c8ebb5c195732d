"""A layer that keeps no statistics: inference normalizes by its batch, and nothing moves."""

from __future__ import annotations

import functools
import json

import msgspec
import numpy as np
import pytest

from conformance.cases.building import build
from conformance.cases.cells import CELLS
from conformance.cases.features import FEATURES
from conformance.cases.strategies import recipes
from conformance.hosts import worker
from conformance.hosts.roster import ADAPTERS
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case, Step, content
from conformance.model.case_facts import every_step
from conformance.model.codec import case_from_json, case_to_json, check
from conformance.model.outcome import Outputs, Reply
from conformance.model.statement import Statement, stated
from reference import Parameters, Semantics, Spec, State, infer_gradients, train_gradients

(TwoPass,) = worker.load(str(ADAPTERS / "numpy.py") + ":TwoPass")
STATEMENT = msgspec.convert(TwoPass.statement, Statement)


class KeepsAnyway(TwoPass):
    """Keeps statistics whatever it is asked, and infers by them."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        for step in case.steps:
            step.by_batch = step.training
        return TwoPass.steps(self, case)


@functools.cache
def asked(feature):
    """Return cases of a feature, those of plain cells for none, that NumPy may answer."""
    cells = [cell for cell in CELLS if cell.feature == feature]
    found = [build(recipe, 5) for cell in cells for recipe in recipes(cell, 5, 3 if feature else 1)]
    return [ExactCase(case) for case in found if not STATEMENT.unsupported(*every_step(case))]


def judged(kind, exact_case):
    """Return the verdicts on what a subject answers to a case."""
    case = exact_case.case
    fields = json.loads(json.dumps(content(case)))
    with np.errstate(all="ignore"):
        outcomes, got = worker.run(kind("cpu"), worker.Case(fields, case.tensors, kind.statement))
    steps = [{n.partition(".")[2]: a for n, a in got.items() if n.startswith(f"{t}.")} for t in range(len(outcomes))]
    return judge("case", exact_case, STATEMENT, Reply(0, "subject@cpu", tuple(map(Outputs, steps))))


def test_a_fault_that_nothing_else_finds():
    """Who keeps statistics anyway fails these cases and no plain one, nor those of the layer's own start."""
    others = ("", "own start", "frozen", "many steps", "toggled")
    assert not {*others} - {"", *FEATURES}
    found = {f: {r.verdict for e in asked(f) for r in judged(KeepsAnyway, e)} for f in ("untracked", *others)}
    failing = [feature for feature, verdicts in found.items() if "FAIL" in verdicts]
    assert failing == ["untracked"]


def test_plain_numpy_passes_and_no_moving_statistics_are_judged():
    """Each mode's output and gradients are compared, the batch's statistics too, and none that would move."""
    found = [r for e in asked("untracked") for r in judged(TwoPass, e)]
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
