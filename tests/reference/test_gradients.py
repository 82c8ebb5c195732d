"""The hand-derived gradients and second derivatives, against JAX's autodiff and against finite differences."""

from __future__ import annotations

from dataclasses import replace
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
from reference.spec import Array

STEP = 2.0**-22


def options(scenario: Any, data: Any) -> dict[str, Any]:
    """Return the keyword arguments of a training step."""
    return {"mask": data.mask, "adjustment": data.adjustment, "updating": scenario.updating}


def closeness(got: Array, expected: Any) -> float:
    """Return the largest difference over the largest magnitude."""
    expected = np.asarray(expected)
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-3))


def gradients(scenario: Any, data: Any, x: Array | None = None, parameters: Parameters | None = None) -> Any:
    """Return the gradients of all three outputs of a scenario, at its inputs or at others."""
    x, parameters = data.xs[0] if x is None else x, parameters or data.parameters
    given = {**options(scenario, data), "dmean": data.dmean, "dvariance": data.dvariance}
    return train_gradients(x, data.dy, parameters, data.state, scenario.spec, scenario.semantics, **given)


def holds_constant(scenario: Any) -> bool:
    """Return whether the derivative takes for constant what a difference moves: renorm's r and d, a stopped mean."""
    return scenario.spec.renorm or scenario.semantics.variance_mean == "stopped"


def objective(scenario: Any, data: Any, x: Array, parameters: Parameters) -> Any:
    """Return what `gradients` differentiates, from the forward step; renorm's r and d move with x here."""
    step = train(x, parameters, data.state, scenario.spec, scenario.semantics, **options(scenario, data))
    return (step.y * data.dy).sum() + (step.mean * data.dmean).sum() + (step.variance * data.dvariance).sum()


def moved(data: Any, by: Any) -> tuple[Array, Parameters]:
    """Return x and the parameters, moved along the tangent."""
    gamma, beta = data.parameters.gamma, data.parameters.beta
    return data.xs[0] + by * data.tangent, Parameters(
        None if gamma is None else gamma + by * data.tangent_gamma,
        None if beta is None else beta + by * data.tangent_beta,
    )


def tangent(data: Any) -> Tangent:
    """Return the direction of `moved`."""
    gamma, beta = data.parameters.gamma, data.parameters.beta
    along = data.tangent_gamma, data.tangent_beta
    return Tangent(data.tangent, None if gamma is None else along[0], None if beta is None else along[1])


@pytest.mark.framework("jax")
def test_gradients_match_autodiff(differentiated: Any, helper: Any) -> None:
    """Dx, dgamma and dbeta, with cotangents on the returned statistics too, are those of JAX to 1e-12."""
    data = differentiated.draw()
    expected, _, _ = helper("autodiff").derivatives(differentiated, data)
    got = gradients(differentiated, data)
    for mine, theirs in zip((got.dx, got.dgamma, got.dbeta), expected, strict=True):
        assert closeness(mine, theirs) < 1e-12


@pytest.mark.framework("jax")
def test_second_order_matches_autodiff(differentiated: Any, helper: Any) -> None:
    """Forward and forward-over-reverse derivatives along x, gamma and beta together are those of JAX to 1e-11."""
    data = differentiated.draw()
    _, second, forward = helper("autodiff").derivatives(differentiated, data)
    given = {**options(differentiated, data), "dmean": data.dmean, "dvariance": data.dvariance}
    step = (data.parameters, data.state, differentiated.spec, differentiated.semantics)
    got = train_second_order(data.xs[0], data.dy, tangent(data), *step, **given)
    for mine, theirs in zip((got.dx, got.dgamma, got.dbeta), second, strict=True):
        assert closeness(mine, theirs) < 1e-11
    rates = train_tangents(data.xs[0], tangent(data), *step, **options(differentiated, data))
    for mine, theirs in zip((rates.y, rates.mean, rates.variance), forward, strict=True):
        assert closeness(mine, theirs) < 1e-12


@pytest.mark.framework("jax")
def test_third_order_matches_autodiff(differentiated: Any, helper: Any) -> None:
    """The second derivatives of y, dx and dgamma along a tangent are those of JAX, forward over forward, to 1e-10."""
    data = differentiated.draw()
    step = (data.parameters, data.state, differentiated.spec, differentiated.semantics)
    got = train_third_order(data.xs[0], data.dy, data.tangent, *step, **options(differentiated, data))
    expected = helper("autodiff").curvatures(differentiated, data)
    for mine, theirs in zip((got.y, got.dx, got.dgamma), expected, strict=True):
        assert closeness(mine, theirs) < 1e-10


def test_third_order_matches_finite_differences(scenario: Any) -> None:
    """They are also the central differences of the second derivatives along the tangent of x, to 1e-6."""
    data = scenario.draw()
    if holds_constant(scenario):
        return
    step, given = (data.parameters, data.state, scenario.spec, scenario.semantics), options(scenario, data)
    x, along, h = data.xs[0], Tangent(data.tangent), 1e-5
    got = train_third_order(x, data.dy, data.tangent, *step, **given)
    points = [x + by * data.tangent for by in (h, -h)]
    ahead, behind = (train_second_order(point, data.dy, along, *step, **given) for point in points)
    faster, slower = (train_tangents(point, along, *step, **given) for point in points)
    assert closeness(got.y, (faster.y - slower.y) / (2 * h)) < 1e-6
    for name in ("dx", "dgamma"):
        difference = (getattr(ahead, name) - getattr(behind, name)) / (2 * h)
        assert closeness(getattr(got, name), difference) < 1e-6, name


def test_gradients_match_finite_differences(scenario: Any) -> None:
    """The gradient along a random direction is the central difference of the step itself, to 1e-6."""
    data = scenario.draw(np.longdouble)
    if holds_constant(scenario):
        assert scenario.name.startswith(("renorm", "virtual-renorm", "adjusted-renorm", "stopped"))
        return
    got = gradients(scenario, data)
    expected = (got.dx * data.tangent).sum()
    if data.parameters.gamma is not None:
        expected += (got.dgamma * data.tangent_gamma).sum()
    if data.parameters.beta is not None:
        expected += (got.dbeta * data.tangent_beta).sum()
    h = np.longdouble(STEP)
    ahead, behind = (objective(scenario, data, *moved(data, by)) for by in (h, -h))
    assert abs((ahead - behind) / (2 * h) - expected) < 1e-9 * max(1, abs(expected))


def test_second_order_matches_finite_differences(scenario: Any) -> None:
    """Second derivatives agree with central differences of the gradients in float64 to 1e-6, for random cotangents."""
    data = scenario.draw()
    if holds_constant(scenario):
        return
    given = {**options(scenario, data), "dmean": data.dmean, "dvariance": data.dvariance}
    step = (data.parameters, data.state, scenario.spec, scenario.semantics)
    got = train_second_order(data.xs[0], data.dy, tangent(data), *step, **given)
    h = 1e-5
    ahead, behind = (gradients(scenario, data, *moved(data, by)) for by in (h, -h))
    for name in ("dx", "dgamma", "dbeta"):
        difference = (getattr(ahead, name) - getattr(behind, name)) / (2 * h)
        assert closeness(getattr(got, name), difference) < 1e-6, name
    assert abs(data.dy.sum()) > 0.01


def test_forward_derivatives_match_finite_differences(scenario: Any) -> None:
    """The forward derivatives of the output and of the returned statistics are central differences of the step."""
    data = scenario.draw()
    if holds_constant(scenario):
        return
    step, h = (data.state, scenario.spec, scenario.semantics), 1e-5
    given = options(scenario, data)
    rates = train_tangents(data.xs[0], tangent(data), data.parameters, *step, **given)
    ahead, behind = (train(*moved(data, by), *step, **given) for by in (h, -h))
    for name in ("y", "mean", "variance"):
        difference = (getattr(ahead, name) - getattr(behind, name)) / (2 * h)
        assert closeness(getattr(rates, name), difference) < 1e-7, name


@pytest.mark.parametrize("flavour", ["tf_1_15", "tf_1_7", "paper"])
def test_renorm_holds_its_corrections_constant(flavour: Any, scenario_named: Any) -> None:
    """Under renorm the derivatives are r times the plain ones: r and d move nothing, in either order."""
    renormed = scenario_named("renorm")
    data, plain = renormed.draw(), replace(renormed.spec, renorm=False)
    semantics = replace(renormed.semantics, renorm=flavour)
    started = train(data.xs[1], data.parameters, data.state, renormed.spec, semantics).state
    arguments = (data.xs[0], data.dy, data.parameters, started)
    corrected, batch = (train_gradients(*arguments, spec, semantics) for spec in (renormed.spec, plain))
    r = corrected.dx / batch.dx
    assert np.ptp(r, axis=0).max() < 1e-10
    assert np.abs(r - 1).max() > 1e-3
    arguments = (data.xs[0], data.dy, Tangent(data.tangent), data.parameters, started)
    corrected, batch = (train_second_order(*arguments, spec, semantics) for spec in (renormed.spec, plain))
    assert np.abs(corrected.dx - r * batch.dx).max() < 1e-12
    assert np.abs(corrected.dgamma - r[0] * batch.dgamma).max() < 1e-12


def test_inference_derivatives_match_finite_differences(scenario: Any) -> None:
    """In inference too, first and second derivatives are the central differences of what they differentiate."""
    data, spec, semantics = scenario.draw(), scenario.spec, scenario.semantics
    state = train(data.xs[1], data.parameters, data.state, spec, semantics).state
    along, h = tangent(data), 1e-5
    got = infer_gradients(data.xs[0], data.dy, data.parameters, state, spec, semantics)
    rates = infer_tangents(data.xs[0], along, data.parameters, state, spec, semantics)
    second = infer_second_order(data.xs[0], data.dy, along, data.parameters, state, spec, semantics)
    points = [moved(data, by) for by in (h, -h)]
    ys = [infer(x, parameters, state, spec, semantics) for x, parameters in points]
    firsts = [infer_gradients(x, data.dy, parameters, state, spec, semantics) for x, parameters in points]
    assert closeness(rates.y, (ys[0] - ys[1]) / (2 * h)) < 1e-8
    assert not rates.mean.any()
    assert not rates.variance.any()
    for name in ("dx", "dgamma", "dbeta"):
        difference = (getattr(firsts[0], name) - getattr(firsts[1], name)) / (2 * h)
        assert closeness(getattr(second, name), difference) < 1e-8, name
    along_zero = replace(data, tangent_gamma=0 * data.tangent_gamma, tangent_beta=0 * data.tangent_beta)
    ys = [infer(moved(along_zero, by)[0], data.parameters, state, spec, semantics) for by in (h, -h)]
    slope = ((ys[0] - ys[1]) * data.dy).sum() / (2 * h)
    assert abs((got.dx * data.tangent).sum() - slope) < 1e-8 * max(1, abs(slope))
    affine = data.parameters.gamma is not None and data.parameters.beta is not None
    if affine and semantics.activation == "none":
        bare = infer(data.xs[0], Parameters(), state, spec, semantics)
        kept_axes_sum = (bare * data.dy).sum()
        assert abs(got.dgamma.sum() - kept_axes_sum) < 1e-12 * max(1, abs(kept_axes_sum))
        assert abs(got.dbeta.sum() - data.dy.sum()) < 1e-12 * max(1, abs(data.dy.sum()))


def test_a_step_asks_for_its_update_unless_told_otherwise(scenario_named: Any) -> None:
    """The derivatives of a step that says nothing of updating are those of one that asks for it."""
    scenario = scenario_named("moving")
    data, asked = scenario.draw(), {"updating": True}
    step = (data.parameters, data.state, scenario.spec, scenario.semantics)
    arguments = (data.xs[0], data.dy, *step)
    assert np.array_equal(train_gradients(*arguments).dx, train_gradients(*arguments, **asked).dx)
    arguments = (data.xs[0], tangent(data), *step)
    assert np.array_equal(train_tangents(*arguments).y, train_tangents(*arguments, **asked).y)
    arguments = (data.xs[0], data.dy, tangent(data), *step)
    assert np.array_equal(train_second_order(*arguments).dx, train_second_order(*arguments, **asked).dx)
    arguments = (data.xs[0], data.dy, data.tangent, *step)
    assert np.array_equal(train_third_order(*arguments).dx, train_third_order(*arguments, **asked).dx)
    assert train(data.xs[0], *step).state.updates == 1


def test_gradients_match_complex_step() -> None:
    """The complex step, exact to rounding, agrees on a plain layer: x + ih differentiates without a difference."""
    rng = np.random.default_rng(5)
    x, dy, along = (rng.normal(size=(7, 2)) for _ in range(3))
    state, h, epsilon = State(np.zeros(2), np.ones(2)), 1e-30, 1e-3
    z = x + 1j * h * along
    deviation = z - z.mean(0)
    y = deviation / np.sqrt((deviation * deviation).mean(0) + epsilon)
    got = train_gradients(x, dy, Parameters(), state, Spec(epsilon=epsilon), Semantics())
    assert abs((got.dx * along).sum() - (y * dy).sum().imag / h) < 1e-13
