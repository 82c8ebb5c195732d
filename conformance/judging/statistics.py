"""What the reference expects of a step's statistics: those of its batch, and the moving ones after it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from conformance.judging import carried, not_finite
from conformance.judging.bounds import renorm
from conformance.judging.carried import StateWithError
from conformance.judging.step import ExpectedOutputs, ExpectedStep
from conformance.model.outputs import RENORM
from reference.averages import update_fraction
from reference.spec import Array


def moving(step: ExpectedStep, before: StateWithError, after: StateWithError) -> ExpectedOutputs:
    """Return the state after the step as outputs; none if no statistics are kept."""
    found = _moving(step, before, after)
    return found if after.doubtful is None else {name: e.or_nan(after.doubtful) for name, e in found.items()}


def _moving(step: ExpectedStep, before: StateWithError, after: StateWithError) -> ExpectedOutputs:
    if step.semantics.average == "none" or not step.spec.track:
        return {}
    state, errors = after.state, after.errors
    found = {"moving_mean": (state.mean, errors.mean), "moving_variance": (state.variance, errors.variance)}
    if step.spec.renorm:
        u = step.bounds("moving_mean").units.u
        begun, e = renorm.begun(state, errors, step.spec, step.semantics, u)
        found |= {name: (getattr(begun, field), getattr(e, field)) for name, field in RENORM.items()}
        return {
            name: step.expected(name, value, bound, kinds=partial(_kinds_moving, step, name, after))
            for name, (value, bound) in found.items()
        }
    terms = {name: partial(_terms_moving, step, name, before) for name in found}
    sums = (
        partial(_sums_moving, step, before, after)
        if step.promise.updates(step.t) and not before.state.updates
        else None
    )
    return {
        name: step.expected(
            name,
            value,
            bound,
            terms[name],
            kinds=partial(_kinds_moving, step, name, after),
            sums=sums if name == "moving_mean" else None,
        )
        for name, (value, bound) in found.items()
    }


def _kinds_moving(step: ExpectedStep, name: str, after: StateWithError) -> Array:
    kinds = after.kinds
    if step.spec.renorm and name in ("renorm_mean", "renorm_stddev") and step.spec.renorm_momentum == 0:
        kinds = not_finite.of_batch(step.batch)  # they are the batch's
        kinds = not_finite.entering(kinds, step.batch, step.spec, step.semantics, fast=False)
    if kinds is None:
        return not_finite.NONE
    return kinds.mean if name in ("moving_mean", "renorm_mean") else kinds.variance


def _terms_moving(step: ExpectedStep, name: str, before: StateWithError) -> Array:
    old = before.state.mean if name == "moving_mean" else before.state.variance
    a = _fraction(step, before)
    return abs(1 - a) * np.abs(old) + abs(a) * _overall_size(step, name)


def _sums_moving(step: ExpectedStep, before: StateWithError, after: StateWithError) -> tuple[Array, Array]:
    b, a, none = step.bounds("moving_mean"), _fraction(step, before), np.zeros((), step.exact_case.dtype)
    mean = carried.overall(b, step.batch, step.spec)[0].value
    rounded = b.e_moving(before.state.mean, mean, after.state.mean, before.errors.mean, none, a)
    return abs(a) * b.units.u * _overall_size(step, "mean"), rounded


def _fraction(step: ExpectedStep, before: StateWithError) -> float:
    moves = step.promise.updates(step.t)
    return float(update_fraction(before.state.updates + 1, step.spec, step.semantics)) * moves


def batch_statistics(step: ExpectedStep) -> ExpectedOutputs:
    """Return mean, variance and 1 / sqrt(variance + epsilon) of a training batch, for those that return them."""
    if not step.training:
        return {}
    b = step.bounds("mean")
    found = zip(("mean", "variance"), carried.overall(b, step.batch, step.spec), strict=True)
    out = {
        n: step.stored(n, near.value, near.error, partial(_overall_size, step, n), kinds=partial(_kinds_of, step, n))
        for n, near in found
    }
    mean, used = out["mean"], b.used_of(step.batch)
    r, kinds = carried.flat(b, step.batch, step.spec, used.r, used.e_r), partial(_kinds_of, step, "variance")
    out["inverse_deviation"] = step.stored("inverse_deviation", r.value, r.error, kinds=kinds)
    return out | {"mean": replace(mean, sums=lambda: (b.units.u * mean.size, b.stored(mean.value, 0 * mean.size)))}


def _kinds_of(step: ExpectedStep, name: str) -> Array:
    biased = replace(step.semantics, stored_variance="biased")
    kinds = not_finite.entering(not_finite.of_batch(step.batch), step.batch, step.spec, biased, fast=False)
    return not_finite.NONE if kinds is None else kinds.mean if name == "mean" else kinds.variance


def _overall_size(step: ExpectedStep, name: str) -> Array:
    """Return the magnitude of what adds up to a mean, |x|, or to a variance, x² and the square of the mean."""
    batch, of = step.batch, name.removeprefix("moving_")
    if of not in step.sizes:
        size = batch.mean_abs if of == "mean" else batch.variance + batch.mean**2
        step.sizes[of] = carried.flat(step.bounds("mean"), batch, step.spec, size, np.zeros_like(size)).value
    return step.sizes[of]
