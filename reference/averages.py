"""The kinds of average that moving statistics are: what enters them, with which weight, and what is read from them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from reference.batches import Batch, total
from reference.spec import Array, Semantics, Spec, State, kept_shape, reduced_axes


def initial(spec: Spec, semantics: Semantics, shape: tuple[int, ...], dtype: type[Any] = np.float64) -> State:
    """Return the moving statistics of a new layer for inputs of this shape (BN-13).

    >>> state = initial(Spec(), Semantics(initial_variance=0.0), (8, 2))
    >>> state.mean.tolist(), state.variance.tolist()
    ([0.0, 0.0], [0.0, 0.0])
    """
    kept = kept_shape(spec, shape)
    return State(np.full(kept, semantics.initial_mean, dtype), np.full(kept, semantics.initial_variance, dtype))


def update_fraction(t: int, spec: Spec, semantics: Semantics, dtype: type[Any] = np.float64) -> Any:
    """Return the weight of the t-th batch (t = 1, 2, …) in the moving statistics when it enters them (BN-8 to BN-10).

    dtype: what to compute in. The one place that knows the kinds of average.

    >>> float(update_fraction(4, Spec(momentum=None), Semantics())), float(update_fraction(4, Spec(), Semantics()))
    (0.25, 0.010000000000000009)
    """
    if semantics.average == "none":
        return dtype(0)
    if semantics.average == "first_batch" and t == 1:
        return dtype(1)
    if spec.momentum is None:
        return rounded(1 / dtype(t), semantics)
    return complement(spec.momentum, semantics, dtype)


def complement(momentum: float, semantics: Semantics, dtype: type[Any] = np.float64) -> Any:
    """Return 1 - momentum, rounded as this implementation rounds it (BN-10).

    >>> float(complement(0.99, Semantics(fraction_dtype="float32")))
    0.009999999776482582
    >>> float(complement(0.99, Semantics(fraction_dtype="float32", fraction_rounded="momentum")))
    0.009999990463256836
    """
    if semantics.fraction_rounded == "momentum":
        return 1 - rounded(dtype(momentum), semantics)
    return rounded(1 - dtype(momentum), semantics)


def rounded(value: Any, semantics: Semantics) -> Any:
    """Return the value rounded to float32 where the implementation does so, in the dtype it came in (BN-10).

    >>> float(rounded(np.float64(0.1), Semantics(fraction_dtype="float32")))
    0.10000000149011612
    """
    return type(value)(np.float32(value)) if semantics.fraction_dtype == "float32" else value


def published(state: State, spec: Spec, semantics: Semantics) -> State:
    """Return the statistics that inference uses: the moving ones, over 1 - momentum**t where zero-debiased (BN-9).

    >>> state, semantics = State(np.ones(1), np.ones(1), updates=2), Semantics(average="zero_debiased")
    >>> published(state, Spec(momentum=0.5), semantics).mean.tolist()
    [1.3333333333333333]
    """
    if semantics.average != "zero_debiased" or state.updates == 0 or spec.momentum is None:
        return state
    weight = 1 - state.mean.dtype.type(spec.momentum) ** state.updates
    return replace(state, mean=state.mean / weight, variance=state.variance / weight)


def moves(x: Array, spec: Spec, semantics: Semantics, updating: bool = True) -> bool:
    """Return whether a training step moves the state: not when frozen, not asked for, or kept as it was (BN-14, BN-25).

    One that is not kept never moves (BN-33), nor does a single value that is left as it is (BN-24).

    >>> moves(np.ones((2, 1)), Spec(trainable=False), Semantics())
    False
    """
    thawed = spec.trainable or semantics.frozen == "train"
    asked = updating or semantics.updates == "always"
    kept = spec.track and semantics.average != "none"
    left = (x.size == 0 and semantics.empty_batch == "keep") or passes(x, spec, semantics)
    return thawed and asked and kept and not left


def passes(x: Array, spec: Spec, semantics: Semantics) -> bool:
    """Return whether a training step leaves the batch as it is, of one value to average (BN-24).

    >>> alone = Semantics(single_value="identity")
    >>> passes(np.ones((1, 3)), Spec(), alone), passes(np.ones((2, 3)), Spec(), alone)
    (True, False)
    """
    if semantics.single_value != "identity" or (semantics.frozen == "infer" and not spec.trainable):
        return False
    return math.prod(x.shape[axis] for axis in reduced_axes(spec, x.ndim)) == 1


def entering(
    batch: Batch, mean: Array, variance: Array, state: State, spec: Spec, semantics: Semantics
) -> list[tuple[Array, Array]]:
    """Return the pairs of mean and variance that enter the moving statistics in turn, of the kept shape (BN-11, BN-21).

    mean, variance: of each virtual batch, on axis 1, or of the one batch.
    """
    n = batch.n
    pairs = [(mean, variance, n)]
    if batch.virtual and semantics.virtual_statistics == "pooled":
        shares = shares_of(n)
        pooled = shared(shares, mean)
        spread = shared(shares, variance + (mean - pooled) ** 2)  # the law of total variance
        pairs = [(pooled, spread, total(n, (1,)))]
    if batch.virtual and semantics.virtual_statistics == "sequential":
        pairs = [(mean[:, [j]], variance[:, [j]], n[:, [j]]) for j in range(mean.shape[1])]
    stored = [(m, v * stored_factor(count, spec, semantics)) for m, v, count in pairs]
    return [(batch.overall(m, state), batch.overall(v, state)) for m, v in stored]


def shares_of(n: Array) -> Array:
    """Return the part that each virtual batch (axis 1) is of what counts, n in it; of nothing all are alike (BN-21).

    >>> shares_of(np.array([[1.0, 3.0]])).tolist(), shares_of(np.array([[0.0, 0.0]])).tolist()
    ([[0.25, 0.75]], [[0.5, 0.5]])
    """
    whole, one = total(n, (1,)), total(np.ones_like(n), (1,))
    return np.where(whole == 0, 1 / one, n / np.where(whole == 0, 1, whole))


def shared(shares: Array, values: Array) -> Array:
    """Return the sum of shares * values over virtual batches; of no share it takes nothing, be the value NaN (BN-23).

    >>> shared(np.array([[0.0, 1.0]]), np.array([[np.nan, 3.0]])).tolist()
    [[3.0]]
    """
    return total(np.where(shares == 0, 0, shares * values), (1,))


def stored_factor(n: Array, spec: Spec, semantics: Semantics) -> Any:
    """Return what the biased variance is multiplied by when it is stored (BN-11, BN-24); 1 under renorm (BN-16).

    >>> float(stored_factor(np.float64(5), Spec(), Semantics(stored_variance="unbiased")))
    1.25
    """
    if semantics.stored_variance == "biased" or spec.renorm:
        return 1
    return n / (n - 1) if semantics.single_value == "nan" else bessel(n)


def bessel(n: Any) -> Any:
    """Return N / (N - 1), the factor from biased to unbiased variance; 1 for a single value or less (BN-11, BN-24).

    >>> float(bessel(5)), float(bessel(1)), float(bessel(1.5))
    (1.25, 1.0, 3.0)
    """
    several = np.where(n > 1, n, 2)
    return np.where(n > 1, several / (several - 1), 1)


def batch_weights(x: Array, state: State, spec: Spec, semantics: Semantics, updating: bool = True) -> tuple[Any, Any]:
    """Return how fast the new moving mean and variance change with the batch's mean and biased variance (BN-28).

    Of a batch of x without mask, virtual batches and renorm, whose variances are averaged.

    >>> unbiased = Semantics(stored_variance="unbiased")
    >>> [float(w) for w in batch_weights(np.ones((5, 1)), State(np.zeros(1), np.ones(1)), Spec(momentum=0.5), unbiased)]
    [0.5, 0.625]
    """
    dtype = state.mean.dtype.type
    if semantics.new_state == "stopped" or not moves(x, spec, semantics, updating):
        return dtype(0), dtype(0)
    fraction = update_fraction(state.updates + 1, spec, semantics, dtype)
    n = dtype(x.size) / dtype(max(state.mean.size, 1))
    return fraction, fraction * stored_factor(n, spec, semantics)
