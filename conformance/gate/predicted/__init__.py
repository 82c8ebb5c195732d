"""Wrong values that known departures are known to give: each as a formula, with the error allowed in it.

A formula gives the value of one output of one step, from the state that the implementation itself returned before,
by the same bounds as the right value. Any other wrong value stays unexplained.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import numpy as np

from conformance.gate.predicted.asked import Formula, WrongValue
from conformance.gate.predicted.complexes import real_mean, unconjugated
from conformance.gate.predicted.derivatives import forward_over_forward, of_later_statistics, of_squared_weights, third
from conformance.gate.predicted.graphs import from_one_state, in_reverse, with_later_statistics
from conformance.gate.predicted.integers import cut, cut_at_last, wrapped
from conformance.gate.predicted.others import in_turn
from conformance.gate.predicted.recomputed import moved_twice
from conformance.gate.predicted.replicas import each_by_itself, of_means, without_rows
from conformance.judging import carried, expectation
from conformance.judging.bounds import bounds
from conformance.judging.bounds.bounds import Affine
from conformance.judging.carried import StateWithError
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import ExpectedStep
from conformance.judging.expected import Expected
from conformance.judging.judgment import state_before
from conformance.judging.promise import Promise
from conformance.model.case import Case, initial_state
from conformance.model.outcome import Outputs
from conformance.model.rules import Rule
from reference import Refusal
from reference.precision import widened
from reference.spec import Array


def explains(formula: str, asked: WrongValue) -> bool:
    """Return whether an output is that of a formula: of its shape, within its bound, and finite where it is."""
    outcome = asked.reply.outcomes[asked.t] if asked.t < len(asked.reply.outcomes) else None
    got = outcome.tensors.get(asked.output) if isinstance(outcome, Outputs) else None
    with asked.exact_case.lock, np.errstate(all="ignore"):
        wanted = FORMULAS[formula](asked) if got is not None else None
        return got is not None and wanted is not None and _is(got, wanted)


def _is(got: Array, wanted: Expected) -> bool:
    if got.shape != wanted.value.shape or got.dtype.name != wanted.dtype:
        return False
    found = widened(got, np.float64)
    near = (bounds.rho(got, wanted.value, wanted.bound) <= 1) | wanted.lost(found)
    return bool(np.where(np.isfinite(wanted.value), near, ~np.isfinite(found)).all())


# --- other statistics than the right ones --------------------------------------------------------------------------


def _of_what_init_saw(asked: WrongValue) -> Expected | None:
    """Inference before the first step, by the statistics that training on the first input leaves behind."""
    case, begun = asked.exact_case.case, [t for t in range(asked.t + 1) if t not in asked.reply.refused]
    trained = any(case.steps[t].mode == "train" for t in begun)
    if not begun or trained or {"moving_mean", "moving_variance"} & set(case.tensors):
        return None
    first, tensors = msgspec.structs.replace(case.steps[begun[0]], mode="train", derivatives=()), _without_steps(case)
    tensors |= {"0.x": case.x(begun[0])} | _of_step(case, asked.t, 1)
    return _answer(msgspec.structs.replace(case, steps=(first, case.steps[asked.t]), tensors=tensors), asked, 1)


def _blended(asked: WrongValue) -> Expected | None:
    """Inference by the moving statistics into which its own batch has entered; they are forgotten afterwards."""
    case, t = asked.exact_case.case, asked.t
    step = msgspec.structs.replace(case.steps[t], mode="train")
    changed = msgspec.structs.replace(case, steps=(step,), tensors=_without_steps(case) | _of_step(case, t, 0))
    moving = {"training_statistics": "moving", "average": "exponential", "stored_variance": "biased"}
    return _answer(changed, asked, 0, moving)


def _of_all_channels(asked: WrongValue) -> Expected | None:
    """A vector normalized by one mean and one variance of all its channels.

    This is as if every channel held the whole vector; the value and gradient of its own are on the diagonal.
    """
    case = asked.exact_case.case
    if len(case.shape) != 1 or any(name.endswith((".mask", ".tangent")) for name in case.tensors):
        return None
    spec, tensors = dataclasses.replace(case.spec, axis=1), _without_steps(case)
    for t in range(len(case.steps)):
        tensors[f"{t}.x"] = np.repeat(case.x(t)[:, None], case.x(t).size, axis=1)
        if (dy := case.tensor(f"{t}.dy")) is not None:
            tensors[f"{t}.dy"] = np.where(np.eye(dy.size, dtype=bool), dy, 0).astype(dy.dtype)
    found = _answer(
        msgspec.structs.replace(case, spec=spec, tensors=tensors, layout="C"), asked, asked.t, None, asked.reply.refused
    )
    if found is None:
        return None
    return Expected(_own(asked.output, found.value), _own(asked.output, found.bound), found.dtype)


def _own(output: str, array: Array) -> Array:
    """Return the diagonal of an output of the case in which every channel holds the whole vector."""
    if output == "y":
        return np.diagonal(array)
    if output == "dx":
        return np.add.reduce(array, 1)
    return array[:1] if output in ("mean", "variance") else array


def _trained_on_no_rows(asked: WrongValue) -> Expected | None:
    """Inference on no rows as a training step on them, which makes the moving statistics NaN."""
    case = asked.exact_case.case
    empty = [step.mode == "infer" and not case.x(t).size for t, step in enumerate(case.steps)]
    if not any(empty[: asked.t + 1]):
        return None
    steps = zip(case.steps, empty, strict=True)
    trained = tuple(msgspec.structs.replace(step, mode="train") if it_is else step for step, it_is in steps)
    return _answer(msgspec.structs.replace(case, steps=trained), asked, asked.t, None, asked.reply.refused)


def _without_statistics(asked: WrongValue) -> Expected | None:
    """The gradient as though y alone were differentiated, and not the returned statistics."""
    case = asked.exact_case.case
    of_y = [tuple(msgspec.structs.replace(d, of=("y",)) for d in step.derivatives) for step in case.steps]
    steps = tuple(msgspec.structs.replace(s, derivatives=d) for s, d in zip(case.steps, of_y, strict=True))
    return _answer(msgspec.structs.replace(case, steps=steps), asked, asked.t, None, asked.reply.refused)


def _answer(
    case: Case,
    asked: WrongValue,
    t: int,
    semantics: dict[str, Any] | None = None,
    refused: frozenset[int] = frozenset(),
) -> Expected | None:
    """Return what would be right of the output in step t of another case, under other semantics.

    The implementation is taken to train too. refused: the steps of that case that were refused.
    """
    both = msgspec.structs.replace(_with(asked, semantics or {}), modes=("train", "infer"))
    promise = Promise.of(ExactCase(case), both)
    answers = expectation.trajectory(promise, refused)[t]
    return None if isinstance(answers, Refusal) or promise.unjudged else answers.get(asked.output)


def _without_steps(case: Case) -> dict[str, Any]:
    return {name: array for name, array in case.tensors.items() if "." not in name}


def _of_step(case: Case, t: int, to: int) -> dict[str, Any]:
    """Return the tensors of step t, renamed to those of another step."""
    found = {name.partition(".")[2]: a for name, a in case.tensors.items() if name.startswith(f"{t}.")}
    return {f"{to}.{name}": array for name, array in found.items()}


# --- overwritten, or multiplied by zero ------------------------------------------------------------------------------


def _overwritten_constants(asked: WrongValue) -> Expected | None:
    """Training with the new moving statistics in place of gamma and beta, where those equal the old statistics.

    A model's equal constants are merged, and the operator writes its moving statistics over its inputs: first the mean,
    then the variance; both over the same array where the two are equal.
    """
    case = asked.exact_case.case
    promise = Promise.of(
        asked.exact_case, _with(asked, {"average": "exponential", "stored_variance": "biased", "initial_variance": 1.0})
    )
    if promise.mode(asked.t) != "train" or promise.unjudged:
        return None
    step, before = (
        ExpectedStep(promise, asked.t),
        StateWithError.exact(initial_state(case, promise.semantics, asked.exact_case.dtype)),
    )
    new, constants = step.after(before), _constants(asked, before)
    mean, variance = (new.state.mean, new.errors.mean), (new.state.variance, new.errors.variance)
    if _equal(constants["mean"], constants["variance"]):
        twice = StateWithError(_with_variance(before.state, mean[0]), _with_variance(before.errors, mean[1]))
        moved = carried.moved(step.bounds("moving_mean"), step.batch, twice, step.spec, step.semantics)
        mean = variance = moved.state.variance, moved.errors.variance
    parts: list[Array] = []
    for name, plain in (("gamma", step.gamma), ("beta", step.affine(before).shift)):
        into = next((n for n in ("mean", "variance") if _equal(constants[name], constants[n])), "")
        value, e = {"mean": mean, "variance": variance}.get(into, (None, None))
        parts += [plain, np.zeros_like(plain)] if value is None or e is None else [step.align(value), step.align(e)]
    affine, used = Affine(parts[0], parts[2], parts[1], parts[3]), step.normalizing(before)("y")
    y = affine.scale * (step.batch.x - used.mean) * used.r + affine.shift
    return step.expected("y", y, step.bounds("y").e_y(step.batch.x, y, affine, used))


def _constants(asked: WrongValue, before: StateWithError) -> dict[str, tuple[Array, str]]:
    """Return the constants of the model with their dtypes."""
    exact_case, dtypes = asked.exact_case, asked.exact_case.case.dtypes
    given, one = exact_case.parameters(asked.t), np.ones_like(before.state.mean)
    gamma, beta = (one if given.gamma is None else given.gamma), (0 * one if given.beta is None else given.beta)
    return {
        "gamma": (gamma, dtypes.parameters),
        "beta": (beta, dtypes.parameters),
        "mean": (before.state.mean, dtypes.statistics),
        "variance": (before.state.variance, dtypes.statistics),
    }


def _equal(one: tuple[Array, str], other: tuple[Array, str]) -> bool:
    return one[1] == other[1] and bool((one[0] == other[0]).all())


def _with_variance(state: Any, variance: Array) -> Any:
    return dataclasses.replace(state, variance=variance)


def _times_zero(asked: WrongValue) -> Expected | None:
    """The right gradient of inference, plus 0 times one through the batch's variance: NaN where that is not finite.

    What is multiplied is x less the batch's mean, whose sum of n values is at most n times their root mean square.
    """
    promise, t = Promise.of(asked.exact_case, asked.statement), asked.t
    answers = expectation.trajectory(promise, asked.reply.refused)[t]
    right = None if isinstance(answers, Refusal) else answers.get(asked.output)
    outcome = asked.reply.outcomes[t]
    if right is None or not isinstance(outcome, Outputs):
        return None
    batch, most = asked.exact_case.whole(t), promise.bounds("infer", "dx", 1).units.largest
    squares, n = batch.variance + batch.mean**2, right.value.size / batch.mean.size
    off = ~(np.isfinite(squares) & (np.sqrt(squares) <= most / n))
    missing = np.isnan(widened(outcome.tensors[asked.output], np.float64)) & np.broadcast_to(off, right.value.shape)
    return dataclasses.replace(right, value=np.where(missing, np.nan, right.value))


# --- in a mask's weights ---------------------------------------------------------------------------------------------


def _squared_weights(asked: WrongValue) -> Expected | None:
    """Training by sum(w x) / sum(w) and sum((w x)²) / sum(w) - mean², and the later steps that follow from it."""
    promise, t = Promise.of(asked.exact_case, asked.statement), asked.t
    before = state_before(asked.exact_case, asked.statement, asked.reply, t)
    if before is None or promise.unjudged:
        return None
    if promise.mode(t) == "infer":
        return expectation.after(promise, t, before).get(asked.output)
    return of_squared_weights(asked, promise, before)


def _with(asked: WrongValue, semantics: dict[str, Any]) -> Any:
    rules = [*asked.statement.rules, Rule("predicted", semantics=semantics)]
    return msgspec.structs.replace(asked.statement, rules=rules)


FORMULAS: dict[str, Formula] = {
    "of what init saw": _of_what_init_saw,
    "blended with its own batch": _blended,
    "of all channels": _of_all_channels,
    "inference trains on no rows": _trained_on_no_rows,
    "overwritten constants": _overwritten_constants,
    "NaN times zero": _times_zero,
    "squared weights": _squared_weights,
    "of later statistics": of_later_statistics,
    "with later statistics": with_later_statistics,
    "calls in reverse": in_reverse,
    "from one state": from_one_state,
    "of y alone": _without_statistics,
    "cut to whole numbers": cut,
    "y cut to whole numbers": cut_at_last,
    "squares modulo 256": wrapped,
    "squares of complex numbers": unconjugated,
    "the real part of the mean": real_mean,
    "moved twice": moved_twice,
    "of the replicas' means": of_means,
    "each replica by itself": each_by_itself,
    "of a replica without rows": without_rows,
    "statistics in turn": in_turn,
    "third with constant statistics": third,
    "forward over forward with constant statistics": forward_over_forward,
}
"""Every formula by the name that a divergence gives it."""
