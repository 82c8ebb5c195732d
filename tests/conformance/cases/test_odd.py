"""What is out of the ordinary: asked, refused or answered by the formula, and faults that nothing else finds."""

from __future__ import annotations

import math
from typing import get_args

import msgspec
import numpy as np
import pytest
from plain_numpy import STATEMENT, TwoPass, asked, judged

from conformance.cases.building import build
from conformance.cases.cells import CELLS
from conformance.cases.features import FEATURES
from conformance.cases.large import LARGE
from conformance.cases.odd import ODD
from conformance.cases.sizes import SIZES
from conformance.cases.strategies import recipes
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case, Step, case_id
from conformance.model.case_facts import every_step
from conformance.model.codec import case_from_json, case_to_json, check
from conformance.model.facts import Odd
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.statement import stated
from reference import Spec


class ClipsMomentum(TwoPass):
    """Takes the next fraction from 0 to 1."""

    def run(self, case):
        """Return the outputs of each step."""
        case.native = dict(case.native, momentum=min(max(case.native["momentum"], 0), 1))
        return TwoPass.run(self, case)


class ClipsEpsilon(TwoPass):
    """Takes 0 for a negative epsilon."""

    def run(self, case):
        """Return the outputs of each step."""
        case.native = dict(case.native, epsilon=max(case.native["epsilon"], 0))
        return TwoPass.run(self, case)


class ClipsVariance(TwoPass):
    """Takes 0 for a negative moving variance that it is given."""

    def start(self, case):
        """Return the initial moving statistics."""
        mean, variance = TwoPass.start(self, case)
        return mean, np.maximum(variance, 0)


class ReadsGammaFlat(TwoPass):
    """Takes gamma in whatever shape, as a list of as many values."""

    @staticmethod
    def fitting(_case, _x):
        """Return an empty answer, whatever the shapes."""
        return {}


FOUND = [
    (ClipsMomentum, "odd numbers"),
    (ClipsEpsilon, "odd numbers"),
    (ClipsVariance, "odd statistics"),
    (ReadsGammaFlat, "misfit parameters"),
]


@pytest.mark.parametrize(("kind", "found_by"), FOUND)
def test_faults_that_only_the_odd_finds(kind, found_by):
    """Each is found by its feature; by plain cases, and by features of sizes and values, it is not."""
    others = ["", "one value", "not finite", "extreme", "own start", "cumulative", "many steps"]
    failing = [f for f in (found_by, *others) if any(r.verdict == "FAIL" for e in asked(f) for r in judged(kind, e))]
    assert failing == [found_by]


@pytest.mark.parametrize("feature", ODD)
def test_plain_numpy_answers_by_the_formula(feature):
    """The calibration subject refuses what does not fit, and passes everything else."""
    found = [r for exact_case in asked(feature) for r in judged(TwoPass, exact_case)]
    assert {r.verdict for r in found} <= {"PASS", "INCONCLUSIVE"}, [r for r in found if r.verdict == "FAIL"][:2]
    assert sum(r.verdict == "PASS" for r in found) >= 0.5 * len(found)


def test_every_kind_is_asked():
    """The cells of a default run hold each kind of the odd, with what the layer starts with given and its own."""
    drawn = [build(r, seed) for seed in (0, 1) for c in CELLS if c.feature in ODD for r in recipes(c, seed, 3)]
    kinds = {(about[0].odd, about[0].start) for about in map(every_step, drawn)}
    assert {odd for odd, _ in kinds} >= {*get_args(Odd)} - {False}
    assert {start for _, start in kinds} == {"given", "own"}
    assert any(case.spec.epsilon == 0 and not case.x(0)[:, 0].any() for case in drawn)
    assert FEATURES.keys() >= {*ODD, *SIZES, *LARGE}


def odd_case(**fields):
    """Return one training step of two channels, then inference."""
    x, one = np.float32([[1, 2], [3, 4], [8, 0]]), np.ones(2, np.float32)
    tensors = {"0.x": x, "1.x": x, "gamma": one, "beta": 0 * one, "moving_mean": 0 * one, "moving_variance": one}
    return Case(Spec(axis=1, **fields), (Step("train"), Step("infer")), tensors=tensors)


@pytest.mark.parametrize("fields", [{"momentum": 1.5}, {"momentum": -0.2}, {"epsilon": -20.0}, {"epsilon": math.nan}])
def test_refused_or_answered_by_the_formula(fields):
    """Any refusal of the odd passes; of the ordinary none does, and no answer but that of the formula."""
    case = odd_case(**fields)
    for kept, verdict in ((case, "PASS"), (odd_case(), "FAIL")):
        reply = Reply(0, "subject@cpu", (Refused("TypeError", "no"),))
        assert judge("case", ExactCase(kept), STATEMENT, reply)[0].verdict == verdict
    assert {r.verdict for r in judged(TwoPass, ExactCase(case))} <= {"PASS", "INCONCLUSIVE"}
    zero = {"y": case.x(0) * 0, "moving_mean": np.zeros(2, np.float32), "moving_variance": np.zeros(2, np.float32)}
    answered = judge("case", ExactCase(case), STATEMENT, Reply(0, "subject@cpu", (Outputs(zero),)))
    assert {r.output for r in answered if r.verdict == "FAIL"} >= {"y", "moving_mean", "moving_variance"}


def test_a_root_of_less_than_nothing_is_nan():
    """Where V + epsilon is negative however it is computed, a finite output fails, and an infinite one."""
    exact_case = ExactCase(odd_case(epsilon=-20.0))
    for value in (0.0, np.inf):
        y = np.full((3, 2), value, np.float32)
        (found, *_) = judge("case", exact_case, STATEMENT, Reply(0, "subject@cpu", (Outputs({"y": y}),)))
        assert (found.output, found.verdict, found.reason) == ("y", "FAIL", "it must be NaN")


@pytest.mark.parametrize("epsilon", [-1.0, -4.0])
def test_a_root_of_nothing_is_not_finite(epsilon):
    """Where a given variance and epsilon add up to exactly 0, no finite y is right: it is infinite, or NaN."""
    case = odd_case(epsilon=epsilon)
    given = {"moving_variance": np.full(2, -epsilon, np.float32), "0.x": np.ones((1, 2), np.float32)}
    case = msgspec.structs.replace(case, steps=(Step("infer"),), tensors=case.tensors | given)
    for value, verdict in ((np.inf, "PASS"), (np.nan, "PASS"), (1e30, "FAIL")):
        reply = Reply(0, "subject@cpu", (Outputs({"y": np.full((1, 2), value, np.float32)}),))
        assert judge("case", ExactCase(case), STATEMENT, reply)[0].verdict == verdict, value


def test_a_statement_that_says_nothing_of_the_odd_is_not_asked():
    """Old adapters meet ordinary cases alone, whose ids stay what they were."""
    old = stated({"id": "old.bn", "packages": [], "documentation": "", "conventions": {}}, "old")
    assert old.unsupported(*every_step(odd_case(momentum=1.5))) == "odd is momentum; supported: False"
    assert not old.unsupported(*every_step(odd_case()))


def test_an_odd_case_is_written_and_read():
    """NaN for epsilon, and a gamma that does not fit, come back from JSON as they were."""
    case = odd_case(epsilon=math.nan)
    case = msgspec.structs.replace(case, tensors=case.tensors | {"gamma": np.ones((2, 1), np.float32)})
    check(again := case_from_json(case_to_json(case)))
    assert case_id(again) == case_id(case)
    assert every_step(again)[0].odd == "nan_epsilon"
