"""Batch renormalization in three flavours, and moving standard deviations. Ioffe 2017, https://arxiv.org/abs/1702.03275.

With s = sqrt(variance + epsilon) of the batch, mu its mean, and P, Q the statistics to correct towards:

    r = s / Q        d = (mu - P) / Q        y = gamma (r (x - mu) / s + d) + beta

so that without clipping y = gamma (x - P) / Q + beta. r and d are constants to the gradient.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from reference.averages import complement
from reference.spec import Array, Clipping, Renorm, Semantics, Spec, State, floored_epsilon


def started(state: State, spec: Spec, semantics: Semantics) -> Renorm:
    """Return the renorm state of a layer that has none yet, from its initial moving statistics (BN-16, BN-18, BN-19).

    TF 1.15: P is the moving mean, Q and the moving standard deviation are sqrt(variance), without epsilon. TF 1.7: all
    begin at 0, with weight 0. The paper has one pair of statistics, so that Q includes epsilon from the start.

    >>> started(State(np.ones(1), 4 * np.ones(1)), Spec(renorm=True), Semantics()).stddev.tolist()
    [2.0]
    """
    one, none = np.ones_like(state.mean), np.zeros_like(state.mean)
    if semantics.renorm == "tf_1_7":
        return Renorm(none, none, none, none, none)
    epsilon = state.mean.dtype.type(floored_epsilon(spec, semantics)) if semantics.renorm == "paper" else 0
    stddev = np.sqrt(state.variance + epsilon)
    return Renorm(state.mean, stddev, stddev, one, one)


def correction(mean: Array, stddev: Array, state: State, spec: Spec, semantics: Semantics) -> tuple[Array, Array]:
    """Return r and d, clipped, from the statistics of a batch and the renorm state before it (BN-16 to BN-19).

    >>> state = State(np.zeros(1), np.ones(1))
    >>> [v.tolist() for v in correction(np.ones(1), 3 * np.ones(1), state, Spec(renorm=True), Semantics())]
    [[3.0], [1.0]]
    """
    old = state.renorm or started(state, spec, semantics)
    toward, scale = old.mean, old.stddev
    if semantics.renorm == "tf_1_15":
        scale = np.maximum(scale, np.sqrt(stddev.dtype.type(floored_epsilon(spec, semantics))))
    if semantics.renorm == "tf_1_7":
        toward = toward + (1 - old.mean_weight) * mean
        scale = scale + (1 - old.stddev_weight) * stddev
    limits = spec.renorm_clipping or Clipping()
    r, d = stddev / scale, (mean - toward) / scale
    return clip(r, d, limits, semantics)


def clip(r: Array, d: Array, limits: Clipping, semantics: Semantics) -> tuple[Array, Array]:
    """Return r within rmin and rmax, and d within -dmax and dmax; rmax is last and wins (BN-17).

    In the paper rmin is 1 / rmax unless it is given.

    >>> [v.tolist() for v in clip(np.array([0.1, 9.0]), np.array([-3.0, 1.0]), Clipping(0.5, 2.0, 2.0), Semantics())]
    [[0.5, 2.0], [-2.0, 1.0]]
    """
    number: Any = r.dtype.type
    rmin = None if limits.rmin is None else number(limits.rmin)
    if rmin is None and limits.rmax is not None and semantics.renorm == "paper":
        rmin = 1 / number(limits.rmax)
    if rmin is not None:
        r = np.maximum(r, rmin)
    if limits.rmax is not None:
        r = np.minimum(r, number(limits.rmax))
    if limits.dmax is not None:
        d = np.minimum(np.maximum(d, -number(limits.dmax)), number(limits.dmax))
    return r, d


def renorm_update(state: State, mean: Array, stddev: Array, fraction: Any, spec: Spec, semantics: Semantics) -> State:
    """Return the state after a batch, of moving standard deviations and of renorm statistics (BN-12, BN-16 to BN-19).

    >>> state = State(np.zeros(1), np.ones(1))
    >>> new = renorm_update(state, np.ones(1), 3 * np.ones(1), 0.5, Spec(epsilon=0.0, renorm=True), Semantics())
    >>> new.variance.tolist(), new.renorm.moving_stddev.tolist()
    ([4.0], [2.0])
    """
    epsilon = mean.dtype.type(floored_epsilon(spec, semantics))
    t = state.updates + 1

    def moved(old: Array, value: Array | int, by: Any = fraction) -> Array:
        return (1 - by) * old + by * value

    if not spec.renorm:
        return State(moved(state.mean, mean), variance_of(moved(np.sqrt(state.variance + epsilon), stddev), epsilon), t)
    old = state.renorm or started(state, spec, semantics)
    if semantics.renorm == "paper":
        new_mean, spread = moved(state.mean, mean), moved(old.stddev, stddev)
        kept = replace(old, mean=new_mean, stddev=spread, moving_stddev=spread)
        return State(new_mean, variance_of(spread, epsilon), t, kept)
    by = complement(spec.renorm_momentum, semantics, mean.dtype.type)
    new = Renorm(
        moved(old.mean, mean, by),
        moved(old.stddev, stddev, by),
        moved(old.moving_stddev, stddev),
        moved(old.mean_weight, 1, by),
        moved(old.stddev_weight, 1, by),
    )
    if semantics.renorm == "tf_1_7":
        debiased = new.stddev / new.stddev_weight
        variance = moved(state.variance, debiased * debiased - epsilon)
        new = replace(new, moving_stddev=old.moving_stddev)
        return State(moved(state.mean, new.mean / new.mean_weight), variance, t, new)
    return State(moved(state.mean, mean), variance_of(new.moving_stddev, epsilon), t, new)


def variance_of(stddev: Array, epsilon: Any) -> Array:
    """Return the variance that a standard deviation with epsilon inside stands for, at least 0 (BN-12).

    >>> variance_of(np.array([2.0, 0.5]), 1.0).tolist()
    [3.0, 0.0]
    """
    return np.maximum(stddev * stddev - epsilon, 0)
