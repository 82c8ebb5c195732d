"""The state of a layer over several steps, with the error that may have accumulated in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from conformance.judging import not_finite
from conformance.judging.bounds import renorm
from conformance.judging.bounds.bounds import BatchStatistics, Bounds
from conformance.judging.bounds.renorm import Approximate
from conformance.judging.not_finite import NOTHING, Kinds
from reference import Semantics, Spec, State, batches
from reference.averages import published, shared, shares_of, stored_factor, update_fraction
from reference.batch_norm import spread, update
from reference.spec import Array, kept_shape


@dataclass(frozen=True)
class StateWithError:
    """A state, and how far each of its arrays may be off.

    state: the exact one.
    errors: how far each array may be off, as a `State` too. Its renorm is None where that has not begun.
    kinds: where the mean and variance must not be finite; None: nowhere.
    doubtful: where they may be NaN, since a NaN entered with fraction 0 (BN-23); None: nowhere.
    """

    state: State
    errors: State
    kinds: Kinds | None = None
    doubtful: Array | None = None

    @classmethod
    def exact(cls, state: State) -> StateWithError:
        """Return a state without error."""
        none = np.zeros_like(state.mean)
        renorm = None if state.renorm is None else type(state.renorm)(none, none, none, none, none)
        kinds = Kinds(not_finite.of(state.mean), not_finite.of(state.variance))
        there = kinds.mean.any() or kinds.variance.any()
        return cls(state, State(none, none, state.updates, renorm), kinds if there else None)


def overall(b: Bounds, batch: BatchStatistics, spec: Spec) -> tuple[Approximate, Approximate]:
    """Return the mean and the biased variance of a batch, averaged over its virtual batches, in the kept shape."""
    e_mean = b.e_mean(batch)
    e_variance = b.e_variance(batch)
    return flat(b, batch, spec, batch.mean, e_mean), flat(b, batch, spec, batch.variance, e_variance)


def flat(b: Bounds, batch: BatchStatistics, spec: Spec, values: Array, e: Array) -> Approximate:
    """Return a statistic of a batch with its error, averaged over its virtual batches, in the kept shape."""
    e = np.broadcast_to(e, values.shape)
    if batch.observed.virtual:
        values, e = b.e_overall(values, e)
    kept = kept_shape(spec, batch.shape)
    return Approximate(values.reshape(kept), e.reshape(kept))


def moved(
    b: Bounds, batch: BatchStatistics, before: StateWithError, spec: Spec, semantics: Semantics
) -> StateWithError:
    """Return the state after a batch has entered it, with the error allowed in it."""
    fast, fraction = b.numerics.variance == "fast", float(update_fraction(before.state.updates + 1, spec, semantics))
    entered = not_finite.entering(not_finite.of_batch(batch), batch, spec, semantics, fast=fast)
    kinds, doubtful = not_finite.moved(before.kinds, entered, fraction), before.doubtful
    pairs = _entering(b, batch, spec, semantics)
    if fraction == 0 and entered is not None and not spec.renorm:
        missing = (entered.mean != NOTHING) | (entered.variance != NOTHING)
        doubtful = missing if doubtful is None else missing | doubtful
        pairs = [(mean.without(missing), stored.without(missing)) for mean, stored in pairs]
    for mean, stored in pairs:
        before = _moved_by(b, mean, stored, before, spec, semantics)
    return replace(before, kinds=kinds, doubtful=doubtful)


def _moved_by(
    b: Bounds, mean: Approximate, stored: Approximate, before: StateWithError, spec: Spec, semantics: Semantics
) -> StateWithError:
    old, errors = before.state, before.errors
    new = update(old, mean.value, stored.value, spec, semantics)
    a = float(update_fraction(new.updates, spec, semantics))
    if spec.renorm:
        s = _spread(b, stored, spec, semantics)
        return StateWithError(new, renorm.e_state(b, old, errors, new, mean, s, a, spec, semantics))
    e_mean = b.e_moving(old.mean, mean.value, new.mean, errors.mean, mean.error, a)
    e_variance = b.e_moving(old.variance, stored.value, new.variance, errors.variance, stored.error, a)
    if semantics.moving_spread == "stddev":
        was, s = (_spread(b, near, spec, semantics) for near in (Approximate(old.variance, errors.variance), stored))
        now = (1 - a) * was.value + a * s.value
        e_variance = renorm.e_square(b, now, b.e_moving(was.value, s.value, now, was.error, s.error, a))
    return StateWithError(new, State(e_mean, e_variance, new.updates))


def _spread(b: Bounds, variance: Approximate, spec: Spec, semantics: Semantics) -> Approximate:
    return Approximate(spread(variance.value, spec, semantics), b.e_spread(variance.value, variance.error))


def _entering(
    b: Bounds, batch: BatchStatistics, spec: Spec, semantics: Semantics
) -> list[tuple[Approximate, Approximate]]:
    """Return the pairs of mean and variance that enter the state: of the batch, or of each virtual batch in turn."""
    factor, e_variance = stored_factor(batch.n, spec, semantics), b.e_entering(batch)
    plain = semantics.stored_variance == "biased" or spec.renorm
    e_stored = e_variance if plain else _e_unbiased(b, batch, e_variance, factor, semantics)
    mean, e_mean = batch.mean, np.broadcast_to(b.e_mean(batch), batch.mean.shape)
    stored, e_stored = batch.variance * factor, np.broadcast_to(e_stored, batch.variance.shape)
    if batch.observed.virtual and semantics.virtual_statistics == "pooled":
        return [_pooled(b, batch, spec, semantics)]
    if batch.observed.virtual and semantics.virtual_statistics == "sequential":
        kept, groups = kept_shape(spec, batch.shape), range(mean.shape[1])
        parts = [[values[:, j].reshape(kept) for values in (mean, e_mean, stored, e_stored)] for j in groups]
        return [(Approximate(m, e_m), Approximate(v, e_v)) for m, e_m, v, e_v in parts]
    return [(flat(b, batch, spec, mean, e_mean), flat(b, batch, spec, stored, e_stored))]


def _e_unbiased(b: Bounds, batch: BatchStatistics, e_variance: Array, factor: Array, semantics: Semantics) -> Array:
    """Return the error of W / (W - 1) V, where W is a sum of weights that may be off by d.

    That is 1 + 1 / (W - 1), off by d / ((W - 1) (W - 1 - d)), and by anything where W may be 1. Counts are exact.
    """
    e = b.e_unbiased(batch.variance, e_variance, factor)
    if batch.observed.shares is None or semantics.mask == "boolean":
        return e
    n, off = batch.n, b.g(0) * batch.n
    least = n - off - 1
    more = np.where(least > 0, off / ((n - 1) * least), np.where(n + off > 1, np.inf, 0))
    return e + (batch.variance + e_variance) * more


def _pooled(b: Bounds, batch: BatchStatistics, spec: Spec, semantics: Semantics) -> tuple[Approximate, Approximate]:
    """Return the mean and the variance of all virtual batches together.

    They may be summed as one batch, or by the law of total variance, V = sum w (V_g + (m_g - m)²). There the error e_g
    of a mean shifts its square by 2 |m_g - m| (e_g + e) + (e_g + e)², and the sum over G groups rounds G + 6 times:
    weight, difference twice, square, both sums and both products. A sum over all is as deep as it has values, at most.
    """
    together, shares = _together(batch), shares_of(batch.n)
    whole = Bounds(b.numerics, b.units, batch.count * shares.shape[1], b.epsilon, outside=b.outside)
    rounding, apart = (shares.shape[1] + 6) * b.units.u, np.abs(batch.mean - together.mean)
    e_mean = shared(shares, b.e_mean(batch) + rounding * batch.mean_abs)
    off, e_each = b.e_mean(batch) + e_mean, b.e_variance(batch)
    size = batch.variance + e_each + (apart + off) ** 2
    e_variance = shared(shares, e_each + 2 * apart * off + off**2 + rounding * size)
    e_mean, e_variance = np.maximum(whole.e_mean(together), e_mean), np.maximum(whole.e_variance(together), e_variance)
    variance, factor = together.variance, stored_factor(together.n, spec, semantics)
    if semantics.stored_variance == "unbiased":
        variance, e_variance = variance * factor, _e_unbiased(b, together, e_variance, factor, semantics)
    kept = kept_shape(spec, batch.shape)
    return Approximate(together.mean.reshape(kept), e_mean.reshape(kept)), Approximate(
        variance.reshape(kept), e_variance.reshape(kept)
    )


def _together(batch: BatchStatistics) -> BatchStatistics:
    """Return the virtual batches (axis 1) as one batch, exactly, but that its mean absolute deviation is a bound."""
    n, shares = batches.total(batch.n, (1,)), shares_of(batch.n)

    def average(values: Array) -> Array:
        return shared(shares, values)

    mean = average(batch.mean)
    apart = batch.mean - mean
    return replace(
        batch,
        n=n,
        mean=mean,
        variance=average(batch.variance + apart**2),
        mean_abs=average(batch.mean_abs),
        mean_deviation=average(batch.mean_deviation + np.abs(apart)),
        max_abs=batch.max_abs.max(1, keepdims=True),
        lost=average(batch.lost),
        known={},
    )


def debiased(b: Bounds, carried: StateWithError, spec: Spec, semantics: Semantics) -> StateWithError:
    """Return the statistics that inference uses: zero-debiased averages are divided by their weight first."""
    state, m, t = published(carried.state, spec, semantics), spec.momentum, carried.state.updates
    if semantics.average != "zero_debiased" or t == 0 or m is None:
        return carried
    e_mean, e_variance = (
        b.e_debiased(value, e, m, t)
        for value, e in ((state.mean, carried.errors.mean), (state.variance, carried.errors.variance))
    )
    return StateWithError(state, State(e_mean, e_variance, t))
