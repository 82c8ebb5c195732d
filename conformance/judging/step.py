"""One step of a case: the outputs and the state that the reference expects of it, with the error allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.judging import carried, not_finite
from conformance.judging.bounds import renorm
from conformance.judging.bounds.batch import BatchStatistics
from conformance.judging.bounds.bounds import Affine, Bounds, NormalizingStatistics
from conformance.judging.bounds.renorm import Approximate, exact
from conformance.judging.carried import StateWithError
from conformance.judging.expected import Expected as Expected
from conformance.judging.not_finite import Kinds
from conformance.judging.promise import Promise
from conformance.model.numerics import finfo
from reference.averages import passes
from reference.batch_norm import spread
from reference.batches import join, split
from reference.spec import Array, kept_shape

OWN = 1e-3
"""The reference's own error stays below this part of every bound."""

_WITHOUT_STATE = ("mean", "variance", "dbeta")

ExpectedOutputs = dict[str, Expected]
Normalizing = Callable[[str], NormalizingStatistics]
"""Returns the statistics that normalize an output, with the error of computing them as that output is promised."""


class ExpectedStep:
    """One step of a promise: exact values beside their bounds, laid out as the batch's statistics are computed.

    batch: the statistics of the batch, if others than its own are to be taken.
    """

    def __init__(self, promise: Promise, t: int, batch: BatchStatistics | None = None) -> None:
        self.promise, self.exact_case, self.t = promise, promise.exact_case, t
        self.spec, self.semantics = promise.asked(t), promise.semantics
        self.mode = promise.mode(t)
        self.training = self.mode == "train"
        self.passes = self.training and passes(promise.case.x(t), self.spec, self.semantics)
        if batch is None:
            batch = self.exact_case.batch(t, self.semantics) if self.training else self.exact_case.whole(t)
        self.batch = batch
        self.kept = kept_shape(self.spec, self.batch.shape)
        self._bounds: dict[tuple[str, int], Bounds] = {}
        self.sizes: dict[str, Array] = {}
        self._inner: tuple[StateWithError, tuple[Approximate, Approximate] | None] | None = None

    # --- state ---------------------------------------------------------------------------------------------------

    def after(self, before: StateWithError) -> StateWithError:
        """Return the state after the step."""
        if not self.promise.updates(self.t):
            return before
        return carried.moved(self.bounds("moving_mean"), self.batch, before, self.spec, self.semantics)

    # --- what normalizes -----------------------------------------------------------------------------------------

    def normalizing(self, before: StateWithError) -> Normalizing:
        """Return the statistics that normalize this step: the batch's, or the moving ones."""
        if self.training and self.semantics.training_statistics == "batch":
            return self._of_batch
        state, bounds = self._moving(before), self.bounds("moving_mean")
        kept = finfo(self.promise.dtype(bounds.numerics.stored))
        return self.used(carried.debiased(bounds, state, self.spec, self.semantics), float(kept.eps) / 2)

    def kinds(self, before: StateWithError) -> Kinds | None:
        """Return where these statistics and their root must not be finite, so as to broadcast; None: nowhere."""
        found, b, of_batch = self._kinds(before), self.bounds("y"), self.semantics.training_statistics == "batch"
        if b.outside or (self.training and of_batch and b.epsilon > 0):
            return found
        if self.training and of_batch:
            return not_finite.with_root(found, self.batch.variance, b.e_variance(self.batch), b.epsilon)
        used = carried.debiased(self.bounds("moving_mean"), self._moving(before), self.spec, self.semantics)
        variance, e_variance = self.align(used.state.variance), self.align(used.errors.variance)
        return not_finite.with_root(found, variance, e_variance, b.epsilon)

    def _kinds(self, before: StateWithError) -> Kinds | None:
        if self.training and self.semantics.training_statistics == "batch":
            return not_finite.of_batch(self.batch)
        kinds = self._moving(before).kinds
        return None if kinds is None else Kinds(self.align(kinds.mean), self.align(kinds.variance))

    def _moving(self, before: StateWithError) -> StateWithError:
        """Return the state whose statistics normalize where moving ones do: in training the batch has entered it."""
        return self.after(before) if self.training else before

    def _of_batch(self, output: str) -> NormalizingStatistics:
        return self.bounds(output).used_of(self.batch)

    def used(self, state: StateWithError, kept: float = 1.0) -> Normalizing:
        """Return the statistics of a state as those that normalize.

        kept: the unit roundoff that they are stored with; coarser arithmetic rounds them.
        """
        arrays = (state.state.mean, state.state.variance, state.errors.mean, state.errors.variance)
        mean, variance, e_mean, e_variance = (self.align(a) for a in arrays)

        known: dict[Bounds, NormalizingStatistics] = {}

        def rounded(output: str) -> NormalizingStatistics:
            bounds = self.bounds(output)
            if bounds not in known:
                known[bounds] = taken(bounds)
            return known[bounds]

        def taken(bounds: Bounds) -> NormalizingStatistics:
            u, tiny = (bounds.units.u, bounds.units.smallest) if kept < bounds.units.u else (0.0, 0.0)
            e_mean_taken = e_mean + u * (np.abs(mean) + e_mean) + tiny
            if bounds.units.taken_u:  # not 0 times a NaN, which is one element's own
                e_mean_taken = e_mean_taken + bounds.taken(self.batch.max_abs)
            e_mean_taken = bounds.vacuous(e_mean_taken, np.abs(mean))  # a state may be wider than what takes it in
            return bounds.used(mean, variance, e_mean_taken, e_variance + u * (np.abs(variance) + e_variance) + tiny)

        return rounded

    # --- the output ----------------------------------------------------------------------------------------------

    def y(self, before: StateWithError, used: Normalizing) -> Expected:
        """Return the expected y: the affine map of the normalized input; or the input as it is (BN-24)."""
        if self.passes:
            return self.unchanged("y", "x")
        u, affine = used("y"), self.affine(before)
        y, e = self.mapped(before, used)
        if self.semantics.activation == "relu":  # what may be above 0 by its error is no further from it than that
            y, e = np.maximum(y, 0), np.where(y > 0, e, np.maximum(y + e, 0))

        def terms() -> Array:
            factor = np.abs(affine.scale) * u.r
            return self.joined(factor * np.abs(self.batch.x) + (factor * np.abs(u.mean) + np.abs(affine.shift)))

        bound = self.joined(e)
        gain = self.joined(np.abs(self.gamma))
        return self.expected("y", self.joined(y), bound, terms, kinds=lambda: self._kinds_y(before, y, u), gain=gain)

    def unchanged(self, output: str, given: str) -> Expected:
        """Return the expected output that is what was given, x or dy, whose infinities and NaN it has."""
        value = self.exact_case.array(self.t, given)
        assert value is not None
        return self.stored(output, value, np.zeros_like(value), kinds=lambda: not_finite.of(value))

    def mapped(self, before: StateWithError, used: Normalizing) -> tuple[Array, Array]:
        """Return y before any activation, laid out as the batch, and its error."""
        u, affine = used("y"), self.affine(before)
        y = affine.scale * ((self.batch.x - u.mean) * u.r) + affine.shift
        return y, self.bounds("y").e_y(self.batch.x, y, affine, u)

    def _kinds_y(self, before: StateWithError, y: Array, used: NormalizingStatistics) -> Array:
        plain, affine = self.inner(before) is None, self.affine(before)
        kinds = not_finite.of_y(self.batch.x, y, used, self.kinds(before), affine, self.bounds("y"), plain=plain)
        if self.training and self.spec.renorm and before.kinds is not None:  # what r and d are made of
            kinds = not_finite.either(kinds, *map(self.align, (before.kinds.mean, before.kinds.variance)))
        return self.joined(kinds)

    @property
    def gamma(self) -> Array:
        """Gamma in a shape that broadcasts against the batch; 1 if the spec asks for none."""
        gamma = self.exact_case.parameters(self.t).gamma
        return np.ones((), self.exact_case.dtype) if gamma is None else self.align(gamma)

    def doubted(self, answers: ExpectedOutputs, before: StateWithError) -> ExpectedOutputs:
        """Return the outputs with NaN allowed where they follow from statistics that may be NaN."""
        own = self.training and self.semantics.training_statistics == "batch"
        channels = (before if own else self._moving(before)).doubtful
        if channels is None or (own and not self.spec.renorm):
            return answers
        elements = self.joined(np.broadcast_to(self.align(channels), self.batch.x.shape))
        follows = {name: e for name, e in answers.items() if name not in _WITHOUT_STATE}
        return answers | {n: e.or_nan(channels if e.value.shape == self.kept else elements) for n, e in follows.items()}

    def affine(self, before: StateWithError) -> Affine:
        """Return the map from the normalized input z to y: renorm and adjustment first, then gamma and beta."""
        beta, zero, units = (
            self.exact_case.parameters(self.t).beta,
            np.zeros((), self.exact_case.dtype),
            self.bounds("y").units,
        )
        shift = zero if beta is None else self.align(beta)
        gamma, beta = (Approximate(value, units.parameters_u * np.abs(value)) for value in (self.gamma, shift))
        inner = self.inner(before)
        if inner is None:
            return Affine(gamma.value, beta.value, gamma.error, beta.error)
        scale, moved = gamma.times(inner[0], units.u), gamma.times(inner[1], units.u).plus(beta, units.u)
        return Affine(scale.value, moved.value, scale.error, moved.error)

    def inner(self, before: StateWithError) -> tuple[Approximate, Approximate] | None:
        """Return f and h of p = f z + h, which gamma multiplies; None where p = z.

        They are renorm's r and d, and then the adjustment.
        """
        kept = self._inner
        if kept is None or kept[0] is not before:
            kept = self._inner = before, self._of_inner(before)
        return kept[1]  # of this state, whatever other state has been asked about meanwhile

    def _of_inner(self, before: StateWithError) -> tuple[Approximate, Approximate] | None:
        adjustment = self.exact_case.adjustment(self.t) if self.training else None
        if not self.training or not (self.spec.renorm or adjustment):
            return None
        f, h = self._renorm(before) if self.spec.renorm else (exact(np.ones(())), exact(np.zeros(())))
        if adjustment is not None:
            scale, bias, u = exact(adjustment.scale), exact(adjustment.bias), self.bounds("y").units.u
            f, h = scale.times(f, u), scale.times(h, u).plus(bias, u)
        return f, h

    def _renorm(self, before: StateWithError) -> tuple[Approximate, Approximate]:
        bounds, spec, semantics = self.bounds("y"), self.spec, self.semantics
        u = bounds.units.u
        mean, variance = carried.overall(bounds, self.batch, spec)
        s = Approximate(spread(variance.value, spec, semantics), bounds.e_spread(variance.value, variance.error))
        state, errors = renorm.begun(before.state, before.errors, spec, semantics, u)
        found = renorm.correction(mean, s, state, errors, spec, semantics, u)
        r, d = (Approximate(self.align(near.value), self.align(near.error)) for near in found)
        return r, d

    # --- common --------------------------------------------------------------------------------------------------

    def bounds(self, output: str, groups: int = 1) -> Bounds:
        """Return the bounds of one output; groups: how many virtual batches its sums go over."""
        if (output, groups) not in self._bounds:
            self._bounds[output, groups] = self.promise.bounds(self.mode, output, self.batch.count * groups)
        return self._bounds[output, groups]

    def align(self, values: Array) -> Array:
        """Return values of the kept shape in a shape that broadcasts against the batch."""
        return self.batch.observed.align(values, self.spec)

    def laid_out(self, array: Array) -> Array:
        """Return an array of the input's shape, laid out as the batch."""
        return split(array, self.spec, self.semantics) if self.batch.observed.virtual else array

    def joined(self, parts: Array) -> Array:
        """Return an array that is laid out as the batch, in the input's shape."""
        if not self.batch.observed.virtual:
            return parts
        return join(np.broadcast_to(parts, self.batch.x.shape), self.batch.shape, self.spec, self.semantics)

    def stored(
        self, output: str, value: Array, bound: Array, terms: Callable[[], Array] | None = None, **more: Any
    ) -> Expected:
        """Return the expected output, with the rounding to its dtype added to its bound."""
        return self.expected(output, value, self.bounds(output).stored(value, bound), terms, **more)

    def expected(
        self,
        output: str,
        value: Array,
        bound: Array,
        terms: Callable[[], Array] | None = None,
        kinds: Callable[[], Array] | None = None,
        **more: Any,
    ) -> Expected:
        """Return the expected output, with the reference's own error added to its bound.

        kinds: where it must not be finite, and has no bound; without it, wherever an input of the channel is not.
        """
        formulas, unbounded = self.bounds(output), np.isnan(bound) | ~np.isfinite(value)
        own = formulas.certainty(self.batch)
        assert own < OWN, f"the reference may be off by {own:.2g} of the bound"
        bound = np.where(unbounded, np.inf, bound * (1 + own))
        cut = self.semantics.activation != "none"  # which may make a number of what is not finite
        promised = (
            None
            if cut or np.isfinite(value).all()
            else not_finite.held(kinds() if kinds else self._poisoned(value), value)
        )
        return Expected(value, bound, self.promise.dtype(formulas.numerics.stored), terms, kinds=promised, **more)

    def _poisoned(self, value: Array) -> Array:
        """Return the kinds of a derivative along a tangent, whose channel has an input that is not finite."""
        channels = self.exact_case.poisoned(self.t)
        if channels is None or not self.training:
            return not_finite.NONE
        kinds, own = np.where(channels, not_finite.SOME, not_finite.NOTHING), not_finite.of_batch(self.batch)
        if value.shape == self.kept:
            return kinds
        found = self.align(kinds)
        if own is not None:
            found = not_finite.either(found, not_finite.of_nan(own.variance))
        return self.joined(np.broadcast_to(found, self.batch.x.shape))
