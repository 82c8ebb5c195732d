"""An activation that is fused with the layer: y and the gradients are judged behind it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case, Derivative, Step
from conformance.model.outcome import Outputs, Reply
from conformance.model.statement import stated
from reference import Spec

EPSILON = np.float32(1e-3)
RELU = stated(
    {
        "id": "mine.activated",
        "packages": [],
        "documentation": "",
        "conventions": {},
        "outputs": ["y", "dx", "dgamma", "dbeta"],
        "supports": {"differentiation": ["none", "reverse", "forward"]},
        "rules": [
            {"cite": "here", "semantics": {"activation": "relu", "average": "none"}, "numerics": {"sums": "serial"}}
        ],
    },
    "here",
)


def answers(case: Case, *, cut: bool = True, at_zero: bool = False, masked: bool = True) -> dict[str, Any]:
    """Return what a training step in float32 with a ReLU behind it answers, or one with a mistake."""
    x, dy, gamma, beta = (case.tensors[name] for name in ("0.x", "0.dy", "gamma", "beta"))
    r = 1 / np.sqrt(x.var(0) + EPSILON)
    z = (x - x.mean(0)) * r
    y = gamma * z + beta
    is_open = (y >= 0 if at_zero else y > 0) if masked else np.ones(y.shape, bool)
    dy = np.where(is_open, dy, np.float32(0))
    dgamma, dbeta = (dy * z).sum(0), dy.sum(0)
    dx = gamma * r * (dy - dbeta / np.float32(len(x)) - z * (dgamma / np.float32(len(x))))
    return {"y": np.maximum(y, 0) if cut else y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def case_of(x: Any, beta: float = 0.25, dtype: Any = np.float32) -> Case:
    """Return a training step on this input, with its gradient."""
    x = np.asarray(x, dtype)
    tensors = {"gamma": np.array([1, -2], dtype), "beta": np.full(2, beta, dtype), "0.x": x}
    steps = (Step(mode="train", derivatives=(Derivative(),)),)
    return Case(spec=Spec(axis=1, epsilon=1e-3), steps=steps, tensors=tensors | {"0.dy": np.cos(3 * x).astype(dtype)})


def failed(case: Case, outputs: dict[str, Any]) -> set[str]:
    """Return the outputs that fail; all of them must be judged."""
    found = judge("", ExactCase(case), RELU, Reply(0, "mine.activated@cpu", (Outputs(outputs),)))
    assert {r.output for r in found} == set(outputs)
    assert {r.verdict for r in found} <= {"PASS", "FAIL"}
    return {r.output for r in found if r.failed}


@pytest.mark.parametrize("seed", range(8))
def test_a_relu_behind_the_layer_conforms_and_none_does_not(seed):
    """What is cut off in y, and in the gradients, passes; y left as it was fails, and so do gradients left whole."""
    case = case_of(np.random.default_rng(seed).normal(size=(64, 2)) * 10.0 ** (seed % 4))
    assert failed(case, answers(case)) == set()
    assert failed(case, answers(case, cut=False)) == {"y"}
    assert failed(case, answers(case, masked=False)) == {"dx", "dgamma", "dbeta"}


def test_where_y_may_be_on_either_side_of_zero_so_may_its_gradient():
    """x is its mean in one row and beta is 0: dy of that row may count or not; the rest is held as it was."""
    case = case_of([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]], beta=0.0)
    for at_zero in (False, True):
        outputs = answers(case, at_zero=at_zero)
        assert failed(case, outputs) == set()
        assert failed(case, outputs | {"dbeta": outputs["dbeta"] + np.float32(5)}) == {"dbeta"}


def test_nothing_is_held_to_a_value_where_an_input_is_not_finite():
    """A NaN may stay NaN or become 0: the other channel is judged all the same."""
    x = np.random.default_rng(0).normal(size=(8, 2))
    x[3, 0] = np.nan
    case = case_of(x)
    right = answers(case)
    assert failed(case, right | {"y": np.nan_to_num(right["y"])}) == set()
    assert failed(case, right | {"y": right["y"] + np.float32([0, 1])}) == {"y"}


def test_derivatives_along_a_tangent_are_not_judged_behind_it():
    """No bound is derived for these, which is said."""
    case = case_of(np.random.default_rng(1).normal(size=(8, 2)))
    steps = (msgspec.structs.replace(case.steps[0], derivatives=(Derivative(mode="forward"),)),)
    tensors = {name: array for name, array in case.tensors.items() if name != "0.dy"}
    case = msgspec.structs.replace(case, steps=steps, tensors=tensors | {"0.tangent": case.x(0)})
    right = {"y": np.zeros((8, 2), np.float32)}
    found = judge("", ExactCase(case), RELU, Reply(0, "mine.activated@cpu", (Outputs(right),)))
    assert any("behind an activation" in r.reason for r in found)
