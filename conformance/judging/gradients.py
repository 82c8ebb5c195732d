"""What the reference expects of a step's gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from conformance.judging import activated, not_finite
from conformance.judging.bounds.bounds import Bounds, NormalizingStatistics
from conformance.judging.bounds.gradients import GradientBounds
from conformance.judging.bounds.renorm import Approximate, exact
from conformance.judging.bounds.roundings import grown, growth
from conformance.judging.carried import StateWithError
from conformance.judging.step import Expected, ExpectedOutputs, ExpectedStep, Normalizing
from reference import (
    Gradients,
    batch_weights,
    infer_gradients,
    train_gradients,
)
from reference.averages import update_fraction
from reference.spec import Array


def gradients(step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    """Return dx, dgamma and dbeta of a step, as far as the spec has them."""
    q, t = step.exact_case, step.t
    x, dy = q.array(t, "x"), q.dy(t)
    if x is None or dy is None:
        return {}
    common = (x, dy, q.parameters(t), before.state, step.spec, step.semantics)
    if step.training:
        updating = step.promise.case.steps[t].update
        more: dict[str, Any] = {"mask": q.mask(t), "adjustment": q.adjustment(t), **q.of_statistics(t)}
        more |= {f"d{name}": cotangent.value for name, cotangent in _of_new_state(step, before).items()}
        value = train_gradients(*common, **more, updating=updating)
    else:
        value = infer_gradients(*common)
    if step.passes:
        return _passed(step, value)
    dy, e_dy = activated.reaching(step, before, used, step.laid_out(dy))
    formulas = _Formulas(step, before, used, e_dy)
    of_dx, size = formulas("dx", dy), np.abs(dy)
    kinds, terms = partial(_kinds_dx, step, before, of_dx, value.dx), partial(_terms_dx, step, of_dx)
    out = {"dx": step.expected("dx", value.dx, step.joined(_e_dx(step, before, of_dx)), terms, kinds=kinds)}
    if step.spec.scale:
        e, terms = _e_dgamma(step, before, dy, formulas), partial(_terms, step, lambda: size * np.abs(of_dx.z))
        kinds = partial(_kinds_dgamma, step, before, dy)
        out["dgamma"] = _of_no_rows(step, before, used, _sum(step, "dgamma", value.dgamma, e, terms, kinds=kinds))
    if step.spec.center:
        e, terms = _e_dbeta(step, dy, e_dy, used), partial(_terms, step, lambda: size)
        out["dbeta"] = _sum(step, "dbeta", value.dbeta, e, terms, kinds=partial(_kinds_dbeta, step, dy))
    return out


def _passed(step: ExpectedStep, exact: Gradients) -> ExpectedOutputs:
    """Return the gradients of a step that leaves its batch as it is (BN-24): dy, and of gamma and beta none."""
    none, there = np.zeros_like(exact.dbeta), {"dgamma": step.spec.scale, "dbeta": step.spec.center}
    unchanged = step.stored("dx", exact.dx, np.zeros_like(exact.dx), kinds=lambda: not_finite.of(exact.dx))
    return {"dx": unchanged} | {name: step.expected(name, none, none) for name, has in there.items() if has}


def _sum(
    step: ExpectedStep, output: str, value: Array, bound: Array, *terms: Callable[[], Array], **more: Any
) -> Expected:
    """Return the expected value of a gradient that is a sum over the batch; of an empty batch it is exactly 0."""
    return step.stored(output, value, bound if step.batch.count else np.zeros_like(value), *terms, **more)


def _of_no_rows(step: ExpectedStep, before: StateWithError, used: Normalizing, dgamma: Expected) -> Expected:
    """Return what to expect of dgamma where there are no rows: 0, or NaN if the statistics are or may be NaN.

    It is r sum(dy (x - m)); Keras multiplies the empty sum by r, and 0 times NaN is NaN.
    """
    if step.batch.count:
        return dgamma
    if step.kinds(before) is not None:
        return dgamma.or_nan(np.ones(step.kept, bool))
    if step.training:
        return dgamma
    u = used("dgamma")
    sure = np.isfinite(u.mean + u.e_mean + u.r + u.e_r)
    return dgamma.or_nan(np.broadcast_to(~sure, step.align(np.zeros(step.kept)).shape).reshape(step.kept))


def _kinds_dx(step: ExpectedStep, before: StateWithError, formulas: GradientBounds, dx: Array) -> Array:
    kinds, dy, gamma, bounds = step.kinds(before), formulas.dy, step.gamma, formulas.bounds
    part = _part(step, before) if step.training else 0
    if not part:
        return step.joined(not_finite.of_dx_infer(dy, step.laid_out(dx), gamma, formulas.used, kinds, bounds))
    return step.joined(not_finite.of_dx_train(dy, gamma, kinds, step.batch, part))


def _kinds_dgamma(step: ExpectedStep, before: StateWithError, dy: Array) -> Array:
    return _over_all(step, not_finite.of_dgamma(dy, step.batch.x, step.kinds(before), _axes(step)))


def _kinds_dbeta(step: ExpectedStep, dy: Array) -> Array:
    return _over_all(step, not_finite.of_dbeta(dy, _axes(step)))


def _axes(step: ExpectedStep) -> tuple[int, ...]:
    return (*step.batch.axes, 1) if step.batch.observed.virtual else step.batch.axes


def _over_all(step: ExpectedStep, kinds: Array) -> Array:
    return kinds.reshape(step.kept) if kinds.ndim else kinds


def following(step: ExpectedStep, before: StateWithError, used: Normalizing) -> ExpectedOutputs:
    """Return the dx and dgamma of a training step that follow from given statistics, the batch's own or not."""
    q, t = step.exact_case, step.t
    dy, inner = q.dy(t), step.inner(before)
    if q.array(t, "x") is None or dy is None or step.passes:
        return {}
    dy, e_dy = activated.reaching(step, before, used, dy)
    formulas = _Formulas(step, before, used, e_dy)
    of_dx, of_dgamma = (formulas(name, dy) for name in ("dx", "dgamma"))
    gamma, r = step.gamma, of_dx.used.r
    returned, e_returned = _through_returned(step, of_dx, before)
    dx = gamma * r * of_dx.t_train(1.0) + returned
    kinds = partial(_kinds_dx, step, before, of_dx, dx)
    out = {"dx": step.expected("dx", dx, of_dx.e_dx_train(gamma, 1.0) + e_returned, kinds=kinds)}
    out = {} if _of_new_state(step, before) else out  # how much the batch weighs in it may be unknown here
    if step.spec.scale:
        mean = of_dgamma.c2 if inner is None else of_dgamma.c2 + step.batch.average(dy * inner[1].value)
        value = (mean * step.batch.divisor).reshape(step.kept)
        e, kinds = _e_dgamma(step, before, dy, formulas), partial(_kinds_dgamma, step, before, dy)
        out["dgamma"] = _sum(step, "dgamma", value, e, kinds=kinds)
    return out


def _terms_dx(step: ExpectedStep, formulas: GradientBounds) -> Array:
    """Return the magnitude of dx's terms before they cancel: gamma r dy, gamma r mean(dy), gamma r z mean(dy z)."""
    f, terms = formulas, np.abs(formulas.dy)
    if step.training:
        terms = terms + (np.abs(f.c1) + np.abs(f.z * f.c2)) * f.batch.inside
    return step.joined(np.abs(step.gamma) * f.used.r * terms)


def _terms(step: ExpectedStep, values: Callable[[], Array]) -> Array:
    return summed(step, step.batch.average(values()))


class _Formulas:
    """The bounds of one step's gradients; outputs that are promised alike share them. e_dy: how far dy is off."""

    def __init__(self, step: ExpectedStep, before: StateWithError, used: Normalizing, e_dy: Array) -> None:
        self.step, self.before, self.used, self.e_dy = step, before, used, e_dy
        self._found: dict[Bounds, GradientBounds] = {}

    def __call__(self, output: str, dy: Array, groups: int = 1) -> GradientBounds:
        """Return the bounds for one output. dy is laid out as the batch."""
        step, bounds = self.step, self.step.bounds(output, groups)
        if bounds not in self._found:
            reaching, e = _reaching(step, self.before, dy, self.e_dy, bounds.units.u)
            e = e + bounds.taken(reaching)  # arithmetic in less than dy's dtype rounds it first
            recovered = self._recovered(output, bounds) if bounds.numerics.recovered else None
            self._found[bounds] = GradientBounds(bounds, step.batch, self.used(output), reaching, e, recovered)
        return self._found[bounds]

    def _recovered(self, output: str, bounds: Bounds) -> Array:
        """Return how far off z = (y - beta) / gamma is, which is taken from the stored y; infinite where gamma is 0."""
        step, used, u = self.step, self.used(output), bounds.units.u
        affine, y = step.affine(self.before), step.laid_out(step.y(self.before, self.used).bound)
        z = (step.batch.x - used.mean) * used.r
        with np.errstate(divide="ignore", invalid="ignore"):
            e = (y + affine.e_shift + u * np.abs(affine.scale * z)) / np.abs(affine.scale)
        e = grown(e, 4 * u) + 2 * u * np.abs(z) + 2 * bounds.units.smallest
        return bounds.vacuous(e + np.abs(z) * affine.e_scale / np.abs(affine.scale), np.abs(affine.scale * z))


def _e_dx(step: ExpectedStep, before: StateWithError, formulas: GradientBounds) -> Array:
    if not step.training:
        return formulas.e_dx_infer(step.gamma)
    return formulas.e_dx_train(step.gamma, _part(step, before)) + _through_returned(step, formulas, before)[1]


def e_dx_by(
    step: ExpectedStep, before: StateWithError, used: NormalizingStatistics, output: str, gamma: Array
) -> Array:
    """Return the error of what dx is with another gamma, of the plain layer, as the output is computed."""
    bounds, dy = step.bounds(output), step.exact_case.dy(step.t)
    assert dy is not None
    formulas = GradientBounds(bounds, step.batch, used, dy, bounds.taken(dy))
    return formulas.e_dx_train(gamma, _part(step, before)) if step.training else formulas.e_dx_infer(gamma)


def _through_returned(step: ExpectedStep, formulas: GradientBounds, before: StateWithError) -> tuple[Array, Array]:
    """Return what dx gains by the cotangents of the returned mean and variance, and the error allowed in that."""
    given = {name[1:]: exact(a) for name, a in step.exact_case.of_statistics(step.t).items() if a is not None}
    given |= _of_new_state(step, before)
    nothing = exact(np.zeros(step.kept, step.batch.x.dtype))
    found = [given.get(name, nothing) for name in ("mean", "variance")]
    dmean, dvariance = (step.align(one.value) for one in found)
    if not given:
        return dmean, dmean
    e_dmean, e_dvariance = (step.align(one.error) for one in found)
    d, e_m = step.batch.x - step.batch.mean, formulas.bounds.e_mean(step.batch)
    value = (dmean + 2 * dvariance * d) / step.batch.divisor
    e = (e_dmean + 2 * e_dvariance * (np.abs(d) + e_m)) / step.batch.divisor
    return value, e + formulas.e_returned(step.gamma, dmean, dvariance)


def _of_new_state(step: ExpectedStep, before: StateWithError) -> dict[str, Approximate]:
    """Return the cotangents of the batch's mean and variance that those of the new moving statistics are worth.

    Each is multiplied by the update fraction, the variance's by N / (N - 1) too where that is stored: at most 6
    roundings, and 1 - fl(momentum) is off by u. A state that is a constant is worth nothing.
    """
    q, t = step.exact_case, step.t
    x, given, found = q.array(t, "x"), q.of_new_state(t), dict[str, Approximate]()
    if x is None or not given:
        return {}
    weights = batch_weights(x, before.state, step.spec, step.semantics, step.promise.case.steps[t].update)
    for (name, cotangent), weight in zip(given.items(), weights, strict=True):
        value, u = weight * cotangent, step.bounds("dx").units.u
        error = growth(6 * u) * np.abs(value) + 2 * u * np.abs(cotangent) * bool(weight)
        found[name] = Approximate(value, error)
    return found


def _part(step: ExpectedStep, before: StateWithError) -> float:
    """Return how much this batch weighs in the statistics that normalize it: 1 where they are its own."""
    if step.semantics.training_statistics == "batch":
        return 1.0
    return float(update_fraction(before.state.updates + 1, step.spec, step.semantics)) * step.promise.updates(step.t)


def _reaching(step: ExpectedStep, before: StateWithError, dy: Array, e_dy: Array, u: float) -> tuple[Array, Array]:
    """Return the part of dy that reaches z, after the adjustment and renorm's r, and its error."""
    inner = step.inner(before)
    if inner is None:
        return dy, e_dy
    f = inner[0]
    off = np.where(e_dy == 0, 0, 2 * (np.abs(f.value) + f.error) * e_dy)
    return f.value * dy, (f.error + 2 * u * np.abs(f.value)) * np.abs(dy) + off


def _e_dgamma(step: ExpectedStep, before: StateWithError, dy: Array, formulas: _Formulas) -> Array:
    """Return the bound of dgamma = sum(dy p) with p = f z + h, over all virtual batches, in any order."""
    found = formulas("dgamma", dy, _groups(step))
    mean, inner = found.e_mean_dyz, step.inner(before)
    if inner is not None:
        h, size = inner[1], np.abs(dy)
        mean = mean + step.batch.average(size * (found.bounds.g(6) * (np.abs(h.value) + h.error) + h.error))
    return summed(step, mean)


def _e_dbeta(step: ExpectedStep, dy: Array, e_dy: Array, used: Normalizing) -> Array:
    bounds = step.bounds("dbeta", _groups(step))
    return summed(step, GradientBounds(bounds, step.batch, used("dbeta"), dy, e_dy + bounds.taken(dy)).e_mean_dy)


def _groups(step: ExpectedStep) -> int:
    return step.batch.x.shape[1] if step.batch.observed.virtual else 1


def summed(step: ExpectedStep, mean: Array) -> Array:
    """Return the bound of a sum, in the kept shape, from the bound of the mean of each virtual batch."""
    e = mean * step.batch.divisor
    e = np.broadcast_to(e, np.broadcast_shapes(e.shape, step.batch.mean.shape))
    return (e.sum(1) if step.batch.observed.virtual else e).reshape(step.kept)
