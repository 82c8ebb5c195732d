"""A case as one implementation has promised to answer it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from conformance.judging.bounds.bounds import Bounds
from conformance.judging.exact_case import ExactCase
from conformance.judging.memo import Key
from conformance.model.case import Case
from conformance.model.facts import Facts, Mode
from conformance.model.numerics import Numerics, Units
from conformance.model.outputs import DECLARED_AS
from conformance.model.statement import Statement
from reference import Semantics, Spec
from reference.averages import moves
from reference.spec import floored_epsilon

_MODES: tuple[Mode, ...] = ("train", "infer")
_DTYPES = {"input": "x", "parameters": "parameters", "statistics": "statistics"}
_TOLD = 2.0**-38
"""The least unit roundoff that is told apart in cases of float32 and less, which the reference computes in float64."""
_PLANNED = dict.fromkeys(DECLARED_AS.values())


@dataclasses.dataclass(frozen=True)
class StepPromise:
    """What is promised for one step: semantics, and numerics by mode and output."""

    semantics: Semantics
    numerics: dict[tuple[str, str], Numerics]

    @cached_property
    def key(self) -> Key:
        """The promise, to remember by."""
        return Key((self.semantics, tuple(self.numerics.items())))


@dataclasses.dataclass(frozen=True, eq=False)
class Promise:
    """What one implementation promises about a case, for one of its steps: at first the first; `at` gives another's.

    here: what is promised for that step.
    steps: what is promised for every step; empty where all are held to `here`.
    lacked: the steps in a mode that it does not have; they leave the layer as it was.
    unjudged: why its arrays cannot be judged; empty if they can.
    limitless: suppose that no dtype has a largest number.
    """

    exact_case: ExactCase
    here: StepPromise
    steps: tuple[StepPromise, ...] = ()
    lacked: frozenset[int] = frozenset()
    unjudged: str = ""
    limitless: bool = False

    @classmethod
    def of(cls, exact_case: ExactCase, statement: Statement) -> Promise:
        """Return what a statement promises about a case."""
        steps = tuple(_promised(exact_case, statement))
        promise = cls(exact_case, steps[0], steps)
        lacked = frozenset(t for t in range(len(steps)) if promise.mode(t) not in statement.modes)
        return replace(promise, lacked=lacked, unjudged=exact_case.unjudged or promise._underived())

    @property
    def case(self) -> Case:
        """The case."""
        return self.exact_case.case

    @property
    def spec(self) -> Spec:
        """What the case asks for."""
        return self.exact_case.spec

    @property
    def semantics(self) -> Semantics:
        """The semantics promised for the step."""
        return self.here.semantics

    def at(self, t: int) -> Promise:
        """Return the promise for another step, whose rank and mask may differ from the first's."""
        return self if not self.steps or self.steps[t] is self.here else self._others[t]

    @cached_property
    def _others(self) -> list[Promise]:
        return [replace(self, here=step) for step in self.steps]

    def _underived(self) -> str:
        """Return for what, in some step, no bound is derived yet; empty if there is one for all."""
        promised = dict.fromkeys(step.semantics for step in self.steps)
        return next((why for one in promised if (why := self._missing(one))), "")

    def _missing(self, promised: Semantics) -> str:
        """Return for what no bound is derived yet under these semantics; empty if there is one for all."""
        about = self.exact_case.facts[0]
        second = about.differentiation not in ("none", "reverse")
        special = about.renorm or about.virtual or about.mask or self.exact_case.adjustment(0)
        names = {
            "renorm as in the paper": about.renorm and promised.renorm == "paper",
            f"virtual batches with {promised.virtual_statistics} statistics and renorm": (
                about.virtual and promised.virtual_statistics != "averaged" and about.renorm
            ),
            "derivatives of a state that averages deviations": (
                about.of == "state" and promised.moving_spread == "stddev"
            ),
            "derivatives along a tangent behind an activation": second and promised.activation != "none",
            "derivatives along a tangent of a single value that is left as it is": (
                second and promised.single_value == "identity" and any(map(_of_one_value, self.exact_case.facts))
            ),
            "third derivatives that begin forward": about.differentiation.startswith("third_"),
            "derivatives along a tangent of more than a plain layer": second and bool(special),
            "epsilon outside the root with renorm, or along a tangent": (
                promised.epsilon_placement == "outside" and (second or about.renorm)
            ),
        }
        missing = [name for name, there in names.items() if there]
        return f"no bound is derived yet for {', '.join(missing)}" if missing else ""

    @cached_property
    def key(self) -> Key:
        """Everything that the expectations depend on beside the case."""
        held = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "exact_case"
        }
        return Key((held | {"here": self.here.key, "steps": tuple(step.key for step in self.steps)}).items())

    def asked(self, t: int) -> Spec:
        """Return what is asked for in a step, in which the layer may be frozen."""
        return self.spec if self.case.steps[t].trainable else replace(self.spec, trainable=False)

    def mode(self, t: int) -> str:
        """Return the mode that a step really runs in: a frozen layer may infer where training was asked for.

        One without statistics of its own always does what training does.
        """
        if not self.spec.track:
            return "train"
        frozen = not self.asked(t).trainable and self.at(t).semantics.frozen == "infer"
        return "infer" if frozen else self.case.steps[t].mode

    def updates(self, t: int) -> bool:
        """Return whether a step moves the state; in a mode that the implementation lacks, it does not."""
        asked, semantics = self.case.steps[t].update, self.at(t).semantics
        trains = self.mode(t) == "train" and t not in self.lacked
        return trains and moves(self.case.x(t), self.asked(t), semantics, asked)

    def label(self, t: int, output: str) -> str:
        """Return the class and grade promised for an output of a step, such as `A′·S`."""
        return self.at(t).numerics(self.mode(t), output).label

    def numerics(self, mode: str, output: str) -> Numerics:
        """Return how an output is promised to be computed."""
        return self.here.numerics[mode, DECLARED_AS[output]]

    def bounds(self, mode: str, output: str, n: int) -> Bounds:
        """Return the bounds for an output, for sums of n values."""
        numerics = self.numerics(mode, output)
        epsilon, outside = floored_epsilon(self.spec, self.semantics), self.semantics.epsilon_placement == "outside"
        return self.exact_case.bounds(numerics, self._units(numerics), n, epsilon, outside=outside)

    def _units(self, numerics: Numerics) -> Units:
        x = self.case.dtypes.x
        wide = "float64" if x == "float64" else "float32"
        arithmetic = {"wide": wide, "input": x}.get(numerics.accumulate, numerics.accumulate)
        stored, saved = (self.dtype(name) for name in (numerics.stored, numerics.saved))
        units = Units.of(arithmetic, stored, x, self.case.dtypes.parameters, saved)
        if arithmetic != wide == "float32":
            units = replace(units, u=max(units.u, _TOLD))
        if self.limitless:
            units = replace(units, largest=np.inf, stored_largest=np.inf, saved_largest=np.inf)
        return units

    def dtype(self, name: str) -> str:
        """Return the dtype that `stored` or `saved` means."""
        return getattr(self.case.dtypes, _DTYPES[name]) if name in _DTYPES else name

    def with_y(self, numerics: Numerics) -> Promise:
        """Return the promise with a training step's y held to other numerics."""
        held = self.here.numerics | {("train", "y"): numerics}
        return replace(self, here=StepPromise(self.semantics, held), steps=())

    def supposing(self, *, limitless: bool = False, clamped: bool = False) -> Promise:
        """Return the promise as if no dtype had a largest number, or as if every variance were kept above 0."""

        def changed(promised: StepPromise) -> StepPromise:
            numerics = {
                of: msgspec.structs.replace(one, clamped=clamped or one.clamped)
                for of, one in promised.numerics.items()
            }
            return replace(promised, numerics=numerics)

        return replace(self, here=changed(self.here), steps=tuple(map(changed, self.steps)), limitless=limitless)


def _of_one_value(about: Facts) -> bool:
    return about.mode == "train" and about.n == "1"


def _step_promise(statement: Statement, about: Facts, told_apart: Any) -> StepPromise:
    """Return what is promised where these facts hold; told_apart: those that rules name, and x's dtype."""
    if told_apart not in statement.known:
        numerics = {(mode, o): statement.numerics(about, mode, o) for mode in _MODES for o in _PLANNED}
        statement.known[told_apart] = StepPromise(statement.semantics(about), numerics)
    return statement.known[told_apart]


def _promised(exact_case: ExactCase, statement: Statement) -> Iterator[StepPromise]:
    """Yield what is promised for each step; steps with the same facts for the rules share it."""
    named = {fact for rule in statement.rules for fact in rule.when}
    known: dict[tuple[Any, ...], StepPromise] = {}
    for about in exact_case.facts:
        key = tuple(getattr(about, fact) for fact in named)
        if key not in known:
            known[key] = _step_promise(statement, about, (key, about.dtype))
        yield known[key]
