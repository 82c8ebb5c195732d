"""What the reference answers to a whole case, under any semantics: those too that no bound is derived for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.judging.exact_case import ExactCase
from conformance.model.case import initial_state
from reference import Refusal, Semantics, State, infer, train, validate
from reference.spec import Array

Values = dict[str, Array]


def simulate(exact_case: ExactCase, semantics: Semantics) -> list[Values | Refusal]:
    """Return y and the moving statistics of each step, or its refusal. Derivatives are left out."""
    return list(_steps(exact_case, semantics))


def _steps(exact_case: ExactCase, semantics: Semantics) -> Iterator[Values | Refusal]:
    case, layers = exact_case.case, dict[int, State]()
    for t, step in enumerate(case.steps):
        member = t % case.actions.members
        state = layers.get(member)
        mask, adjustment = exact_case.mask(t), exact_case.adjustment(t)
        shapes = None if adjustment is None else (adjustment.scale.shape, adjustment.bias.shape)
        try:
            validate(
                case.spec,
                case.x(t).shape,
                None if state is None else state.mean.shape,
                semantics,
                training=step.mode == "train",
                mask=None if mask is None else mask.shape,
                adjustment=shapes,
            )
        except Refusal as refusal:
            yield refusal
            continue
        state = state or initial_state(case, semantics, exact_case.dtype)
        y, layers[member] = _answer(exact_case, t, state, semantics)
        state = layers[member]
        yield {"y": y, "moving_mean": state.mean, "moving_variance": state.variance}


def _answer(exact_case: ExactCase, t: int, state: State, semantics: Semantics) -> tuple[Array, State]:
    x, spec, step = exact_case.array(t, "x"), exact_case.spec, exact_case.case.steps[t]
    assert x is not None
    with np.errstate(all="ignore"):
        if step.mode == "infer":
            return infer(x, exact_case.parameters(t), state, spec, semantics), state
        mask, adjustment = exact_case.mask(t), exact_case.adjustment(t)
        done = train(
            x, exact_case.parameters(t), state, spec, semantics, updating=step.update, mask=mask, adjustment=adjustment
        )
        return done.y, done.state
