"""Wrong values of other libraries: a single value left as it came, statistics dealt to the values in turn."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import numpy as np

from conformance.gate.predicted.asked import WrongValue
from conformance.judging import expectation
from conformance.judging.carried import StateWithError
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import ExpectedStep
from conformance.judging.expected import Expected
from conformance.judging.judgment import state_before
from conformance.judging.promise import Promise
from conformance.model.case import Case
from conformance.model.rules import Rule
from reference import Refusal
from reference.spec import Array


def left_as_it_came(asked: WrongValue) -> Expected | None:
    """Training on one value per channel: y is x and dx is dy, no gradient reaches gamma and beta, the state stays."""
    case, t = asked.exact_case.case, asked.t
    alone = [s for s, step in enumerate(case.steps) if step.mode == "train" and asked.exact_case.facts[s].n == "1"]
    if t in alone and asked.output in ("y", "dx"):
        value = case.x(t) if asked.output == "y" else case.tensors[f"{t}.dy"]
        return Expected(value.astype(asked.exact_case.dtype), np.zeros(value.shape), case.dtypes.x)
    found = _without_updates(case, alone, asked)
    if found is None or t not in alone or asked.output not in ("dgamma", "dbeta"):
        return found
    return dataclasses.replace(found, value=0 * found.value, bound=0 * found.value)


def _without_updates(case: Case, alone: list[int], asked: WrongValue) -> Expected | None:
    """Return what is right where these steps do not move the state."""
    steps = tuple(msgspec.structs.replace(s, update=s.update and t not in alone) for t, s in enumerate(case.steps))
    asking = Rule("predicted", semantics={"updates": "asked"})
    statement = msgspec.structs.replace(asked.statement, rules=[*asked.statement.rules, asking])
    promise = Promise.of(ExactCase(msgspec.structs.replace(case, steps=steps)), statement)
    answers = expectation.trajectory(promise, asked.reply.refused)[asked.t]
    return None if isinstance(answers, Refusal) or promise.unjudged else answers.get(asked.output)


def in_turn(asked: WrongValue) -> Expected | None:
    """y of the right statistics, but the i-th value in memory has those of channel i modulo the number of channels."""
    promise, t = Promise.of(asked.exact_case, asked.statement), asked.t
    state = state_before(asked.exact_case, asked.statement, asked.reply, t)
    if state is None or promise.unjudged or asked.output != "y":
        return None
    step, before = ExpectedStep(promise, t), StateWithError.exact(state)
    used, affine, x = step.normalizing(before)("y"), step.affine(before), step.batch.x
    used, affine = _dealt(used, x), _dealt(affine, x)
    y = affine.scale * (x - used.mean) * used.r + affine.shift
    return step.expected("y", y, step.bounds("y").e_y(x, y, affine, used))


def _dealt(arrays: Any, x: Array) -> Any:
    """Return a group of arrays of one value per channel with these dealt to the values of x in turn."""
    named = {field.name: getattr(arrays, field.name) for field in dataclasses.fields(arrays)}
    return dataclasses.replace(arrays, **{name: _taken_in_turn(array, x) for name, array in named.items()})


def _taken_in_turn(array: Array | tuple[Array, Array] | None, x: Array) -> Any:
    """Return one value per channel, dealt to the values of x; what there is only for other placements stays."""
    return array if array is None or isinstance(array, tuple) else np.resize(np.ravel(array), x.shape)
