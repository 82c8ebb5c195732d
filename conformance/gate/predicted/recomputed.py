"""What follows where a call that is made once more for its gradients moves the state once more."""

from __future__ import annotations

import msgspec

from conformance.gate.predicted.asked import WrongValue
from conformance.judging import expectation
from conformance.judging.exact_case import ExactCase
from conformance.judging.expected import Expected
from conformance.judging.promise import Promise
from conformance.model.case import Case
from conformance.model.outputs import BY_NAME
from reference import Refusal
from reference.spec import Array


def moved_twice(asked: WrongValue) -> Expected | None:
    """What the case gives with each training call made twice: of the second the state, of the first all else."""
    case = asked.exact_case.case
    repeated = [t for t, step in enumerate(case.steps) if step.mode == "train" and step.derivatives]
    promise = Promise.of(ExactCase(_repeating(case, repeated)), asked.statement)
    if promise.unjudged:
        return None
    moved = BY_NAME[asked.output].kind == "moving_statistics" and asked.t in repeated
    answers = expectation.trajectory(promise)[asked.t + sum(t < asked.t for t in repeated) + moved]
    return None if isinstance(answers, Refusal) else answers.get(asked.output)


def _repeating(case: Case, repeated: list[int]) -> Case:
    """Return the case with some steps made twice in turn."""
    order = [t for t in range(len(case.steps)) for _ in range(1 + (t in repeated))]
    tensors: dict[str, Array] = {n: a for n, a in case.tensors.items() if not n.partition(".")[0].isdecimal()}
    for new, t in enumerate(order):
        own = f"{t}."
        tensors |= {f"{new}.{n.removeprefix(own)}": a for n, a in case.tensors.items() if n.startswith(own)}
    return msgspec.structs.replace(case, steps=tuple(case.steps[t] for t in order), tensors=tensors)
