"""Wrong values of replicas: means of their means, each by itself, and the state of one that has no rows."""

from __future__ import annotations

import msgspec
import numpy as np

from conformance.gate.predicted.asked import WrongValue
from conformance.judging import expectation
from conformance.judging.bounds.roundings import growth
from conformance.judging.exact_case import ExactCase
from conformance.judging.expected import Expected
from conformance.judging.judgment import state_before
from conformance.judging.promise import Promise
from conformance.model.case import Actions, Case
from conformance.model.numerics import finfo
from conformance.model.rules import Rule
from reference import Refusal, State
from reference.batches import weigh
from reference.spec import Array

_JOINED = ("y", "dx")
_SUMS = ("dgamma", "dbeta")


def of_means(asked: WrongValue) -> Expected | None:
    """What follows where the mean and E[x²] are the means of what each replica has under its own mask.

    This is as if each value weighed as much as it has a share of its replica's. Where one replica hides all of a
    channel, its mean is 0/0, and the channel NaN.
    """
    case = asked.exact_case.case
    if not case.actions.replicas or any(f"{t}.mask" not in case.tensors for t in range(len(case.steps))):
        return None
    masks = {f"{t}.mask": _shares(asked, t) for t in range(len(case.steps))}
    weighted = msgspec.structs.replace(asked.statement, rules=[*asked.statement.rules, _WEIGHTS])
    promise = Promise.of(ExactCase(msgspec.structs.replace(case, tensors=case.tensors | masks)), weighted)
    if promise.unjudged:
        return None
    found = expectation.trajectory(promise, asked.reply.refused)[asked.t]
    return None if isinstance(found, Refusal) else found.get(asked.output)


_WEIGHTS = Rule("predicted", semantics={"mask": "weights"})


def _shares(asked: WrongValue, t: int) -> Array:
    """Return of each value how much it weighs in the mean of the replicas' means, times the number of values."""
    case = asked.exact_case.case
    x, mask = case.x(t).astype(np.float64), case.tensors[f"{t}.mask"]
    weights = weigh(x, mask, Promise.of(asked.exact_case, asked.statement).at(t).semantics)
    axes = asked.exact_case.batch(t).axes
    pieces = np.split(weights, np.cumsum(case.actions.replicas)[:-1])
    shares = [piece / np.add.reduce(piece, axes, keepdims=True) for piece in pieces]
    return np.concatenate(shares) * (np.add.reduce(weights, axes, keepdims=True) / len(pieces))


def each_by_itself(asked: WrongValue) -> Expected | None:
    """What replicas give that do not synchronize: by its own piece, and the state is the second's."""
    case, t = asked.exact_case.case, asked.t
    before = state_before(asked.exact_case, asked.statement, asked.reply, t)
    if before is None or not case.actions.replicas or case.actions.members > 1:
        return None
    promises = [Promise.of(ExactCase(own), asked.statement) for own in _apart(case, t)]
    if any(promise.unjudged for promise in promises):
        return None
    parts = [one for promise in promises if (one := _alone(promise, before, asked.output)) is not None]
    return _joined(asked.output, parts) if len(parts) == len(promises) else None


def _alone(promise: Promise, before: State, output: str) -> Expected | None:
    """Return an output of a training step, of which the new state alone follows from the state before it."""
    found = expectation.trajectory(promise)[0]
    return None if isinstance(found, Refusal) else (found | expectation.after(promise, 0, before)).get(output)


def _apart(case: Case, t: int) -> list[Case]:
    """Return step t of each replica as a case of its own."""
    ends = np.cumsum(case.actions.replicas)[:-1]
    own = {n.partition(".")[2]: np.split(a, ends) for n, a in case.tensors.items() if n.startswith(f"{t}.")}
    layer = {name: array for name, array in case.tensors.items() if "." not in name}
    return [
        msgspec.structs.replace(
            case,
            actions=Actions(),
            steps=case.steps[t : t + 1],
            tensors=layer | {f"0.{name}": pieces[r] for name, pieces in own.items()},
        )
        for r in range(len(case.actions.replicas))
    ]


def _joined(output: str, parts: list[Expected]) -> Expected:
    """Return the output of all replicas: one after another, as a sum, or that of one that is not the first."""
    values, bounds = [part.value for part in parts], [part.bound for part in parts]
    if output in _JOINED:
        return Expected(np.concatenate(values), np.concatenate(bounds), parts[0].dtype)
    if output not in _SUMS:
        return parts[1]
    sizes = np.add.reduce([np.abs(v) + b for v, b in zip(values, bounds, strict=True)], 0)
    rounded = growth(len(parts) * float(finfo(parts[0].dtype).eps) / 2) * sizes
    return Expected(np.add.reduce(values, 0), np.add.reduce(bounds, 0) + rounded, parts[0].dtype)


def without_rows(asked: WrongValue) -> Expected | None:
    """The moving statistics of a replica that has no rows, which stay as they were."""
    case = asked.exact_case.case
    before = state_before(asked.exact_case, asked.statement, asked.reply, asked.t)
    if before is None or 0 not in case.actions.replicas:
        return None
    kept: dict[str, Array] = {"moving_mean": before.mean, "moving_variance": before.variance}
    value = kept.get(asked.output)
    return None if value is None else Expected(value, np.zeros_like(value), case.dtypes.statistics)
