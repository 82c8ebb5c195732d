"""How frameworks answer gradients that are asked for one by one."""

from __future__ import annotations

import json

import pytest

from conformance.cases.building import build
from conformance.cases.cells import Cell
from conformance.cases.strategies import recipes
from conformance.hosts import worker
from conformance.hosts.roster import ADAPTERS
from conformance.model.case import content


def case(placement, feature, number):
    """Return a case of a feature."""
    return build(recipes(Cell(placement, feature=feature), 0, 3)[number], 0)


def answered(target, asked):
    """Return the names of what an adapter gives in each step of a case."""
    (cls,) = worker.load(f"{ADAPTERS / target}")
    fields = json.loads(json.dumps(content(asked)))
    outcomes, got = worker.run(cls("cpu"), worker.Case(fields, asked.tensors, cls.statement))
    assert [outcome["type"] for outcome in outcomes] == ["outputs"] * len(asked.steps)
    return [{n.partition(".")[2] for n in got if n.startswith(f"{t}.")} for t in range(len(outcomes))]


@pytest.mark.parametrize(
    "target",
    [
        "numpy.py:TwoPass",
        pytest.param("torch.py:Functional", marks=pytest.mark.framework("torch")),
        pytest.param("torch.py:Func", marks=pytest.mark.framework("torch")),
        pytest.param("jax_functions.py:Stax", marks=pytest.mark.framework("jax")),
        pytest.param("jax_functions.py:Standardize", marks=pytest.mark.framework("jax")),
    ],
)
def test_no_gradient_is_taken_that_was_not_asked_for(target):
    """One of gamma alone in training leaves those of x and beta out; what is asked for is all there."""
    asked = case("rank 2, axis 1", "some gradients", 0)
    wanted = [{f"d{name}" for name in step.derivatives[0].wrt} for step in asked.steps]
    assert {"dgamma"} in wanted
    gradients = {"dx", "dgamma", "dbeta"}
    assert [names & gradients for names in answered(target, asked)] == wanted
