"""What happened in one case, output by output: the worst element, its conditioning, the cause, who agrees with whom."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from conformance.judging import expectation
from conformance.judging.bounds.batch import BatchStatistics
from conformance.judging.causes import cause
from conformance.judging.causes.failed_step import FailedStep, wrong_of
from conformance.judging.causes.shape import picture
from conformance.judging.causes.where import described
from conformance.judging.exact_case import ExactCase
from conformance.judging.promise import Promise
from conformance.model.outcome import Outputs
from conformance.model.outputs import LIKE_INPUT, NAMES
from conformance.model.results import Deviation, Result, Rho
from conformance.model.statement import recorded
from conformance.runs import summary
from conformance.runs.recording import RecordedAnswer, Recording
from reference.precision import widened
from reference.spec import Array, kept_axes


class Place(msgspec.Struct, frozen=True):
    """One output of one step: how far each implementation is off, and the camps that their answers form.

    camps: groups of implementations whose arrays agree, within what both may be off. The reference leads its own camp.
    alone: whether all who answered, several frameworks, agree with one another, and none with the reference.
    """

    step: int
    mode: str
    output: str
    deviations: list[Off]
    camps: list[list[str]]
    alone: bool = False


class Off(msgspec.Struct, frozen=True):
    """How far one implementation is off: ρ, and its worst element with the channel's n, mean and deviation.

    not_finite: how many answers are not finite where the exact values are, in words; empty where none is.
    cause: what explains all that is wrong in the first step that fails, in words; said once, of its first output.
    place: which elements are wrong, in words; picture: the same, a line for each channel or several.
    """

    implementation: str
    verdict: str
    rho: Rho
    worst: Deviation | None
    channel: Channel | None
    reason: str = ""
    not_finite: str = ""
    cause: str = ""
    place: str = ""
    picture: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """As `Result.failed`."""
        return self.verdict in ("FAIL", "ERROR")


class Channel(msgspec.Struct, frozen=True):
    """What an element's channel is like in this step. conditioning: |mean| / standard deviation, null if constant."""

    n: int
    mean: float
    deviation: float
    conditioning: float | None


def explain(recording: Recording) -> list[Place]:
    """Return every output of every step that was judged, those with failures first."""
    exact_case, by_place = ExactCase(recording.case), _by_place(recording)
    steps = {answer.record.id: _failed_step(exact_case, answer) for answer in recording.answers}
    places = [
        _place(exact_case, step, output, found, steps)
        for (step, output), found in sorted(by_place.items(), key=lambda place: (place[0][0], _order(place[0][1])))
        if step >= 0
    ]
    return sorted(places, key=lambda place: not any(off.failed for off in place.deviations))


def camps(recording: Recording) -> Iterator[tuple[int, str, list[list[str]]]]:
    """Yield step, output and camps wherever an array fails, without looking for causes."""
    exact_case = ExactCase(recording.case)
    for (step, output), found in _by_place(recording).items():
        if step >= 0 and output in NAMES and any(result.verdict == "FAIL" for _, result in found):
            yield step, output, _camps(exact_case, step, output, found)


def _by_place(recording: Recording) -> dict[tuple[int, str], list[tuple[RecordedAnswer, Result]]]:
    by_place: dict[tuple[int, str], list[tuple[RecordedAnswer, Result]]] = {}
    for answer in recording.answers:
        for result in answer.results:
            by_place.setdefault((result.step, result.output), []).append((answer, result))
    return by_place


def _order(output: str) -> int:
    return NAMES.index(output) if output in NAMES else len(NAMES)


def _failed_step(exact_case: ExactCase, answer: RecordedAnswer) -> FailedStep | None:
    """Return the first step of an answer in which some array is wrong; None where there is none, or it was not kept."""
    failing = [r.step for r in answer.results if r.failed and r.step >= 0 and r.output in NAMES]
    if answer.reply is None or not failing or min(failing) >= len(answer.reply.outcomes):
        return None
    t = min(failing)
    wrong = wrong_of(r for r in answer.results if r.step == t)
    step = FailedStep(exact_case, recorded(answer.record), answer.reply, t, wrong)
    return step if wrong.keys() & step.got.keys() else None


def _place(
    exact_case: ExactCase,
    step: int,
    output: str,
    found: list[tuple[RecordedAnswer, Result]],
    steps: dict[str, FailedStep | None],
) -> Place:
    offs = [
        Off(
            result.implementation,
            result.verdict,
            None if result.rho is msgspec.UNSET else result.rho,
            result.deviation,
            _channel(exact_case, step, output, result.deviation),
            result.reason,
            summary.not_finite(result),
            *_looked_at(steps[answer.record.id], step, output),
        )
        for answer, result in found
    ]
    offs.sort(key=lambda off: (not off.failed, -summary.as_number(off.rho), off.implementation))
    camps = _camps(exact_case, step, output, found)
    return Place(step, found[0][1].mode, output, offs, camps, alone=_alone(camps))


def _looked_at(failed: FailedStep | None, t: int, output: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the cause, which elements are wrong, and their picture; nothing where an output is not wrong."""
    if failed is None or failed.t != t or output not in failed.wrong or output not in failed.got:
        return "", "", ()
    first = min((name for name in failed.wrong if name in failed.got), key=_order)
    wrong = failed.wrong_elements(output)
    kept = kept_axes(failed.spec, wrong.ndim) if output in LIKE_INPUT else tuple(range(wrong.ndim))
    drawn = () if wrong.all() or not wrong.any() else tuple(picture(wrong, kept))
    place = described(wrong, kept) if wrong.any() else ""
    return cause.likeliest(failed).words if output == first else "", place, drawn


def _alone(camps: list[list[str]]) -> bool:
    """Return whether the reference has nobody beside it, and all others are of one camp, with two frameworks in it."""
    return len(camps) == 2 and len(camps[0]) == 1 and len({name.split(".")[0] for name in camps[1]}) > 1


def _channel(exact_case: ExactCase, step: int, output: str, worst: Deviation | None) -> Channel | None:
    """Return the channel of the worst element; None if there is no such element."""
    if worst is None:
        return None
    batch = exact_case.whole(step)
    index = tuple(worst.index) if output in LIKE_INPUT else _aligned(batch, worst.index)
    here = tuple(0 if size == 1 else i for i, size in zip(index, batch.mean.shape, strict=True))
    mean, deviation = float(batch.mean[here]), float(np.sqrt(max(float(batch.variance[here]), 0.0)))
    return Channel(batch.count, mean, deviation, abs(mean) / deviation if deviation else None)


def _aligned(batch: BatchStatistics, index: list[int]) -> tuple[int, ...]:
    """Return the index of a kept statistic as one of the batch."""
    kept = [axis for axis in range(len(batch.shape)) if axis not in batch.axes]
    aligned = [0] * len(batch.shape)
    for axis, i in zip(kept, index, strict=False):
        aligned[axis] = i
    return tuple(aligned)


def _camps(
    exact_case: ExactCase, step: int, output: str, found: list[tuple[RecordedAnswer, Result]]
) -> list[list[str]]:
    """Group the answers into camps: each joins the first camp whose first array it agrees with."""
    right = [result.implementation for _, result in found if result.verdict == "PASS"]
    camps: list[tuple[Array | None, list[str]]] = [(None, ["the reference", *right])]
    for answer, result in found:
        if result.verdict != "FAIL":
            continue
        array = _array(answer, step, output)
        bound = _allowed(exact_case, answer, step, output)
        home = next((c for c in camps[1:] if _agree(c[0], array, bound)), None)
        if home:
            home[1].append(result.implementation)
        else:
            camps.append((array, [result.implementation]))
    return [names for _, names in camps]


def _array(answer: RecordedAnswer, step: int, output: str) -> Array | None:
    """Return the array that was answered; None if there was none, or it was not kept."""
    outcome = answer.reply.outcomes[step] if answer.reply and step < len(answer.reply.outcomes) else None
    found = outcome.tensors.get(output) if isinstance(outcome, Outputs) else None
    return None if found is None else widened(found, np.float64)


def _allowed(exact_case: ExactCase, answer: RecordedAnswer, step: int, output: str) -> Array | None:
    """Return the error that was allowed, per element."""
    promise = Promise.of(exact_case, recorded(answer.record))
    with np.errstate(all="ignore"):
        expected = expectation.trajectory(promise, answer.reply.refused if answer.reply else frozenset())[step]
    return None if not isinstance(expected, dict) or output not in expected else expected[output].bound


def _agree(one: Array | None, other: Array | None, bound: Array | None) -> bool:
    """Return whether two arrays could be the same result, each off by what is allowed; two missing ones agree."""
    if one is None or other is None or one.shape != other.shape:
        return one is None and other is None
    both_nan = np.isnan(one) & np.isnan(other)
    allowed = np.asarray(0.0 if bound is None else 2 * bound, np.float64)
    with np.errstate(invalid="ignore"):
        return bool((both_nan | (one == other) | (np.abs(one - other) <= allowed)).all())
