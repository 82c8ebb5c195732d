"""Which rtol and atol a test with `allclose` may use for two implementations, what each loses, what the pair misses.

Of two correct answers a and b to one question, |a - b| is at most the sum of their bounds. `numpy.allclose` asks
|a - b| <= atol + rtol · |b|, with one pair for all elements, so that a pair fits where it is at least that sum in each.
Of the pairs that fit, the one that allows a typical element least is taken; what it would let pass is asked of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import ExpectedOutputs, trajectory
from conformance.judging.promise import Promise
from conformance.model.case import Case, numpy_dtype
from conformance.model.case_facts import every_step
from conformance.model.errors import InvalidInput
from conformance.model.numerics import finfo
from conformance.model.outcome import Outputs, Reply
from conformance.model.outputs import NAMES
from conformance.model.statement import Statement
from conformance.workbench.causes import of_question
from conformance.workbench.given import GivenStep, asked
from conformance.workbench.words import Words
from reference import Refusal
from reference.spec import Array

_RTOLS = (0.0, *(digit * 10.0**exponent for exponent in range(-8, 1) for digit in (1, 2, 5)))
_LOOSE = 100.0
"""A pair that allows a typical element so many times its own bound is no test of it."""
_ASKED = 4
"""Draws that faults are put into: each costs as much as judging it, for every fault."""
_ZERO = "it were 0 everywhere"


class Setting(msgspec.Struct, frozen=True):
    """What is asked: one step of normally distributed data of σ = 1, with gradients.

    parameters: the dtype of gamma, beta and the moving statistics; mean: in units of σ, of every channel.
    """

    shape: tuple[int, ...]
    axis: int = 1
    dtype: str = "float32"
    parameters: str = "float32"
    epsilon: float = 1e-5
    momentum: float = 0.9
    mean: float = 0.0
    training: bool = True

    def __str__(self) -> str:
        """Return it in words."""
        held = "" if self.parameters == self.dtype else f", parameters in {self.parameters}"
        return (
            f"{'×'.join(map(str, self.shape))}, axis {self.axis} kept, {self.dtype}{held}, "
            f"mean/σ {self.mean:g}, epsilon {self.epsilon:g}, {'training' if self.training else 'inference'}"
        )


class PairMember(NamedTuple):
    """One of the two: what it promises, and how to ask it."""

    statement: Statement
    ask: Callable[[Case], Reply]

    def expected(self, case: Case) -> ExpectedOutputs:
        """Return what it promises to answer; raise `InvalidInput` where it cannot be asked."""
        found = _expected(case, self.statement)
        if isinstance(found, Refusal):
            raise InvalidInput(f"{self.statement.id}: {found}")
        return found

    def answer(self, case: Case) -> Mapping[str, Array]:
        """Return what it answers; raise `InvalidInput` where it gives no arrays."""
        if why := self.statement.unsupported(*every_step(case)):
            raise InvalidInput(f"{self.statement.id} cannot be asked that: {why}")
        (outcome,) = self.ask(case).outcomes
        if not isinstance(outcome, Outputs):
            raise InvalidInput(f"{self.statement.id} gave no arrays: {outcome}")
        return outcome.tensors


class Tolerance(msgspec.Struct, frozen=True):
    """What may be said of one output.

    allowed, lost: the largest bound, and the largest error seen, of each of the two; -1 where a bound is infinite.
    rtol, atol: the pair for `allclose(first, second, rtol, atol)`; None where none fits, or none is right.
    why: why no pair is right; empty where one is.
    slack: how many times what its bounds do the pair allows a typical element.
    misses: faults that the pair lets pass although bounds see them, as completions of "as if".
    unseen: faults that bounds do not see either.
    alarms: of fresh cases, how many the pair refused; None where none was asked.
    """

    output: str
    allowed: tuple[float, float]
    lost: tuple[float, float]
    rtol: float | None = None
    atol: float | None = None
    why: str = ""
    slack: float = 0.0
    misses: list[str] = []
    unseen: list[str] = []
    alarms: int | None = None


def case(setting: Setting, seed: int) -> Case:
    """Return the question that a seed draws; raise `InvalidInput` where the setting makes no sense."""
    rng, spec_axis = np.random.default_rng(seed), setting.axis
    if not -len(setting.shape) <= spec_axis < len(setting.shape):
        raise InvalidInput(f"axis {spec_axis} of shape {setting.shape}; it must name one of its {len(setting.shape)}")
    kept, own, given = setting.shape[spec_axis], numpy_dtype(setting.dtype), numpy_dtype(setting.parameters)
    words = Words(
        x=(setting.mean + rng.standard_normal(setting.shape)).astype(own),
        axis=spec_axis,
        epsilon=setting.epsilon,
        momentum=setting.momentum,
        gamma=rng.uniform(0.5, 1.5, kept).astype(given),
        beta=rng.standard_normal(kept).astype(given),
        dy=rng.standard_normal(setting.shape).astype(own),
        training=setting.training,
        moving_mean=(setting.mean + rng.standard_normal(kept) / 8).astype(given),
        moving_variance=rng.uniform(0.5, 2.0, kept).astype(given),
    )
    return asked(words).case


def tolerances(
    setting: Setting,
    sides: tuple[PairMember, PairMember],
    draws: range,
    outputs: tuple[str, ...] = (),
    fresh: range = range(0),
) -> list[Tolerance]:
    """Return what may be said of each output that both return; draws, fresh: seeds, fitted to and tried afterwards."""
    fits: dict[str, _Fit] = {}
    for seed in draws:
        question = case(setting, seed)
        expected = [side.expected(question) for side in sides]
        answers = [side.answer(question) for side in sides]
        for name in _common(expected, answers, outputs):
            fits.setdefault(name, _Fit(name)).add(question, expected, answers)
    return _alarms(setting, sides, [fit.tolerance(sides[1].statement) for fit in fits.values()], fresh)


def _common(expected: list[ExpectedOutputs], answers: list[Mapping[str, Array]], outputs: tuple[str, ...]) -> list[str]:
    both = [n for n in NAMES if all(n in those for those in (*expected, *answers))]
    if lacking := next((n for n in outputs if n not in both), ""):
        raise InvalidInput(f"--output {lacking}: not both return it; both return {', '.join(both)}")
    return list(outputs) or both


def _expected(question: Case, statement: Statement) -> ExpectedOutputs | Refusal:
    with np.errstate(all="ignore"):
        (found,) = trajectory(Promise.of(ExactCase(question), statement))
    return found


class _Draw(NamedTuple):
    """One output of one question: the second's right value and its bound, and what both may differ by."""

    question: Case
    value: Array
    bound: Array
    allowed: Array


class _Fit:
    """What is known of one output after some draws."""

    def __init__(self, name: str) -> None:
        self.name, self.draws = name, list[_Draw]()
        self.allowed, self.lost, self.apart = [0.0, 0.0], [0.0, 0.0], 0.0

    def add(self, question: Case, expected: list[ExpectedOutputs], answers: list[Mapping[str, Array]]) -> None:
        """Take what is expected of both, and what both answered."""
        values = [np.asarray(those[self.name].value, np.float64) for those in expected]
        bounds = [np.asarray(those[self.name].bound, np.float64) for those in expected]
        for side, answer in enumerate(answers):
            error = np.abs(answer[self.name].astype(np.float64) - values[side])
            self.allowed[side] = max(self.allowed[side], float(bounds[side].max(initial=0.0)))
            self.lost[side] = max(self.lost[side], float(error.max(initial=0.0)))
        allowed, apart = bounds[0] + bounds[1], np.abs(values[0] - values[1])
        self.apart = max(self.apart, float(np.where(apart > allowed, apart, 0.0).max(initial=0.0)))
        self.draws.append(_Draw(question, values[1], bounds[1], allowed))

    def tolerance(self, statement: Statement) -> Tolerance:
        """Return the pair that fits all draws, and what may be said of it; statement: of the second."""
        first, second = (-1.0 if math.isinf(allowed) else allowed for allowed in self.allowed)
        said = Tolerance(self.name, (first, second), (self.lost[0], self.lost[1]))
        if self.apart:
            return _without(said, f"the two mean different things: right answers are up to {self.apart:.3g} apart")
        if math.inf in self.allowed:
            return _without(said, "nothing is promised: no finite bound holds for what the two may differ by")
        rtol, atol = self._pair()
        misses, unseen = self._missed(statement, rtol, atol)
        said = msgspec.structs.replace(
            said, rtol=rtol, atol=atol, slack=self._slack(rtol, atol), misses=misses, unseen=unseen
        )
        return _judged(said)

    def _pair(self) -> tuple[float, float]:
        """Return the pair that fits, of the numbers that people write, and allows a typical element least."""
        typical = float(np.median(np.abs(self.draws[0].value)))
        pairs = [(rtol, _rounded_up(max(self._atol(draw, rtol) for draw in self.draws))) for rtol in _RTOLS]
        return min(pairs, key=lambda pair: pair[1] + pair[0] * typical)

    @staticmethod
    def _atol(draw: _Draw, rtol: float) -> float:
        """Return the least atol beside this rtol; what is compared with may itself be off by its bound."""
        least = np.maximum(np.abs(draw.value) - draw.bound, 0.0)
        return float((draw.allowed - rtol * least).max(initial=0.0))

    def _slack(self, rtol: float, atol: float) -> float:
        times = [
            (atol + rtol * np.abs(draw.value)) / np.maximum(draw.allowed, np.finfo(np.float64).tiny)
            for draw in self.draws
        ]
        return float(np.median([np.median(of) for of in times]))

    def _missed(self, statement: Statement, rtol: float, atol: float) -> tuple[list[str], list[str]]:
        """Return the faults that the pair lets pass in every draw: those that bounds see, and those that none sees."""
        caught, seen, found = set[str](), set[str](), dict[str, None]()
        for draw in self.draws[:_ASKED]:
            for said, wrong in faults(GivenStep(draw.question, statement, {}), self.name, draw.value):
                found[said] = None
                if not np.allclose(wrong, draw.value, rtol, atol):
                    caught.add(said)
                if not (np.abs(wrong - draw.value) <= draw.bound).all():
                    seen.add(said)
        passed = [said for said in found if said not in caught]
        return [said for said in passed if said in seen], [said for said in passed if said not in seen]


def _without(said: Tolerance, why: str) -> Tolerance:
    return msgspec.structs.replace(said, rtol=None, atol=None, why=why)


def _judged(said: Tolerance) -> Tolerance:
    """Return the same without a pair where that pair would be no test."""
    pair = f"the least pair that fits, rtol {said.rtol:g} and atol {said.atol:g},"
    if _ZERO in (*said.misses, *said.unseen):
        return _without(said, f"{pair} takes an answer of zeros")
    if said.slack > _LOOSE:
        return _without(said, f"{pair} allows a typical element {said.slack:.0f} times what its bounds do")
    return said


def _rounded_up(value: float) -> float:
    """Return the next number of two digits.

    >>> _rounded_up(1.234e-5), _rounded_up(0.0)
    (1.3e-05, 0.0)
    """
    if not value:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.1e}")


def faults(given: GivenStep, name: str, value: Array) -> Iterator[tuple[str, Array]]:
    """Yield what one output would be with each fault that moves it by a rounding or more, in words after "as if"."""
    yield _ZERO, np.zeros_like(value)
    yield "its last row had not been written", np.concatenate([value[:-1], np.zeros_like(value[-1:])])
    for said, change in of_question(given):
        try:
            wrong = _expected(change().case, change().statement)
        except Exception:  # noqa: BLE001, S112 - what cannot be asked is no fault of this question
            continue
        if not isinstance(wrong, Refusal) and name in wrong and wrong[name].value.shape == value.shape:
            other = np.asarray(wrong[name].value, np.float64)
            least = float(finfo(wrong[name].dtype).eps) * np.abs(value)
            if (np.abs(other - value) > least).any():
                yield said, other


def _alarms(
    setting: Setting, sides: tuple[PairMember, PairMember], found: list[Tolerance], fresh: range
) -> list[Tolerance]:
    """Return the same with the number of fresh cases in which the pair would have raised an alarm."""
    if not fresh:
        return found
    alarms = dict.fromkeys((one.output for one in found), 0)
    for seed in fresh:
        question = case(setting, seed)
        first, second = (side.answer(question) for side in sides)
        for one in found:
            if one.rtol is not None and one.atol is not None:
                a, b = (answer[one.output].astype(np.float64) for answer in (first, second))
                alarms[one.output] += not np.allclose(a, b, one.rtol, one.atol)
    return [msgspec.structs.replace(o, alarms=None if o.rtol is None else alarms[o.output]) for o in found]
