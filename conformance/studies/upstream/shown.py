"""What a script is to show: one wrong element, or an exception, of one output of one step, and what is right."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from conformance.judging import expectation
from conformance.judging.exact_case import ExactCase
from conformance.judging.expected import Expected
from conformance.judging.promise import Promise
from conformance.model.case import Case
from conformance.model.errors import InvalidInput
from conformance.model.outcome import Outcome, Outputs, Reply
from conformance.model.results import ImplementationRecord, Result
from conformance.model.statement import Statement, recorded
from conformance.runs.recording import RecordedAnswer
from reference import Refusal
from reference.precision import widened
from reference.spec import Array

_CLOSE = 1e-3
"""How near values are of which the dtype is what is wrong."""
Kind = Literal["value", "shape", "dtype", "refused", "crashed", "answered"]
"""A wrong value, shape or dtype; an exception or a crash instead of an answer; an answer where a refusal is due."""


@dataclass(frozen=True)
class SuspectAnswer:
    """Whose failure it is, of which case, and what was promised, or expected, of it."""

    record: ImplementationRecord
    statement: Statement
    promise: Promise


@dataclass(frozen=True)
class Shown:
    """One failure. Arrays are at float64; step counts from 0.

    output, index: the array, and the element in it that is off by the most of what is allowed.
    got, right, allowed: that element, the right value and the error allowed; None where there is no such number.
    array: all that is right of the output; None where a refusal is.
    dtype, shape: those promised of it; told: those that it has, or else what was raised.
    refusal: why a refusal is due; empty if none is.
    from_itself: the right value follows from what the implementation returned itself, not from the case alone.
    refused: the steps that were refused, but for the one that is shown; they leave everything as it was.
    """

    about: SuspectAnswer
    kind: Kind
    step: int
    output: str
    index: tuple[int, ...] = ()
    got: float | None = None
    right: float | None = None
    allowed: float | None = None
    array: Array | None = None
    dtype: str = ""
    told: str = ""
    refusal: str = ""
    from_itself: bool = False
    refused: frozenset[int] = frozenset()

    @property
    def case(self) -> Case:
        """The case."""
        return self.about.promise.case

    @property
    def record(self) -> ImplementationRecord:
        """The implementation's record."""
        return self.about.record

    @property
    def promise(self) -> Promise:
        """What is right."""
        return self.about.promise

    @property
    def complex(self) -> bool:
        """Whether i x was handed over."""
        return self.case.actions.input.startswith("complex")

    @property
    def turned(self) -> bool:
        """Whether it is answered i times as large, since i x was handed over; variances are not."""
        return self.complex and not self.output.endswith("variance")

    @property
    def element(self) -> str:
        """The element in words: `y[0, 1]`."""
        return f"{self.output}[{', '.join(map(str, self.index))}]" if self.index else self.output


def failures(answer: RecordedAnswer, covers: Callable[[Result], bool] = lambda _: True) -> list[Result]:
    """Return the failed results that a script may show, the first step's worst one first."""
    found = [r for r in answer.results if r.verdict == "FAIL" and r.step >= 0 and covers(r)]
    return sorted(found, key=lambda r: (r.step, r.output != "outcome", -r.size))


def shown(
    case: Case, answer: RecordedAnswer, found: Iterable[Result], statement: Statement | None = None
) -> Shown | None:
    """Return what a script is to show of the first of these failures that there is something to show of.

    statement: what was expected; without one what the implementation promises.
    """
    exact_case = ExactCase(case)
    promise = Promise.of(exact_case, statement or recorded(answer.record))
    for result in found:
        one = _one(promise, answer, result, statement or recorded(answer.record))
        if one is not None:
            refused = answer.reply.refused if answer.reply else frozenset[int]()
            return dataclasses.replace(one, refused=refused - {result.step})
    return None


def _one(promise: Promise, answer: RecordedAnswer, result: Result, statement: Statement) -> Shown | None:
    outcome, t = _outcome(answer.reply, result.step), result.step
    refused = answer.reply.refused - {t} if answer.reply else frozenset[int]()
    with np.errstate(all="ignore"):
        expected = expectation.trajectory(promise, refused)[t]
    about = SuspectAnswer(answer.record, statement, promise)
    if isinstance(outcome, Outputs) and (isinstance(expected, Refusal) or result.output == "outcome"):
        array = outcome.tensors.get("y")
        told = "" if array is None else f"{array.dtype} of shape {array.shape}"
        refusal = str(expected) if isinstance(expected, Refusal) else result.reason
        return Shown(about, "answered", t, "y", told=told, refusal=refusal)
    if isinstance(expected, Refusal):
        return None
    if not isinstance(outcome, Outputs):
        wanted = expected.get("y")
        array = None if wanted is None else widened(wanted.value, np.float64)
        kind: Kind = "refused" if type(outcome).__name__ == "Refused" else "crashed"
        return Shown(about, kind, t, "y", array=array, told=_raised(outcome))
    got = outcome.tensors.get(result.output)
    wanted = expected.get(result.output)
    return None if got is None or wanted is None else _array(about, t, result, got, wanted)


def _outcome(reply: Reply | None, t: int) -> Outcome | None:
    if reply is None:
        raise InvalidInput("the answer was not kept; name the implementation with -i, and it is asked again")
    return reply.outcomes[t] if t < len(reply.outcomes) else None


def _raised(outcome: Outcome | None) -> str:
    """Return what was raised, in one line."""
    error, message = getattr(outcome, "error", ""), getattr(outcome, "message", "") or getattr(outcome, "reason", "")
    lines = re.sub(r"\x1b\[[\d;]*m", "", message).strip().splitlines()
    return f"{error}: {lines[0] if lines else ''}" if error else message


def _array(about: SuspectAnswer, t: int, result: Result, got: Array, wanted: Expected) -> Shown:
    array, output = widened(wanted.value, np.float64), result.output
    unlike, wide = wanted.unlike(got), widened(got, np.float64)
    if unlike == "shape" or (unlike and np.allclose(wide, array, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)):
        told = str(got.shape if unlike == "shape" else got.dtype)
        return Shown(about, unlike, t, output, array=array, dtype=wanted.dtype, told=told)
    bound = np.broadcast_to(widened(wanted.bound, np.float64), array.shape)
    size = _size(wide, array, bound)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(size)), size.shape)) if size.size else ()
    if size.size and size[index] > 1:
        numbers = float(wide[index]), float(array[index]), float(bound[index])
        return Shown(about, "value", t, output, index, *numbers, array, wanted.dtype)
    worst = result.deviation
    if worst is None:
        return Shown(about, "value", t, output, array=array, dtype=wanted.dtype)
    index = tuple(worst.index)
    numbers = float(wide[index]), float(worst.expected), float(worst.bound)
    return Shown(about, "value", t, output, index, *numbers, None, wanted.dtype, from_itself=True)


def _size(got: Array, right: Array, bound: Array) -> Array:
    """Return error / allowed, infinite where one alone is not finite, 0 where both are the same."""
    with np.errstate(all="ignore"):
        size = np.abs(got - right) / bound
    same = (got == right) | (np.isnan(got) & np.isnan(right))
    size = np.where(np.isnan(size), np.inf, size)
    return np.where(same | np.isposinf(bound) & np.isfinite(right), 0.0, size)
