"""The facts that conditions speak of: a record, its words, and what is read off a case."""

import msgspec
import numpy as np
import pytest

from conformance.cases import cells, strategies
from conformance.judging.exact_case import ExactCase
from conformance.model.case import Case, Step
from conformance.model.case_facts import every_step, step_facts
from conformance.model.facts import VALUES, WHOLE, Facts
from conformance.model.rules import matches
from reference import Spec


@pytest.fixture(scope="module")
def drawn():
    """Return the cases of a default run."""
    return [case for _, case in strategies.cases(0, cells.DEFAULT)]


def test_a_condition_may_name_the_fields_of_the_record_and_nothing_else():
    """Words and record are one."""
    assert {*WHOLE, *VALUES} == set(Facts.__struct_fields__)


def test_whatever_is_read_off_a_case_is_a_value_that_a_condition_may_name(drawn):
    """Each fact of each step of a run has one of its values, of the same type."""
    for facts in (facts for case in drawn for facts in every_step(case)):
        for name, allowed in VALUES.items():
            value = facts.said(name)
            said = name in ("device", "output") or any(value == one and type(value) is type(one) for one in allowed)
            assert said, (name, value)


def test_facts_are_read_off_a_case_once(drawn):
    """Who has the exact case has its facts, the same objects for all who ask; they cannot be changed."""
    exact_case = ExactCase(drawn[0])
    assert exact_case.facts is exact_case.facts
    assert exact_case.facts == [step_facts(drawn[0], t) for t in range(len(drawn[0].steps))]
    with pytest.raises(AttributeError):
        exact_case.facts[0].mode = "infer"


def test_several_axes_are_a_list_in_a_condition(drawn):
    """JSON has no tuples."""
    facts = msgspec.structs.replace(step_facts(drawn[0], 0), axis=(1, 2), rank=4)
    assert matches({"axis": [[1, 2]], "rank": [4, 5]}, facts)
    assert not matches({"axis": [1, 2], "rank": [4]}, facts)


@pytest.mark.parametrize(("gamma", "odd"), [((4,), False), ((2, 2), "shape"), ((3,), "parameters")])
def test_a_gamma_of_as_many_values_in_another_shape_is_told_from_one_of_too_few(gamma, odd):
    """Who takes the one need not take the other."""
    steps = (Step("infer"),)
    arrays = {"0.x": (3, 4), "gamma": gamma, "beta": (4,), "moving_mean": (4,), "moving_variance": (4,)}
    case = Case(Spec(axis=1), steps, tensors={name: np.ones(shape, np.float32) for name, shape in arrays.items()})
    assert step_facts(case, 0).odd == odd
