"""What the reference expects of a step's derivatives; gradients have a module of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from conformance.judging import all_inputs, not_finite
from conformance.judging.bounds import tangents
from conformance.judging.bounds.bounds import Affine
from conformance.judging.bounds.tangents import TangentBounds
from conformance.judging.carried import StateWithError
from conformance.judging.gradients import e_dx_by, gradients, summed
from conformance.judging.step import ExpectedOutputs, ExpectedStep, Normalizing
from conformance.model.case import Derivative
from conformance.model.outputs import BY_NAME
from reference import (
    Curvatures,
    Tangent,
    infer_second_order,
    infer_tangents,
    train_second_order,
    train_tangents,
    train_third_order,
)
from reference.spec import Array


def derivatives(step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    """Return the expected value of every derivative that the step asks for, by output."""
    out: ExpectedOutputs = {}
    for wanted in step.promise.case.steps[step.t].derivatives:
        out |= {name: one for name, one in _of(wanted, step, before, used).items() if _is_asked(wanted, name)}
    return out


def _is_asked(wanted: Derivative, output: str) -> bool:
    """Return whether an output is a derivative of y, or is taken with respect to one of the tensors wanted."""
    return BY_NAME[output].wrt in ("", *wanted.wrt)


def _of(wanted: Derivative, step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    if wanted.along == "all":
        return all_inputs.forward(wanted, step, before, used)
    if wanted.order == 1:
        return (gradients if wanted.mode == "reverse" else _forward)(step, before, used)
    if wanted.along == "parameters":
        return _along_parameters(step, before, used)
    if wanted.order == 2:
        return (_forward_twice if wanted.mode == "forward" else _second)(step, before, used)
    return _third(step, before, used)


# --- along a tangent ----------------------------------------------------------------------------------------------


def _forward(step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    q, t = step.exact_case, step.t
    x, tangent = q.array(t, "x"), q.array(t, "tangent")
    assert x is not None
    assert tangent is not None
    ask = train_tangents if step.training else infer_tangents
    value = ask(x, Tangent(tangent), q.parameters(t), before.state, step.spec, step.semantics).y
    bounds, u = step.bounds("y_tangent"), used("y_tangent")
    if step.training:
        e = TangentBounds(bounds, step.batch, u, np.zeros((), x.dtype), tangent).e_y(step.gamma, value)
    else:
        e = tangents.e_infer(bounds, u, step.gamma, tangent)
    kinds = partial(not_finite.of_dx_infer, tangent, value, step.gamma, u, step.kinds(before), bounds)
    return {"y_tangent": step.expected("y_tangent", value, e, kinds=None if step.training else kinds)}


def _second(step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    q, t = step.exact_case, step.t
    x, dy, tangent = (q.array(t, name) for name in ("x", "dy", "tangent"))
    assert x is not None
    assert dy is not None
    assert tangent is not None
    ask = train_second_order if step.training else infer_second_order
    exact = ask(x, dy, Tangent(tangent), q.parameters(t), before.state, step.spec, step.semantics)
    e_dx, e_dgamma = (_e_second_train if step.training else _e_second_infer)(step, exact.dx, dy, tangent, used)
    out = {"dx_tangent": step.expected("dx_tangent", exact.dx, e_dx)}
    if step.spec.scale:
        out["dgamma_tangent"] = step.stored("dgamma_tangent", exact.dgamma, summed(step, e_dgamma))
    return out


def _e_second_train(
    step: ExpectedStep, value: Array, dy: Array, tangent: Array, used: Normalizing
) -> tuple[Array, Array]:
    dx, dgamma = (
        TangentBounds(step.bounds(name), step.batch, used(name), dy, tangent)
        for name in ("dx_tangent", "dgamma_tangent")
    )
    return dx.e_dx(step.gamma, value), dgamma.e_mean_dgamma()


def _e_second_infer(
    step: ExpectedStep, value: Array, dy: Array, tangent: Array, used: Normalizing
) -> tuple[Array, Array]:
    """Return the bounds in inference: dx does not depend on x, so that its derivative is exactly 0."""
    bounds, u = step.bounds("dgamma_tangent"), used("dgamma_tangent")
    return np.zeros_like(value), tangents.e_infer_mean_dgamma(bounds, step.batch, u, dy, tangent)


# --- along gamma and beta -----------------------------------------------------------------------------------------


def _along_parameters(step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    """Return the derivatives of y and dx along a tangent of gamma and beta, in both of which they are linear.

    So they are y and dx with the tangent in place of gamma and beta, by any order of the operations, and as exact: what
    is differentiated is a sum, of which each term is multiplied by what the tangent has in gamma's place.
    """
    q, t = step.exact_case, step.t
    x, dy = q.array(t, "x"), q.array(t, "dy")
    assert x is not None
    assert dy is not None
    tangent = q.direction(t)
    ask, ask_y = (train_second_order, train_tangents) if step.training else (infer_second_order, infer_tangents)
    given = (tangent, q.parameters(t), before.state, step.spec, step.semantics)
    dx, y = ask(x, dy, *given).dx, ask_y(x, *given).y
    none = np.zeros((), x.dtype)
    c, b = (none if values is None else step.align(values) for values in (tangent.gamma, tangent.beta))
    e = step.bounds("y_tangent").e_y(step.batch.x, y, Affine(c, b, none, none), used("y_tangent"))
    e_dx = e_dx_by(step, before, used("dx_tangent"), "dx_tangent", c)
    return {"y_tangent": step.expected("y_tangent", y, e), "dx_tangent": step.expected("dx_tangent", dx, e_dx)}


# --- twice along it -----------------------------------------------------------------------------------------------


def _forward_twice(step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    exact, bounds = _twice_along(step, before, used)
    e = bounds("y_tangent2").e_y_twice(step.gamma, exact.y) if step.training else np.zeros_like(exact.y)
    return {"y_tangent2": step.expected("y_tangent2", exact.y, e)}


def _third(step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    exact, bounds = _twice_along(step, before, used)
    e = bounds("dx_tangent2").e_dx_twice(step.gamma, exact.dx) if step.training else np.zeros_like(exact.dx)
    out = {"dx_tangent2": step.expected("dx_tangent2", exact.dx, e)}
    if step.spec.scale:
        e = bounds("dgamma_tangent2").e_mean_dgamma_twice() if step.training else np.zeros(step.batch.mean.shape)
        out["dgamma_tangent2"] = step.stored("dgamma_tangent2", exact.dgamma, summed(step, e))
    return out


def _twice_along(
    step: ExpectedStep, before: StateWithError, used: Normalizing
) -> tuple[Curvatures, Callable[[str], TangentBounds]]:
    """Return the exact second derivatives along the tangent, and the bounds of an output.

    In inference y is linear in x, so that all of them are 0.
    """
    q, t = step.exact_case, step.t
    x, dy, tangent = (q.array(t, name) for name in ("x", "dy", "tangent"))
    assert x is not None
    assert tangent is not None
    dy = np.zeros_like(x) if dy is None else dy  # where only y's are asked for
    exact = Curvatures(np.zeros_like(x), np.zeros_like(x), np.zeros(step.kept, x.dtype))
    if step.training:
        exact = train_third_order(x, dy, tangent, q.parameters(t), before.state, step.spec, step.semantics)
    return exact, lambda output: TangentBounds(step.bounds(output), step.batch, used(output), dy, tangent)
