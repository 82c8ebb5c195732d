"""What is expected of one output, with the error allowed, and the figures that are reported of it beside ρ."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np

from conformance.judging.large.streamed import Streamed
from conformance.judging.not_finite import NAN_TOO, NOTHING
from conformance.model.numerics import finfo
from reference.precision import widened
from reference.spec import Array


@dataclass(frozen=True)
class Expected:
    """The exact value of one output, and the error allowed in each element.

    dtype: the one it is promised in.
    kinds: where it must not be finite (`not_finite`); None if nothing but the value is promised.

    The others are for the figures beside ρ, which are computed only when they are asked for:

    terms: the magnitudes of what adds up to the value.
    gain: |gamma| of y.
    sums: what one rounding of a sum of absolute values is worth in the value, and everything else that rounds.
    """

    value: Array
    bound: Array
    dtype: str
    terms: Callable[[], Array] | None = None
    gain: Array | None = None
    sums: Callable[[], tuple[Array, Array]] | None = None
    kinds: Array | None = None

    @property
    def vacuous(self) -> int:
        """How many elements nothing is promised of."""
        without = np.isposinf(self.bound)
        return int((without if self.kinds is None else without & (self.kinds == NOTHING)).sum())

    def kind(self, index: tuple[Any, ...]) -> int:
        """Return whether an element must not be finite, and how, in the terms of `not_finite`."""
        return NOTHING if self.kinds is None else int(self.kinds[index])

    def streamed(self, got: Array) -> Array:
        """Return an answer piece by piece where what is expected of it is so."""
        value = self.value
        return Streamed.of(got, value.layout, value.dtype) if isinstance(value, Streamed) else got

    def unlike(self, got: Array) -> Literal["", "shape", "dtype"]:
        """Return in what an array cannot be compared with this one: first its shape, then its dtype."""
        if got.shape != self.value.shape:
            return "shape"
        return "" if got.dtype.name == self.dtype else "dtype"

    def or_nan(self, where: Array) -> Expected:
        """Return the same with NaN allowed in these elements, unless something else is required there."""
        kinds = np.zeros(self.value.shape, np.int8) if self.kinds is None else self.kinds
        free = where & np.isfinite(self.value) & (kinds == NOTHING)
        return replace(self, kinds=np.where(free, NAN_TOO, kinds)) if free.any() else self

    def lost(self, got: Array) -> Array:
        """Return where an answer is NaN that may be so instead of its value."""
        if self.kinds is None:
            return np.zeros(got.shape, bool)
        return (self.kinds == NAN_TOO) & np.isnan(got)

    def strange(self, got: Array) -> int:
        """Return how many elements are not finite although the exact value is, and fits the dtype."""
        finite = np.isfinite(widened(got, np.float64))
        if finite.all():
            return 0
        ordinary = np.abs(self.value) <= float(finfo(self.dtype).max)
        if self.kinds is not None:
            ordinary &= self.kinds != NAN_TOO
        return int((~finite & ordinary).sum())

    @cached_property
    def size(self) -> Array:
        """The value's magnitude; where its terms cancel, theirs."""
        size = np.abs(self.value)
        size = size if self.terms is None else np.maximum(size, self.terms())
        return np.broadcast_to(size, self.value.shape)  # of a large array, what is 0 everywhere is one number

    @cached_property
    def resolution(self) -> float | None:
        """The median of bound / |gamma|: the smallest change of the normalized values that is always seen."""
        if self.gain is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.bound / self.gain
        if isinstance(found, Streamed):
            found = found.sample(_SAMPLE)
        found = found[np.isfinite(found)]
        return float(np.median(found)) if found.size else None

    def ulps(self, got: Array, index: tuple[Any, ...]) -> float:
        """Return the error of one element in condition-scaled ulps: units in the last place of its dtype.

        Of the place that the exact value has, or the magnitudes of the terms that add up to it where that is more: an
        error of few such ulps is the rounding that the terms' size makes unavoidable, however small their sum. The unit
        is eps times the largest power of 2 below (Goldberg, ACM Computing Surveys 23 (1991), 1.2), never below the
        smallest normal's. 0 where the error or the size is not finite.
        """
        error, size = abs(float(got[index]) - float(self.value[index])), float(self.size[index])
        if not (math.isfinite(error) and math.isfinite(size)):
            return 0.0
        info = finfo(self.dtype)
        place = math.frexp(max(size, float(info.smallest_normal)))[1] - 1
        return error / math.ldexp(float(info.eps), place)

    def depth(self, got: Array) -> float:
        """Return the effective depth of the sums behind a mean, the largest of all channels; 0 where none shows.

        That many roundings of mean|x| must have gone the same way, |error| / (u mean|x|), after what else may have been
        rounded is taken off. Of a million values a serial sum may show 73,358, and a tree 13.
        """
        if self.sums is None:
            return 0.0
        unit, besides = self.sums()
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (np.abs(widened(got, self.value.dtype.type) - self.value) - besides) / unit
        found = found[np.isfinite(found)]
        return max(float(found.max()), 0.0) if found.size else 0.0


_MOST = 1e308
_SAMPLE = 1 << 16  # elements, of which a median is good to its three digits


def digits(value: float) -> float:
    """Return a figure as a run file keeps it, with three digits; JSON has no infinity, so that 1e308 is the most.

    >>> digits(0.00123456), digits(math.inf)
    (0.00123, 1e+308)
    """
    return float(f"{value:.3g}") if value < _MOST else _MOST


def figure(value: float | None) -> float | msgspec.UnsetType:
    """Return a figure with three digits; nothing where there is none, or it is 0."""
    return digits(value) if value else msgspec.UNSET
