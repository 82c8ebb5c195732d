"""The reference in binary128, as it judges float64 where longdouble is narrow: every rule, against longdouble.

Its steps are held to exact rationals in `test_exact.py`; here are the derivatives, and what is not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from reference import (
    Parameters,
    Semantics,
    Spec,
    State,
    Tangent,
    infer,
    infer_gradients,
    infer_second_order,
    infer_tangents,
    train,
    train_gradients,
    train_second_order,
    train_tangents,
    train_third_order,
)
from reference.precision import working_dtype
from reference.spec import Array

BINARY128 = working_dtype(["float64"], wide=np.float64)
U = float(np.finfo(np.longdouble).eps) / 2


def derivatives(scenario: Any, dtype: Any) -> Iterator[Array]:
    """Yield every derivative of a scenario's first step and of inference, computed in a dtype."""
    data, spec, semantics = scenario.draw(dtype), scenario.spec, scenario.semantics
    x, layer = data.xs[0], (data.parameters, data.state, spec, semantics)
    tangent = Tangent(data.tangent, data.tangent_gamma, data.tangent_beta)
    given = {"mask": data.mask, "adjustment": data.adjustment, "updating": scenario.updating}
    through = {"dmean": data.dmean, "dvariance": data.dvariance}
    yield from astuple(train_gradients(x, data.dy, *layer, **given, **through))
    yield from astuple(train_tangents(x, tangent, *layer, **given))
    yield from astuple(train_second_order(x, data.dy, tangent, *layer, **given, **through))
    yield from astuple(train_third_order(x, data.dy, data.tangent, *layer, **given))
    yield from astuple(infer_gradients(x, data.dy, *layer))
    yield from astuple(infer_tangents(x, tangent, *layer))
    yield from astuple(infer_second_order(x, data.dy, tangent, *layer))


def longdouble(wide: Array) -> Array:
    """Return binary128 in longdouble, in two parts, as numpy-quaddtype 1.0.0 rounds to float64 on the way."""
    high = wide.astype(np.float64)
    return high + np.where(np.isfinite(wide), wide - high, 0).astype(np.float64).astype(np.longdouble)


def test_derivatives_are_longdoubles(scenario: Any) -> None:
    """Derivatives under every rule are within 200 units of longdouble's roundoff of longdouble's."""
    for narrow, wide in zip(derivatives(scenario, np.longdouble), derivatives(scenario, BINARY128), strict=True):
        assert wide.dtype.type is BINARY128
        expected, finite = longdouble(wide), np.isfinite(wide)
        assert (np.isfinite(narrow) == finite).all()
        assert abs(narrow - expected)[finite].max(initial=0) <= 200 * U * max(1, abs(expected)[finite].max(initial=0))


EDGES: dict[str, Callable[[Array], Array]] = {
    "empty": lambda x: x[:0],
    "one value": lambda x: x[:1],
    "NaN": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 4, np.nan, x),
    "infinity": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 4, np.inf, x),
    "constant": lambda x: 0 * x + 3,
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("semantics", [Semantics(), Semantics("unbiased", single_value="nan"), Semantics("unbiased")])
@pytest.mark.parametrize("size", [None, 1], ids=["whole", "virtual"])
def test_edges_are_float64s(edge: str, semantics: Semantics, size: int | None) -> None:
    """Empty batches, single values, NaN, infinities, and 0/0 are finite and not finite where they are in float64."""
    spec, found = Spec(epsilon=0.0, virtual_batch_size=size), []
    for dtype in (np.float64, BINARY128):
        x = EDGES[edge](np.arange(12.0).reshape(4, 3) ** 2).astype(dtype)
        kept = (1, 1, 3) if size else (3,)
        state = State(np.zeros(kept, dtype), np.ones(kept, dtype))
        step = train(x, Parameters(), state, spec, semantics)
        dx = train_gradients(x, x, Parameters(), state, spec, semantics).dx
        y = infer(x, Parameters(), state, spec, semantics)
        found.append([a.astype(np.float64) for a in (step.y, step.mean, step.state.mean, step.state.variance, dx, y)])
    for narrow, wide in zip(*found, strict=True):
        np.testing.assert_allclose(wide, narrow, rtol=1e-13, atol=1e-13)
