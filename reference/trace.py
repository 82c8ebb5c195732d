"""The intermediate values of a step, by the names that the derivations in `gradients` and `second_order` use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.averages import moves, published, stored_factor, update_fraction
from reference.batch_norm import moments, spread, train
from reference.batches import Batch, observe
from reference.renorm import correction
from reference.spec import Adjustment, Array, Parameters, Semantics, Spec, State, reduced_axes


@dataclass(frozen=True)
class Trace:
    """One step, by the names of the derivation in `gradients`, laid out as `batch.x`.

    Statistics keep the averaged axes with size 1.

    deviation: x - mu; 0 where a mask says that a value does not count.
    j: 0 where the mean inside the variance is stopped; otherwise 1.
    constant: the statistics used do not depend on x, and those of the batch are not returned.
    open: where y is above 0, which alone a fused activation lets through; None where there is none.
    """

    batch: Batch
    gamma: Array
    z: Array
    p: Array
    f: Array
    s: Array
    h: Array
    mu: Array
    deviation: Array
    w: Array
    k: Array
    c: Array
    a: Any
    b: Any
    j: int
    constant: bool
    open: Array | None = None

    def passed(self, values: Array) -> Array:
        """Return what reaches y from behind its activation, or the activation from y (BN-37)."""
        return values if self.open is None else np.where(self.open, values, 0)


def trace_training(
    x: Array,
    parameters: Parameters,
    state: State,
    spec: Spec,
    semantics: Semantics,
    mask: Array | None,
    adjustment: Adjustment | None,
    updating: bool,
) -> Trace:
    """Return the intermediate values of one training step."""
    if semantics.frozen == "infer" and not spec.trainable and spec.track:
        return trace_inference(x, parameters, state, spec, semantics)
    batch = observe(x, mask, spec, semantics)
    mu, biased = moments(batch.counted, batch.axes, batch.shares)
    mean, variance, a, b = *batch.offset(mu, biased), 1, 1
    f, shift = np.ones((), x.dtype), np.zeros((), x.dtype)
    if spec.renorm:
        overall = batch.overall(mean, state), spread(batch.overall(variance, state), spec, semantics)
        f, shift = (batch.align(v, spec) for v in correction(*overall, state, spec, semantics))
    if adjustment is not None:
        f, shift = f * adjustment.scale, shift * adjustment.scale + adjustment.bias
    if semantics.training_statistics == "moving":
        new = train(x, parameters, state, spec, semantics, mask=mask, updating=updating).state
        used = published(new, spec, semantics)
        mean, variance = batch.align(used.mean, spec), batch.align(used.variance, spec)
        a, b = _parts(batch, new, spec, semantics) if moves(x, spec, semantics, updating) else (0, 0)
    s = spread(variance, spec, semantics)
    h = s if semantics.epsilon_placement == "inside" else np.sqrt(variance)
    z = (batch.x - mean) / s
    w = 1 / batch.n if batch.shares is None else batch.shares
    j = int(semantics.variance_mean == "differentiated")
    k, c = batch.kept, 2 * batch.kept * (1 - batch.kept) ** 2
    gamma, p = _gamma(parameters, batch, spec), f * z + shift
    open_ = _open(gamma * p, parameters, batch, spec, semantics)
    return Trace(batch, gamma, z, p, f, s, h, mu, batch.counted - mu, w, k, c, a, b, j, constant=False, open=open_)


def trace_inference(x: Array, parameters: Parameters, state: State, spec: Spec, semantics: Semantics) -> Trace:
    """Return the intermediate values of inference, where every statistic is a constant if there is any (BN-33)."""
    if not spec.track:
        return trace_training(x, parameters, state, spec, semantics, None, None, False)
    one, zero = np.ones((), x.dtype), np.zeros((), x.dtype)
    batch = Batch(x, x, reduced_axes(spec, x.ndim), one, None, one, virtual=False)
    used = published(state, spec, semantics)
    s = spread(batch.align(used.variance, spec), spec, semantics)
    z = (x - batch.align(used.mean, spec)) / s
    gamma = _gamma(parameters, batch, spec)
    open_ = _open(gamma * z, parameters, batch, spec, semantics)
    return Trace(batch, gamma, z, z, one, s, s, zero, x, one, one, zero, 0, 0, 1, constant=True, open=open_)


def _open(scaled: Array, parameters: Parameters, batch: Batch, spec: Spec, semantics: Semantics) -> Array | None:
    if semantics.activation == "none":
        return None
    return (scaled if parameters.beta is None else scaled + batch.align(parameters.beta, spec)) > 0


def _gamma(parameters: Parameters, batch: Batch, spec: Spec) -> Array:
    return np.ones((), batch.x.dtype) if parameters.gamma is None else batch.align(parameters.gamma, spec)


def _parts(batch: Batch, new: State, spec: Spec, semantics: Semantics) -> tuple[Any, Any]:
    """Return a and b: what one unit of the batch's mean and of its biased variance adds to the statistics used."""
    a = np.asarray(update_fraction(new.updates, spec, semantics, batch.x.dtype.type))
    b = a * stored_factor(batch.n, spec, semantics)
    parts = published(State(a, b, new.updates), spec, semantics)
    return parts.mean, parts.variance
