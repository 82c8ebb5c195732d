"""What the answer to a question of one step would be with each mistake in it: a suspect's, or another promise's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from conformance.judging import expectation
from conformance.judging.causes import changes, suspects
from conformance.judging.causes.failed_step import FailedStep
from conformance.judging.causes.stages import Stages, modelled
from conformance.judging.exact_case import ExactCase
from conformance.judging.promise import Promise
from conformance.model.case import Case
from conformance.model.outcome import Reply
from conformance.model.statement import Statement
from reference import Refusal
from reference.spec import Array


class Mistaken(NamedTuple):
    """A mistake in words, and what comes of it, by output; arrays are at the reference's precision or better."""

    says: str
    outputs: Mapping[str, Array]


class _EveryChannel(FailedStep):
    """A step that is not wrong yet; what is put into it is put into every channel."""

    @property
    def channels(self) -> Array:  # pyright: ignore[reportIncompatibleVariableOverride] - of a step without an answer
        """All channels."""
        return np.ones([1 if axis in self.axes else size for axis, size in enumerate(self.x.shape)], bool)


def answers(question: Case, statement: Statement) -> list[Mistaken]:
    """Return what would be answered to a question of one step with each mistake; some change nothing."""
    step = _EveryChannel(ExactCase(question), statement, Reply(0, statement.id, ()), 0, {})
    with np.errstate(all="ignore"):
        found = [Mistaken(one.says, _outputs(Stages(step, one.at))) for one in suspects.EVERY if modelled(step)]
        return [*found, *_changed(step)]


def _outputs(stages: Stages) -> dict[str, Array]:
    """Return what the step returns, what some return beside it included."""
    return stages.outputs | ({"inverse_deviation": stages.now.r} if stages.step.training else {})


def _changed(step: FailedStep) -> Iterator[Mistaken]:
    for change in (changes.of_the_mode(step), *changes.of_what_was_asked(step), *changes.of_semantics(step)):
        try:
            case, statement = change.make()
            (right,) = expectation.trajectory(Promise.of(ExactCase(case), statement))
        except Exception:  # noqa: BLE001, S112 - what cannot be asked is no mistake in this question
            continue
        if not isinstance(right, Refusal):
            yield Mistaken(change.says, {name: np.asarray(one.value) for name, one in right.items()})
