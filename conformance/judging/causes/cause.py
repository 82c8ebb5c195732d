"""What makes a step's answer wrong: a change that explains it, nearest first; or else the stage that is wrong.

A change explains an answer if every wrong output conforms under it, and the others still do. Several answers of one
implementation tell more than one: what explains them all is no coincidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from conformance.judging.causes import changes, factors, solving
from conformance.judging.causes.changes import Supposition
from conformance.judging.causes.failed_step import FailedStep, number
from conformance.judging.causes.stages import Stages, fits, modelled
from conformance.judging.causes.suspects import AFFINE, DBETA, DGAMMA, DX, MEAN, UPDATE, VARIANCE, Suspect, plausible
from conformance.model.case import numpy_dtype
from conformance.model.numerics import finfo
from conformance.model.outputs import BY_NAME
from reference.precision import widened

MOST = 1 << 24
"""Bytes of a case up to which causes are looked for: each costs as much as judging it."""
SLIGHT = 30.0
"""ρ up to which another way of computing is likelier than a mistake."""
_SOME = 8
"""Elements that are not numbers of half precision by chance."""


_OTHERS = (UPDATE, AFFINE, DX)
"""Stages of which not every other promise is a suspect; the others are wrong by a number in each channel."""


class Cause(msgspec.Struct, frozen=True):
    """What is wrong.

    stage: the first stage whose value is wrong; empty where none explains the answer.
    says: the change that explains it, in words; empty where only the stage is known.
    """

    stage: str
    says: str = ""

    @property
    def words(self) -> str:
        """The cause in words.

        >>> Cause("update", "momentum is inverted").words, Cause("mean").words
        ('momentum is inverted (stage: update)', 'the first stage that is wrong: mean')
        """
        if not self.says:
            return f"the first stage that is wrong: {self.stage}" if self.stage else ""
        return f"{self.says} (stage: {self.stage})" if self.stage else self.says


def causes(step: FailedStep) -> list[Cause]:
    """Return every cause that explains all that is wrong in a step, the likeliest first."""
    if step.exact_case.case.nbytes > MOST or not step.wrong:
        return []
    with np.errstate(all="ignore"):
        return list(dict.fromkeys(_explaining(step)))


def in_words(step: FailedStep) -> list[str]:
    """Return every change that explains a step, in words; where none explains all of it, what explains each output."""
    found = [cause.says for cause in causes(step) if cause.says]
    if not found and len(step.wrong) > 1:  # what has another shape, or cannot be looked at stage by stage
        each = {name: [cause.says for cause in causes(step.alone(name)) if cause.says][:1] for name in step.wrong}
        found = [f"{says} (of {name})" for name, those in each.items() for says in those]
    return list(dict.fromkeys(found))


def likeliest(step: FailedStep) -> Cause:
    """Return the likeliest cause of a step that fails; one without words where a case is too large to look at."""
    return next(iter(causes(step)), Cause(""))


def shared(found: Sequence[Sequence[Cause]]) -> Cause | None:
    """Return the cause that explains the most of several steps, of their causes; None where nothing is known.

    A change must explain more than half of them; if none does, the stage that most agree on is all that is told.
    """
    every = list(dict.fromkeys(cause for one in found for cause in one if cause.says))
    best = max(every, key=lambda c: sum(c in one for one in found), default=None)
    if best and 2 * sum(best in one for one in found) > len(found):
        return best
    stages = [cause.stage for one in found for cause in one if not cause.says and cause.stage]
    return Cause(max(dict.fromkeys(stages), key=stages.count)) if stages else None


def _explaining(step: FailedStep) -> Iterator[Cause]:
    if plain := list(_plain(step)):
        yield from plain
        return
    slight = max(map(number, step.wrong.values())) <= SLIGHT
    solved, named = _of_stages(step) if modelled(step) else (None, [])
    if slight or not named:
        numerics = changes.of_numerics(step, arithmetic=solved is None)
        named = [*_of_changes(step, numerics)[:1], *named]
    if not named and (solved is None or solved.stage in _OTHERS):
        named += _of_changes(step, changes.of_what_was_asked(step))
        named += _of_changes(step, changes.of_semantics(step))
    yield from named
    yield Cause(solved.stage) if solved else Cause(earliest(step.wrong))


def _of_stages(step: FailedStep) -> tuple[solving.Solved | None, list[Cause]]:
    """Return the stage that is wrong, and the mistakes that explain the step, or else its wrong outputs alone."""
    right = Stages(step)
    if fits(step, right, {}):  # so slightly wrong that whatever changes nothing would explain it
        return None, []
    solved = solving.stage(step, right)
    found = [s for s in plausible(step) if fits(step, right, s.at)]
    if solved and not found:
        found = [s for s in factors.named(step, right, solved) if fits(step, right, s.at, solving.LEEWAY)]
    if found:
        return solved, [Cause(s.stage, s.says) for s in found]
    few, only = step.narrowed(), f" (in {', '.join(step.wrong)} alone)"
    found = [s for s in plausible(few) if fits(few, right, s.at)] if few.got.keys() < step.got.keys() else []
    named = [Cause(s.stage, s.says + only) for s in found]
    return solved, named or ([] if solved else _several(step, right))


def _several(step: FailedStep, right: Stages) -> list[Cause]:
    """Return mistakes of which each explains some of the wrong outputs, if there is one for every output."""
    parts = list[tuple[dict[str, Suspect], list[str]]]()
    for name in step.wrong:
        one = step.alone(name).narrowed()
        found = {s.says: s for s in plausible(one) if fits(one, right, s.at)}
        if not found:
            return []
        alike = next((part for part in parts if part[0].keys() & found.keys()), None)
        if alike is None:
            parts.append((found, [name]))
        else:
            shared_by = {says: s for says, s in alike[0].items() if says in found}
            parts[parts.index(alike)] = shared_by, [*alike[1], name]
    first = [(next(iter(found.values())), ", ".join(names)) for found, names in parts]
    return [Cause(first[0][0].stage, "; ".join(f"{suspect.says} (in {names})" for suspect, names in first))]


def _of_changes(step: FailedStep, found: Iterator[Supposition]) -> list[Cause]:
    return [Cause(change.stage, change.says) for change in found if changes.explains(step, change)]


def earliest(wrong: Mapping[str, object]) -> str:
    """Return the stage of the first output that is wrong, in the order in which they are computed.

    >>> earliest({"dx": 2.0, "variance": 3.0}), earliest({"moving_mean": 2.0})
    ('variance', 'update')
    """
    order = {"mean": MEAN, "variance": VARIANCE, "inverse_deviation": VARIANCE, "y": AFFINE}
    order |= {"dbeta": DBETA, "dgamma": DGAMMA, "dx": DX}
    moving = {"moving_mean", "moving_variance"} & set(wrong)
    if moving and not {"mean", "variance"} & set(wrong):
        return (MEAN if "moving_mean" in moving else VARIANCE) if "y" in wrong else UPDATE
    found = next((stage for name, stage in order.items() if name in wrong), "")
    return found or next((name for name in wrong if name in BY_NAME), "")


def _plain(step: FailedStep) -> Iterator[Cause]:
    """Yield what is seen without computing anything."""
    for name in step.wrong:
        array = step.answered.get(name)
        if array is None or not array.size or len(step.wrong) > 1:
            continue
        wide = widened(array, np.float64)
        if not wide.any():
            yield Cause(earliest({name: 0}), f"{name} is not computed: it is 0 everywhere")
        elif np.isnan(wide).all():
            yield Cause(earliest({name: 0}), f"{name} is not computed: it is NaN everywhere")
        elif array.dtype.itemsize > 2 and array.size >= _SOME and (short := _rounded_to(step, name)):
            yield Cause(earliest({name: 0}), f"{name} is rounded to {short}: every element is one of its numbers")


def _rounded_to(step: FailedStep, name: str) -> str:
    """Return the half precision that the right values were rounded to; empty where they were not."""
    if name not in step.got:
        return ""
    array, right = step.answered[name], step.right[name]
    for short in ("bfloat16", "float16"):
        with np.errstate(over="ignore"):
            its = (array.astype(numpy_dtype(short)).astype(array.dtype) == array).all()
        near = np.abs(step.got[name] - right) <= float(finfo(short).eps) * np.abs(right) + step.bounds[name]
        if its and near.all():
            return short
    return ""
