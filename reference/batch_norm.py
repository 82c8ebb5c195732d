"""Batch normalization: one training step, and inference. Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167.

Every function computes in the dtype of `x` and writes to none of its arguments. Arrays named in `State` and
`Parameters` have the kept shape; `N` below is the number of values averaged over for one kept position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.spec import Array, Parameters, Semantics, Spec, State, broadcast, reduced_axes


@dataclass(frozen=True)
class Training:
    """A training step's output, the new state, and the biased statistics of the batch (kept shape)."""

    y: Array
    state: State
    mean: Array
    variance: Array


def train(x: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics) -> Training:
    """Normalize a batch by its own statistics and move the moving statistics towards them.

    >>> x = np.array([[1.0], [3.0]])
    >>> step = train(x, Parameters(), State(np.zeros(1), np.ones(1)), Spec(epsilon=0.0, momentum=0.9), Semantics())
    >>> step.y.ravel().tolist(), step.state.mean.round(12).tolist(), step.state.variance.tolist()
    ([-1.0, 1.0], [0.2], [1.0])
    """
    mean, variance = moments(x, reduced_axes(spec, x.ndim))
    kept = state.mean.shape
    mean, variance = mean.reshape(kept), variance.reshape(kept)
    stored = variance * bessel(x.size // max(mean.size, 1)) if semantics.stored_variance == "unbiased" else variance
    new = update(state, mean, stored, spec, semantics)
    used = new if semantics.training_statistics == "moving" else State(mean, variance)
    y = normalize(x, used.mean, used.variance, parameters, spec)
    return Training(y, new, mean, variance)


def infer(x: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics) -> Array:
    """Normalize by the moving statistics, which stay as they are."""
    used = published(state, spec, semantics)
    return normalize(x, used.mean, used.variance, parameters, spec)


def moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return mean and biased variance over `axes`, kept as axes of size 1.

    Two passes, each corrected by the residual it leaves (Chan, Golub & LeVeque 1983, eq. 1.7).
    """
    mean = x.mean(axes, keepdims=True)
    mean = mean + (x - mean).mean(axes, keepdims=True)
    deviation = x - mean
    variance = (deviation * deviation).mean(axes, keepdims=True) - deviation.mean(axes, keepdims=True) ** 2
    return mean, variance


def normalize(x: Array, mean: Array, variance: Array, parameters: Parameters, spec: Spec) -> Array:
    """Return gamma * (x - mean) / sqrt(variance + epsilon) + beta."""
    mean, variance = broadcast(mean, spec, x.ndim), broadcast(variance, spec, x.ndim)
    y = (x - mean) / np.sqrt(variance + x.dtype.type(spec.epsilon))
    if parameters.gamma is not None:
        y = y * broadcast(parameters.gamma, spec, x.ndim)
    if parameters.beta is not None:
        y = y + broadcast(parameters.beta, spec, x.ndim)
    return y


def update(state: State, mean: Array, variance: Array, spec: Spec, semantics: Semantics) -> State:
    """Move the moving statistics by the update fraction towards those of a batch: old + fraction * (batch - old)."""
    t = state.updates + 1
    fraction = mean.dtype.type(update_fraction(t, spec, semantics))
    kept = mean.dtype.type(1) - fraction
    return State(kept * state.mean + fraction * mean, kept * state.variance + fraction * variance, t)


def update_fraction(t: int, spec: Spec, semantics: Semantics) -> float:
    """Return the weight of the t-th batch (t = 1, 2, …) in the moving statistics when it enters them."""
    if semantics.average == "none":
        return 0.0
    if spec.momentum is None:
        return 1 / t
    if t == 1 and semantics.average == "first_batch":
        return 1.0
    return float(np.dtype(semantics.fraction_dtype).type(1.0 - spec.momentum))


def published(state: State, spec: Spec, semantics: Semantics) -> State:
    """Return the statistics that inference uses: the moving ones, divided by 1 - momentum**t where zero-debiased."""
    if semantics.average != "zero_debiased" or state.updates == 0 or spec.momentum is None:
        return state
    weight = 1 - state.mean.dtype.type(spec.momentum) ** state.updates
    return State(state.mean / weight, state.variance / weight, state.updates)


def bessel(n: int) -> float:
    """Return N / (N - 1), the factor from biased to unbiased variance; 1 for a single value, as TensorFlow has it."""
    return n / max(n - 1, 1)
