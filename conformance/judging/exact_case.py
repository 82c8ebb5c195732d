"""A case at the precision that the reference judges it in, and as one implementation has promised to answer it."""

from __future__ import annotations

import dataclasses
import threading
from functools import cached_property
from typing import Any, cast

import msgspec
import numpy as np

from conformance.judging.bounds.bounds import BatchStatistics, Bounds
from conformance.judging.memo import Only
from conformance.model.case import Case, parameters
from conformance.model.numerics import Numerics, Units, finfo
from conformance.model.statement import Statement, differentiation, every_step, mask
from reference import Adjustment, Parameters, Refusal, Semantics, Spec
from reference.averages import moves
from reference.batches import observe
from reference.precision import widened, working_dtype
from reference.spec import Array, floored_epsilon, kept_shape, reduced_axes

# Outputs that share a declaration.
ALIAS: dict[str, str] = dict.fromkeys(
    ("moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"), "moving_mean"
)
ALIAS["variance"] = "mean"
_OF_MASKS = ("mask", "mask_offset", "all_masked")
_OF_CASE = ("exact_case", "case", "spec")
_DTYPES = {"input": "x", "parameters": "parameters", "statistics": "statistics"}


class ExactCase:
    """A case, its batches measured once for all implementations; float64 is judged in long double, others in float64.

    unjudged: why there is no verdict on its arrays, empty where there is one.
    known: what was computed for a promise, by its key; implementations that promise the same share it. lock: who
    judges holds it, as implementations in several threads are asked the same.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.spec = case, case.spec
        self.unjudged = _unjudged(case)
        self.dtype: Any = np.float64 if self.unjudged else working_dtype(msgspec.structs.astuple(case.dtypes))
        self.known: dict[Any, Any] = {}
        self.lock = threading.RLock()
        self._batches: dict[Any, BatchStatistics] = {}
        self._finite = False
        self._bounds: dict[tuple[Numerics, Units, int, float, bool], Bounds] = {}

    def batch(self, t: int, semantics: Semantics | None = None) -> BatchStatistics:
        """Return the exact statistics of step t's input, as these semantics take them of masks and virtual batches."""
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
        """Return step t's input as inference sees it: no mask, no virtual batches."""
        if ("whole", t) not in self._batches:
            x, plain = self.array(t, "x"), dataclasses.replace(self.spec, virtual_batch_size=None)
            assert x is not None
            self._batches["whole", t] = BatchStatistics.of(observe(x, None, plain, Semantics()))
        return self._batches["whole", t]

    def bounds(self, numerics: Numerics, units: Units, n: int, epsilon: float, *, outside: bool) -> Bounds:
        """Return the formulas for one way of computing; implementations that promise the same share them."""
        key = numerics, units, n, epsilon, outside  # all that they are made of
        if key not in self._bounds:
            self._bounds[key] = Bounds(numerics, units, n, epsilon, outside=outside)
        return self._bounds[key]

    def array(self, t: int, name: str) -> Array | None:
        """Return a tensor of step t at the reference's precision: x, dy, tangent; None where there is none."""
        array = self.case.tensor(f"{t}.{name}")
        return None if array is None else widened(array, self.dtype)

    def mask(self, t: int) -> Array | None:
        """Return the mask of step t, as it is."""
        return self.case.tensor(f"{t}.mask")

    def poisoned(self, t: int) -> Array | None:
        """Return where an input up to step t was not finite, of the kept shape; None where all were."""
        if not self._finite:
            self._finite = all(bool(np.isfinite(widened(a, np.float64)).all()) for a in self.case.tensors.values())
        if self._finite:
            return None
        found = np.zeros(kept_shape(self.spec, self.case.shape), bool)
        for name in (f"{s}.{name}" for s in range(t + 1) for name in ("x", "dy")):
            array = self.case.tensor(name)
            if array is not None:
                reduced = reduced_axes(self.spec, array.ndim)
                found |= ~np.isfinite(widened(array, np.float64)).all(reduced).reshape(found.shape)
        return found

    def overflows(self, t: int) -> bool:
        """Return whether the square of some input up to step t is beyond its dtype."""
        most = float(finfo(self.case.dtypes.x).max) ** 0.5
        return any(bool((np.abs(widened(self.case.x(s), np.float64)) > most).any()) for s in range(t + 1))

    def dy(self, t: int) -> Array | None:
        """Return the cotangent of step t, None where no gradient is asked for."""
        return self.array(t, "dy") if self.case.steps[t].derivatives else None

    def adjustment(self, t: int) -> Adjustment | None:
        """Return what the adjustment gives in step t."""
        scale, bias = self.array(t, "adjustment_scale"), self.array(t, "adjustment_bias")
        return None if scale is None or bias is None else Adjustment(scale, bias)

    @cached_property
    def facts(self) -> list[dict[str, Any]]:
        """The facts about each step."""
        return every_step(self.case)

    @cached_property
    def parameters(self) -> Parameters:
        """Gamma and beta."""
        return parameters(self.case, self.dtype)


def _unjudged(case: Case) -> str:
    """Return why no array of a case can be judged, empty where it can: there is no precision to judge it with."""
    try:
        working_dtype(msgspec.structs.astuple(case.dtypes))
    except Refusal as refusal:
        return str(refusal)
    return ""


_PLANNED = (
    *("y", "dx", "dgamma", "dbeta", "moving_mean", "mean"),
    *("y_tangent", "dx_tangent", "dgamma_tangent", "y_tangent2", "dx_tangent2", "dgamma_tangent2"),
)
StepPromise = tuple[Semantics, dict[tuple[str, str], Numerics]]
"""What is promised for one step: semantics, and numerics by mode and output."""


class Promise:
    """What one implementation promises about a case: its semantics, and its numerics per output.

    They are those of the first step; `at` gives those of another one. lacked: the steps in a mode that it
    does not have, which leave the layer as it was.
    """

    def __init__(self, exact_case: ExactCase, statement: Statement) -> None:
        self.exact_case, self.case, self.spec = exact_case, exact_case.case, exact_case.spec
        self._limitless = False
        self._steps = self._promised(statement)
        self.semantics, self._numerics = self._steps[0]
        modes = [self.mode(t) for t in range(len(self.case.steps))]
        self.lacked = frozenset(t for t, mode in enumerate(modes) if mode not in statement.modes)
        self.unjudged = exact_case.unjudged or self._underived()

    def _promised(self, statement: Statement) -> tuple[StepPromise, ...]:
        """Return what is promised for each step; steps of which the rules see the same facts share it."""
        named, known, found = (
            {fact for rule in statement.rules for fact in rule.when},
            dict[str, StepPromise](),
            list[StepPromise](),
        )
        for about in self.exact_case.facts:
            key = str([(fact, about.get(fact)) for fact in sorted(named)])
            if key not in known:
                numerics = {(m, o): statement.numerics(about, m, o) for m in ("train", "infer") for o in _PLANNED}
                known[key] = statement.semantics(about), numerics
            found.append(known[key])
        return tuple(found)

    def at(self, t: int) -> Promise:
        """Return what is promised for a step, whose rank and mask may be other than the first's."""
        if not self._steps or self._steps[t] == (self.semantics, self._numerics):
            return self
        semantics, numerics = self._steps[t]
        promise = object.__new__(Promise)
        vars(promise).update(vars(self), semantics=semantics, _numerics=numerics)
        return promise

    def _underived(self) -> str:
        """Return what no bound is derived for yet in some step, empty where all are."""
        promised = {semantics for semantics, _ in self._steps}
        return next((why for one in promised if (why := self._missing(one))), "")

    def _missing(self, promised: Semantics) -> str:
        """Return what no bound is derived for yet under these semantics."""
        virtual = self.spec.virtual_batch_size is not None
        second = differentiation(self.case) not in ("none", "reverse")
        special = self.spec.renorm or virtual or mask(self.case) or self.exact_case.adjustment(0)
        names = {
            "renorm as in the paper": self.spec.renorm and promised.renorm == "paper",
            f"virtual batches with {promised.virtual_statistics} statistics and renorm": (
                virtual and promised.virtual_statistics != "averaged" and self.spec.renorm
            ),
            "third derivatives that begin forward": differentiation(self.case).startswith("third_"),
            "derivatives along a tangent of more than a plain layer": second and bool(special),
            "epsilon outside the root with renorm, or along a tangent": (
                promised.epsilon_placement == "outside" and (second or self.spec.renorm)
            ),
        }
        missing = [name for name, there in names.items() if there]
        return f"no bound is derived yet for {', '.join(missing)}" if missing else ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What the expectations depend on, beside the case: all that the promise holds but for the case."""
        promised = {name: value for name, value in sorted(vars(self).items()) if name not in _OF_CASE}
        steps = tuple((semantics, tuple(numerics.items())) for semantics, numerics in self._steps)
        return tuple((promised | {"_numerics": tuple(self._numerics.items()), "_steps": steps}).items())

    def asked(self, t: int) -> Spec:
        """Return what is asked for in a step: the layer may be frozen for it."""
        return dataclasses.replace(self.spec, trainable=self.spec.trainable and self.case.steps[t].trainable)

    def mode(self, t: int) -> str:
        """Return the mode a step really runs in: a frozen layer may infer where training was asked for."""
        frozen = not self.asked(t).trainable and self.at(t).semantics.frozen == "infer"
        return "infer" if frozen else self.case.steps[t].mode

    def updates(self, t: int) -> bool:
        """Return whether a step moves the state: not one in a mode that the implementation lacks."""
        asked, semantics = self.case.steps[t].update, self.at(t).semantics
        trains = self.mode(t) == "train" and t not in self.lacked
        return trains and moves(self.case.x(t), self.asked(t), semantics, asked)

    def label(self, t: int, output: str) -> str:
        """Return the class and grade promised for an output of a step, such as `A′·S`."""
        return self.at(t).numerics(self.mode(t), output).label

    def numerics(self, mode: str, output: str) -> Numerics:
        """Return how an output is promised to be computed."""
        return self._numerics[mode, ALIAS.get(output, output)]

    def bounds(self, mode: str, output: str, n: int) -> Bounds:
        """Return the formulas for an output, for sums of n values."""
        numerics = self.numerics(mode, output)
        epsilon, outside = floored_epsilon(self.spec, self.semantics), self.semantics.epsilon_placement == "outside"
        return self.exact_case.bounds(numerics, self._units(numerics), n, epsilon, outside=outside)

    def _units(self, numerics: Numerics) -> Units:
        x = self.case.dtypes.x
        wide = "float64" if x == "float64" else "float32"
        arithmetic = {"wide": wide, "input": x, "float32": "float32"}[numerics.accumulate]
        units = Units.of(arithmetic, self.dtype(numerics), x, self.case.dtypes.parameters)
        return dataclasses.replace(units, largest=np.inf, stored_largest=np.inf) if self._limitless else units

    def dtype(self, numerics: Numerics) -> str:
        """Return the dtype that an output is promised in."""
        return getattr(self.case.dtypes, _DTYPES[numerics.stored]) if numerics.stored in _DTYPES else numerics.stored

    def with_y(self, numerics: Numerics) -> Promise:
        """Return the promise with a training step's y held to other numerics."""
        promise = object.__new__(Promise)
        vars(promise).update(vars(self), _numerics=self._numerics | {("train", "y"): numerics}, _steps=())
        return promise

    def supposing(self, *, limitless: bool = False, clamped: bool = False) -> Promise:
        """Return the promise as it would be if no dtype had a largest number, or every variance were kept above 0."""

        def changed(promised: dict[tuple[str, str], Numerics]) -> dict[tuple[str, str], Numerics]:
            return {of: msgspec.structs.replace(n, clamped=clamped or n.clamped) for of, n in promised.items()}

        promise = object.__new__(Promise)
        steps = tuple((semantics, changed(numerics)) for semantics, numerics in self._steps)
        vars(promise).update(vars(self), _limitless=limitless, _steps=steps, _numerics=changed(self._numerics))
        return promise
