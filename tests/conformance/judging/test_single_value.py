"""A single value that training leaves as it is: y, the gradients and the state are judged as such (BN-24)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.model.case import Case, Derivative, Step
from conformance.model.outcome import Outputs, Reply
from conformance.model.statement import stated
from reference import Spec

LEFT = stated(
    {
        "id": "mine.left",
        "packages": [],
        "documentation": "",
        "conventions": {},
        "outputs": ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance"],
        "supports": {"differentiation": ["none", "reverse", "forward"]},
        "rules": [{"cite": "here", "semantics": {"single_value": "identity"}, "numerics": {"sums": "serial"}}],
    },
    "here",
)
ROW = np.array([[1.0, 2.0]], np.float32)
GIVEN = {
    "gamma": np.array([3, 7], np.float32),
    "beta": np.array([3, 7], np.float32),
    "moving_mean": np.array([0.5, 0.25], np.float32),
    "moving_variance": np.array([1, 2], np.float32),
}
STATE = {name: GIVEN[name] for name in ("moving_mean", "moving_variance")}


def case_of(x: Any, dy: Any, derivative: Derivative | None = None) -> Case:
    """Return a training step on one row, with its gradient, and inference."""
    steps = (Step(mode="train", derivatives=(derivative or Derivative(),)), Step(mode="infer"))
    tensors = GIVEN | {"0.x": np.asarray(x, np.float32), "0.dy": np.asarray(dy, np.float32), "1.x": ROW}
    return Case(spec=Spec(axis=1, epsilon=1e-3, momentum=0.5), steps=steps, tensors=tensors)


def failed(case: Case, **changed: Any) -> set[str]:
    """Return what fails of a training step that leaves its batch alone, but for what is changed."""
    zero = np.zeros(2, np.float32)
    left = {"y": case.x(0), "dx": case.tensors["0.dy"], "dgamma": zero, "dbeta": zero, **STATE, **changed}
    y = GIVEN["gamma"] * (ROW - GIVEN["moving_mean"]) / np.sqrt(GIVEN["moving_variance"] + np.float32(1e-3))
    reply = Reply(0, "mine.left@cpu", (Outputs(left), Outputs({"y": y + GIVEN["beta"], **STATE})))
    found = judge("", ExactCase(case), LEFT, reply)
    assert {r.verdict for r in found} <= {"PASS", "FAIL"}
    assert {r.output for r in found if r.step == 0} == set(left)
    return {r.output for r in found if r.failed}


@pytest.mark.parametrize("name", ["", "y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance"])
def test_one_value_is_left_to_the_last_bit(name):
    """y = x, dx = dy, no gradient of gamma and beta, and a state that stays pass; what is off by a bit fails."""
    case = case_of(ROW, [[0.5, -3.0]])
    left = {"y": ROW, "dx": case.tensors["0.dy"], "dgamma": np.zeros(2, np.float32), "dbeta": np.zeros(2, np.float32)}
    changed = {name: np.nextafter((left | STATE)[name], np.float32(9))} if name else {}
    assert failed(case, **changed) == set(changed)


def test_what_is_not_finite_is_left_too():
    """An infinity and a NaN are to be there as they came, and nothing follows from them."""
    case = case_of([[np.inf, np.nan]], [[np.nan, 1.0]])
    assert failed(case) == set()
    assert failed(case, y=np.array([[1, 2]], np.float32), dx=ROW) == {"y", "dx"}


def test_derivatives_along_a_tangent_have_no_bound():
    """They are not judged, and it is said why; those of several values are."""
    forward = Derivative(mode="forward")
    alone, several = (case_of(x, x, forward) for x in (ROW, [[1.0, 2.0], [3.0, 4.0]]))
    assert "a single value that is left as it is" in Promise.of(ExactCase(alone), LEFT).unjudged
    assert Promise.of(ExactCase(several), LEFT).unjudged == ""
