"""The pair of rtol and atol that fits what was drawn, and what it would let pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from conformance.judging.causes.mistaken import Mistaken
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import ExpectedOutputs, trajectory
from conformance.judging.expected import Expected
from conformance.judging.promise import Promise
from conformance.model.case import Case
from conformance.model.numerics import finfo
from conformance.model.statement import Statement
from reference import Refusal
from reference.spec import Array

_RTOLS = (0.0, *(digit * 10.0**exponent for exponent in range(-8, 1) for digit in (1, 2, 5)))
_LOOSE = 100.0
"""A pair that allows a typical element so many times its own bound is no test of it."""
ASKED = 4
"""Draws that mistakes are made in: each costs as much as judging it, for some of them."""
_ZERO = "it is 0 everywhere"


class Tolerance(msgspec.Struct, frozen=True):
    """What may be said of one output.

    allowed, lost: the largest bound, and the largest error seen, of each of the two; -1 where a bound is infinite.
    rtol, atol: the pair for `allclose(first, second, rtol, atol)`; None where none fits, or none is right.
    why: why no pair is right; empty where one is.
    slack: how many times what its bounds do the pair allows a typical element.
    misses: mistakes that the pair lets pass although bounds see them, in words.
    unseen: mistakes that bounds do not see either.
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


def expected(question: Case, statement: Statement) -> ExpectedOutputs | Refusal:
    """Return what a statement promises as the answer to a question of one step, or the refusal that is due."""
    with np.errstate(all="ignore"):
        (found,) = trajectory(Promise.of(ExactCase(question), statement))
    return found


class _Draw(NamedTuple):
    """One output of one question: the second's right value and its bound, what both may differ by, and mistakes."""

    value: Array
    bound: Array
    allowed: Array
    wrong: list[tuple[str, Array]]


class PairFit:
    """What is known of one output after some draws."""

    def __init__(self, name: str) -> None:
        self.name, self.draws = name, list[_Draw]()
        self.allowed, self.lost, self.apart = [0.0, 0.0], [0.0, 0.0], 0.0

    def add(
        self, expected: list[ExpectedOutputs], answers: list[Mapping[str, Array]], mistakes: Iterable[Mistaken] = ()
    ) -> None:
        """Take what is expected of both, what both answered, and what mistakes of the second would give."""
        values = [np.asarray(those[self.name].value, np.float64) for those in expected]
        bounds = [np.asarray(those[self.name].bound, np.float64) for those in expected]
        for side, answer in enumerate(answers):
            error = np.abs(answer[self.name].astype(np.float64) - values[side])
            self.allowed[side] = max(self.allowed[side], float(bounds[side].max(initial=0.0)))
            self.lost[side] = max(self.lost[side], float(error.max(initial=0.0)))
        allowed, apart = bounds[0] + bounds[1], np.abs(values[0] - values[1])
        self.apart = max(self.apart, float(np.where(apart > allowed, apart, 0.0).max(initial=0.0)))
        wrong = list(faults(mistakes, self.name, expected[1][self.name]))
        self.draws.append(_Draw(values[1], bounds[1], allowed, wrong))

    def tolerance(self) -> Tolerance:
        """Return the pair that fits all draws, and what may be said of it."""
        first, second = (-1.0 if math.isinf(allowed) else allowed for allowed in self.allowed)
        said = Tolerance(self.name, (first, second), (self.lost[0], self.lost[1]))
        if self.apart:
            return _without(said, f"the two mean different things: right answers are up to {self.apart:.3g} apart")
        if math.inf in self.allowed:
            return _without(said, "nothing is promised: no finite bound holds for what the two may differ by")
        rtol, atol = self._pair()
        misses, unseen = self._missed(rtol, atol)
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

    def _missed(self, rtol: float, atol: float) -> tuple[list[str], list[str]]:
        """Return the mistakes that the pair lets pass in every draw: those that bounds see, and the rest."""
        caught, seen, found = set[str](), set[str](), dict[str, None]()
        for draw in self.draws[:ASKED]:
            for said, wrong in draw.wrong:
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


def faults(mistakes: Iterable[Mistaken], name: str, right: Expected) -> Iterator[tuple[str, Array]]:
    """Yield each mistake that moves an output by a rounding or more, in words, and what the output would be."""
    value = np.asarray(right.value, np.float64)
    yield _ZERO, np.zeros_like(value)
    yield "its last row is not written", np.concatenate([value[:-1], np.zeros_like(value[-1:])])
    for said, outputs in mistakes:
        if name in outputs and outputs[name].size == value.size:
            other = np.asarray(outputs[name], np.float64).reshape(value.shape)
            if not (np.abs(other - value) <= float(finfo(right.dtype).eps) * np.abs(value)).all():
                yield said, other
