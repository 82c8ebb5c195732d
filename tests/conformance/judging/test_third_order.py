"""Derivatives along a tangent twice, of y and of the gradients: correct code conforms, wrong code does not."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from conformance.cases.building import build
from conformance.cases.cells import CELLS
from conformance.cases.strategies import recipes
from conformance.gate import divergences
from conformance.gate.explanation import explain
from conformance.hosts import worker
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.model.case import Derivative, case_id, content
from conformance.model.case_facts import differentiation, step_facts
from conformance.model.outcome import Outputs, Reply
from conformance.model.statement import Statement

(Subject,) = worker.load(str(Path(__file__).parents[1] / "adapters" / "reference_subject.py") + ":Subject")
STATEMENT = msgspec.convert(Subject.statement, Statement)
FORWARD, REVERSE = Derivative(order=2, mode="forward"), Derivative(order=3)
OUTPUTS = {"y_tangent2": FORWARD, "dx_tangent2": REVERSE, "dgamma_tangent2": REVERSE}


def asking(case, wanted):
    """Return a case that asks each of its steps for a derivative."""
    steps = tuple(msgspec.structs.replace(step, derivatives=(Derivative(), wanted)) for step in case.steps)
    return msgspec.structs.replace(case, steps=steps)


def cases(wanted):
    """Return float32 cases, of the cells that have tangents, that ask for a derivative."""
    cells = [cell for cell in CELLS if cell.feature == "second order"]
    drawn = [asking(build(recipe, 7), wanted) for cell in cells for recipe in recipes(cell, 7, 8)]
    return [case for case in drawn if not STATEMENT.unsupported(step_facts(case, 0))]


def judged(case, change=dict):
    """Return the verdicts on the reference in float32, its answers changed."""
    fields = json.loads(json.dumps(content(case)))
    _, got = worker.run(Subject("cpu"), worker.Case(fields, case.tensors, Subject.statement))
    steps = [{n.partition(".")[2]: a for n, a in got.items() if n.startswith(f"{t}.")} for t in range(len(case.steps))]
    reply = Reply(0, "subject@cpu", tuple(Outputs(change(step)) for step in steps))
    return judge(case_id(case), ExactCase(case), STATEMENT, reply)


@pytest.mark.parametrize(("output", "wanted"), OUTPUTS.items(), ids=str)
def test_correct_code_conforms(output, wanted):
    """The reference in float32 is within its bounds in training and in inference, where 0 is right."""
    found = [r for case in cases(wanted) for r in judged(case) if r.output == output]
    assert {r.verdict for r in found} == {"PASS"}
    assert {r.mode for r in found} == {"train", "infer"}


@pytest.mark.parametrize(("output", "wanted"), OUTPUTS.items(), ids=str)
def test_a_hundredth_is_seen(output, wanted):
    """An output that is off by a hundredth in every element fails, and no other does."""

    def change(step):
        return step | {output: step[output] * np.float32(1.01)} if output in step else step

    found = [r for case in cases(wanted) for r in judged(case, change)]
    assert {r.output for r in found if r.verdict == "FAIL"} == {output}


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (FORWARD, "forward_over_forward"),
        (Derivative(order=2), "reverse_over_reverse"),
        (Derivative(order=2, mode="forward_over_reverse"), "forward_over_reverse"),
        (REVERSE, "third"),
        (Derivative(order=3, mode="forward"), "third_forward"),
    ],
)
def test_each_derivative_has_a_name(small_case, wanted, name):
    """Statements speak of the hardest derivative of a case by its name."""
    assert differentiation(asking(small_case(), wanted)) == name


def test_a_third_derivative_that_begins_forward_is_not_judged(small_case):
    """Nobody is asked for it, and no bound is derived for it."""
    case = asking(small_case(), Derivative(order=3, mode="forward"))
    assert (
        Promise.of(ExactCase(case), STATEMENT).unjudged
        == "no bound is derived yet for third derivatives that begin forward"
    )
    why = STATEMENT.unsupported(step_facts(case, 0))
    assert why.startswith("differentiation is third_forward; supported: none, reverse,")


@pytest.fixture(scope="module")
def corpus_of_frameworks(of_everything):
    """Return the folder of a run of the corpus, and the run."""
    names = "torch.F.batch_norm+func", "torch.F.batch_norm", "flax.linen.BatchNorm"
    run, folder = of_everything(*names, cases=0)
    return folder, msgspec.structs.replace(run, results=[r for r in run.results if run.cases[r.case].name])


@pytest.mark.framework("torch", "jax", "flax")
@pytest.mark.xdist_group("third order")
def test_frameworks(corpus_of_frameworks):
    """Flax is right; of torch what the recall list says is wrong, and nothing else, by known divergences."""
    folder, run = corpus_of_frameworks
    found = [r for r in run.results if r.output in OUTPUTS]
    failed = {(r.implementation.partition("@")[0], r.output) for r in found if r.verdict == "FAIL"}
    right = {(r.implementation.partition("@")[0], r.output) for r in found if r.verdict == "PASS" and r.mode == "train"}
    func, flax = "torch.F.batch_norm+func", "flax.linen.BatchNorm"
    assert failed == {(func, "y_tangent2"), (func, "dx_tangent2")}
    assert right == {(func, "dgamma_tangent2"), *((flax, output) for output in OUTPUTS)}
    told = [e.kind for e in explain(folder, run, divergences.read()) if e.result.output in OUTPUTS]
    assert told == 2 * ["explained"]


@pytest.mark.framework("torch", "jax", "flax")
@pytest.mark.xdist_group("third order")
def test_who_does_not_claim_them_is_not_asked(corpus_of_frameworks):
    """Plain autograd of torch is not asked for what it has no adapter for."""
    asked = {r.output for r in corpus_of_frameworks[1].results if r.implementation == "torch.F.batch_norm@cpu"}
    assert not asked & set(OUTPUTS)
