"""What becomes of whole numbers where a function computes in their own dtype."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from conformance.gate.predicted.asked import WrongValue
from conformance.judging import expectation
from conformance.judging.expected import Expected
from conformance.judging.judgment import state_before
from conformance.judging.promise import Promise
from conformance.model.case import Case, initial_state, parameters
from reference import Refusal
from reference.spec import Array, broadcast, reduced_axes

_NEAR = 1e-4
"""So near to a whole number, for each unit of its size, the float32 of a scale or shift may be on either side of it."""
_U = 2.0**-23
"""Twice the unit roundoff of float32: all of these computations round in float32, or less."""


def cut(asked: WrongValue) -> Expected | None:
    """Inference as x times the scale plus the shift, both cut to whole numbers towards 0, where nothing is kept."""
    exact_case, case = asked.exact_case, asked.exact_case.case
    whole, infers = case.actions.input == "int32", case.steps[asked.t].mode == "infer"
    if not whole or not infers or asked.output != "y":
        return None
    semantics = Promise.of(exact_case, asked.statement).at(asked.t).semantics
    state, x = initial_state(case, semantics, exact_case.dtype), case.x(asked.t).astype(exact_case.dtype)
    gamma, beta = affine(case, exact_case.dtype)
    scale = gamma / np.sqrt(state.variance + case.spec.epsilon)
    numbers = [broadcast(a, case.spec, x.ndim) for a in (scale, beta - state.mean * scale)]
    unsure = [_near(a) for a in numbers]
    value = x * np.trunc(numbers[0]) + np.trunc(numbers[1])
    return Expected(value, np.abs(x) * unsure[0] + unsure[1] + 0 * x, "int32")


def cut_at_last(asked: WrongValue) -> Expected | None:
    """Inference as it should be, and y cut to whole numbers towards 0."""
    promise = Promise.of(asked.exact_case, asked.statement)
    answers = expectation.trajectory(promise, asked.reply.refused)[asked.t]
    whole = asked.exact_case.case.actions.input == "int32" and promise.mode(asked.t) == "infer"
    if not whole or asked.output != "y" or isinstance(answers, Refusal):
        return None
    right = answers["y"]
    return dataclasses.replace(right, value=np.trunc(right.value), bound=_near(right.value) * 1.0, dtype="int32")


def _near(array: Array) -> Array:
    """Return where numbers are about whole, so that they may be cut to the next."""
    return (np.abs(array - np.rint(array)) <= _NEAR * (1 + np.abs(array))) & (np.rint(array) != 0)


def wrapped(asked: WrongValue) -> Expected | None:
    """Training by mean(x² mod 256) - mean(x)²: squares of uint8 are uint8.

    Sums of few whole numbers are exact. Both means, the square and the difference round once each, and y thrice.
    """
    case = asked.exact_case.case
    x, axes = case.x(asked.t).astype(asked.exact_case.dtype), reduced_axes(case.spec, case.x(asked.t).ndim)
    mean, squares = (a.mean(axes, keepdims=True) for a in (x, x * x % 256))
    variance = squares - mean**2
    e = _U * (squares + 4 * mean**2 + np.abs(variance))
    return of_training(asked, mean, variance, e) if case.actions.input == "uint8" else None


def of_training(asked: WrongValue, mean: Array, variance: Array, e: Array) -> Expected | None:
    """Return an output of training by another variance of the batch, which may be off by e; None of inference."""
    exact_case, case, t = asked.exact_case, asked.exact_case.case, asked.t
    promise, dtype = Promise.of(exact_case, asked.statement), exact_case.dtype
    before = state_before(exact_case, asked.statement, asked.reply, t)
    before = before or initial_state(case, promise.at(t).semantics, dtype)
    answers = expectation.trajectory(promise, asked.reply.refused)[t]
    if promise.mode(t) != "train" or isinstance(answers, Refusal):
        return None
    right, x = answers[asked.output], case.x(t).astype(dtype)
    if promise.at(t).numerics("train", "y").clamped:
        variance = np.maximum(variance, 0)
    if asked.output == "y":
        return replaced(right, *_normalized(case, x, mean, variance, e))
    if asked.output == "variance":
        return replaced(right, variance, e)
    old, kept = broadcast(before.variance, case.spec, x.ndim), case.spec.momentum or 0.0
    moved = kept * old + (1 - kept) * variance
    return replaced(right, moved, (1 - kept) * e + 3 * _U * (kept * np.abs(old) + (1 - kept) * np.abs(variance)))


def _normalized(case: Case, x: Array, mean: Array, variance: Array, e: Array) -> tuple[Array, Array]:
    """Return y by these statistics, and how far it may be off where the variance may be by e."""
    gamma, beta = (broadcast(a, case.spec, x.ndim) for a in affine(case, x.dtype.type))
    total = variance + case.spec.epsilon
    r = 1 / np.sqrt(total)
    scaled, least = gamma * (x - mean) * r, total - e
    relative = np.where(least > 0, e / (2 * least), np.inf)
    rounded = _U * (np.abs(gamma * mean * r) + 3 * np.abs(scaled) + np.abs(beta))
    unknown = np.abs(total) <= e  # there is a root, or none
    return scaled + beta, np.where(unknown, np.inf, np.abs(scaled) * relative + rounded)


def affine(case: Case, dtype: Any) -> tuple[Array, Array]:
    """Return gamma and beta, of one channel where there are none."""
    given, one = parameters(case, dtype), np.ones((), dtype)
    kept = np.broadcast_shapes(*(a.shape for a in (given.gamma, given.beta) if a is not None), (1,))
    gamma, beta = (one if given.gamma is None else given.gamma), (0 * one if given.beta is None else given.beta)
    return np.broadcast_to(gamma, kept), np.broadcast_to(beta, kept)


def replaced(right: Expected, value: Array, bound: Array) -> Expected:
    """Return what is expected with another value, and the error allowed in that."""
    shape = right.value.shape
    wide = [np.broadcast_to(a, np.broadcast_shapes(value.shape, bound.shape)).reshape(shape) for a in (value, bound)]
    return dataclasses.replace(right, value=wide[0], bound=wide[1], kinds=None)
