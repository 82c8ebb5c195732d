"""Gradients of batch normalization, by hand.

With z = (x - M) / sqrt(V + epsilon) the normalized value, r = 1 / sqrt(V + epsilon) and y = gamma z + beta:

    dbeta = sum(dy)            dgamma = sum(dy z)

Inference holds M and V constant, so dx = gamma r dy. In training both move with x. Let a be the part of M and V that
comes from this batch (1 for batch statistics, the update fraction for moving ones), mu the batch mean, and n the
number of values averaged over (f = 1, or n / (n - 1) where the variance used is the unbiased one):

    dM/dx_i = a / n            dV/dx_i = a f 2 (x_i - mu) / n
    dx_i = gamma r [ dy_i - a mean(dy) - a f r (x_i - mu) mean(dy z) ]

which for a = f = 1 is Ioffe & Szegedy 2015, section 3, with its sums simplified.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.batch_norm import bessel, moments, published, train, update_fraction
from reference.spec import Array, Parameters, Semantics, Spec, State, broadcast, reduced_axes


@dataclass(frozen=True)
class Gradients:
    """dx has the input's shape; dgamma and dbeta have the kept shape."""

    dx: Array
    dgamma: Array
    dbeta: Array


def train_gradients(
    x: Array, dy: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics
) -> Gradients:
    """Return the gradients of sum(y * dy) for one training step.

    >>> x, dy = np.array([[1.0], [3.0], [8.0]]), np.array([[1.0], [0.0], [0.0]])
    >>> g = train_gradients(x, dy, Parameters(), State(np.zeros(1), np.ones(1)), Spec(), Semantics())
    >>> bool(abs(g.dx.sum()) < 1e-15), g.dbeta.tolist()
    (True, [1.0])
    """
    axes = reduced_axes(spec, x.ndim)
    mu, variance = moments(x, axes)
    mean, part, factor = mu, 1.0, 1.0
    if semantics.training_statistics == "moving":
        new = train(x, parameters, state, spec, semantics).state
        mean, variance = broadcast(new.mean, spec, x.ndim), broadcast(new.variance, spec, x.ndim)
        part = update_fraction(new.updates, spec, semantics)
        factor = bessel(x.size // max(mu.size, 1)) if semantics.stored_variance == "unbiased" else 1.0
    r = 1 / np.sqrt(variance + x.dtype.type(spec.epsilon))
    z = (x - mean) * r
    through_mean = part * dy.mean(axes, keepdims=True)
    through_variance = part * factor * r * (x - mu) * (dy * z).mean(axes, keepdims=True)
    dx = _gamma(parameters, spec, x) * r * (dy - through_mean - through_variance)
    return Gradients(dx, *_affine_gradients(z, dy, spec, state))


def infer_gradients(
    x: Array, dy: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics
) -> Gradients:
    """Return the gradients of sum(y * dy) for inference: the statistics are constants.

    >>> x, dy = np.array([[1.0], [3.0]]), np.array([[1.0], [2.0]])
    >>> state = State(np.ones(1), 4 * np.ones(1))
    >>> g = infer_gradients(x, dy, Parameters(), state, Spec(epsilon=0.0), Semantics())
    >>> g.dx.ravel().tolist(), g.dgamma.tolist(), g.dbeta.tolist()
    ([0.5, 1.0], [2.0], [3.0])
    """
    used = published(state, spec, semantics)
    r = 1 / np.sqrt(broadcast(used.variance, spec, x.ndim) + x.dtype.type(spec.epsilon))
    z = (x - broadcast(used.mean, spec, x.ndim)) * r
    return Gradients(_gamma(parameters, spec, x) * r * dy, *_affine_gradients(z, dy, spec, state))


def _gamma(parameters: Parameters, spec: Spec, x: Array) -> Array:
    return np.ones((), x.dtype) if parameters.gamma is None else broadcast(parameters.gamma, spec, x.ndim)


def _affine_gradients(z: Array, dy: Array, spec: Spec, state: State) -> tuple[Array, Array]:
    axes, kept = reduced_axes(spec, z.ndim), state.mean.shape
    return (dy * z).sum(axes).reshape(kept), dy.sum(axes).reshape(kept)
