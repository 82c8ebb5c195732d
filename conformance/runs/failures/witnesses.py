"""The answers that tell the most of failures, looked at closely: their causes, and the shape of what is wrong."""

from __future__ import annotations

from collections import Counter

import numpy as np

from conformance.judging.causes import cause
from conformance.judging.causes.cause import Cause
from conformance.judging.causes.failed_step import FailedStep
from conformance.judging.causes.shape import shape
from conformance.judging.exact_case import ExactCase
from conformance.model.outputs import LIKE_INPUT, NAMES
from conformance.model.results import ImplementationRecord
from conformance.model.statement import recorded
from conformance.runs.failures.evidence import Evidence
from conformance.runs.failures.failing import Failing
from reference.spec import kept_axes


def looked_at(
    those: list[Failing], record: ImplementationRecord, evidence: Evidence, most: int
) -> list[tuple[FailedStep, list[Cause]]]:
    """Return the most telling of some failures, with what explains each."""
    found = list[tuple[FailedStep, list[Cause]]]()
    for one in sorted(those, key=lambda one: -_telling(one, evidence)):
        step = _step(one, record, evidence)
        if step is not None and step.wrong:
            found.append((step, cause.causes(step)))
        if len(found) == most:
            break
    return found


def _step(one: Failing, record: ImplementationRecord, evidence: Evidence) -> FailedStep | None:
    exact_case, reply = evidence.exact_case(one.case), evidence.reply(one.case, record.id)
    if exact_case is None or reply is None or not 0 <= one.step < len(reply.outcomes):
        return None
    step = FailedStep(exact_case, recorded(record), reply, one.step, one.wrong)
    return step if set(one.wrong) & step.got.keys() else None


def _telling(one: Failing, evidence: Evidence) -> float:
    """Return how much a failure tells: it is wrong by much, in a plain case of many values, well conditioned."""
    exact_case = evidence.exact_case(one.case)
    if exact_case is None or one.step < 0:
        return -1.0
    facts, x = exact_case.facts[one.step], exact_case.case.x(one.step)
    plain = facts.finite and not facts.odd and facts.differentiation in ("none", "reverse") and not facts.renorm
    fine = facts.dtype in ("float32", "float64")
    size = min(max((r.size for r in one.results), default=0.0), 1e6) ** 0.1 / 4
    return (
        4 * bool(plain) + 2 * _easy(exact_case, one.step) + fine + (facts.n == "many") + (32 < x.size < 20_000) + size
    )


def _easy(exact_case: ExactCase, t: int) -> bool:
    """Return whether no channel is nearly constant, or far from 0."""
    if exact_case.case.x(t).size > _EASY:
        return False
    with np.errstate(all="ignore"):
        batch = exact_case.whole(t)
        return bool((np.abs(batch.mean) < 30 * np.sqrt(batch.variance)).all() and (batch.variance > 1e-4).all())


_EASY = 1 << 20


def place_of(looked: list[FailedStep]) -> str:
    """Return the shape that what is wrong in the first wrong output mostly has; empty where it is once all over."""
    shapes = [found for found in map(_shape, looked) if found is not None]
    common = Counter(shapes).most_common(1)
    return common[0][0] if common and "" not in shapes and common[0][1] * 2 > len(shapes) else ""


def _shape(step: FailedStep) -> str | None:
    name = next((name for name in NAMES if name in step.wrong and name in step.got), "")
    if not name:
        return None
    wrong = step.wrong_elements(name)
    kept = kept_axes(step.spec, wrong.ndim) if name in LIKE_INPUT else tuple(range(wrong.ndim))
    return shape(wrong, kept)
