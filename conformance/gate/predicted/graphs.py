"""Wrong values of calls that are made in one graph: by later statistics, in the reverse of their order, all at once."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from conformance.gate.predicted.asked import WrongValue
from conformance.judging import expectation
from conformance.judging.bounds.roundings import growth
from conformance.judging.exact_case import ExactCase
from conformance.judging.expected import Expected
from conformance.judging.judgment import state_before
from conformance.judging.promise import Promise
from conformance.judging.together import STATE, Steps, together
from conformance.model.case import Case, initial_state


def with_later_statistics(asked: WrongValue) -> Expected | None:
    """A gradient of all calls, to which inference adds what its own is by the statistics that the last call left."""
    promise, case = Promise.of(asked.exact_case, asked.statement), asked.exact_case.case
    last = state_before(asked.exact_case, asked.statement, asked.reply, len(case.steps))
    if last is None or promise.unjudged:
        return None
    steps = expectation.alone(promise, asked.reply.refused)
    infers = [isinstance(step, dict) and promise.mode(t) == "infer" for t, step in enumerate(steps)]
    found = [expectation.from_state(promise, t, last) if infers[t] else step for t, step in enumerate(steps)]
    summed = together(promise, found)[asked.t]
    return summed.get(asked.output) if isinstance(summed, dict) else None


def in_reverse(asked: WrongValue) -> Expected | None:
    """What calls of one graph give that are made from the last to the first; the state is what the first one leaves."""
    case, known = asked.exact_case.case, asked.exact_case.known
    promise = Promise.of(asked.exact_case, asked.statement)
    if promise.unjudged or case.actions.backward != "together" or asked.reply.refused:
        return None
    key = "in reverse", promise.key
    if key not in known:
        known[key] = together(promise, _made_backwards(asked))
    steps: Steps = known[key]
    step = steps[asked.t]
    return step.get(asked.output) if isinstance(step, dict) else None


def _made_backwards(asked: WrongValue) -> Steps:
    """Return what each call gives by itself, in the order of the case, the state beside what the last one gives."""
    made = expectation.alone(Promise.of(ExactCase(backwards(asked.exact_case.case)), asked.statement))
    first = made[-1]
    state = {n: e for n, e in first.items() if n in STATE} if isinstance(first, dict) else {}
    last = made[0] | state if isinstance(made[0], dict) else made[0]
    return [*reversed(made[1:]), last]


def from_one_state(asked: WrongValue) -> Expected | None:
    """The state to which each call of a graph adds what it would add to the one before all of them."""
    case, promise = asked.exact_case.case, Promise.of(asked.exact_case, asked.statement)
    begun = initial_state(case, promise.semantics, asked.exact_case.dtype)
    start = {"moving_mean": begun.mean, "moving_variance": begun.variance}.get(asked.output)
    moving = [t for t in range(len(case.steps)) if promise.updates(t)]
    if start is None or not moving or promise.unjudged or case.actions.backward != "together":
        return None
    found = [expectation.from_state(promise.at(t), t, begun)[asked.output] for t in moving]
    value = sum((one.value - start for one in found), start)
    size = sum((np.abs(one.value) + np.abs(start) + one.bound for one in found), np.abs(start))
    u = promise.bounds(promise.mode(moving[0]), asked.output, 1).units.u
    bound = sum((one.bound for one in found), growth((len(found) + 2) * u) * size)
    return replace(found[0], value=value, bound=bound, terms=None, sums=None)


def backwards(case: Case) -> Case:
    """Return the case with its steps from the last to the first."""
    last, tensors = len(case.steps) - 1, dict(case.tensors)
    for name in (name for name in case.tensors if name.partition(".")[0].isdecimal()):
        number, _, rest = name.partition(".")
        tensors[f"{last - int(number)}.{rest}"] = case.tensors[name]
    return msgspec.structs.replace(case, steps=case.steps[::-1], tensors=tensors)
