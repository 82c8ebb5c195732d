"""The state of a layer over several steps, with the error that an implementation may have accumulated in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conformance import renorm_bounds
from conformance.bounds import Batch, Bounds
from conformance.renorm_bounds import Near
from reference import Semantics, Spec, State
from reference.averages import published, stored_factor, update_fraction
from reference.batch_norm import spread, update
from reference.spec import Array, kept_shape


@dataclass(frozen=True)
class Carried:
    """A state, and how far each of its arrays may be off (a `State` too; its renorm None where that has not begun)."""

    state: State
    errors: State

    @classmethod
    def exact(cls, state: State) -> Carried:
        """Take a state as it is."""
        none = np.zeros_like(state.mean)
        renorm = None if state.renorm is None else type(state.renorm)(none, none, none, none, none)
        return cls(state, State(none, none, state.updates, renorm))


def overall(b: Bounds, batch: Batch, spec: Spec) -> tuple[Near, Near]:
    """Return mean and biased variance of the batch, of the kept shape: the averages over its virtual batches."""
    e_mean = b.e_mean(batch)
    e_variance = b.e_variance(batch)
    return flat(b, batch, spec, batch.mean, e_mean), flat(b, batch, spec, batch.variance, e_variance)


def flat(b: Bounds, batch: Batch, spec: Spec, values: Array, e: Array) -> Near:
    """Return a statistic of the batch, of the kept shape, with its error: the average over virtual batches."""
    e = np.broadcast_to(e, values.shape)
    if batch.observed.virtual:
        values, e = b.e_overall(values, e)
    kept = kept_shape(spec, batch.shape)
    return Near(values.reshape(kept), e.reshape(kept))


def moved(b: Bounds, batch: Batch, before: Carried, spec: Spec, semantics: Semantics) -> Carried:
    """Return the state after the batch entered it, with the error allowed in it."""
    mean, variance = overall(b, batch, spec)
    stored, factor = variance, stored_factor(batch.n, spec, semantics)
    if semantics.stored_variance == "unbiased" and not spec.renorm:
        e_variance = b.e_variance(batch)
        stored = flat(b, batch, spec, batch.variance * factor, b.e_unbiased(batch.variance, e_variance, factor))
    old, errors = before.state, before.errors
    new = update(old, mean.value, stored.value, spec, semantics)
    a = float(update_fraction(new.updates, spec, semantics))
    if spec.renorm:
        s = Near(spread(variance.value, spec, semantics), b.e_spread(variance.value, variance.error))
        return Carried(new, renorm_bounds.e_state(b, old, errors, new, mean, s, a, spec, semantics))
    e_mean = b.e_moving(old.mean, mean.value, new.mean, errors.mean, mean.error, a)
    e_variance = b.e_moving(old.variance, stored.value, new.variance, errors.variance, stored.error, a)
    return Carried(new, State(e_mean, e_variance, new.updates))


def debiased(b: Bounds, carried: Carried, spec: Spec, semantics: Semantics) -> Carried:
    """Return the statistics that inference uses, which zero-debiased averages are divided for."""
    state, m, t = published(carried.state, spec, semantics), spec.momentum, carried.state.updates
    if semantics.average != "zero_debiased" or t == 0 or m is None:
        return carried
    e_mean, e_variance = (
        b.e_debiased(value, e, m, t)
        for value, e in ((state.mean, carried.errors.mean), (state.variance, carried.errors.variance))
    )
    return Carried(state, State(e_mean, e_variance, t))
