"""Weights of batch normalization layers: what they mean in one average, as another average keeps the same."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np

from reference.spec import Array

Average = Literal["exponential", "zero_debiased", "first_batch", "none"]
_GONE = 2.0**-54  # what 1 minus it is 1 in float64


class Weights(msgspec.Struct, frozen=True):
    """One layer's weights, in the kept shape, as it stores them; None for one that it does not have.

    renorm: the weights that batch renormalization adds, by name.
    batches: how many batches entered the statistics; 0 also if the layer does not count them.
    """

    gamma: Any = None
    beta: Any = None
    mean: Any = None
    variance: Any = None
    batches: int = 0
    renorm: dict[str, Any] = {}


def used(stored: Array, average: Average, momentum: float | None, batches: int) -> Array:
    """Return the statistic that inference uses, from the one that is stored.

    >>> [used(np.array([0.75]), kind, 0.5, 2).tolist() for kind in ("zero_debiased", "exponential")]
    [[1.0], [0.75]]
    """
    if average != "zero_debiased" or not batches or momentum is None:
        return stored
    return (stored / (1 - momentum**batches)).astype(stored.dtype)


def settled(momentum: float | None) -> int:
    """Return after how many batches a zero-debiased average is a plain one: 1 - momentum**t is 1 in float64.

    0 where that never happens: with momentum 1 nothing enters the average.

    >>> settled(0.99), settled(0.0), settled(1.0)
    (3725, 1, 0)
    """
    if momentum is None or not 0 <= momentum < 1:
        return 0
    return max(1, math.ceil(math.log(_GONE) / math.log(momentum))) if momentum else 1


def converted(
    weights: Weights, source: Average, target: Average, kept: tuple[float | None, float | None], *, cumulative: bool
) -> Weights:
    """Return weights so that another average goes on from the statistics that the first one infers with.

    kept: the momentum of either. cumulative: the target's average counts its batches to weigh them.
    A zero-debiased average gets a counter so large that it divides by 1; two of the same momentum share theirs. One
    that copies its first batch is told that it has had it.
    """
    if weights.mean is None or (source == target == "zero_debiased" and kept[0] == kept[1]):
        return weights
    counted = {"zero_debiased": settled(kept[1]), "first_batch": max(weights.batches, 1)}
    batches = counted.get(target, weights.batches if cumulative else 0)
    mean, variance = (used(a, source, kept[0], weights.batches) for a in (weights.mean, weights.variance))
    return msgspec.structs.replace(weights, mean=mean, variance=variance, batches=batches)


def filled(weights: Weights, *, scale: bool, center: bool) -> Weights:
    """Return weights with gamma 1 and beta 0 where a layer needs them, and without those that it does not have."""
    like = next(a for a in (weights.mean, weights.gamma, weights.beta) if a is not None)
    gamma = np.ones_like(like) if weights.gamma is None else weights.gamma
    beta = np.zeros_like(like) if weights.beta is None else weights.beta
    return msgspec.structs.replace(weights, gamma=gamma if scale else None, beta=beta if center else None)
