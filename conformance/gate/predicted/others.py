"""Wrong values of other libraries: statistics dealt to the values in turn."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from conformance.gate.predicted.asked import WrongValue
from conformance.judging.carried import StateWithError
from conformance.judging.expectation import ExpectedStep
from conformance.judging.expected import Expected
from conformance.judging.judgment import state_before
from conformance.judging.promise import Promise
from reference.spec import Array


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
