"""Failures of a run, put together: those of one implementation with one cause are told once."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from conformance.judging.causes import cause
from conformance.judging.causes.cause import Cause
from conformance.judging.causes.failed_step import FailedStep
from conformance.model.outputs import NAMES
from conformance.model.results import ImplementationRecord, Result
from conformance.runs.failures.conditions import ConditionTable
from conformance.runs.failures.evidence import Evidence
from conformance.runs.failures.failing import Failing, cases_failing, steps_failing
from conformance.runs.failures.learning import Where, where
from conformance.runs.failures.witnesses import looked_at, place_of


class Effort(NamedTuple):
    """How much is looked at.

    witnesses: answers of a group that are looked at closely.
    patterns: patterns of wrong outputs of one implementation that are held to the cause of the commonest.
    groups: how many groups are told apart; what is left is not told.
    """

    witnesses: int = 5
    patterns: int = 12
    groups: int = 1 << 20


WHOLE, BRIEF = Effort(), Effort(3, 4, 5)


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
        counted = f"{self.results:,} failures in {self.cases:,} cases"
        return f"{self.implementation} {', '.join(self.outputs)}: {'; '.join([*self.lines, counted])}"

    @property
    def lines(self) -> list[str]:
        """Why it fails, where over all results, and where in its arrays, a line each."""
        told = [self.why, self.where.sentence if self.where else "", self.place and f"in {self.place}"]
        return [line for line in told if line]

    @property
    def why(self) -> str:
        """The cause in words; what was refused or missing, where there is no array."""
        return (self.cause.words if self.cause else "") or self.reason


class _Part(msgspec.Struct):
    """Failures with one cause, as far as is known: those, what was looked at, the cause."""

    mine: list[Failing]
    looked: list[tuple[FailedStep, list[Cause]]]
    why: Cause | None

    @property
    def reason(self) -> str:
        """What was said of the first failure, without its numbers; empty where there are arrays to look at."""
        return "" if self.looked else re.sub(r"[\d(),. ]+", " ", self.mine[0].results[0].reason)

    def alike(self, other: _Part) -> bool:
        """Return whether another part has the same cause, or its stage where one of the two has no more.

        Where there are no arrays, what was said is the cause.
        """
        if self.why is None or other.why is None:
            return self.why is other.why is None and self.reason == other.reason != ""
        return self.why == other.why or (self.why.stage == other.why.stage and "" in (self.why.says, other.why.says))


def groups(
    results: Sequence[Result],
    record: ImplementationRecord,
    evidence: Evidence,
    table: ConditionTable,
    effort: Effort = WHOLE,
) -> list[FailureGroup]:
    """Return the groups of one implementation's failures, the largest first; results: all of its results."""
    asked = steps_failing(results)
    left, parts = cases_failing(results, asked), list[_Part]()
    while left and len(parts) < effort.groups:
        part = _alike(left, record, evidence, effort)
        left = [one for one in left if one not in part.mine]
        same = next((other for other in parts if other.alike(part)), None)
        if same is None:
            parts.append(part)
        else:
            same.mine, same.looked = same.mine + part.mine, same.looked + part.looked
            same.why = same.why if same.why and same.why.says else part.why
    fine = [table.rows[place] for place, fails in asked.items() if fails is False and place in table.rows]
    every = Counter(r.case for r in results if r.failed)
    found = [_group(record.id, part, fine, table, every) for part in parts]
    return sorted(found, key=lambda group: -group.cases)


def _group(identity: str, part: _Part, fine: list[int], table: ConditionTable, every: Counter[str]) -> FailureGroup:
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
        place=place_of([step for step, _ in part.looked]),
        results=sum(every[case] for case in cases),
        cases=len(cases),
        witness=worst,
        reason=_one_line(worst.reason) if part.why is None else "",
    )


def _one_line(text: str) -> str:
    """Return a message as one line that is not long."""
    return textwrap.shorten(text, _LONGEST, placeholder=" …") if text else ""


_LONGEST = 240


def _alike(left: list[Failing], record: ImplementationRecord, evidence: Evidence, effort: Effort) -> _Part:
    """Return failures with one cause.

    Those of the commonest pattern are looked at; the others are of the group where the cause explains one of theirs.
    """
    patterns = Counter(one.pattern for one in left)
    commonest = patterns.most_common(1)[0][0]
    mine = [one for one in left if one.pattern == commonest]
    looked = looked_at(mine, record, evidence, effort.witnesses)
    why = cause.shared([of_step for _, of_step in looked]) if looked else None
    if why is None:
        reason = mine[0].results[0].reason
        return _Part([one for one in mine if looked or one.results[0].reason == reason], looked, None)
    for pattern, _ in patterns.most_common(effort.patterns + 1)[1:]:
        others = [one for one in left if one.pattern == pattern]
        more = looked_at(others, record, evidence, 1)
        if any(_explained(why, of_step) for _, of_step in more):
            mine, looked = [*mine, *others], [*looked, *more]
    return _Part(mine, looked, why)


def _explained(why: Cause, of_step: list[Cause]) -> bool:
    return why in of_step if why.says else any(one.stage == why.stage and not one.says for one in of_step)


def of_run(
    results: Sequence[Result], records: Sequence[ImplementationRecord], evidence: Evidence, *, brief: bool = False
) -> Iterator[FailureGroup]:
    """Yield the groups of every implementation that fails, in the order of the run; brief: with less effort."""
    by = _by_implementation(results)
    failing = [record for record in records if any(r.failed for r in by.get(record.id, ()))]
    table = ConditionTable(evidence.cases(), evidence.features) if failing else None
    for record in failing:
        if table is not None:
            yield from groups(by[record.id], record, evidence, table, BRIEF if brief else WHOLE)


def where_of_case(results: Sequence[Result], case: str, evidence: Evidence) -> Iterator[tuple[str, Where]]:
    """Yield, for each implementation that fails a case, where it fails in the same outputs over all results."""
    by, table = _by_implementation(results), None
    for implementation, mine in by.items():
        if not any(r.failed and r.case == case for r in mine):
            continue
        table = table or ConditionTable(evidence.cases(), evidence.features)
        asked = steps_failing(mine)
        every = cases_failing(mine, asked)
        patterns = {one.pattern for one in every if one.case == case}
        failing = [(one.case, t) for one in every if one.pattern in patterns for t in one.steps]
        rows = [table.rows[place] for place in failing if place in table.rows]
        fine = [table.rows[place] for place, fails in asked.items() if fails is False and place in table.rows]
        if rows:
            yield implementation, where(table, fine, rows)


def _by_implementation(results: Sequence[Result]) -> dict[str, list[Result]]:
    by = dict[str, list[Result]]()
    for result in results:
        by.setdefault(result.implementation, []).append(result)
    return by
