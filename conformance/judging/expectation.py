"""What the reference expects of a case, with the error allowed: computed before any answer is seen.

Three checks. `trajectory`: from the case alone, the allowed error of the state carried from step to step. `step`: the
state of one step, and inference, from the implementation's own previous state. `residual`: the output against the
batch statistics that the implementation itself returned, and with it gradients and moving statistics.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.judging.carried import Carried
from conformance.judging.derivatives import derivatives, following
from conformance.judging.question import Plan
from conformance.judging.step import Answers as Answers
from conformance.judging.step import Expected as Expected
from conformance.judging.step import OneStep
from conformance.model.case import initial_state, without
from conformance.model.numerics import Numerics, finfo
from reference import Refusal, State, validate
from reference.precision import widened
from reference.spec import Array


def trajectory(plan: Plan, refused: frozenset[int] = frozenset()) -> list[Answers | Refusal]:
    """Return what every step of the case should give, from the case alone, or the refusal that it must meet with.

    refused: the steps that were refused, which leave the layer as it was (BN-32); of these nothing is expected.
    """
    known, key = plan.question.known, (plan.key, refused)
    if key not in known:
        known[key] = list(_trajectory(plan, refused))
    return known[key]


def _trajectory(plan: Plan, refused: frozenset[int]) -> Iterator[Answers | Refusal]:
    carried, passed = None, refused | plan.lacked
    for t in range(len(plan.case.steps)):
        try:
            if t not in plan.lacked:
                _validate(plan.at(t), t, carried.state.mean.shape if carried else _given(plan))
        except Refusal as refusal:
            yield refusal
            continue
        if t in passed:
            yield {}
            continue
        begins = without(plan.case, passed) if carried is None and passed else plan.case
        carried = carried or Carried.exact(initial_state(begins, plan.at(t).semantics, plan.question.dtype))
        answers, carried = ({}, carried) if plan.unjudged else _answers(_step(plan, t), carried)
        yield answers


def _given(plan: Plan) -> tuple[int, ...] | None:
    """Return the kept shape that parameters or statistics are given in, None where the first batch decides."""
    given = (plan.case.tensor(name) for name in ("gamma", "beta", "moving_mean", "moving_variance"))
    return next((array.shape for array in given if array is not None), None)


def _step(plan: Plan, t: int) -> OneStep:
    """Return a step of a plan, which its checks share, and so do implementations that promise the same."""
    plan = plan.at(t)
    known, key = plan.question.known, ("step", t, plan.key)
    if key not in known:
        known[key] = OneStep(plan, t)
    return known[key]


def keeps(plan: Plan, t: int) -> bool:
    """Return whether there is anything whose size the batch of a step must fit: parameters, or statistics."""
    used = ("gamma", "beta") if plan.mode(t) == "train" else ("gamma", "beta", "moving_mean", "moving_variance")
    return plan.at(t).semantics.average != "none" or any(name in plan.case.tensors for name in used)


def _validate(plan: Plan, t: int, kept: tuple[int, ...] | None) -> None:
    mask, adjustment = plan.question.mask(t), plan.question.adjustment(t)
    validate(
        plan.spec,
        plan.case.x(t).shape,
        kept,
        plan.semantics,
        training=plan.mode(t) == "train",
        mask=None if mask is None else mask.shape,
        adjustment=None if adjustment is None else (adjustment.scale.shape, adjustment.bias.shape),
    )


def _answers(step: OneStep, before: Carried) -> tuple[Answers, Carried]:
    """Return every output of a step with its bound, and the state after it."""
    after, used = step.after(before), step.normalizing(before)
    out = {"y": step.y(before, used), **step.batch_statistics(), **derivatives(step, before, used)}
    return step.doubted(out, before) | step.moving(before, after), after


def after(plan: Plan, t: int, state: State) -> Answers:
    """Return what step t should give from the state that the implementation itself returned before it."""
    step, before = _step(plan, t), Carried.exact(state)
    normalizes = plan.mode(t) == "infer" or plan.at(t).semantics.training_statistics == "moving" or plan.spec.renorm
    return _answers(step, before)[0] if normalizes else step.moving(before, step.after(before))


def residual(plan: Plan, t: int, mean: Array, variance: Array, before: State | None, *, rounded: bool) -> Answers:
    """Return what follows from the batch statistics that the implementation returned: y, dx, dgamma, moving statistics.

    rounded: it may have rounded them to return them. before: the state that it returned before the step; None: unknown.
    """
    dtype, step, info = plan.question.dtype, _step(plan, t), finfo(mean.dtype.name)
    u, tiny = (float(info.eps) / 2, float(info.smallest_subnormal)) if rounded else (0.0, 0.0)
    mean, variance = (step.align(widened(array, dtype)) for array in (mean, variance))
    returned = step.batch.with_statistics(mean, variance, (u * np.abs(mean) + tiny, u * variance + tiny))
    step, start = OneStep(plan.at(t), t, returned), Carried.exact(before or State(mean, variance))
    used = step.normalizing(start)
    out = {"y": step.y(start, used), **following(step, start, used)}
    return out if before is None else out | step.moving(start, step.after(start))


def y_as(plan: Plan, t: int, numerics: Numerics) -> Expected | None:
    """Return a training step's y as computed in another way; None where the batch alone does not decide it."""
    whole, plan = plan, plan.at(t)
    if plan.mode(t) != "train" or plan.spec.renorm or plan.semantics.training_statistics != "batch":
        return None
    if numerics == plan.numerics("train", "y"):
        answers = trajectory(whole)[t]
        return None if isinstance(answers, Refusal) else answers["y"]
    other = plan.with_y(numerics)
    key = ("y", t, other.key)
    if key not in plan.question.known:
        step, start = _step(other, t), Carried.exact(initial_state(plan.case, plan.semantics, plan.question.dtype))
        plan.question.known[key] = step.y(start, step.normalizing(start))
    return plan.question.known[key]
