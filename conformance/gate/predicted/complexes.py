"""What becomes of complex numbers where a function computes as of real ones."""

from __future__ import annotations

import dataclasses

import numpy as np

from conformance.gate.predicted.asked import WrongValue
from conformance.gate.predicted.integers import affine, of_training, replaced
from conformance.judging import expectation
from conformance.judging.expected import Expected
from conformance.judging.judgment import state_before
from conformance.judging.promise import Promise
from conformance.model.outcome import Outputs
from reference import Refusal
from reference.averages import published
from reference.spec import Array, broadcast, reduced_axes

_U = 2.0**-22
"""Four times the unit roundoff of float32: a product of complex numbers is made of two, and their quotient of more."""


def unconjugated(asked: WrongValue) -> Expected | None:
    """The variance as mean((x - mean)²), or mean(x²) - mean²: of i x it is less than 0, and y real where it counts.

    A real y is handed back as NaN, as is the root of what is negative here. Sums of few eighths are exact.
    """
    exact_case, case, t = asked.exact_case, asked.exact_case.case, asked.t
    if not case.actions.input.startswith("complex") or _infers(asked):
        return _by_its_state(asked)
    x, axes = case.x(t).astype(exact_case.dtype), reduced_axes(case.spec, case.x(t).ndim)
    mean = x.mean(axes, keepdims=True)
    variance = -((x - mean) ** 2).mean(axes, keepdims=True)
    found = of_training(asked, mean, variance, _U * (5 * mean**2 - 2 * variance))
    return _with_zeros(asked, found, x - mean) if found is not None and asked.output == "y" else found


def _with_zeros(asked: WrongValue, found: Expected, deviation: Array) -> Expected:
    """Return y with the zeros that it has where gamma or the deviation is 0: a real 0 is as much as i times it."""
    outcome, case = asked.reply.outcomes[asked.t], asked.exact_case.case
    got = outcome.tensors["y"] if isinstance(outcome, Outputs) else found.value
    none = broadcast(affine(case, deviation.dtype.type)[0], case.spec, deviation.ndim) * deviation == 0
    return dataclasses.replace(found, value=np.where(none & (got == 0), 0, found.value))


def real_mean(asked: WrongValue) -> Expected | None:
    """The moving mean takes the real part of the batch's, which is 0 of i x; inference is by the mean that is left."""
    exact_case, case, t = asked.exact_case, asked.exact_case.case, asked.t
    before = state_before(exact_case, asked.statement, asked.reply, t)
    if not case.actions.input.startswith("complex") or _infers(asked):
        return _by_its_state(asked)
    answers = expectation.trajectory(Promise.of(exact_case, asked.statement), asked.reply.refused)[t]
    if before is None or isinstance(answers, Refusal) or asked.output != "moving_mean":
        return None
    left = (case.spec.momentum or 0.0) * before.mean
    return replaced(answers["moving_mean"], left, _U * np.abs(left))


def _infers(asked: WrongValue) -> bool:
    return Promise.of(asked.exact_case, asked.statement).mode(asked.t) == "infer"


def _by_its_state(asked: WrongValue) -> Expected | None:
    """Return what is right of inference on i x by the state that the implementation itself returned before."""
    promise = Promise.of(asked.exact_case, asked.statement)
    before = state_before(asked.exact_case, asked.statement, asked.reply, asked.t)
    if before is None or promise.unjudged or not asked.exact_case.case.actions.input.startswith("complex"):
        return None
    found, x = expectation.after(promise, asked.t, before).get(asked.output), asked.exact_case.case.x(asked.t)
    if found is None or asked.output != "y":
        return found
    used = published(before, promise.spec, promise.at(asked.t).semantics)  # haiku's is zero-debiased
    deviation = x - broadcast(used.mean, promise.spec, x.ndim)
    return _with_zeros(asked, found, np.where(np.abs(deviation) <= _U * np.abs(x), 0, deviation))
