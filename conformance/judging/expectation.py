"""What the reference expects of a case, with the error allowed.

There are three checks. `trajectory` needs the case alone: the error allowed in the state grows from step to step.
`step` starts from the state that the implementation itself returned before the step. `residual` starts from the batch
statistics that the implementation returned, and checks y, gradients and moving statistics against these.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.judging.carried import StateWithError
from conformance.judging.derivatives import derivatives
from conformance.judging.gradients import following
from conformance.judging.memo import Key
from conformance.judging.promise import Promise
from conformance.judging.statistics import batch_statistics, moving
from conformance.judging.step import Expected as Expected
from conformance.judging.step import ExpectedOutputs as ExpectedOutputs
from conformance.judging.step import ExpectedStep
from conformance.judging.together import of_one_call, together
from conformance.model.case import OF_LAYER, initial_state, without
from conformance.model.numerics import Numerics, finfo
from conformance.model.stopwatch import part
from reference import Refusal, State, validate
from reference.precision import widened
from reference.spec import Array, kept_axes


@part("expected")
def trajectory(promise: Promise, refused: frozenset[int] = frozenset()) -> list[ExpectedOutputs | Refusal]:
    """Return what every step of the case should give, from the case alone: outputs, or the refusal that is due.

    refused: the steps that were refused. They leave the layer as it was (BN-32), and nothing is expected of them.
    """
    known, key = promise.exact_case.known, (promise.key, refused)
    if key not in known:
        steps = alone(promise, refused)
        known[key] = together(promise, steps) if promise.case.actions.backward == "together" else steps
    return known[key]


def alone(promise: Promise, refused: frozenset[int] = frozenset()) -> list[ExpectedOutputs | Refusal]:
    """Return the same of every step by itself, whether its gradients are taken together with others or not."""
    return list(_trajectory(promise, refused))


def _trajectory(promise: Promise, refused: frozenset[int]) -> Iterator[ExpectedOutputs | Refusal]:
    layers: dict[int, StateWithError] = {}
    passed, members = refused | promise.lacked, promise.case.actions.members
    for t in range(len(promise.case.steps)):
        carried = layers.get(t % members)
        try:
            if t not in promise.lacked:
                for kept in [carried.state.mean.shape] if carried else _given(promise):
                    _validate(promise.at(t), t, kept)
        except Refusal as refusal:
            yield refusal
            continue
        if t in passed:
            yield {}
            continue
        begins = without(promise.case, passed) if carried is None and passed else promise.case
        carried = carried or StateWithError.exact(
            initial_state(begins, promise.at(t).semantics, promise.exact_case.dtype)
        )
        answers, layers[t % members] = ({}, carried) if promise.unjudged else _answers(_step(promise, t), carried)
        yield answers


def _given(promise: Promise) -> list[tuple[int, ...] | None]:
    """Return the shapes of the given parameters and statistics; None where the first batch decides it."""
    given = (promise.case.tensor(name) for name in OF_LAYER)
    return [*dict.fromkeys(array.shape for array in given if array is not None)] or [None]


def _step(promise: Promise, t: int) -> ExpectedStep:
    """Return one step of a promise. Its checks share it, and so do implementations that promise the same."""
    promise = promise.at(t)
    known, key = promise.exact_case.known, ("step", t, promise.key)
    if key not in known:
        known[key] = ExpectedStep(promise, t)
    return known[key]


def keeps(promise: Promise, t: int) -> bool:
    """Return whether the layer holds parameters or statistics that the batch of a step must fit in size."""
    used = ("gamma", "beta") if promise.mode(t) == "train" else ("gamma", "beta", "moving_mean", "moving_variance")
    return promise.at(t).semantics.average != "none" or any(name in promise.case.tensors for name in used)


def resized(promise: Promise, t: int) -> bool:
    """Return whether the batch of a step has other channels than the case's first one."""
    shapes, spec = (promise.case.x(0).shape, promise.case.x(t).shape), promise.spec
    first, now = ([s[a] for a in kept_axes(spec, len(s)) if a in range(len(s))] for s in shapes)
    return first != now


def _validate(promise: Promise, t: int, kept: tuple[int, ...] | None) -> None:
    mask, adjustment = promise.exact_case.mask(t), promise.exact_case.adjustment(t)
    validate(
        promise.spec,
        promise.case.x(t).shape,
        kept,
        promise.semantics,
        training=promise.mode(t) == "train",
        mask=None if mask is None else mask.shape,
        adjustment=None if adjustment is None else (adjustment.scale.shape, adjustment.bias.shape),
    )


def _answers(step: ExpectedStep, before: StateWithError) -> tuple[ExpectedOutputs, StateWithError]:
    """Return the expected outputs of a step, and the state after it."""
    after, used = step.after(before), step.normalizing(before)
    out = {"y": step.y(before, used), **batch_statistics(step), **derivatives(step, before, used)}
    return step.doubted(out, before) | moving(step, before, after), after


@part("expected")
def after(promise: Promise, t: int, state: State) -> ExpectedOutputs:
    """Return the expected outputs of step t, from the state that the implementation returned before it."""
    return of_one_call(promise, from_state(promise, t, state))


def from_state(promise: Promise, t: int, state: State) -> ExpectedOutputs:
    """Return what is expected of step t by itself, from a state before it."""
    step, before = _step(promise, t), StateWithError.exact(state)
    normalizes = (
        promise.mode(t) == "infer" or promise.at(t).semantics.training_statistics == "moving" or promise.spec.renorm
    )
    return _answers(step, before)[0] if normalizes else moving(step, before, step.after(before))


@part("expected")
def residual(
    promise: Promise, t: int, mean: Array, variance: Array, before: State | None, *, rounded: bool
) -> ExpectedOutputs:
    """Return what follows from the batch statistics that the implementation returned: y, dx, dgamma, moving statistics.

    rounded: they may have been rounded when they were returned.
    before: the state that it returned before the step; None: unknown.
    """
    dtype, step, info = promise.exact_case.dtype, _step(promise, t), finfo(mean.dtype.name)
    u, tiny = (float(info.eps) / 2, float(info.smallest_subnormal)) if rounded else (0.0, 0.0)
    mean, variance = (step.align(widened(array, dtype)) for array in (mean, variance))
    returned = step.batch.with_statistics(mean, variance, (u * np.abs(mean) + tiny, u * variance + tiny))
    step, start = ExpectedStep(promise.at(t), t, returned), StateWithError.exact(before or State(mean, variance))
    used = step.normalizing(start)
    out = of_one_call(promise, {"y": step.y(start, used), **following(step, start, used)})
    return out if before is None else out | moving(step, start, step.after(start))


def y_as(promise: Promise, t: int, numerics: Numerics) -> Expected | None:
    """Return the expected y of a training step if it were computed in another way.

    None where y depends on more than the batch: on moving statistics, or on renorm's state.
    """
    whole, promise = promise, promise.at(t)
    if promise.mode(t) != "train" or promise.spec.renorm or promise.semantics.training_statistics != "batch":
        return None
    if numerics == promise.numerics("train", "y"):
        answers = trajectory(whole)[t]
        return None if isinstance(answers, Refusal) else answers["y"]
    key = Key(("y", t, promise.semantics, numerics, promise.limitless))  # all that y depends on here
    if key not in (known := promise.exact_case.known):
        start = StateWithError.exact(initial_state(promise.case, promise.semantics, promise.exact_case.dtype))
        step = _step(promise.with_y(numerics), t)
        known[key] = step.y(start, step.normalizing(start))
    return known[key]
