"""What the reference expects of a case, with the error allowed: computed before any answer is seen.

Three checks. `trajectory`: from the case alone, the allowed error of the state carried from step to step. `step`: the
state of one step, and inference, from the implementation's own previous state. `residual`: the output against the
batch statistics that the implementation itself returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from conformance.bounds import Bounds, Used, finfo
from conformance.case import initial_state
from conformance.question import Plan
from reference import Refusal, State, infer_gradients, train_gradients, validate
from reference.averages import bessel, published, update_fraction
from reference.batch_norm import affine, spread, update
from reference.spec import Array, broadcast, kept_shape


@dataclass(frozen=True)
class Expected:
    """The exact value of one output, the allowed error per element, and the dtype it is promised in."""

    value: Array
    bound: Array
    dtype: str


Answers = dict[str, Expected]


@dataclass(frozen=True)
class Carried:
    """A state with the error that an implementation may have accumulated in it (kept shape)."""

    state: State
    e_mean: Array
    e_variance: Array

    @classmethod
    def exact(cls, state: State) -> Carried:
        """Take a state as it is."""
        return cls(state, np.zeros_like(state.mean), np.zeros_like(state.variance))


def trajectory(plan: Plan) -> list[Answers | Refusal]:
    """Return what every step of the case should give, from the case alone, or the refusal that it must meet with."""
    known = plan.question.known
    if plan.key not in known:
        known[plan.key] = list(_trajectory(plan))
    return known[plan.key]


def _trajectory(plan: Plan) -> Iterator[Answers | Refusal]:
    carried = None
    for t in range(len(plan.case.steps)):
        try:
            kept = carried.state.mean.shape if carried else None
            training, mask = plan.mode(t) == "train", plan.case.tensor(f"{t}.mask")
            shape = None if mask is None else mask.shape
            validate(plan.spec, plan.case.x(t).shape, kept, plan.semantics, training=training, mask=shape)
        except Refusal as refusal:
            yield refusal
            continue
        carried = carried or Carried.exact(initial_state(plan.case, plan.semantics, plan.question.dtype))
        answers, carried = ({}, carried) if plan.question.unjudged else OneStep(plan, t).answers(carried)
        yield answers


def after(plan: Plan, t: int, state: State) -> Answers:
    """Return what step t should give from the state that the implementation itself returned before it."""
    step = OneStep(plan, t)
    if plan.mode(t) == "infer" or plan.semantics.training_statistics == "moving":
        return step.answers(Carried.exact(state))[0]
    before = Carried.exact(state)
    return step.moving(step.moved(before) if plan.updates(t) else before)


def residual(plan: Plan, t: int, mean: Array, variance: Array, *, rounded: bool) -> Answers:
    """Return y for the batch statistics that the implementation returned, which it may have rounded to return them."""
    dtype, step, info = plan.question.dtype, OneStep(plan, t), finfo(mean.dtype.name)
    state = State(mean.astype(dtype), variance.astype(dtype))
    u, tiny = (float(info.eps) / 2, float(info.smallest_subnormal)) if rounded else (0.0, 0.0)
    carried = Carried(state, u * np.abs(state.mean) + tiny, u * state.variance + tiny)
    return {"y": step.y(state, step.used(carried)("y"))}


def class_a(plan: Plan, t: int) -> Expected | None:
    """Return a training step's y with the bound of class A; None where that is what is promised."""
    strict = plan.as_class_a()
    return OneStep(strict, t).train_y() if strict and plan.mode(t) == "train" else None


class OneStep:
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
            out["y"] = self.y(carried.state, used("y"))
        if self.question.dy(self.t) is not None:
            out.update(self._gradients(before, used))
        return out | self.moving(after), after

    def train_y(self) -> Expected:
        """Return the output normalized by the batch's own statistics."""
        return self.y(State(self._flat(self.batch.mean), self._flat(self.batch.variance)), self._used_batch("y"))

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
        new = update(before.state, mean, variance, self.spec, semantics)
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
        bounds, m, t = self.bounds("moving_mean"), self.spec.momentum, state.updates
        return Carried(
            state,
            bounds.e_debiased(state.mean, carried.e_mean, m, t),
            bounds.e_debiased(state.variance, carried.e_variance, m, t),
        )

    def y(self, state: State, used: Used) -> Expected:
        """Return the output for given statistics."""
        mean, variance = (broadcast(a, self.spec, self.batch.x.ndim) for a in (state.mean, state.variance))
        z = (self.batch.x - mean) / spread(variance, self.spec, self.plan.semantics)
        y = affine(z, self.question.parameters, self.spec)
        return self._expected("y", y, self.bounds("y").e_y(self.batch.x, y, *self.question.affine, used))

    def _gradients(self, before: Carried, used: Callable[[str], Used]) -> Answers:
        dy, batch, q, semantics = self.question.dy(self.t), self.batch, self.question, self.plan.semantics
        assert dy is not None
        ask = train_gradients if self.mode == "train" else infer_gradients
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
        return self._expected(output, value, self.bounds(output).stored(value, bound))

    def _expected(self, output: str, value: Array, bound: Array) -> Expected:
        bounds = self.bounds(output)
        unbounded = np.isnan(bound) | ~np.isfinite(value)
        return Expected(value, np.where(unbounded, np.inf, bound), self.plan.dtype(bounds.numerics))

    def _flat(self, a: Array) -> Array:
        return np.broadcast_to(a, self.batch.mean.shape).reshape(self.kept)
