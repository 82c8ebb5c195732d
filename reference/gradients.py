"""Gradients of batch normalization, by hand (BN-28).

What a training step computes for one kept position, line by line (w_i: shares of the values, 1/N without a mask):

    mu  = sum(w_i x_i)               V = sum(w_i (x_i - mu)²)
    m   = k mu                       v = k V + c mu² / 2             the statistics that are returned
    M   = a m + const                U = b v + const                 the statistics that are used
    z_i = (x_i - M) / s              s = sqrt(U + epsilon), h = s    or    s = sqrt(U) + epsilon, h = sqrt(U)
    p_i = f_i z_i + const            f = the adjustment's scale times renorm's r, constants (BN-16, BN-22)
    y_i = gamma p_i + beta

k = 1 and c = 0 unless a mask's denominator is offset: c = 2 k (1 - k)² (BN-23). Normalizing by batch statistics,
a = b = 1. By moving statistics just updated, a is the part of them that is this batch (the update fraction, over
1 - momentum**t where zero-debiased), and b = a N/(N-1) where that is stored.

Write y' for dL/dy, and so on. The same lines backwards, with ds/dU = 1/(2h) so that dz_i/dU = -z_i / (2 h s), and
dV/dx_i = 2 w_i (x_i - mu), because what reaches V through mu is -2 sum(w_i (x_i - mu)) = 0:

    beta' = sum(y')                  gamma' = sum(y' p)
    g_i   = gamma f_i y'_i / s       the part of x' that passes straight through z
    M'    = -sum(g)                  U' = -sum(g z) / (2h)
    m'    = a M' + dmean             v' = b U' + dvariance           given: gradients of the returned statistics
    mu'   = k m' + c mu v'           V' = k v'
    x'_i  = g_i + w_i (mu' + 2 (x_i - mu) V')

By batch statistics, x' = gamma/s (y' - mean(y') - z mean(y' z)): Ioffe & Szegedy 2015, section 3, with its sums
simplified. In inference M and U are constants, so x' = g. Behind an activation y' is 0 where that is (BN-37).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.averages import passes
from reference.batches import join, quiet, split, total
from reference.spec import Adjustment, Array, Parameters, Semantics, Spec, State, broadcast
from reference.trace import Trace, trace_inference, trace_training


@dataclass(frozen=True)
class Gradients:
    """dx has the input's shape; dgamma and dbeta have the kept shape."""

    dx: Array
    dgamma: Array
    dbeta: Array


@quiet
def train_gradients(
    x: Array, dy: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics,
    *, mask: Array | None = None, adjustment: Adjustment | None = None, updating: bool = True,
    dmean: Array | None = None, dvariance: Array | None = None,
) -> Gradients:  # fmt: skip
    """Return the gradients of sum(y * dy) for one training step.

    dmean, dvariance: added to that sum, with the returned mean and variance of the batch; of the kept shape.

    >>> import numpy as np
    >>> x, dy = np.array([[1.0], [3.0], [8.0]]), np.array([[1.0], [0.0], [0.0]])
    >>> g = train_gradients(x, dy, Parameters(), State(np.zeros(1), np.ones(1)), Spec(), Semantics())
    >>> bool(abs(g.dx.sum()) < 1e-15), g.dbeta.tolist()
    (True, [1.0])
    """
    if passes(x, spec, semantics):  # which is its own mean
        dx = dy if dmean is None else dy + broadcast(dmean, spec, x.ndim)
        return Gradients(dx, np.zeros_like(state.mean), np.zeros_like(state.mean))
    step = trace_training(x, parameters, state, spec, semantics, mask, adjustment, updating)
    dy = step.passed(split(dy, spec, semantics) if step.batch.virtual else dy)
    dx = backward(step, dy, dmean, dvariance, spec)
    dx = join(dx, x.shape, spec, semantics) if step.batch.virtual else dx
    return Gradients(dx, step.batch.summed(dy * step.p, state), step.batch.summed(dy, state))


@quiet
def infer_gradients(
    x: Array, dy: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics
) -> Gradients:
    """Return the gradients of sum(y * dy) for inference: the statistics are constants, where there are any (BN-33).

    >>> import numpy as np
    >>> x, dy = np.array([[1.0], [3.0]]), np.array([[1.0], [2.0]])
    >>> state = State(np.ones(1), 4 * np.ones(1))
    >>> g = infer_gradients(x, dy, Parameters(), state, Spec(epsilon=0.0), Semantics())
    >>> g.dx.ravel().tolist(), g.dgamma.tolist(), g.dbeta.tolist()
    ([0.5, 1.0], [2.0], [3.0])
    """
    step = trace_inference(x, parameters, state, spec, semantics)
    dy = step.passed(dy)
    dx = backward(step, dy, None, None, spec)
    return Gradients(dx, step.batch.summed(dy * step.p, state), step.batch.summed(dy, state))


def direct(step: Trace, dy: Array) -> Array:
    """Return g = gamma f y' / s, the part of x' that passes straight through z."""
    return step.gamma * step.f * dy / step.s


def backward(step: Trace, dy: Array, dmean: Array | None, dvariance: Array | None, spec: Spec) -> Array:
    """Return x', laid out as `step.batch.x`: the last five lines of the derivation."""
    g = direct(step, dy)
    if step.constant:
        return g
    mean_, variance_ = returned(step, g, dmean, dvariance, spec)
    mu_, v_ = step.k * mean_ + step.c * step.mu * variance_, step.k * variance_
    return g + np.where(step.w == 0, 0, step.w * (mu_ + 2 * step.deviation * v_))  # be the root without a derivative


def returned(step: Trace, g: Array, dmean: Array | None, dvariance: Array | None, spec: Spec) -> tuple[Array, Array]:
    """Return m' and v', the gradients of the statistics of each virtual batch, whose average is what is returned."""
    axes = step.batch.axes
    mean_, variance_ = -step.a * total(g, axes), -step.b * total(g * step.z, axes) / (2 * step.h)
    groups = step.mu.shape[1] if step.batch.virtual else 1
    if dmean is not None:
        mean_ = mean_ + step.batch.align(dmean, spec) / step.mu.dtype.type(groups)
    if dvariance is not None:
        variance_ = variance_ + step.batch.align(dvariance, spec) / step.mu.dtype.type(groups)
    return mean_, variance_
