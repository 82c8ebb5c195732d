"""Third derivatives of batch normalization, by hand: the lines of `gradients`, as series along a tangent (BN-29).

Move x to x + t X and write each name of `gradients` as the first coefficients of its Taylor series in t,
q = q0 + q1 t + q2 t² (gamma, y', r, d and masks stay). Forwards, with mu1 = sum(w X), and j as in `second_order`:

    mu = mu0 + mu1 t                 V = V0 + 2 sum(w (x - mu) X) t + sum(w X (X - j mu1)) t²
    m  = k mu                        v = k V + c mu² / 2
    M  = a m + const                 U = b v + const
    s1 = U1 / (2h)                   s2 = (U2 - s1²) / (2h)          from h² = U, or U + epsilon; h1 = s1, h2 = s2
    z  = (x + t X - M) / s

Then every line backwards, as it stands in `gradients`, with products and quotients of series. The second derivative
of what has the series q is 2 q2: of y it is the derivative of the derivative along X, of dx and dgamma the third
derivatives of sum(y * dy), twice along X. In inference all three are 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.averages import passes
from reference.batches import average, join, quiet, split, total
from reference.spec import Adjustment, Array, Parameters, Semantics, Spec, State
from reference.trace import Trace, trace_training

Series = tuple[Array, Array, Array]
"""A Taylor series: the coefficients of 1, t and t²."""


@dataclass(frozen=True)
class Curvatures:
    """Second derivatives along a tangent. y and dx have the input's shape, dgamma has the kept shape."""

    y: Array
    dx: Array
    dgamma: Array


@quiet
def train_third_order(
    x: Array, dy: Array, tangent: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics,
    *, mask: Array | None = None, adjustment: Adjustment | None = None, updating: bool = True,
) -> Curvatures:  # fmt: skip
    """Return the second derivatives, along a tangent of x, of y and of the `train_gradients` of the same arguments.

    >>> x, dy = np.array([[1.0], [3.0], [8.0]]), np.array([[1.0], [0.0], [0.0]])
    >>> of_a_shift = train_third_order(x, dy, np.ones((3, 1)), Parameters(), State(x[0], x[0]), Spec(), Semantics())
    >>> bool(abs(of_a_shift.y).max() + abs(of_a_shift.dx).max() < 1e-15)
    True
    """
    step = trace_training(x, parameters, state, spec, semantics, mask, adjustment, updating)
    if step.constant or passes(x, spec, semantics):
        return Curvatures(np.zeros_like(x), np.zeros_like(x), np.zeros_like(state.mean))
    dy, tangent = (split(array, spec, semantics) for array in (dy, tangent))
    dy = step.passed(dy)
    mu, s, h, away = _spreads(step, tangent)
    z = _over((step.z * step.s, tangent - step.a * step.k * mu[1], mu[2]), s)
    y, dx = step.passed(2 * step.gamma * step.f * z[2]), 2 * _backwards(step, dy, z, s, h, mu, away)
    y, dx = (join(array, x.shape, spec, semantics) for array in (y, dx))
    return Curvatures(y, dx, step.batch.summed(2 * dy * step.f * z[2], state))


def _spreads(step: Trace, along: Array) -> tuple[Series, Series, Series, Series]:
    """Return mu, s, h and x - mu, each as a series in t."""
    axes, shares, zero = step.batch.axes, step.batch.shares, np.zeros((), along.dtype)
    mu = average(along, axes, shares)
    away = along - step.j * mu
    v1 = step.k * 2 * average(step.deviation * along, axes, shares) + step.c * step.mu * mu
    v2 = step.k * average(along * away, axes, shares) + step.c * mu * mu / 2
    s1 = step.b * v1 / (2 * step.h)
    s2 = (step.b * v2 - s1 * s1) / (2 * step.h)
    return (step.mu, mu, zero), (step.s, s1, s2), (step.h, s1, s2), (step.deviation, away, zero)


def _backwards(step: Trace, dy: Array, z: Series, s: Series, h: Series, mu: Series, away: Series) -> Array:
    """Return the coefficient of t² in the line for x'."""
    axes, zero = step.batch.axes, np.zeros((), dy.dtype)
    g = _over((step.gamma * step.f * dy, zero, zero), s)
    q0, q1, q2 = (-step.b * total(each, axes) / 2 for each in _times(g, z))
    of_v = _over((q0, q1, q2), h)
    of_mu = step.c * _times(mu, of_v)[2] - step.k * step.a * total(g[2], axes)
    return g[2] + step.w * (of_mu + 2 * step.k * _times(away, of_v)[2])


def _times(p: Series, q: Series) -> Series:
    return p[0] * q[0], p[0] * q[1] + p[1] * q[0], p[0] * q[2] + p[1] * q[1] + p[2] * q[0]


def _over(p: Series, q: Series) -> Series:
    first = p[0] / q[0]
    second = (p[1] - first * q[1]) / q[0]
    return first, second, (p[2] - first * q[2] - second * q[1]) / q[0]
