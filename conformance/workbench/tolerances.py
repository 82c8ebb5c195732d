"""Which rtol and atol a test with `allclose` may use for two implementations, what each loses, what the pair misses.

Of two correct answers a and b to one question, |a - b| is at most the sum of their bounds. `numpy.allclose` asks
|a - b| <= atol + rtol · |b|, with one pair for all elements, so that a pair fits where it is at least that sum in each.
Of the pairs that fit, the one that allows a typical element least is taken; what it would let pass is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from conformance.judging.causes import mistaken
from conformance.judging.expectation import ExpectedOutputs
from conformance.model.case import Case, numpy_dtype
from conformance.model.case_facts import every_step
from conformance.model.errors import InvalidInput
from conformance.model.outcome import Outputs, Reply
from conformance.model.outputs import NAMES
from conformance.model.statement import Statement
from conformance.workbench.given import asked
from conformance.workbench.pairs import ASKED, PairFit, Tolerance, expected
from conformance.workbench.words import Words
from reference import Refusal
from reference.spec import Array


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
        found = expected(case, self.statement)
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
    fits: dict[str, PairFit] = {}
    for seed in draws:
        question = case(setting, seed)
        right = [side.expected(question) for side in sides]
        answers = [side.answer(question) for side in sides]
        mistakes = mistaken.answers(question, sides[1].statement) if seed in draws[:ASKED] else []
        for name in _common(right, answers, outputs):
            fits.setdefault(name, PairFit(name)).add(right, answers, mistakes)
    return _alarms(setting, sides, [fit.tolerance() for fit in fits.values()], fresh)


def _common(expected: list[ExpectedOutputs], answers: list[Mapping[str, Array]], outputs: tuple[str, ...]) -> list[str]:
    both = [n for n in NAMES if all(n in those for those in (*expected, *answers))]
    if lacking := next((n for n in outputs if n not in both), ""):
        raise InvalidInput(f"--output {lacking}: not both return it; both return {', '.join(both)}")
    return list(outputs) or both


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
