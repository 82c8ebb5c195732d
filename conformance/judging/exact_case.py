"""A case at the precision that the reference judges it in."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection
from functools import cached_property
from typing import Any, cast

import msgspec
import numpy as np

from conformance.judging.bounds.bounds import BatchStatistics, Bounds
from conformance.judging.large.pieces import Layout
from conformance.judging.large.streamed import Streamed
from conformance.judging.memo import Only
from conformance.model.case import Case, parameters
from conformance.model.case_facts import every_step
from conformance.model.facts import Facts
from conformance.model.numerics import Numerics, Units, finfo
from reference import Adjustment, Parameters, Refusal, Semantics, Tangent
from reference.batches import observe
from reference.precision import widened, working_dtype
from reference.spec import Array, kept_shape, reduced_axes

LARGE = 1 << 16
"""Elements from which on an array is taken piece by piece: below, its formulas cost more to write than to compute."""

_OF_MASKS = ("mask", "mask_offset", "all_masked")


class ExactCase:
    """A case at the precision of the reference: long double for float64, float64 for everything else.

    Its batches are measured once for all implementations.

    unjudged: why its arrays cannot be judged; empty if they can.
    known: what was computed for a promise, by its key. Implementations that promise the same share it.
    lock: held while an answer is judged, since several threads may judge answers to the same case.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.spec = case, case.spec
        self.unjudged = _unjudged(case)
        self.dtype: Any = np.float64 if self.unjudged else working_dtype(msgspec.structs.astuple(case.dtypes))
        self.known: dict[Any, Any] = {}
        self.lock = threading.RLock()
        self._batches: dict[Any, BatchStatistics] = {}
        self._parameters: dict[int, Parameters] = {}
        self._streamed: dict[tuple[int, str], Array] = {}
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._bounds: dict[tuple[Numerics, Units, int, float, bool], Bounds] = {}

    def batch(self, t: int, semantics: Semantics | None = None) -> BatchStatistics:
        """Return the exact statistics of step t's input; semantics decide about masks and virtual batches."""
        x, mask = self.array(t, "x"), self.mask(t)
        assert x is not None
        names = _OF_MASKS if mask is not None or not x.size else ()
        names += () if self.spec.virtual_batch_size is None else ("virtual_batches",)
        read = Only(semantics or Semantics(), *names, *(() if x.size else ("empty_batch",)))
        key = t, read.key
        if key not in self._batches:
            self._batches[key] = BatchStatistics.of(observe(x, mask, self.spec, cast("Semantics", read)), x.shape)
        return self._batches[key]

    def whole(self, t: int) -> BatchStatistics:
        """Return step t's input as inference sees it: without mask and virtual batches."""
        if ("whole", t) not in self._batches:
            x, plain = self.array(t, "x"), dataclasses.replace(self.spec, virtual_batch_size=None)
            assert x is not None
            self._batches["whole", t] = BatchStatistics.of(observe(x, None, plain, Semantics()))
        return self._batches["whole", t]

    def bounds(self, numerics: Numerics, units: Units, n: int, epsilon: float, *, outside: bool) -> Bounds:
        """Return the bounds for one way of computing. Implementations that promise the same share them."""
        key = numerics, units, n, epsilon, outside  # all that they are made of
        if key not in self._bounds:
            self._bounds[key] = Bounds(numerics, units, n, epsilon, outside=outside)
        return self._bounds[key]

    def array(self, t: int, name: str) -> Array | None:
        """Return x, dy or the tangent of step t at the reference's precision; None if it has none."""
        array = self.case.tensor(f"{t}.{name}")
        if array is None or array.shape != self.case.x(t).shape or not self._large(array):
            return None if array is None else widened(array, self.dtype)
        if (t, name) not in self._streamed:
            self._streamed[t, name] = Streamed.of(array, self._layout(array), self.dtype)
        return self._streamed[t, name]

    def _large(self, array: Array) -> bool:
        """Return whether an array is taken piece by piece: not if a NaN or a virtual batch makes it a special case."""
        plain = self.facts[0].finite and not self.facts[0].virtual and np.dtype(self.dtype).isbuiltin == 1
        return array.size >= LARGE and plain

    def _layout(self, array: Array) -> Layout:
        if array.shape not in self._layouts:
            self._layouts[array.shape] = Layout(array.shape, reduced_axes(self.spec, array.ndim))
        return self._layouts[array.shape]

    def mask(self, t: int) -> Array | None:
        """Return the mask of step t, as it is."""
        return self.case.tensor(f"{t}.mask")

    def poisoned(self, t: int) -> Array | None:
        """Return where an input up to step t was not finite, in the kept shape; None if all were finite."""
        if self.facts[0].finite:
            return None
        found = np.zeros(kept_shape(self.spec, self.case.shape), bool)
        for name in (f"{s}.{name}" for s in range(t + 1) for name in ("x", "dy")):
            array = self.case.tensor(name)
            if array is not None:
                reduced = reduced_axes(self.spec, array.ndim)
                found |= ~np.isfinite(widened(array, np.float64)).all(reduced).reshape(found.shape)
        return found

    def overflows(self, t: int) -> bool:
        """Return whether the square of some input up to step t is too large for its dtype."""
        most = float(finfo(self.case.dtypes.x).max) ** 0.5
        arrays = (self.array(s, "x") for s in range(t + 1))
        return any(bool((np.abs(x) > most).any()) for x in arrays if x is not None)

    def dy(self, t: int) -> Array | None:
        """Return the cotangent of step t; None if no gradient is asked for."""
        return self.array(t, "dy") if self.case.steps[t].derivatives else None

    def direction(self, t: int) -> Tangent:
        """Return the tangent of step t: of x, 0 where there is none, of gamma, beta and the statistics given."""
        x, tangent = self.array(t, "x"), self.array(t, "tangent")
        assert x is not None
        rates = {name: self.array(t, f"{name}_tangent") for name in ("gamma", "beta", "mean", "variance")}
        return Tangent(np.zeros_like(x) if tangent is None else tangent, **rates)

    def of_statistics(self, t: int) -> dict[str, Array | None]:
        """Return the cotangents of the mean and variance that step t returns; None where none is asked for."""
        asked = {name for derivative in self.case.steps[t].derivatives for name in derivative.of}
        return {f"d{name}": self.array(t, f"d{name}") if name in asked else None for name in ("mean", "variance")}

    def of_new_state(self, t: int) -> dict[str, Array]:
        """Return the cotangents of the mean and variance after step t; nothing where none is asked for."""
        found = {name: self.array(t, f"dmoving_{name}") for name in ("mean", "variance")}
        none = np.zeros(kept_shape(self.spec, self.case.x(t).shape), self.dtype)
        asked = any(array is not None for array in found.values())
        return {name: none if array is None else array for name, array in found.items()} if asked else {}

    def adjustment(self, t: int) -> Adjustment | None:
        """Return what the adjustment gives in step t."""
        scale, bias = self.array(t, "adjustment_scale"), self.array(t, "adjustment_bias")
        return None if scale is None or bias is None else Adjustment(scale, bias)

    @cached_property
    def facts(self) -> list[Facts]:
        """The facts about each step, read off the case once for all who ask."""
        return every_step(self.case)

    def about(self, t: int) -> Facts | None:
        """Return the facts about a step, None of a result that is of no step."""
        return self.facts[t] if t >= 0 else None

    def seen(self, t: int, refused: Collection[int]) -> Facts:
        """Return the facts about a step of a layer whose first step is the first that was not refused."""
        about, first = self.facts[t], next((s for s in range(t) if s not in refused), t)
        same = about.reranked and self.case.x(first).ndim == about.rank
        return msgspec.structs.replace(about, reranked=False) if same else about

    def parameters(self, t: int) -> Parameters:
        """Return the gamma and beta of step t."""
        member = t % self.case.actions.members
        if member not in self._parameters:
            self._parameters[member] = parameters(self.case, self.dtype, member)
        return self._parameters[member]


def _unjudged(case: Case) -> str:
    """Return why no array of a case can be judged, empty if they can: no precision may be wide enough."""
    try:
        working_dtype(msgspec.structs.astuple(case.dtypes))
    except Refusal as refusal:
        return str(refusal)
    return ""
