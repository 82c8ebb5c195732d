"""Faults that show only where gradients are asked for in another way than all of them at once, after each call."""

from __future__ import annotations

import json

import numpy as np
import pytest
from layer import TwoPass

from conformance.cases.building import build
from conformance.cases.cells import CELLS
from conformance.cases.replicas import REPLICAS
from conformance.cases.strategies import recipes
from conformance.hosts import worker
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import content
from conformance.model.case_facts import every_step
from conformance.model.outcome import Outputs, Reply
from conformance.model.statement import stated


class GammaAlone(TwoPass):
    """Where nothing but gamma's gradient is asked for, its kernel takes x for the centered x."""

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        return TwoPass.gradients(self, step, mean * (step.gradients != ["dgamma"]), r, gamma)


class WithoutBeta(TwoPass):
    """Where beta has no gradient, the sum of dy is never made, and dx lacks its mean."""

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        dx, dgamma, dbeta = TwoPass.gradients(self, step, mean, r, gamma)
        lost = step.training and "dbeta" not in step.gradients
        return dx + gamma * r * self.mean(step.dy) if lost else dx, dgamma, dbeta


class SavedByTheLayer(TwoPass):
    """The statistics that gradients are made of are kept with the layer: those of the last call."""

    def affine(self, x, mean, r, gamma, beta):
        """Return the normalized, scaled and shifted input."""
        self.saved = mean, r
        return TwoPass.affine(self, x, mean, r, gamma, beta)

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        return TwoPass.gradients(self, step, *self.saved, gamma)


class UsedUp(TwoPass):
    """A backward pass overwrites what it was given, so that the next one has nothing of it."""

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        r, step.used = r * (not getattr(step, "used", False)), True
        return TwoPass.gradients(self, step, mean, r, gamma)


class CenteredInPlace(TwoPass):
    """Subtracts the mean from x where it lies, and makes everything of that."""

    def affine(self, x, mean, r, gamma, beta):
        """Return the normalized, scaled and shifted input."""
        y = TwoPass.affine(self, x, mean, r, gamma, beta)
        if x.flags.writeable:
            x[...] -= mean
        return y

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        return TwoPass.gradients(self, step, mean * (not step.x.flags.writeable), r, gamma)


class OfTheLastCall(TwoPass):
    """Where a layer has several places in a graph, the last call's gradients of gamma and beta replace the others'."""

    def together(self, case):
        """Return the outputs of each step, with one gradient of all calls."""
        outs = [dict(out, **take()) for out, take in list(self.steps(case))]
        return [{n: a for n, a in out.items() if n not in ("dgamma", "dbeta")} for out in outs[:-1]] + outs[-1:]


class MovedOnce(TwoPass):
    """The calls of a graph all begin with the state before it, and the last one's is what stays."""

    def together(self, case):
        """Return the outputs of each step, with one gradient of all calls."""
        answers, steps = [], case.steps
        for step in steps:
            case.steps = [step]
            answers += TwoPass.together(self, case)
        case.steps = steps
        learned = [n for n in ("dgamma", "dbeta") if n in answers[-1]]
        sums = {n: sum(answer.pop(n) for answer in answers) for n in learned}
        return [*answers[:-1], dict(answers[-1], **sums)]


class MovesOnceMore(TwoPass):
    """A call that is made once more for its gradient is a call like any other: the state moves once more."""

    def steps(self, case):
        """Yield what each call gives, of a training call that is repeated what its second time gives."""
        repeated = [step.recomputed and step.training for step in case.steps]
        case.steps = [s for s, again in zip(case.steps, repeated, strict=True) for _ in range(1 + again)]
        found = TwoPass.steps(self, case)
        for again in repeated:
            for _ in range(again):
                next(found)
            yield next(found)


class RecomputesAsInference(TwoPass):
    """What a gradient is made of is computed anew by the moving statistics that there are by then."""

    def recomputed(self, case, step, flat, mean, r, *values):
        """Return the gradients."""
        return self.taken(case, step, flat, 0 * mean, r, *values)


class Dropped(TwoPass):
    """What a loss makes of the returned statistics is dropped."""

    def returned(self, case, step, dx, mean):
        """Return dx, with what comes of the new state."""
        return TwoPass.returned(self, case, step, dx, mean) if "moving_mean" in step.cotangents else dx


class StateDropped(TwoPass):
    """What a loss makes of the new moving statistics is dropped, as if they were constants."""

    def returned(self, case, step, dx, mean):
        """Return dx, with what comes of the batch's own statistics."""
        return dx if "moving_mean" in step.cotangents else TwoPass.returned(self, case, step, dx, mean)


class OneLayer(TwoPass):
    """All members of an ensemble have the gamma and beta of the first."""

    def parameters(self, case, member=0):
        """Return a member's gamma and beta."""
        return TwoPass.parameters(self, case)


class RowsAddUp(TwoPass):
    """Gradients of rows whose x is the same are added to what is there."""

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        found = TwoPass.gradients(self, step, mean, r, gamma)
        same = step.member > 0 and np.array_equal(step.x, self.seen)
        self.seen, self.rows = step.x, [a + b for a, b in zip(found, self.rows, strict=True)] if same else found
        return self.rows


class OfMeans(TwoPass):
    """The mean over replicas is the mean of their means, however many rows each has."""

    def mean(self, array):
        """Return the mean over the averaged axes."""
        pieces = [own for own in np.split(array, np.cumsum(self.replicas)[:-1]) if len(own)] if self.replicas else []
        if len({len(own) for own in pieces}) < 2:
            return TwoPass.mean(self, array)
        return np.mean([own.mean(self.axes, keepdims=True) for own in pieces], 0, dtype=array.dtype)


class OfTheFirst(TwoPass):
    """Each replica normalizes by what the first one has."""

    def moments(self, x):
        """Return mean and variance."""
        if not self.replicas:
            return TwoPass.moments(self, x)
        own = x[: self.replicas[0]]
        mean = own.mean(self.axes, keepdims=True)
        return mean, np.square(own - mean).mean(self.axes, keepdims=True)


class OfItsOwnGradients(TwoPass):
    """The gradient goes back through a replica's own statistics alone, as though the sum over all had none."""

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        found = TwoPass.gradients(self, step, mean, r, gamma)
        if not self.replicas:
            return found
        z, parts = (step.x - mean) * r, np.cumsum(self.replicas)[:-1]
        dx = [
            gamma * r * (dy - dy.mean(self.axes, keepdims=True) - own * (dy * own).mean(self.axes, keepdims=True))
            for dy, own in zip(np.split(step.dy, parts), np.split(z, parts), strict=True)
        ]
        return np.concatenate(dx), *found[1:]


class WithoutGroups(TwoPass):
    """All replicas share their batches, whatever group each is in."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        self.case = case
        return TwoPass.steps(self, case)

    def moments(self, x):
        """Return mean and variance."""
        if not self.replicas or self.case.members == 1:
            return TwoPass.moments(self, x)
        (together,) = [call for call in self.case.calls() if any(np.array_equal(step.x, x) for step in call)]
        whole = np.concatenate([step.x for step in together])
        mean = whole.mean(self.axes, keepdims=True)
        return mean, np.square(whole - mean).mean(self.axes, keepdims=True)


FAULTS = [(GammaAlone, "some gradients"), (WithoutBeta, "some gradients")]
FAULTS += [(MovesOnceMore, "recomputed"), (RecomputesAsInference, "recomputed")]
FAULTS += [(SavedByTheLayer, "later gradients"), (UsedUp, "later gradients"), (Dropped, "gradients of statistics")]
FAULTS += [(OfTheLastCall, "two places"), (MovedOnce, "two places")]
FAULTS += [(StateDropped, "gradients of the new state")]
FAULTS += [(OneLayer, "ensemble"), (RowsAddUp, "jacobian")]
FAULTS += [(OfMeans, "uneven replicas"), (OfTheFirst, "replicas"), (OfItsOwnGradients, "replicas")]
FAULTS += [(WithoutGroups, "replica groups")]


def answered(subject, case):
    """Return the outcomes and the arrays of a subject's answer to a case."""
    fields = json.loads(json.dumps(content(case)))
    with np.errstate(all="ignore"):
        return worker.run(subject("cpu"), worker.Case(fields, case.tensors, subject.statement))


def fails(subject, case):
    """Return whether the judge finds a subject's answer to a case wrong."""
    outcomes, got = answered(subject, case)
    steps = [{n.partition(".")[2]: a for n, a in got.items() if n.startswith(f"{t}.")} for t in range(len(outcomes))]
    answers = tuple(Outputs(s) for s, o in zip(steps, outcomes, strict=True) if o["type"] == "outputs")
    refused = len(answers) < len(outcomes)
    statement = stated(subject.statement, "a fault")
    return not refused and any(
        result.verdict == "FAIL" for result in judge("case", ExactCase(case), statement, Reply(0, "x", answers))
    )


def asked(feature, *, itself, count):
    """Return what a default run asks of the subject: by cells of the feature itself, or by all others."""
    alike = {feature} if itself or feature != "later gradients" else {feature, "two places"}  # those are later too
    alike |= {*REPLICAS} if feature in REPLICAS and not itself else set()
    cells = [cell for cell in CELLS if (cell.feature in alike) == itself]
    found = [build(recipe, 0) for cell in cells for recipe in recipes(cell, 0, count)]
    supported = stated(TwoPass.statement, "the subject")
    return [case for case in found if not supported.unsupported(*every_step(case))]


@pytest.mark.parametrize(("fault", "feature"), FAULTS)
def test_a_question_finds_its_fault(fault, feature):
    """The cases that the feature has in a default run."""
    assert any(fails(fault, case) for case in asked(feature, itself=True, count=3))


@pytest.mark.proof
@pytest.mark.parametrize(("fault", "feature"), FAULTS)
def test_no_other_question_finds_it(fault, feature):
    """Not a case of any other cell."""
    assert not any(fails(fault, case) for case in asked(feature, itself=False, count=1))


def test_what_is_written_to_is_found_by_its_bits_alone():
    """Every answer is right, and x is not what it was: only who promises to keep it is told so."""
    careless = type("Careless", (CenteredInPlace,), {"statement": {**TwoPass.statement, "keeps_inputs": False}})
    cases = [case for case in asked("", itself=True, count=1) if case.layout != "read_only"]
    assert not any(fails(careless, case) for case in cases)
    outcomes = [answered(CenteredInPlace, case)[0] for case in cases]
    assert {(o["type"], o.get("reason", "")[9:]) for of in outcomes for o in of[:1]} == {
        ("crashed", "to 0.x, which it was given")
    }
    assert {o["type"] for case in cases for o in answered(TwoPass, case)[0]} == {"outputs"}
