"""What must not be finite: where an output is promised to be NaN or infinite, and which of these.

A kind per element: `NOTHING` is promised, the element may not be finite (`SOME`), or it must be `PLUS` or `MINUS`
infinity, or `NAN`; `NAN_TOO` may be NaN instead of its value. Kinds are worked out as IEEE arithmetic does, from what
went in and from the rules that make NaN (empty_batch, single_value, all_masked): NaN is absorbed by every sum, product,
quotient and root, in whatever order.
An infinity in a training batch makes its channel's mean infinite or NaN, and so y, but BN-31 does not say which; its
variance, of lanes merged, may be infinite, and 1 / sqrt(inf) is 0: no more is promised of what follows from the
variance alone. What may overflow is no promise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from conformance.judging.bounds.batch import BatchStatistics
from conformance.judging.bounds.bounds import Affine, Bounds, NormalizingStatistics
from reference import Semantics, Spec
from reference.averages import shares_of
from reference.batches import total
from reference.spec import Array, kept_shape

NOTHING, SOME, PLUS, MINUS, NAN, NAN_TOO = range(6)
NONE = np.zeros((), np.int8)
WORDS = {SOME: "not be finite", PLUS: "be inf", MINUS: "be -inf", NAN: "be NaN", NAN_TOO: "be that or NaN"}


@dataclass(frozen=True)
class Kinds:
    """The kinds of a mean and of a variance; root: of 1 / sqrt(variance + epsilon), beyond what the variance says."""

    mean: Array
    variance: Array
    root: Array = field(default_factory=lambda: NONE)

    @property
    def r(self) -> Array:
        """The kinds of 1 / sqrt(variance + epsilon)."""
        return either(of_nan(self.variance), self.root)


def of(values: Array) -> Array:
    """Return the kinds of known values.

    >>> of(np.array([1.0, np.inf, -np.inf, np.nan])).tolist()
    [0, 2, 3, 4]
    """
    kinds = np.where(
        np.isnan(values), NAN, np.where(np.isposinf(values), PLUS, np.where(np.isneginf(values), MINUS, 0))
    )
    return kinds.astype(np.int8)


def either(*kinds: Array) -> Array:
    """Return the kind of a result made of terms or factors of these kinds: NaN wins, and infinities may give NaN.

    >>> either(np.array([0, 1, 2, 3]), np.array([0, 0, 4, 1])).tolist()
    [0, 1, 4, 1]
    """
    found = np.maximum.reduce(np.broadcast_arrays(*kinds))
    return np.where((found == NOTHING) | (found == NAN), found, SOME).astype(np.int8)


def along(kinds: Array, axes: tuple[int, ...]) -> Array:
    """Return the kind of a sum over axes, kept as axes of size 1."""
    return either(kinds.max(axes, keepdims=True, initial=NOTHING))


def of_nan(kinds: Array) -> Array:
    """Return the kind of what follows from 1 / sqrt(variance), which an infinite variance makes 0."""
    return np.where(kinds == NAN, kinds, NOTHING).astype(np.int8)


def contradicts(kinds: Array, got: Array) -> Array:
    """Return where an answer is not as promised.

    >>> contradicts(np.array([0, 1, 2, 4]), np.array([1.0, 1.0, np.inf, np.inf])).tolist()
    [False, True, False, True]
    """
    free = (kinds == NOTHING) | (kinds == NAN_TOO)
    return np.where(kinds == SOME, np.isfinite(got), ~free & (of(got) != kinds))


def held(kinds: Array, value: Array) -> Array | None:
    """Return the kinds as far as the exact value confirms them; None if none is left.

    There is none where it is finite, and `SOME` where it is another one than promised.
    """
    kinds = np.broadcast_to(kinds, value.shape)
    kinds = np.where(np.isfinite(value), NOTHING, np.where((kinds > SOME) & (of(value) != kinds), SOME, kinds))
    return kinds if kinds.any() else None


# --- statistics ---------------------------------------------------------------------------------------------------


def of_batch(batch: BatchStatistics) -> Kinds | None:
    """Return the kinds of a batch's own statistics, laid out as these; None where all are finite or given.

    NaN: a value is, or both infinities are there, or nothing counts where that makes NaN. One infinity: see above.
    """
    if batch.given is not None or (np.isfinite(batch.mean).all() and np.isfinite(batch.variance).all()):
        return None
    counted, axes = of(batch.observed.counted), batch.axes
    nothing = (batch.n == 0) & np.isnan(batch.mean)
    none = nothing | (counted == NAN).any(axes, keepdims=True)
    infinite = [(counted == kind).any(axes, keepdims=True) for kind in (PLUS, MINUS)]
    some = np.where(infinite[0] | infinite[1], SOME, NOTHING)
    return Kinds(np.where(none | (infinite[0] & infinite[1]), NAN, some), np.where(none, NAN, some))


def entering(
    kinds: Kinds | None, batch: BatchStatistics, spec: Spec, semantics: Semantics, *, fast: bool
) -> Kinds | None:
    """Return the kinds of what enters the moving statistics, of the kept shape: of any of the virtual batches.

    One value's unbiased variance is 0 times 1/0, NaN where that is promised; of a fast variance a rounding may be left
    instead of 0.
    """
    kept = kept_shape(spec, batch.shape)
    mean, variance = (kinds.mean, kinds.variance) if kinds else (np.zeros(batch.mean.shape, np.int8),) * 2
    raw = semantics.single_value == "nan" and semantics.stored_variance == "unbiased" and not spec.renorm
    if raw and (batch.observed.shares is None or semantics.mask == "boolean"):
        pooled = batch.observed.virtual and semantics.virtual_statistics == "pooled"
        single = (total(batch.n, (1,)) if pooled else batch.n) == 1
        variance = either(variance, np.where(single, SOME if fast else NAN, NOTHING))
    if not (mean.any() or variance.any()):
        return None
    if batch.observed.virtual and semantics.virtual_statistics == "pooled":  # who counts nothing adds nothing
        counts = shares_of(batch.n) != 0
        mean, variance = (np.where(counts, kind, NOTHING) for kind in (mean, variance))
    axes = (1,) if batch.observed.virtual else ()
    return Kinds(along(mean, axes).reshape(kept), along(variance, axes).reshape(kept))


def moved(old: Kinds | None, new: Kinds | None, fraction: float) -> Kinds | None:
    """Return the kinds of moving statistics after a batch. A batch that enters with fraction 1 replaces them.

    A batch does not enter with fraction 0: 0 times NaN is NaN, but an implementation that leaves the product out, as
    compilers do, is right too (`StateWithError.doubtful`).
    """
    if fraction == 0:
        return old and Kinds(either(old.mean), either(old.variance))
    if old is None or new is None or fraction == 1:
        return new if old is None or fraction == 1 else Kinds(either(old.mean), either(old.variance))
    return Kinds(either(old.mean, new.mean), either(old.variance, new.variance))


def with_root(kinds: Kinds | None, variance: Array, e_variance: Array, epsilon: float) -> Kinds | None:
    """Return the kinds of statistics with those of their root: NaN where V + e is negative however V is computed.

    It is infinite where V + e is exactly 0, of a V that is known and an e that every dtype holds. Where V + e may have
    either sign, nothing is promised.
    """
    most = variance + np.where(np.isnan(e_variance), np.inf, e_variance)
    stored = epsilon + abs(epsilon) * 2.0**-7  # whatever dtype epsilon is rounded to
    held = (math.frexp(epsilon)[0] * 2**8).is_integer()
    negative, none = np.isnan(epsilon) | (most + stored < 0), held & (e_variance == 0) & (variance + epsilon == 0)
    root = np.where(negative, NAN, np.where(none, SOME, NOTHING)).astype(np.int8)
    if not root.any():
        return kinds
    mean, of_variance = (kinds.mean, kinds.variance) if kinds else (np.zeros_like(root),) * 2
    return Kinds(mean, of_variance, root)


# --- outputs ------------------------------------------------------------------------------------------------------


def of_y(
    x: Array, y: Array, used: NormalizingStatistics, kinds: Kinds | None, affine: Affine, bounds: Bounds, *, plain: bool
) -> Array:
    """Return the kinds of y = scale (x - mean) r + shift; plain: neither renorm nor adjustment made the map.

    An infinity has its sign where the statistics are known, none of the products may vanish, and nothing overflows.
    """
    most, least, scale = bounds.units.largest / 4, bounds.units.smallest, np.abs(affine.scale) * used.r
    own = either(of(x), of(affine.scale), of(affine.shift))
    mean, known = NONE, np.isfinite(used.e_mean) & (np.abs(used.mean) < most)
    if kinds is not None:
        mean, known = kinds.mean, np.where(kinds.mean == NOTHING, known, kinds.mean >= PLUS)
        own = either(own, mean, kinds.r)
    steady = np.isfinite(used.r) & np.isfinite(used.e_r) & np.isfinite(affine.scale) & np.isfinite(affine.shift)
    passed = (scale > least) & (scale * np.where(np.isfinite(used.mean), np.abs(used.mean), 0) < most)
    sure = plain & known & steady & (passed | (affine.scale == 0)) & (np.abs(affine.shift) < most)
    return np.where((own == SOME) & sure, np.maximum(of(y), SOME), own)


def of_dx_infer(
    dy: Array, dx: Array, gamma: Array, used: NormalizingStatistics, kinds: Kinds | None, bounds: Bounds
) -> Array:
    """Return the kinds of gamma r dy."""
    own = either(of(dy), of(gamma), *([kinds.r] if kinds else []))
    scale = np.abs(gamma) * used.r
    within = (scale > bounds.units.smallest) & (scale < bounds.units.largest / 4)
    sure = np.isfinite(used.r) & np.isfinite(used.e_r) & (within | (gamma == 0))
    return np.where((own == SOME) & sure, np.maximum(of(dx), SOME), own)


def of_dx_train(dy: Array, gamma: Array, kinds: Kinds | None, batch: BatchStatistics, part: float) -> Array:
    """Return the kinds of gamma r (dy - part (mean(dy) - z mean(dy z))); the second only where a value counts."""
    own = either(of(dy), of(gamma), *([kinds.r] if kinds else []))
    sums = along(of(dy), batch.axes)
    if kinds is not None:
        sums = either(sums, kinds.mean, kinds.root)
    return either(own, np.where((batch.inside != 0) & (part != 0), sums, NOTHING))


def of_dgamma(dy: Array, x: Array, kinds: Kinds | None, axes: tuple[int, ...]) -> Array:
    """Return the kinds of sum(dy z), of every value, counted or not."""
    terms = [of(dy), of(x), *([kinds.mean, kinds.r] if kinds else [])]
    if not any(kind.any() for kind in terms):
        return NONE
    return along(either(np.zeros(dy.shape, np.int8), *terms), axes)


def of_dbeta(dy: Array, axes: tuple[int, ...]) -> Array:
    """Return the kinds of sum(dy): NaN where one is, or both infinities are; compensated sums make NaN of one infinity.

    Kahan's next term is inf - (inf - inf), so that an infinity alone is not promised to keep its sign.
    """
    kinds = of(dy)
    if not kinds.any():
        return NONE
    there = [(kinds == kind).any(axes, keepdims=True) for kind in (PLUS, MINUS, NAN)]
    some = np.where(there[0] | there[1], SOME, NOTHING)
    return np.where(there[2] | (there[0] & there[1]), NAN, some)
