"""Wrong derivatives that have a formula: of later statistics, of statistics taken for constants, of squared weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conformance.gate.predicted.asked import WrongValue
from conformance.judging import expectation
from conformance.judging.bounds.bounds import NormalizingStatistics
from conformance.judging.bounds.tangents import Sizes, TangentBounds
from conformance.judging.carried import StateWithError
from conformance.judging.expectation import ExpectedStep
from conformance.judging.expected import Expected
from conformance.judging.gradients import following
from conformance.judging.judgment import state_before
from conformance.judging.promise import Promise
from conformance.judging.statistics import moving
from conformance.model.case import initial_state
from reference import State
from reference.batches import weigh
from reference.spec import Array


def of_later_statistics(asked: WrongValue) -> Expected | None:
    """A gradient of inference that is taken after all calls, by the moving statistics that the last of them left."""
    promise, case = Promise.of(asked.exact_case, asked.statement), asked.exact_case.case
    if promise.mode(asked.t) != "infer" or promise.unjudged:
        return None
    last = state_before(asked.exact_case, asked.statement, asked.reply, len(case.steps))
    return None if last is None else expectation.after(promise, asked.t, last).get(asked.output)


def third(asked: WrongValue) -> Expected | None:
    """dx.. of torch's double backward, whose own gradient takes mean and r for constants.

    With d = x - mean, X the tangent and means over the batch, the double backward D (batchnorm_double_backward) has

        sum(X D) = n gamma r³ (2 p b + 3 r² c b² + w c)         b = mean(X d)         c = mean(dy d)
        p = mean(X) mean(dy) - mean(X dy)                       w = mean(X)² - mean(X²)

    whose gradient with d alone moving is gamma r³ (2 p X + 3 r² (dy b² + 2 c b X) + w dy).
    """
    step, tangent, dy = _along(asked)
    if step is None or tangent is None or dy is None:
        return None
    used, mean = step.normalizing(_before(asked, step))(asked.output), step.batch.average
    d, r = step.batch.x - used.mean, used.r
    b, c = mean(tangent * d), mean(dy * d)
    p, w = mean(tangent) * mean(dy) - mean(tangent * dy), mean(tangent) ** 2 - mean(tangent**2)
    value = step.gamma * r**3 * (2 * p * tangent + 3 * r**2 * (dy * b**2 + 2 * c * b * tangent) + w * dy)
    e = TangentBounds(step.bounds(asked.output), step.batch, used, dy, tangent).e(_of_third, step.gamma)
    return step.stored(asked.output, value, e)


def forward_over_forward(asked: WrongValue) -> Expected | None:
    """y.. of torch's batch_norm_jvp, which takes mean and r for constants: -gamma r³ (X mean(d X) + d mean(X²)).

    In both means X has its own mean taken off once.
    """
    step, tangent, _ = _along(asked)
    if step is None or tangent is None:
        return None
    used, mean = step.normalizing(_before(asked, step))(asked.output), step.batch.average
    d, away = step.batch.x - used.mean, tangent - mean(tangent)
    value = -step.gamma * used.r**3 * (tangent * mean(away * d) + d * mean(away * tangent))
    of = TangentBounds(step.bounds(asked.output), step.batch, used, np.zeros_like(tangent), tangent)
    return step.stored(asked.output, value, of.e(_of_forward, step.gamma))


def _of_third(p: Sizes) -> Array:
    most = 2 * p.c * p.along + 3 * p.r**2 * (p.dy * p.q**2 + 2 * p.s * p.q * p.along) + p.v * p.dy
    return p.gamma * p.r**3 * most


def _of_forward(p: Sizes) -> Array:
    return p.gamma * p.r**3 * (p.along * p.q + p.d * p.v)


def _along(asked: WrongValue) -> tuple[ExpectedStep | None, Array | None, Array | None]:
    promise, q, t = Promise.of(asked.exact_case, asked.statement), asked.exact_case, asked.t
    step = None if promise.unjudged or promise.mode(t) == "infer" else ExpectedStep(promise, t)
    return step, q.array(t, "tangent"), q.array(t, "dy")


def _before(asked: WrongValue, step: ExpectedStep) -> StateWithError:
    return StateWithError.exact(initial_state(asked.exact_case.case, step.semantics, asked.exact_case.dtype))


# --- squared weights -------------------------------------------------------------------------------------------------


def of_squared_weights(asked: WrongValue, promise: Promise, before: State) -> Expected | None:
    """An output of a training step whose variance is v = max(sum((w x)²) / sum(w) - mean², 0); weights are squared."""
    t, start, whole = asked.t, StateWithError.exact(before), asked.exact_case.batch(asked.t, promise.semantics)
    x, mask = asked.exact_case.array(t, "x"), asked.exact_case.mask(t)
    if x is None or mask is None or promise.spec.virtual_batch_size is not None:
        return None
    weights, n = weigh(x, mask, promise.semantics), whole.divisor
    mean, square = (np.add.reduce(a, whole.axes, keepdims=True) / n for a in (weights * x, (weights * x) ** 2))
    b, u, variance = (
        ExpectedStep(promise, t).bounds("y"),
        ExpectedStep(promise, t).bounds("y").units.u,
        square - mean**2,
    )
    e_mean = b.g(5) * np.add.reduce(np.abs(weights * x), whole.axes, keepdims=True) / n + b.units.smallest
    e_square = b.g(6) * square + 3 * b.units.smallest
    e = e_square + 2 * np.abs(mean) * e_mean + e_mean**2 + 3 * u * mean**2 + u * np.abs(variance)
    e = b.vacuous(e * (1 + 3 * u), whole.count * square)
    changed = whole.with_statistics(mean, np.maximum(variance, 0), (e_mean, e))
    step = ExpectedStep(promise, t, changed)
    used = step.normalizing(start)
    if asked.output == "dx":
        return _dx_of_squared_weights(step, start, used("dx"), weights, np.abs(variance) <= e, variance > 0)
    out = {"y": step.y(start, used), **following(step, start, used), **moving(step, start, step.after(start))}
    return out.get(asked.output)


def _dx_of_squared_weights(
    step: ExpectedStep,
    start: StateWithError,
    used: NormalizingStatistics,
    weights: Array,
    unclear: Array,
    passes: Array,
) -> Expected | None:
    """gamma r (f dy - w sum(f dy) / n - r² sum(f dy d) (w² x - mean w) / n), the last where the variance is not cut.

    d = x - mean, and f is renorm's r, 1 without. The bound: magnitudes, and how they grow by the errors of mean, r and
    f, and by the roundings of three nested sums of products.
    """
    dy, batch, inner, b = step.exact_case.dy(step.t), step.batch, step.inner(start), step.bounds("dx")
    if dy is None:
        return None
    f, e_f = (1.0, 0.0) if inner is None else (inner[0].value, inner[0].error)
    x, w = batch.x, weights

    def total(values: Array) -> Array:
        return np.add.reduce(values, batch.axes, keepdims=True) / batch.divisor

    last = used.r**2 * total(f * dy * (x - used.mean)) * (w**2 * x - used.mean * w) * passes
    value = step.gamma * used.r * (f * dy - w * total(f * dy) - last)

    def most(mean: Array, r: Array, f: Any) -> Array:
        size = f * np.abs(dy)
        of_variance = r**2 * total(size * (np.abs(x) + mean)) * (w**2 * np.abs(x) + mean * w)
        return np.abs(step.gamma) * r * (size + w * total(size) + of_variance)

    low = most(np.abs(used.mean), used.r, np.abs(f))
    high = most(np.abs(used.mean) + used.e_mean, used.r + used.e_r, np.abs(f) + e_f)
    e = high - low + math.expm1(3 * math.log1p(b.g(10))) * high + b.units.smallest * (2 + high)
    e = np.where(unclear, np.inf, b.vacuous(e, batch.count * high))
    return step.expected("dx", value, b.stored(value, e))
