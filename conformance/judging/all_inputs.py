"""What the reference expects where all inputs of a step move at once: of y, and of the new moving statistics."""

from __future__ import annotations

import numpy as np

from conformance.judging import carried
from conformance.judging.bounds import all_inputs as bounds
from conformance.judging.bounds.all_inputs import Inputs
from conformance.judging.bounds.tangents import TangentBounds
from conformance.judging.carried import StateWithError
from conformance.judging.step import ExpectedOutputs, ExpectedStep, Normalizing
from conformance.model.case import Derivative
from reference import State, Tangent, Tangents, batch_weights, infer_tangents, train_tangents
from reference.spec import Array


def forward(wanted: Derivative, step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    """Return the forward derivative of y, and of the new statistics where they are asked for."""
    q, t = step.exact_case, step.t
    x, tangent = q.array(t, "x"), q.direction(t)
    assert x is not None
    ask = train_tangents if step.training else infer_tangents
    rates = ask(x, tangent, q.parameters(t), before.state, step.spec, step.semantics)
    e = _e_train(step, tangent, used) if step.training else _e_infer(step, tangent, before, used)
    e = step.bounds("y_tangent").stored(rates.y, e)
    out = {"y_tangent": step.expected("y_tangent", rates.y, e)}
    return out | _moved(step, before, x, tangent, rates) if "moving_mean" in wanted.of else out


def _e_train(step: ExpectedStep, tangent: Tangent, used: Normalizing) -> Array:
    scale, shift = (_size(step, rate) for rate in (tangent.gamma, tangent.beta))
    return _along(step, "y_tangent", tangent, used).e(bounds.of_training(scale, shift), step.gamma)


def _along(step: ExpectedStep, output: str, tangent: Tangent, used: Normalizing) -> TangentBounds:
    none = np.zeros((), tangent.x.dtype)
    return TangentBounds(step.bounds(output), step.batch, used(output), none, tangent.x)


def _e_infer(step: ExpectedStep, tangent: Tangent, before: StateWithError, used: Normalizing) -> Array:
    none = np.zeros(step.kept, tangent.x.dtype)
    mean, variance = (none if rate is None else rate for rate in (tangent.mean, tangent.variance))
    given = StateWithError.exact(State(mean, variance, before.state.updates))
    rates = carried.debiased(step.bounds("moving_mean"), given, step.spec, step.semantics)
    scale, shift, mean, variance = (
        _size(step, rate) for rate in (tangent.gamma, tangent.beta, rates.state.mean, rates.state.variance)
    )
    inputs = Inputs(np.abs(step.gamma), np.abs(tangent.x), scale, shift, mean, variance)
    e_mean, e_variance = (step.align(e) for e in (rates.errors.mean, rates.errors.variance))
    off = inputs._replace(mean=mean + e_mean, variance=variance + e_variance)
    return bounds.e_infer(step.bounds("y_tangent"), used("y_tangent"), step.batch.x, inputs, off)


def _size(step: ExpectedStep, rate: Array | None) -> Array:
    return np.zeros((), step.exact_case.dtype) if rate is None else np.abs(step.align(rate))


def _moved(step: ExpectedStep, before: StateWithError, x: Array, tangent: Tangent, rates: Tangents) -> ExpectedOutputs:
    """Return the rates of the new statistics: exactly 0 where they are constants."""
    weight, of_variance = batch_weights(
        x, before.state, step.spec, step.semantics, step.promise.case.steps[step.t].update
    )
    values = weight * rates.mean, of_variance * rates.variance
    names, none = ("moving_mean_tangent", "moving_variance_tangent"), np.zeros(step.kept, x.dtype)
    if not (step.training and weight):
        return {name: step.expected(name, none, none) for name in names}
    factor = of_variance / weight
    entering = step.align(rates.mean), step.align(factor * rates.variance)
    along = _along(step, names[0], tangent, step.normalizing(before))
    errors = bounds.e_statistics(along, entering, float(weight), float(factor))
    return {
        name: step.expected(name, value, e.reshape(step.kept))
        for name, value, e in zip(names, values, errors, strict=True)
    }
