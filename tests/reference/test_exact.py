"""The reference against scalar loops in exact rationals: every rule, three training steps and inference."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from reference import infer, train
from reference.precision import working_dtype
from reference.spec import Array


def furthest(got: Array, expected: dict[Any, Fraction], exact: Any) -> float:
    """Return the largest difference over max(1, largest magnitude), of arrays and of dictionaries in the same order."""
    pairs = list(zip(got.ravel(), expected.values(), strict=True))
    largest = max([Fraction(1), *(abs(e) for _, e in pairs)])
    return float(max(abs(exact.number(g) - e) for g, e in pairs) / largest)


PRECISIONS = {np.float64: 2e-15, np.longdouble: 2e-18, working_dtype(["float64"], wide=np.float64): 5e-33}


@pytest.mark.parametrize(("dtype", "allowed"), PRECISIONS.items(), ids=[d.__name__ for d in PRECISIONS])
def test_steps_are_those_of_exact_rationals(scenario: Any, helper: Any, dtype: Any, allowed: float) -> None:
    """Outputs, returned statistics and every state variable are the exact ones, to a few units of roundoff."""
    exact, data, spec, semantics = helper("exact"), scenario.draw(dtype), scenario.spec, scenario.semantics
    layer, state = exact.Layer(scenario, data), data.state
    for x in data.xs:
        given = {"mask": data.mask, "adjustment": data.adjustment, "updating": scenario.updating}
        step = train(x, data.parameters, state, spec, semantics, **given)
        y, mean, variance = layer.train(x)
        state = step.state
        assert furthest(step.y, y, exact) < allowed
        assert furthest(step.mean, mean, exact) < allowed
        assert furthest(step.variance, variance, exact) < allowed
        assert furthest(state.mean, layer.mean, exact) < allowed
        assert furthest(state.variance, layer.variance, exact) < allowed
        assert state.updates == layer.t
        if state.renorm is not None:
            assert furthest(state.renorm.mean, layer.p, exact) < allowed
            assert furthest(state.renorm.stddev, layer.q, exact) < allowed
            if semantics.renorm == "tf_1_7":
                assert furthest(state.renorm.mean_weight, layer.weight, exact) < allowed
                assert furthest(state.renorm.stddev_weight, layer.weight, exact) < allowed
            else:
                assert furthest(state.renorm.moving_stddev, layer.deviation, exact) < allowed
    assert furthest(infer(x, data.parameters, state, spec, semantics), layer.infer(x), exact) < 2 * allowed


def test_a_renorm_state_exists_exactly_under_renorm(scenario: Any) -> None:
    """A plain layer keeps no renorm state, and a renorm layer does from its first step."""
    data = scenario.draw()
    step = train(data.xs[0], data.parameters, data.state, scenario.spec, scenario.semantics, mask=data.mask)
    assert (step.state.renorm is not None) == scenario.spec.renorm
