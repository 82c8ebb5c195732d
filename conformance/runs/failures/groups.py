"""Failures of a run, put together: those of one implementation with one cause are told once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from conformance.judging.causes import cause
from conformance.judging.causes.cause import Cause
from conformance.judging.causes.failed_step import FailedStep, number, wrong_of
from conformance.judging.causes.shape import shape
from conformance.judging.exact_case import ExactCase
from conformance.model.outputs import LIKE_INPUT, NAMES
from conformance.model.results import ImplementationRecord, Result, Rho
from conformance.model.statement import recorded
from conformance.runs.failures.conditions import Table
from conformance.runs.failures.evidence import Evidence
from conformance.runs.failures.learning import Where, where
from reference.spec import kept_axes

WITNESSES = 5
"""Answers of a group that are looked at closely."""
PATTERNS = 12
"""Patterns of wrong outputs of one implementation that are held to the cause of the first."""


class FailureGroup(msgspec.Struct, frozen=True):
    """Failures of one implementation with one cause.

    outputs: those that are wrong first, in each case.
    cause: what explains them; None where no array can be looked at.
    explains, tried: how many of the answers looked at it explains.
    place: where in its arrays the wrong elements are; empty where they are all over.
    results, cases: how many results fail, in how many cases.
    witness: the failure to look at first.
    reason: what is wrong besides values, such as a refusal.
    """

    implementation: str
    outputs: tuple[str, ...]
    cause: Cause | None
    explains: int
    tried: int
    where: Where | None
    place: str
    results: int
    cases: int
    witness: Result
    reason: str = ""

    @property
    def says(self) -> str:
        """The group in a line: who, what, why, where."""
        told = [self.why, self.where.sentence if self.where else "", self.place and f"in {self.place}"]
        counted = f"{self.results:,} failures in {self.cases:,} cases"
        return f"{self.implementation} {', '.join(self.outputs)}: {'; '.join(filter(None, [*told, counted]))}"

    @property
    def why(self) -> str:
        """The cause in words; what was refused or missing, where there is no array."""
        return (self.cause.words if self.cause else "") or self.reason


class _Failing(msgspec.Struct, frozen=True):
    """The first step of a case that fails, its failures, and all steps of the case that fail by themselves."""

    case: str
    step: int
    results: tuple[Result, ...]
    steps: tuple[int, ...]

    @property
    def pattern(self) -> tuple[str, tuple[str, ...]]:
        """The mode, and the outputs that are wrong."""
        return self.results[0].mode, tuple(sorted({r.output for r in self.results}))

    @property
    def wrong(self) -> dict[str, Rho]:
        """The ρ of each wrong array."""
        return wrong_of(self.results)


class _Part(msgspec.Struct):
    """Failures with one cause, as far as is known: those, what was looked at, the cause."""

    mine: list[_Failing]
    looked: list[tuple[FailedStep, list[Cause]]]
    why: Cause | None

    def alike(self, other: _Part) -> bool:
        """Return whether another part has the same cause, or its stage where one of the two has no more."""
        if self.why is None or other.why is None:
            return False
        return self.why == other.why or (self.why.stage == other.why.stage and "" in (self.why.says, other.why.says))


def groups(
    results: Sequence[Result], record: ImplementationRecord, evidence: Evidence, table: Table
) -> list[FailureGroup]:
    """Return the groups of one implementation's failures, the largest first; results: all of its results."""
    units = _units(results)
    left, parts = _failing(results, units), list[_Part]()
    while left:
        part = _alike(left, record, evidence)
        left = [one for one in left if one not in part.mine]
        same = next((other for other in parts if other.alike(part)), None)
        if same is None:
            parts.append(part)
        else:
            same.mine, same.looked = same.mine + part.mine, same.looked + part.looked
            same.why = same.why if same.why and same.why.says else part.why
    fine = [table.rows[place] for place, fails in units.items() if fails is False and place in table.rows]
    every = Counter(r.case for r in results if r.failed)
    found = [_group(record.id, part, fine, table, every) for part in parts]
    return sorted(found, key=lambda group: -group.cases)


def _group(identity: str, part: _Part, fine: list[int], table: Table, every: Counter[str]) -> FailureGroup:
    rows = [table.rows[one.case, t] for one in part.mine for t in one.steps if (one.case, t) in table.rows]
    worst = max((r for one in part.mine for r in one.results), key=lambda r: r.size)
    cases = {one.case for one in part.mine}
    return FailureGroup(
        identity,
        tuple(name for name in (*NAMES, "outcome") if any(name in one.pattern[1] for one in part.mine)),
        part.why,
        explains=sum(part.why in of_step for _, of_step in part.looked),
        tried=len(part.looked),
        where=where(table, fine, rows) if rows else None,
        place=_place([step for step, _ in part.looked]),
        results=sum(every[case] for case in cases),
        cases=len(cases),
        witness=worst,
        reason=worst.reason if part.why is None else "",
    )


def _units(results: Sequence[Result]) -> dict[tuple[str, int], bool | None]:
    """Return whether each step of each case fails by itself; None where what came before may be why it fails."""
    first = dict[str, int]()
    for result in results:
        if result.failed:
            first[result.case] = min(result.step, first.get(result.case, result.step))
    found = dict[tuple[str, int], bool | None]()
    for result in results:
        if result.verdict in ("PASS", "FAIL", "ERROR"):
            place = result.case, result.step
            fails, before = _fails(result, result.step == first.get(result.case)), found.get(place, False)
            found[place] = True if True in (fails, before) else None if None in (fails, before) else False
    return found


def _fails(result: Result, first: bool) -> bool | None:
    """Return whether a result fails by itself: of a later step, from the state that the answer itself had before."""
    if not result.failed:
        return False
    if first or result.rho is msgspec.UNSET:
        return True
    if "step" in result.checks:
        return any(number(rho) > 1 for name, rho in result.checks.items() if name != "trajectory")
    return True if result.mode == "train" and result.output not in _MOVING else None


_MOVING = ("moving_mean", "moving_variance")


def _failing(results: Sequence[Result], units: dict[tuple[str, int], bool | None]) -> list[_Failing]:
    """Return the first step of each case that fails; what comes after it may only follow from it."""
    failed = dict[str, list[Result]]()
    for result in results:
        if result.failed:
            failed.setdefault(result.case, []).append(result)
    found = list[_Failing]()
    for case, those in sorted(failed.items()):
        first = min(r.step for r in those)
        steps = sorted({r.step for r in those if units[case, r.step]})
        found.append(_Failing(case, first, tuple(r for r in those if r.step == first), tuple(steps)))
    return found


def _alike(left: list[_Failing], record: ImplementationRecord, evidence: Evidence) -> _Part:
    """Return failures with one cause.

    Those of the commonest pattern are looked at; the others are of the group where the cause explains one of theirs.
    """
    patterns = Counter(one.pattern for one in left)
    commonest = patterns.most_common(1)[0][0]
    mine = [one for one in left if one.pattern == commonest]
    looked = _looked(mine, record, evidence, WITNESSES)
    why = cause.shared([of_step for _, of_step in looked]) if looked else None
    if why is None:
        reason = mine[0].results[0].reason
        return _Part([one for one in mine if looked or one.results[0].reason == reason], looked, None)
    for pattern, _ in patterns.most_common(PATTERNS + 1)[1:]:
        others = [one for one in left if one.pattern == pattern]
        more = _looked(others, record, evidence, 1)
        if any(_explained(why, of_step) for _, of_step in more):
            mine, looked = [*mine, *others], [*looked, *more]
    return _Part(mine, looked, why)


def _explained(why: Cause, of_step: list[Cause]) -> bool:
    return why in of_step if why.says else any(one.stage == why.stage and not one.says for one in of_step)


def _looked(
    those: list[_Failing], record: ImplementationRecord, evidence: Evidence, most: int
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


def _step(one: _Failing, record: ImplementationRecord, evidence: Evidence) -> FailedStep | None:
    exact_case, reply = evidence.exact_case(one.case), evidence.reply(one.case, record.id)
    if exact_case is None or reply is None or not 0 <= one.step < len(reply.outcomes):
        return None
    step = FailedStep(exact_case, recorded(record), reply, one.step, one.wrong)
    return step if set(one.wrong) & step.got.keys() else None


def _telling(one: _Failing, evidence: Evidence) -> float:
    """Return how much a failure tells: it is wrong by much, in a plain case of many values, well conditioned."""
    exact_case = evidence.exact_case(one.case)
    if exact_case is None or one.step < 0:
        return -1.0
    facts, x = exact_case.facts[one.step], exact_case.case.x(one.step)
    plain = facts.finite and not facts.odd and facts.differentiation in ("none", "reverse") and not facts.renorm
    fine = facts.dtype in ("float32", "float64")
    size = min(max((r.size for r in one.results), default=0.0), 1e6) ** 0.1 / 4
    return 4 * plain + 2 * _easy(exact_case, one.step) + fine + (facts.n == "many") + (32 < x.size < 20_000) + size


def _easy(exact_case: ExactCase, t: int) -> bool:
    """Return whether no channel is nearly constant, or far from 0."""
    if exact_case.case.x(t).size > _EASY:
        return False
    with np.errstate(all="ignore"):
        batch = exact_case.whole(t)
        return bool((np.abs(batch.mean) < 30 * np.sqrt(batch.variance)).all() and (batch.variance > 1e-4).all())


_EASY = 1 << 20


def _place(looked: list[FailedStep]) -> str:
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


def of_run(
    results: Sequence[Result], records: Sequence[ImplementationRecord], evidence: Evidence
) -> Iterator[FailureGroup]:
    """Yield the groups of every implementation that fails, in the order of the run."""
    by = dict[str, list[Result]]()
    for result in results:
        by.setdefault(result.implementation, []).append(result)
    failing = [record for record in records if any(r.failed for r in by.get(record.id, ()))]
    if not failing:
        return
    table = Table(evidence.cases())
    for record in failing:
        yield from groups(by[record.id], record, evidence, table)
