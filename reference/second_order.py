"""Second derivatives of batch normalization, by hand: each line of `gradients`, differentiated once more (BN-29).

Move the inputs along a tangent: x by X, gamma by C, beta by B (dy, dmean, dvariance, r, d and masks stay). A dot
after a name is its rate of change along the tangent, all from the product and the quotient rule. Forwards:

    mu.  = sum(w X)                  V. = 2 sum(w (x - mu) X)         mu. drops out, as sum(w (x - mu)) = 0
    m.   = k mu.                     v. = k V. + c mu mu.
    M.   = a m.                      U. = b v.
    s.   = U. / (2h)                 h. = U. / (2h)                   the same for both places of epsilon
    z.   = (X - M. - z s.) / s
    y.   = C p + gamma f z. + B

This is the forward derivative of y, m and v. Backwards, with the unprimed lines of `gradients`:

    g.   = (C f y' - g s.) / s                                        from g s = gamma f y'
    M'.  = -sum(g.)                  U'. = -sum(g. z + g z.) / (2h) - U' h. / h
    m'.  = a M'.                     v'. = b U'.
    mu'. = k m'. + c (mu. v' + mu v'.)                                V'. = k v'.
    x'.  = g. + w (mu'. + 2 (X - j mu.) V' + 2 (x - mu) V'.)
    gamma'. = sum(y' f z.)           beta'. = 0

j = 1; 0 where the mean inside the variance is stopped, a constant to differentiation (BN-29).

x'. along (X, 0, 0) is the Hessian of sum(y * dy) times X. All three along (X, C, B) are what differentiating the
gradients again gives, in either mode, because the Hessian is symmetric. The gradient is linear in dy, so that along
a tangent of dy it is the gradient for that tangent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from reference.averages import passes, published
from reference.batches import average, join, quiet, split, total
from reference.gradients import Gradients, direct, returned
from reference.spec import Adjustment, Array, Parameters, Semantics, Spec, State
from reference.trace import Trace, trace_inference, trace_training


@dataclass(frozen=True)
class Tangent:
    """A direction to move x in, and what is of the kept shape: gamma, beta, the statistics given to infer. None: 0."""

    x: Array
    gamma: Array | None = None
    beta: Array | None = None
    mean: Array | None = None
    variance: Array | None = None


@dataclass(frozen=True)
class Tangents:
    """How fast the output and the returned statistics of the batch change along a tangent."""

    y: Array
    mean: Array
    variance: Array


@dataclass(frozen=True)
class _Forwards:
    """The tangent laid out as `Trace.batch.x`, and the forward lines."""

    x: Array
    gamma: Array
    beta: Array
    mu: Array
    mean: Array
    variance: Array
    s: Array
    z: Array


@quiet
def train_tangents(
    x: Array, tangent: Tangent, parameters: Parameters, state: State, spec: Spec, semantics: Semantics,
    *, mask: Array | None = None, adjustment: Adjustment | None = None, updating: bool = True,
) -> Tangents:  # fmt: skip
    """Return the forward derivative of one training step.

    >>> x = np.array([[1.0], [3.0]])
    >>> state = State(np.zeros(1), np.ones(1))
    >>> train_tangents(x, Tangent(np.ones((2, 1))), Parameters(), state, Spec(), Semantics()).mean.tolist()
    [1.0]
    """
    if passes(x, spec, semantics):
        return Tangents(tangent.x, tangent.x.reshape(state.mean.shape), np.zeros_like(state.mean))
    step = trace_training(x, parameters, state, spec, semantics, mask, adjustment, updating)
    return _tangents(x, step, _forwards(step, tangent, spec, semantics), state, spec, semantics)


@quiet
def infer_tangents(
    x: Array, tangent: Tangent, parameters: Parameters, state: State, spec: Spec, semantics: Semantics
) -> Tangents:
    """Return the forward derivative of inference; its statistics move as the tangent says.

    >>> state = State(np.zeros(1), np.ones(1))
    >>> infer_tangents(np.ones((1, 1)), Tangent(np.ones((1, 1))), Parameters(), state, Spec(epsilon=3.0), Semantics()).y
    array([[0.5]])
    """
    step = trace_inference(x, parameters, state, spec, semantics)
    given = _published(tangent, state, spec, semantics)
    return _tangents(x, step, _forwards(step, given, spec, semantics), state, spec, semantics)


def _published(tangent: Tangent, state: State, spec: Spec, semantics: Semantics) -> Tangent:
    """Return the tangent with that of the statistics used, to which the moving ones are proportional."""
    if tangent.mean is None and tangent.variance is None:
        return tangent
    rates = (np.zeros_like(state.mean) if rate is None else rate for rate in (tangent.mean, tangent.variance))
    used = published(replace(state, **dict(zip(("mean", "variance"), rates, strict=True))), spec, semantics)
    return replace(tangent, mean=used.mean, variance=used.variance)


@quiet
def train_second_order(
    x: Array, dy: Array, tangent: Tangent, parameters: Parameters, state: State, spec: Spec, semantics: Semantics,
    *, mask: Array | None = None, adjustment: Adjustment | None = None, updating: bool = True,
    dmean: Array | None = None, dvariance: Array | None = None,
) -> Gradients:  # fmt: skip
    """Return how fast the `train_gradients` of the same arguments change along a tangent.

    >>> x, dy = np.array([[1.0], [3.0], [8.0]]), np.array([[1.0], [0.0], [0.0]])
    >>> state = State(np.zeros(1), np.ones(1))
    >>> h = train_second_order(x, dy, Tangent(np.ones((3, 1))), Parameters(), state, Spec(), Semantics())
    >>> bool(abs(h.dx).max() < 1e-15)  # a shift of all values changes nothing
    True
    """
    if passes(x, spec, semantics):
        return Gradients(np.zeros_like(x), np.zeros_like(state.mean), np.zeros_like(state.mean))
    step = trace_training(x, parameters, state, spec, semantics, mask, adjustment, updating)
    return _second_order(x, dy, tangent, step, state, spec, semantics, dmean, dvariance)


@quiet
def infer_second_order(
    x: Array, dy: Array, tangent: Tangent, parameters: Parameters, state: State, spec: Spec, semantics: Semantics
) -> Gradients:
    """Return how fast the `infer_gradients` of the same arguments change along a tangent.

    >>> state, one = State(np.zeros(1), np.ones(1)), np.ones((1, 1))
    >>> infer_second_order(one, one, Tangent(one), Parameters(), state, Spec(epsilon=3.0), Semantics()).dgamma
    array([0.5])
    """
    step = trace_inference(x, parameters, state, spec, semantics)
    return _second_order(x, dy, tangent, step, state, spec, semantics, None, None)


def _forwards(step: Trace, tangent: Tangent, spec: Spec, semantics: Semantics) -> _Forwards:
    along = split(tangent.x, spec, semantics) if step.batch.virtual else tangent.x
    zero = np.zeros((), tangent.x.dtype)
    kept = (tangent.gamma, tangent.beta, tangent.mean, tangent.variance)
    gamma, beta, mean, variance = (zero if rate is None else step.batch.align(rate, spec) for rate in kept)
    if step.constant:
        s = variance / (2 * step.h)
        return _Forwards(along, gamma, beta, zero, zero, zero, s, (along - mean - step.z * s) / step.s)
    axes, shares = step.batch.axes, step.batch.shares
    mu = average(along, axes, shares)
    v = 2 * average(step.deviation * along, axes, shares)
    mean, variance = step.k * mu, step.k * v + step.c * step.mu * mu
    s = step.b * variance / (2 * step.h)
    z = (along - step.a * mean - step.z * s) / step.s
    return _Forwards(along, gamma, beta, mu, mean, variance, s, z)


def _tangents(x: Array, step: Trace, rate: _Forwards, state: State, spec: Spec, semantics: Semantics) -> Tangents:
    y = step.passed(rate.gamma * step.p + step.gamma * step.f * rate.z + rate.beta)
    y = join(y, x.shape, spec, semantics) if step.batch.virtual else y
    if step.constant:
        return Tangents(y, np.zeros_like(state.mean), np.zeros_like(state.mean))
    return Tangents(y, step.batch.overall(rate.mean, state), step.batch.overall(rate.variance, state))


def _second_order(
    x: Array, dy: Array, tangent: Tangent, step: Trace, state: State, spec: Spec, semantics: Semantics,
    dmean: Array | None, dvariance: Array | None,
) -> Gradients:  # fmt: skip
    rate = _forwards(step, tangent, spec, semantics)
    dy = step.passed(split(dy, spec, semantics) if step.batch.virtual else dy)
    g = direct(step, dy)
    dx = (rate.gamma * step.f * dy - g * rate.s) / step.s
    if not step.constant:
        dx = dx + _through_statistics(step, rate, g, dx, returned(step, g, dmean, dvariance, spec)[1])
    dx = join(dx, x.shape, spec, semantics) if step.batch.virtual else dx
    return Gradients(dx, step.batch.summed(dy * step.f * rate.z, state), np.zeros_like(state.mean))


def _through_statistics(step: Trace, rate: _Forwards, g: Array, g_rate: Array, variance_: Array) -> Array:
    """Return what is after g. in the line for x'., from v'."""
    axes, h2 = step.batch.axes, 2 * step.h
    used_ = -total(g * step.z, axes) / h2
    mean_rate = -step.a * total(g_rate, axes)
    variance_rate = step.b * (-total(g_rate * step.z + g * rate.z, axes) / h2 - used_ * rate.s / step.h)
    mu_rate = step.k * mean_rate + step.c * (rate.mu * variance_ + step.mu * variance_rate)
    through_variance = (rate.x - step.j * rate.mu) * variance_ + step.deviation * variance_rate
    return step.w * (mu_rate + 2 * step.k * through_variance)
