"""What the reference expects of a case, with the error allowed: computed before any answer is seen.

Three checks. `trajectory`: from the case alone, the allowed error of the state carried from step to step. `step`: the
state of one step, and inference, from the implementation's own previous state. `residual`: the output against the
batch statistics that the implementation itself returned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

import reference
from conformance.bounds import Batch, Bounds, Numerics, Units, Used
from conformance.case import Case, initial_state, parameters
from conformance.statement import Statement, facts, step_facts
from reference import State
from reference.batch_norm import bessel, published, update_fraction
from reference.spec import Array, broadcast, kept_shape, reduced_axes

_ALIAS = {"moving_variance": "moving_mean", "variance": "mean"}
_DTYPES = {"input": "x", "parameters": "parameters", "statistics": "statistics"}


@dataclass(frozen=True)
class Expected:
    """The exact value of one output, the allowed error per element, and the dtype it is promised in."""

    value: Array
    bound: Array
    dtype: str


@dataclass(frozen=True)
class Carried:
    """A state with the error that an implementation may have accumulated in it (kept shape)."""

    state: State
    e_mean: Array
    e_variance: Array

    @classmethod
    def exact(cls, state: State) -> Carried:
        """A state taken as it is."""
        return cls(state, np.zeros_like(state.mean), np.zeros_like(state.variance))


Answers = dict[str, Expected]


class Question:
    """A case at the precision the reference judges it in, its batches measured once for all implementations."""

    def __init__(self, case: Case) -> None:
        self.case, self.spec = case, case.spec
        doubles = "float64" in (case.dtypes.x, case.dtypes.parameters, case.dtypes.statistics)
        self.dtype: Any = np.longdouble if doubles else np.float64
        self._batches: dict[int, Batch] = {}
        self._answers: dict[Any, list[Answers | reference.Refusal]] = {}

    def batch(self, t: int) -> Batch:
        """Return the exact statistics of step t's input."""
        if t not in self._batches:
            x = self.x(t)
            axes = reduced_axes(self.spec, x.ndim)
            self._batches[t] = Batch.of(x, *reference.batch_norm.moments(x, axes), axes)
        return self._batches[t]

    def x(self, t: int) -> Array:
        """Return the input of step t."""
        return self.case.x(t).astype(self.dtype)

    def dy(self, t: int) -> Array | None:
        """Return the cotangent of step t, None where no gradient is asked for."""
        dy = self.case.tensor(f"{t}.dy")
        return dy.astype(self.dtype) if dy is not None and self.case.steps[t].derivatives else None

    @cached_property
    def parameters(self) -> reference.Parameters:
        """gamma and beta."""
        return parameters(self.case, self.dtype)

    @cached_property
    def affine(self) -> tuple[Array, Array]:
        """Gamma and beta, 1 and 0 where the spec asks for none, broadcasting against the input."""
        rank, one = len(self.case.shape), np.ones((), self.dtype)
        gamma, beta = self.parameters.gamma, self.parameters.beta
        return (
            one if gamma is None else broadcast(gamma, self.spec, rank),
            0 * one if beta is None else broadcast(beta, self.spec, rank),
        )

    def trajectory(self, statement: Statement) -> list[Answers | reference.Refusal]:
        """Return what every step of the case should give, from the case alone; implementations alike share it."""
        plan = Plan(self, statement)
        if plan.key not in self._answers:
            self._answers[plan.key] = list(plan.trajectory())
        return self._answers[plan.key]


class Plan:
    """A question as one implementation has promised to answer it: its semantics, and its numerics per output."""

    def __init__(self, question: Question, statement: Statement) -> None:
        self.question, self.case, self.spec = question, question.case, question.spec
        self._facts = facts(self.case)
        self.semantics = statement.semantics(self._facts)
        outputs = ("y", "dx", "dgamma", "dbeta", "moving_mean", "mean")
        self._numerics = {
            (mode, output): statement.numerics(self._facts, mode, output)
            for mode in ("train", "infer")
            for output in outputs
        }
        self.key = (self.semantics, tuple(self._numerics.values()))

    def mode(self, t: int) -> str:
        """Return the mode a step really runs in: a frozen layer may infer where training was asked for."""
        frozen = not self.spec.trainable and self.semantics.frozen == "infer"
        return "infer" if frozen else self.case.steps[t].mode

    def updates(self, t: int) -> bool:
        """Return whether a step moves the state."""
        frozen = not self.spec.trainable and self.semantics.frozen == "batch"
        return self.mode(t) == "train" and self.case.steps[t].update and not frozen

    def trajectory(self) -> Any:
        """Yield the answers of each step, or the refusal it must meet with."""
        kept = kept_shape(self.spec, self.case.shape)
        carried = Carried.exact(initial_state(self.case, self.semantics, self.question.dtype))
        for t in range(len(self.case.steps)):
            try:
                reference.validate(self.spec, self.case.x(t).shape, kept)
            except reference.Refusal as refusal:
                yield refusal
                continue
            answers, carried = _Step(self, t).answers(carried)
            yield answers

    def after(self, t: int, state: State) -> Answers:
        """Return what step t should give from the state that the implementation itself returned before it."""
        step = _Step(self, t)
        if self.mode(t) == "infer" or self.semantics.training_statistics == "moving":
            return step.answers(Carried.exact(state))[0]
        return step.moving(step.moved(Carried.exact(state)))

    def residual(self, t: int, mean: Array, variance: Array) -> Answers:
        """Return y for the batch statistics that the implementation returned, taken as exact."""
        step, dtype = _Step(self, t), self.question.dtype
        used = step.used(Carried.exact(State(mean.astype(dtype), variance.astype(dtype))))
        return {"y": step.y(mean.astype(dtype), variance.astype(dtype), used("y"))}

    def as_class_a(self, t: int) -> Expected | None:
        """Return a training step's y with the bound of class A, same grade; None where that is what is promised."""
        numerics = self._numerics["train", "y"]
        strict = msgspec.structs.replace(numerics, variance="two_pass", affine="direct")
        if self.mode(t) != "train" or self.semantics.training_statistics != "batch" or strict == numerics:
            return None
        plan = copy.copy(self)
        plan._numerics = self._numerics | {("train", "y"): strict}
        return _Step(plan, t).train_y()

    def bounds(self, mode: str, output: str, n: int) -> Bounds:
        """Return the formulas for one output."""
        numerics = self._numerics[mode, output]
        return Bounds(numerics, self._units(numerics), n, self.spec.epsilon)

    def _units(self, numerics: Numerics) -> Units:
        arithmetic, dtypes = self.case.dtypes.x, self.case.dtypes
        if numerics.accumulate == "wide":
            wide = "float64" in (dtypes.x, dtypes.parameters, dtypes.statistics)
            arithmetic = "float64" if wide and dtypes.x == "float64" else "float32"
        return Units.of(arithmetic, self.dtype(numerics))

    def label(self, t: int, output: str) -> str:
        """Return the class and grade promised for an output of a step, such as `A′·S`."""
        return self._numerics[self.mode(t), _ALIAS.get(output, output)].label

    def dtype(self, numerics: Numerics) -> str:
        """Return the dtype that an output is promised in."""
        return getattr(self.case.dtypes, _DTYPES[numerics.stored]) if numerics.stored in _DTYPES else numerics.stored


class _Step:
    """One step of a plan: reference values beside their bounds."""

    def __init__(self, plan: Plan, t: int) -> None:
        self.plan, self.question, self.t, self.spec = plan, plan.question, t, plan.spec
        self.mode, self.batch = plan.mode(t), plan.question.batch(t)
        self.kept = kept_shape(self.spec, self.batch.x.shape)

    def answers(self, before: Carried) -> tuple[Answers, Carried]:
        """Return every output with its bound, and the state after the step."""
        after = self.moved(before) if self.plan.updates(self.t) else before
        out = self._batch_statistics() if self.mode == "train" else {}
        if self.mode == "train" and self.plan.semantics.training_statistics == "batch":
            used = self._used_batch
            out["y"] = self.train_y()
        else:
            carried = self._published(before) if self.mode == "infer" else after
            used = self.used(carried)
            out["y"] = self.y(carried.state.mean, carried.state.variance, used("y"))
        if self.question.dy(self.t) is not None:
            out.update(self._gradients(before, used))
        return out | self.moving(after), after

    def train_y(self) -> Expected:
        """Return the output normalized by the batch's own statistics."""
        return self.y(self._flat(self.batch.mean), self._flat(self.batch.variance), self._used_batch("y"))

    def moving(self, after: Carried) -> Answers:
        """Return the state after the step as outputs; none where nothing is kept."""
        if self.plan.semantics.average == "none":
            return {}
        return {
            "moving_mean": self._expected("moving_mean", after.state.mean, after.e_mean),
            "moving_variance": self._expected("moving_variance", after.state.variance, after.e_variance),
        }

    def _batch_statistics(self) -> Answers:
        bounds, batch = self.bounds("mean"), self.batch
        e_mean = bounds.e_mean(batch)
        e_variance = bounds.e_variance(batch, e_mean)
        return {
            "mean": self._stored("mean", self._flat(batch.mean), self._flat(e_mean)),
            "variance": self._stored("variance", self._flat(batch.variance), self._flat(e_variance)),
        }

    def moved(self, before: Carried) -> Carried:
        """Return the state after the batch entered it, with the error allowed in it."""
        bounds, batch, semantics = self.bounds("moving_mean"), self.batch, self.plan.semantics
        e_mean = bounds.e_mean(batch)
        e_variance, stored = bounds.e_variance(batch, e_mean), batch.variance
        if semantics.stored_variance == "unbiased":
            factor = bessel(batch.n)
            e_variance, stored = bounds.e_unbiased(batch, e_variance, factor), stored * factor
        mean, variance = self._flat(batch.mean), self._flat(stored)
        new = reference.batch_norm.update(before.state, mean, variance, self.spec, semantics)
        a, old = update_fraction(new.updates, self.spec, semantics), before.state
        return Carried(
            new,
            bounds.e_moving(old.mean, mean, new.mean, before.e_mean, self._flat(e_mean), a),
            bounds.e_moving(old.variance, variance, new.variance, before.e_variance, self._flat(e_variance), a),
        )

    def used(self, carried: Carried) -> Callable[[str], Used]:
        """Return, for a given output, what normalizes when statistics of this state do."""
        state, rank = carried.state, self.batch.x.ndim
        arrays = (state.mean, state.variance, carried.e_mean, carried.e_variance)
        spread = [broadcast(a, self.spec, rank) for a in arrays]
        return lambda output: self.bounds(output).used(*spread)

    def _used_batch(self, output: str) -> Used:
        bounds = self.bounds(output)
        e_mean = bounds.e_mean(self.batch)
        return bounds.used(self.batch.mean, self.batch.variance, e_mean, bounds.e_variance(self.batch, e_mean))

    def _published(self, carried: Carried) -> Carried:
        state, semantics = published(carried.state, self.spec, self.plan.semantics), self.plan.semantics
        if semantics.average != "zero_debiased" or state.updates == 0 or self.spec.momentum is None:
            return carried
        bounds, weight = self.bounds("moving_mean"), 1 - self.spec.momentum**state.updates
        return Carried(
            state,
            bounds.e_debiased(state.mean, carried.e_mean, weight),
            bounds.e_debiased(state.variance, carried.e_variance, weight),
        )

    def y(self, mean: Array, variance: Array, used: Used) -> Expected:
        """Return the output for given statistics."""
        y = reference.batch_norm.normalize(self.batch.x, mean, variance, self.question.parameters, self.spec)
        return self._expected("y", y, self.bounds("y").e_y(self.batch.x, y, *self.question.affine, used))

    def _gradients(self, before: Carried, used: Callable[[str], Used]) -> Answers:
        dy, batch, q, semantics = self.question.dy(self.t), self.batch, self.question, self.plan.semantics
        assert dy is not None
        ask = reference.train_gradients if self.mode == "train" else reference.infer_gradients
        exact = ask(batch.x, dy, q.parameters, before.state, self.spec, semantics)
        out = {"dx": self._expected("dx", exact.dx, self._e_dx(before, dy, used("dx")))}
        if self.spec.scale:
            e = batch.n * self.bounds("dgamma").e_mean_dyz(batch.x, dy, batch.axes, used("dgamma"))
            out["dgamma"] = self._stored("dgamma", exact.dgamma, self._flat(e))
        if self.spec.center:
            e = batch.n * self.bounds("dbeta").e_mean_dy(dy, batch.axes)
            out["dbeta"] = self._stored("dbeta", exact.dbeta, self._flat(e))
        return out

    def _e_dx(self, before: Carried, dy: Array, used: Used) -> Array:
        bounds, gamma, semantics = self.bounds("dx"), self.question.affine[0], self.plan.semantics
        if self.mode == "infer":
            return bounds.e_dx_infer(dy, gamma, used)
        moving = semantics.training_statistics == "moving"
        part = update_fraction(before.state.updates + 1, self.spec, semantics) if moving else 1.0
        return bounds.e_dx_train(self.batch, dy, gamma, used, part)

    def bounds(self, output: str) -> Bounds:
        """Return the formulas for one output of this step."""
        return self.plan.bounds(self.mode, output, self.batch.n)

    def _stored(self, output: str, value: Array, bound: Array) -> Expected:
        return self._expected(output, value, self.bounds(_ALIAS.get(output, output)).stored(value, bound))

    def _expected(self, output: str, value: Array, bound: Array) -> Expected:
        bounds = self.bounds(_ALIAS.get(output, output))
        unbounded = np.isnan(bound) | ~np.isfinite(value)
        return Expected(value, np.where(unbounded, np.inf, bound), self.plan.dtype(bounds.numerics))

    def _flat(self, a: Array) -> Array:
        return np.broadcast_to(a, self.batch.mean.shape).reshape(self.kept)


def step_is_refused(statement: Statement, case: Case, t: int) -> str:
    """Return the exception types that a documented refusal promises for a step, empty where there is none."""
    refusal = statement.refusal(step_facts(case, t))
    return "|".join(refusal.error) if refusal else ""
