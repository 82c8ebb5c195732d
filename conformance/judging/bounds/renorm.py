"""How much error is allowed in batch renormalization: in r and d, and in the state over several steps (BN-16 to BN-19).

The errors of a state are a `State` too: its mean is what the mean may be off by, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformance.judging.bounds.bounds import Bounds
from reference.averages import complement
from reference.renorm import clip, started
from reference.spec import Array, Clipping, Renorm, Semantics, Spec, State, floored_epsilon


@dataclass(frozen=True)
class Approximate:
    """A value, and how far the computed one may be from it."""

    value: Array
    error: Array

    def without(self, where: Array) -> Approximate:
        """Return 0, exactly, in the places given: what enters there with fraction 0 is left out (BN-23)."""
        return Approximate(np.where(where, 0, self.value), np.where(where, 0, self.error))

    def times(self, other: Approximate, u: float) -> Approximate:
        """Return the product: |a b - â b̂| ≤ |a| e_b + |b| e_a + e_a e_b, rounded."""
        e = np.abs(self.value) * other.error + (np.abs(other.value) + other.error) * self.error
        return _rounded(self.value * other.value, e, u)

    def over(self, other: Approximate, u: float) -> Approximate:
        """Return the quotient: |a/b - â/b̂| ≤ (e_a + |a/b| e_b) / (|b| - e_b), rounded; no promise where b̂ may be 0."""
        quotient, room = self.value / other.value, np.abs(other.value) - other.error
        e = np.where(room > 0, (self.error + np.abs(quotient) * other.error) / np.where(room > 0, room, 1), np.inf)
        return _rounded(quotient, e, u)

    def plus(self, other: Approximate, u: float) -> Approximate:
        """Return the sum, each term and the sum rounded."""
        e = self.error + other.error + u * (np.abs(self.value) + np.abs(other.value) + self.error + other.error)
        return _rounded(self.value + other.value, e, u)


def _rounded(value: Array, e: Array, u: float) -> Approximate:
    return Approximate(value, e + 2 * u * (np.abs(value) + e))  # 2u: implementations may take one operation more


def exact(value: Array) -> Approximate:
    """Return a value without error."""
    return Approximate(value, np.zeros_like(value))


def begun(state: State, errors: State, spec: Spec, semantics: Semantics, u: float) -> tuple[Renorm, Renorm]:
    """Return the renorm state and its errors; where it has not begun, the one that the moving statistics begin it with.

    The caller's square root of the moving variance is rounded once.
    """
    if state.renorm is not None and errors.renorm is not None:
        return state.renorm, errors.renorm
    new = started(state, spec, semantics)
    none = np.zeros_like(new.mean)
    root = u * new.stddev
    return new, Renorm(none, root, root, none, none)


def correction(
    mean: Approximate, spread: Approximate, state: Renorm, errors: Renorm, spec: Spec, semantics: Semantics, u: float
) -> tuple[Approximate, Approximate]:
    """Return r = s / Q and d = (mean - P) / Q, clipped; clipping adds no error but that of its rounded limits."""
    toward, scale = Approximate(state.mean, errors.mean), Approximate(state.stddev, errors.stddev)
    if semantics.renorm == "tf_1_15":
        floor = np.sqrt(spread.value.dtype.type(floored_epsilon(spec, semantics)))
        scale = Approximate(np.maximum(scale.value, floor), np.maximum(scale.error, 2 * u * floor))
    if semantics.renorm == "tf_1_7":
        left = Approximate(1 - state.mean_weight, errors.mean_weight)
        toward = toward.plus(left.times(mean, u), u)
        left = Approximate(1 - state.stddev_weight, errors.stddev_weight)
        scale = scale.plus(left.times(spread, u), u)
    r, d = spread.over(scale, u), mean.plus(Approximate(-toward.value, toward.error), u).over(scale, u)
    limits = spec.renorm_clipping or Clipping()
    values = clip(r.value, d.value, limits, semantics)
    largest = [max((abs(limit) for limit in of if limit is not None), default=0.0) for of in _limits(limits)]
    return tuple(  # type: ignore[return-value]
        Approximate(value, near.error + 2 * u * limit)
        for value, near, limit in zip(values, (r, d), largest, strict=True)
    )


def _limits(limits: Clipping) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    return (limits.rmin, limits.rmax), (limits.dmax,)


def e_state(
    b: Bounds, old: State, errors: State, new: State, mean: Approximate, spread: Approximate, fraction: float,
    spec: Spec, semantics: Semantics,
) -> State:  # fmt: skip
    """Return the errors of the state after a batch, whose exact mean and spread entered it."""
    u, by = b.units.u, float(complement(spec.renorm_momentum, semantics))
    before, e = begun(old, errors, spec, semantics, u)
    after = new.renorm
    assert after is not None

    def moved(name: str, value: Approximate, a: float) -> Array:
        was, now, e_was = (getattr(renorm, name) for renorm in (before, after, e))
        return b.e_moving(was, value.value, now, e_was, value.error, a)

    one = exact(np.ones_like(mean.value))
    e_new = Renorm(
        moved("mean", mean, by),
        moved("stddev", spread, by),
        moved("moving_stddev", spread, fraction),
        moved("mean_weight", one, by) * (semantics.renorm == "tf_1_7"),
        moved("stddev_weight", one, by) * (semantics.renorm == "tf_1_7"),
    )
    if semantics.renorm == "tf_1_7":
        return _e_debiased(b, old, errors, new, e_new, fraction)
    e_mean = b.e_moving(old.mean, mean.value, new.mean, errors.mean, mean.error, fraction)
    return State(e_mean, e_square(b, after.moving_stddev, e_new.moving_stddev), new.updates, e_new)


def e_square(b: Bounds, stddev: Array, e: Array) -> Array:
    """The variance that a standard deviation stands for, stddev² - epsilon: the square and both roundings of it."""
    u = b.units.u
    square = (2 * stddev + e) * e + 3 * u * (stddev + e) ** 2 + 2 * u * b.epsilon
    return b.stored(np.maximum(stddev**2 - b.epsilon, 0), square)


def _e_debiased(b: Bounds, old: State, errors: State, new: State, e: Renorm, fraction: float) -> State:
    """TF 1.7: the moving statistics follow mean / weight and (stddev / weight)² - epsilon."""
    u, now = b.units.u, new.renorm
    assert now is not None
    mean = Approximate(now.mean, e.mean).over(Approximate(now.mean_weight, e.mean_weight), u)
    spread = Approximate(now.stddev, e.stddev).over(Approximate(now.stddev_weight, e.stddev_weight), u)
    variance = spread.times(spread, u)
    less: Any = np.asarray(-b.epsilon)
    variance = variance.plus(Approximate(less, u * np.abs(less)), u)
    kept = replace(e, moving_stddev=np.zeros_like(e.mean))
    return State(
        b.e_moving(old.mean, mean.value, new.mean, errors.mean, mean.error, fraction),
        b.e_moving(old.variance, variance.value, new.variance, errors.variance, variance.error, fraction),
        new.updates,
        kept,
    )
