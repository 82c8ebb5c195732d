"""How frameworks answer gradients that are asked for one by one, later than at once, or twice."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from conformance.cases.building import build
from conformance.cases.cells import Cell
from conformance.cases.strategies import recipes
from conformance.hosts import worker
from conformance.hosts.roster import ADAPTERS
from conformance.model.case import Actions, content

TARGETS = [
    "numpy.py:TwoPass",
    pytest.param("torch.py:Functional", marks=pytest.mark.framework("torch")),
    pytest.param("torch.py:Func", marks=pytest.mark.framework("torch")),
    pytest.param("jax_functions.py:StandardizeEager", marks=pytest.mark.framework("jax")),
]


def case(placement, feature, number):
    """Return a case of a feature."""
    return build(recipes(Cell(placement, feature=feature), 0, 3)[number], 0)


def asked_of(target, asked):
    """Return what an adapter answers to a case."""
    path, _, name = target.partition(":")
    (cls,) = (cls for cls in worker.load(f"{ADAPTERS / path}") if cls.__name__ == name)
    fields = json.loads(json.dumps(content(asked)))
    return worker.run(cls("cpu"), worker.Case(fields, asked.tensors, cls.statement))


def arrays(target, asked):
    """Return the arrays that an adapter gives of a case, which it answers wholly."""
    outcomes, got = asked_of(target, asked)
    assert [outcome["type"] for outcome in outcomes] == ["outputs"] * len(asked.steps)
    return got


@pytest.mark.parametrize(
    "target", [*TARGETS, pytest.param("jax_functions.py:Standardize", marks=pytest.mark.framework("jax"))]
)
def test_no_gradient_is_taken_that_was_not_asked_for(target):
    """One of gamma alone in training leaves those of x and beta out; what is asked for is all there."""
    asked = case("rank 2, axis 1", "some gradients", 0)
    wanted = [{f"d{name}" for name in step.derivatives[0].wrt} for step in asked.steps]
    assert {"dgamma"} in wanted
    got = arrays(target, asked)
    assert [{f"d{n}" for n in ("x", "gamma", "beta") if f"{t}.d{n}" in got} for t in range(len(wanted))] == wanted


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("target", TARGETS)
def test_gradients_that_are_taken_later_are_those_taken_at_once(target, number):
    """Bit for bit, after all calls and twice; torch's of inference after training are another matter."""
    later = case("rank 2, axis 1", "later gradients", number)
    at_once, got = (arrays(target, one) for one in (msgspec.structs.replace(later, actions=Actions()), later))
    assert at_once.keys() == got.keys()
    wrong = {name for name, array in at_once.items() if not np.array_equal(array, got[name])}
    if target.endswith("Functional") and later.actions.backward == "after_all":
        assert {name.partition(".")[2] for name in wrong} == {"dx", "dgamma"}
        wrong = {name for name in wrong if later.steps[int(name.partition(".")[0])].mode == "train"}
    assert wrong == set()


@pytest.mark.parametrize(
    "target", [*TARGETS, pytest.param("jax_functions.py:Standardize", marks=pytest.mark.framework("jax"))]
)
def test_one_gradient_of_two_calls_is_the_sum_of_each(target):
    """dx is each call's, and the layer's gradients come with the last; so does the state of a graph."""
    both = case("rank 2, axis 1", "two places", 0)
    assert [step.mode for step in both.steps] == ["train", "train"]
    each, got = (arrays(target, one) for one in (msgspec.structs.replace(both, actions=Actions()), both))
    assert got.keys() - each.keys() == set()
    assert {"dgamma", "dbeta", "dx"} <= {name.partition(".")[2] for name in got}
    for name in ("dgamma", "dbeta"):
        assert f"0.{name}" not in got
        np.testing.assert_allclose(got[f"1.{name}"], each[f"0.{name}"] + each[f"1.{name}"], 1e-4, 1e-4)
    for name in got.keys() - {"1.dgamma", "1.dbeta"}:
        np.testing.assert_allclose(got[name], each[name], 1e-4, 1e-4)


def test_what_comes_before_a_refused_call_is_answered():
    """Gradients are waited for by all calls but one of another size, which raises."""
    later = case("rank 2, axis 1", "later gradients", 0)
    assert later.actions.backward == "after_all"
    narrow = {f"2.{name}": later.tensors[f"2.{name}"][:, :-1] for name in ("x", "dy")}
    outcomes, got = asked_of("numpy.py:TwoPass", msgspec.structs.replace(later, tensors=later.tensors | narrow))
    assert [outcome["type"] for outcome in outcomes] == ["outputs", "outputs", "refused"]
    assert {"0.dx", "1.dx"} <= got.keys()
