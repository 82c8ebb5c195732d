"""A step whose answer fails, laid out so that every statistic broadcasts against the input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from conformance.judging import judgment
from conformance.judging.exact_case import ExactCase
from conformance.judging.expected import Expected
from conformance.judging.promise import Promise
from conformance.model.numerics import finfo
from conformance.model.outcome import Outputs, Reply
from conformance.model.outputs import LIKE_INPUT
from conformance.model.results import Result, Rho
from conformance.model.statement import Statement
from reference import Semantics, Spec, State
from reference.precision import widened
from reference.spec import Array, broadcast, kept_axes, kept_shape, reduced_axes

FAR, NEAR = 100.0, 4.0
"""What is off by more than a hundred times may stay off by four: a change is rounded otherwise than the real thing."""
_TERMS = 8.0
"""By how many roundings of its terms a value may be off that has larger ones than the right value."""


@dataclass(frozen=True, eq=False)
class FailedStep:
    """One step of an answer, and which of its outputs are wrong, with their ρ.

    left_out: others that are not looked at.
    """

    exact_case: ExactCase
    statement: Statement
    reply: Reply
    t: int
    wrong: Mapping[str, Rho]
    left_out: frozenset[str] = frozenset()

    def alone(self, output: str) -> FailedStep:
        """Return the step as if no other output were wrong."""
        rest = frozenset(name for name in self.wrong if name != output)
        return replace(self, wrong={output: self.wrong[output]}, left_out=self.left_out | rest)

    def narrowed(self) -> FailedStep:
        """Return the step as if it had returned nothing but what is wrong."""
        return replace(self, left_out=frozenset(self.answered) - self.wrong.keys())

    @cached_property
    def promise(self) -> Promise:
        """What is promised for the step."""
        return Promise.of(self.exact_case, self.statement).at(self.t)

    @property
    def spec(self) -> Spec:
        """What is asked for."""
        return self.promise.asked(self.t)

    @property
    def semantics(self) -> Semantics:
        """What is promised where implementations differ."""
        return self.promise.semantics

    @cached_property
    def training(self) -> bool:
        """Whether the batch's statistics are taken."""
        return self.promise.mode(self.t) == "train"

    @cached_property
    def before(self) -> State | None:
        """The state before the step, as the answer has it; None: unknown."""
        return judgment.state_before(self.exact_case, self.statement, self.reply, self.t)

    @cached_property
    def x(self) -> Array:
        """The input at the reference's precision."""
        return widened(self.exact_case.case.x(self.t), self.exact_case.dtype)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that are averaged over."""
        return reduced_axes(self.spec, self.x.ndim)

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes of the channels."""
        return kept_axes(self.spec, self.x.ndim)

    def align(self, values: Array) -> Array:
        """Return an array of the kept shape so that it broadcasts against the input."""
        return broadcast(values, self.spec, self.x.ndim)

    @cached_property
    def answered(self) -> dict[str, Array]:
        """What was answered, by output."""
        outcome = self.reply.outcomes[self.t]
        return outcome.tensors if isinstance(outcome, Outputs) else {}

    @cached_property
    def checks(self) -> dict[str, dict[str, Expected]]:
        """What the outputs are compared with, by check."""
        return judgment.compared(self.exact_case, self.statement, self.reply, self.t)

    @cached_property
    def expected(self) -> dict[str, Expected]:
        """What is expected of each output, from the answer's own state where that is known."""
        return self.checks.get("trajectory", {}) | self.checks.get("step", {})

    @cached_property
    def got(self) -> dict[str, Array]:
        """The answer of each output that can be compared, laid out."""
        looked = {n: a for n, a in self.answered.items() if n in self.expected and n not in self.left_out}
        fit = {n: a for n, a in looked.items() if not self.expected[n].unlike(a)}
        return {name: self._laid_out(name, widened(array, self.exact_case.dtype)) for name, array in fit.items()}

    @cached_property
    def bounds(self) -> dict[str, Array]:
        """The error allowed in each element."""
        return {n: self._laid_out(n, np.broadcast_to(self.expected[n].bound, self.answered[n].shape)) for n in self.got}

    @cached_property
    def right(self) -> dict[str, Array]:
        """The exact value of each output."""
        return {n: self._laid_out(n, np.asarray(self.expected[n].value)) for n in self.got}

    def _laid_out(self, name: str, array: Array) -> Array:
        array = np.asarray(array)
        if name in LIKE_INPUT or array.shape != kept_shape(self.spec, self.x.shape):
            return array
        return self.align(array)

    def wrong_elements(self, output: str) -> Array:
        """Return which elements of an output fail some check, in its own shape."""
        array = self.answered[output]
        found = np.zeros(array.shape, bool)
        with np.errstate(all="ignore"):
            for check in self.checks.values():
                if output in check and not check[output].unlike(array):
                    found |= np.asarray(judgment.rho_of(check[output].streamed(array), check[output])) > 1
        return found

    @cached_property
    def channels(self) -> Array:
        """Which channels are wrong in some output, so as to broadcast."""
        found = np.zeros([1 if axis in self.axes else size for axis, size in enumerate(self.x.shape)], bool)
        for name in (name for name in self.wrong if name in self.got):
            wrong = self._laid_out(name, self.wrong_elements(name))
            found = found | (wrong.any(self.axes, keepdims=True) if wrong.shape == self.x.shape else wrong)
        return found

    def fits(self, values: Mapping[str, Array], more: Mapping[str, Array], leeway: float = NEAR) -> bool:
        """Return whether the answer could be these values.

        more: by how much larger the terms are that add up to them than those of the right values, by output.
        """
        if not set(self.wrong) <= values.keys():
            return False
        return all(self._fits(name, values[name], more.get(name, 0.0), leeway) for name in self.got if name in values)

    def _fits(self, name: str, value: Array, more: Any, leeway: float) -> bool:
        far = number(self.wrong.get(name, 0.0)) > FAR
        kept, got = finfo(self.expected[name].dtype), self.got[name]
        arithmetic = "float64" if self.exact_case.case.dtypes.x == "float64" else "float32"
        with np.errstate(all="ignore"):
            rounded = float(kept.eps) * (np.abs(value) + np.abs(self.right[name]))
            rounded = rounded + _TERMS * float(finfo(arithmetic).eps) * more
            allowed = (leeway if far else 1.0) * self.bounds[name] + rounded
            same = (got == value) | (np.isnan(got) & np.isnan(value)) | (np.abs(got - value) <= allowed)
            same |= np.isinf(got) & (np.abs(value) > float(kept.max)) & (np.sign(got) == np.sign(value))
        return bool(np.all(same))


def wrong_of(results: Iterable[Result]) -> dict[str, Rho]:
    """Return the outputs that are wrong in a step, with their ρ, of its results.

    What fails only beside a returned mean or variance that is wrong itself is not.
    """
    failed = {r.output: r for r in results if r.failed and not isinstance(r.rho, msgspec.UnsetType)}
    found: dict[str, Rho] = {name: r.rho for name, r in failed.items() if not isinstance(r.rho, msgspec.UnsetType)}
    if not {"mean", "variance"} & found.keys():
        return found
    return {name: rho for name, rho in found.items() if name in _RETURNED or _by_itself(failed[name])}


_RETURNED = ("mean", "variance", "inverse_deviation")


def _by_itself(result: Result) -> bool:
    """Return whether an output is wrong, whatever mean and variance were returned."""
    return any(number(rho) > 1 for name, rho in result.checks.items() if name != "residual") or not result.checks


def number(rho: Any) -> float:
    """Return ρ as a number; infinite where it is said in a word."""
    return float("inf") if isinstance(rho, str) else float(rho or 0.0)
