"""Where every bound is infinite, the reason is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case, Derivative, Step
from conformance.model.outcome import Outputs, Reply
from conformance.model.results import Result
from conformance.model.statement import stated
from reference import Spec

FLOAT32 = np.float32
MINE: dict[str, Any] = {"id": "mine", "packages": [], "documentation": "", "conventions": {}, "outputs": ("y", "dx")}


def case(size: float, spread: float = 1.0) -> Case:
    """Return a training step on four values about `size` and their gradient; beta is 0.5."""
    x = (size + spread * np.array([[-1.0], [-0.5], [0.5], [1.0]])).astype(FLOAT32)
    dy = np.array([[1.0], [-1.0], [0.5], [2.0]], FLOAT32)
    given = {"gamma": [2.0], "beta": [0.5], "moving_mean": [0.0], "moving_variance": [1.0]}
    tensors = {name: np.array(values, FLOAT32) for name, values in given.items()} | {"0.x": x, "0.dy": dy}
    return Case(Spec(axis=1), (Step("train", derivatives=(Derivative(),)),), tensors=tensors)


def judged(asked: Case, numerics: dict[str, Any], **answers: Any) -> dict[str, Result]:
    """Return the verdict on each output of an implementation that answers so."""
    statement = stated(MINE | {"rules": [{"cite": "here", "numerics": numerics}]}, "mine")
    tensors = {name: np.broadcast_to(np.asarray(a, FLOAT32), (4, 1)) for name, a in answers.items()}
    return {r.output: r for r in judge("c", ExactCase(asked), statement, Reply(0, "mine@cpu", (Outputs(tensors),)))}


@pytest.mark.parametrize("variance", ["two_pass", "stable", "fast"])
def test_an_overflow_is_the_reason_where_squares_may_overflow(variance):
    """Squares of 1e30 overflow in float32, not in wider arithmetic: whatever is answered, nothing was judged."""
    for y in (42, np.nan):
        found = judged(case(0.0, 1e30), {"variance": variance, "clamped": True}, y=y, dx=1)
        assert {r.verdict for r in found.values()} == {"INCONCLUSIVE"}
        assert found["y"].reason.startswith(
            "every bound is infinite: an intermediate, or the value as it is stored, may"
        )


def test_a_negative_variance_is_the_reason_where_it_is():
    """At mean 1e6 and deviation 1, E[x²] - E[x]² may be negative in float32, unless it is kept above 0."""
    near = case(1e6)
    found = judged(near, {"variance": "fast"}, y=1, dx=0)
    assert (
        found["y"].reason == "every bound is infinite: E[x²] - E[x]² may come out negative, of which there is no root"
    )
    assert judged(near, {"variance": "fast", "clamped": True}, y=1, dx=0)["y"].verdict == "PASS"
