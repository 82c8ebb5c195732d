"""Roundings are counted in every dtype: what a bound allows is in proportion to the unit roundoff."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.judging.bounds.bounds import Affine, BatchStatistics, Bounds
from conformance.judging.bounds.gradients import GradientBounds
from conformance.judging.bounds.tangents import TangentBounds, e_infer
from conformance.model.numerics import Numerics, Units
from reference import Semantics, Spec
from reference.batches import observe

WAYS = [
    Numerics(),
    Numerics(variance="stable", affine="folded", sums="tree"),
    Numerics(variance="fast", clamped=True, affine="folded", shift="apart"),
]


def allowed(dtype, numerics, *, outside=False):
    """Return what each formula allows for one batch, in unit roundoffs of this dtype."""
    rng, one = np.random.default_rng(0), np.ones((), np.longdouble)
    x, dy, tangent = (rng.normal(size=(64, 8)).astype(np.float32).astype(np.longdouble) + k for k in (3, 0, 0))
    batch = BatchStatistics.of(observe(x, None, Spec(axis=1), Semantics()))
    b = Bounds(numerics, Units.of(dtype, dtype, dtype, dtype), 64, 1e-3, outside=outside)
    used, none = b.used_of(batch), 0 * one
    given = b.used(batch.mean, batch.variance, none, none)
    gradient = GradientBounds(b, batch, used, dy, none)
    along = TangentBounds(b, batch, used, dy, tangent)
    y = batch.deviation * used.r + one
    found = {
        "mean": used.e_mean,
        "variance": b.e_variance(batch),
        "r": used.e_r,
        "r of given statistics": given.e_r,
        "spread": b.e_spread(batch.variance, b.e_variance(batch)),
        "y": b.e_y(x, y, Affine(one, one, none, none), used),
        "y of given statistics": b.e_y(x, y, Affine(one, one, none, none), given),
        "moving": b.e_moving(one, 2 * one, 1.5 * one, none, none, 0.5),
        "debiased": b.e_debiased(one, none, 0.5, 3),
        "dbeta": gradient.e_mean_dy,
        "dgamma": gradient.e_mean_dyz,
        "dx": gradient.e_dx_train(one, 1.0),
        "dx infer": gradient.e_dx_infer(one),
    }
    if not outside:
        found |= {
            "y_tangent": along.e_y(one, y),
            "dx_tangent": along.e_dx(one, y),
            "dgamma_tangent": along.e_mean_dgamma(),
            "y_tangent2": along.e_y_twice(one, y),
            "y_tangent infer": e_infer(b, given, one, tangent),
        }
    return {name: np.asarray(e / b.units.u, np.float64) for name, e in found.items()}


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="there is no wide longdouble to compare with")
@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("numerics", WAYS, ids=lambda n: n.label)
def test_float64_is_allowed_as_many_roundings_as_float32(numerics, outside):
    """Every bound of float64 is that of float32 times the ratio of their unit roundoffs: 1 + 2^-53 is never 1."""
    narrow, wide = (allowed(dtype, numerics, outside=outside) for dtype in ("float32", "float64"))
    for name, e in narrow.items():
        np.testing.assert_allclose(wide[name], e, rtol=2e-3, err_msg=name)
