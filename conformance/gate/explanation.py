"""Which failures of a run are explained: the same answers are judged again, as known divergences predict them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import msgspec

from conformance.gate import predicted
from conformance.gate.divergences import Divergence
from conformance.gate.other_versions import Witnesses, elsewhere
from conformance.gate.predicted.asked import WrongValue
from conformance.judging import mismatch
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import MISSING, judge
from conformance.model import buffers
from conformance.model.errors import InvalidInput
from conformance.model.outcome import Reply, decode_reply
from conformance.model.results import ImplementationRecord, Result, Run
from conformance.model.statement import Statement, recorded
from conformance.runs import case_files
from conformance.runs.run_file import answer_file

ExplanationKind = Literal["explained", "changed", "spread", "unexplained"]


class Explanation(msgspec.Struct, frozen=True):
    """A failure, and what the known divergences make of it.

    kind: `explained`, it was predicted and passes as predicted; `changed`, it was predicted but behaves otherwise;
        `spread`, it behaves as predicted in a place where that was not predicted; `unexplained`, nothing predicts it.
    no_formula: it is explained only by a prediction without a formula, which any wrong value would have met.
    elsewhere: it is explained only by what is known of another version or device.
    """

    result: Result
    kind: ExplanationKind
    divergences: tuple[str, ...] = ()
    no_formula: bool = False
    elsewhere: bool = False


Explained = dict[tuple[str, str], list[Explanation]]
"""Explanations of all failures of an answer, by the id of its case and by the implementation."""


def explain(folder: Path, run: Run, known: list[Divergence], before: Explained | None = None) -> list[Explanation]:
    """Return an explanation of every failure of a run.

    before: what the same divergences, but those of other versions, have explained already.
    """
    records = {record.id: record for record in run.implementations}
    failures: defaultdict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in run.results:
        if result.failed:
            failures[result.case, result.implementation].append(result)
    found: list[Explanation] = []
    exact_cases: dict[str, ExactCase] = {}
    witnesses = Witnesses(run)
    about = {name: _about(witnesses, records[name], known) for name in {n for _, n in failures if n in records}}
    statements: defaultdict[str, Statements] = defaultdict(dict)
    for (case, implementation), results in sorted(failures.items()):
        record = records.get(implementation)  # an interrupted run may have lost it
        if not record or not any(about[implementation]):
            found += [Explanation(result, "unexplained") for result in results]
            continue
        if again := _again(results, (before or {}).get((case, implementation), []), about[implementation]):
            found += again
            continue
        if case not in exact_cases:
            exact_cases = {case: ExactCase(case_files.read(folder, run, run.cases[case]))}
        reply = _reply(folder / answer_file(results[0].case, record.id))
        answer = FailedAnswer(record, exact_cases[case], reply, statements[implementation])
        found += answer.explained(results, *about[implementation])
    return found


def _again(
    results: list[Result], before: list[Explanation], about: tuple[list[Divergence], list[Divergence]]
) -> list[Explanation]:
    """Return what was explained before of the same failures; nothing where another version may explain more."""
    by_place = {(one.result.step, one.result.output): one for one in before}
    found = [by_place.get((result.step, result.output)) for result in results]
    if about[1] and any(one is None or one.kind != "explained" for one in found):
        return []
    again = [msgspec.structs.replace(one, result=result) for one, result in zip(found, results, strict=True) if one]
    return again if len(again) == len(results) else []


def _about(
    witnesses: Witnesses, record: ImplementationRecord, known: list[Divergence]
) -> tuple[list[Divergence], list[Divergence]]:
    """Return the divergences that are about an implementation at its versions, and at others."""
    return [divergence for divergence in known if divergence.concerns(record)], elsewhere(witnesses, known, record)


Statements = dict[tuple[object, ...], Statement]
"""What an implementation promises by what is changed of it; whoever holds several of its answers to it keeps them."""


class FailedAnswer:
    """One implementation's answer to one case, with failures in it.

    statements: those of other answers of the implementation, which know what they promise of the same facts.
    """

    def __init__(
        self, record: ImplementationRecord, exact_case: ExactCase, reply: Reply, statements: Statements | None = None
    ) -> None:
        self.record, self.exact_case, self.reply = record, exact_case, reply
        self._statements: Statements = {} if statements is None else statements
        self.statement = self._changed([])

    def explained(
        self, failures: list[Result], known: list[Divergence], others: list[Divergence] | None = None
    ) -> list[Explanation]:
        """Return the explanation of each failure in the answer.

        Divergences that predict a failure are tried together. Where none predicts it, each is tried alone, as
        though it held everywhere.

        others: those that speak of another version; they are tried, beside the rest, on what is not explained without.
        """
        about = [divergence for divergence in known if divergence.concerns(self.record)]
        verdicts = self._verdicts(about)
        found = [self._explanation(result, about, verdicts) for result in failures]
        if not others or all(one.kind == "explained" for one in found):
            return found
        about = [*about, *others]
        verdicts, names = self._verdicts(about), {divergence.id for divergence in others}
        return [one if one.kind == "explained" else self._elsewhere(one, about, verdicts, names) for one in found]

    def _elsewhere(
        self, before: Explanation, about: list[Divergence], verdicts: dict[Any, str], names: set[str]
    ) -> Explanation:
        """Return the explanation of a failure given what is known of other versions, whose names these are.

        What is predicted of this version, and is otherwise, stays so where any wrong value would fit the others.
        """
        again = self._explanation(before.result, about, verdicts)
        holds = again.kind == "explained" and names.intersection(again.divergences)
        if not holds or (before.kind == "changed" and again.no_formula):
            return before
        return msgspec.structs.replace(again, elsewhere=True)

    def _explanation(self, result: Result, about: list[Divergence], verdicts: dict[Any, str]) -> Explanation:
        covering = tuple(d.id for d in about if d.covers(self.exact_case.about(result.step), result.output))
        if covering:
            here = [d for d in about if d.id in covering]
            died = result.outcome == "Crashed" and any(d.predicts.crashes for d in here)
            lacks = result.reason.startswith(MISSING) and any(d.predicts.absent for d in here)
            told = any(self._told(result, d.predicts.formula, about) for d in here if d.predicts.formula)
            if died or lacks or told or _passes(verdicts, result) or _passes(self._verdicts(here), result):
                return Explanation(result, "explained", covering)
            off = any(d.predicts.wrong for d in here) and self._is_wrong(result)
            return Explanation(result, "explained" if off else "changed", covering, no_formula=off)
        spread = tuple(d.id for d in about if _passes(self._verdicts([d], everywhere=True), result))
        return Explanation(result, "spread" if spread else "unexplained", spread)

    def _told(self, result: Result, formula: str, about: list[Divergence]) -> bool:
        """Return whether an array has the value of a formula, given all other predictions."""
        statement = self._changed(about)
        return predicted.explains(
            formula, WrongValue(self.exact_case, statement, self.reply, result.step, result.output)
        )

    def _is_wrong(self, result: Result) -> bool:
        """Return whether an array has wrong values, one of them not finite included, or the wrong shape."""
        if isinstance(result.rho, float) or self._spread_of_nan(result):
            return True
        return mismatch.of(self.exact_case, self.statement, self.reply, result) in ("shape", "kind")

    def _spread_of_nan(self, result: Result) -> bool:
        """Return whether an array is not finite because an input was not finite.

        An input whose square overflows counts too: its variance is not finite. Refusals and crashes do not.
        """
        if result.rho != "inf" or not result.elements:
            return False
        return self.exact_case.poisoned(result.step) is not None or self.exact_case.overflows(result.step)

    def _verdicts(self, about: list[Divergence], *, everywhere: bool = False) -> dict[Any, str]:
        statement = self._changed(about, everywhere=everywhere)
        exact_case = ExactCase(self.exact_case.case) if everywhere else self.exact_case
        return {(r.step, r.output): r.verdict for r in judge("", exact_case, statement, self.reply)}

    def _changed(self, about: list[Divergence], *, everywhere: bool = False) -> Statement:
        key = (everywhere, *(divergence.id for divergence in about))
        if key not in self._statements:
            statement = recorded(self.record)
            for divergence in about:
                statement = divergence.changed(statement, everywhere=everywhere)
            self._statements[key] = statement
        return self._statements[key]


def _passes(verdicts: dict[Any, str], result: Result) -> bool:
    """Return whether a result no longer fails.

    Where a step conforms now by being refused, its arrays have become one `outcome`; where it had to be refused and no
    longer has to, that outcome has become arrays.
    """
    found = verdicts.get((result.step, result.output)) or verdicts.get((result.step, "outcome"))
    arrays = [verdict for (step, _), verdict in verdicts.items() if step == result.step]
    wanted = [found] if found else arrays if result.output == "outcome" else []
    return bool(wanted) and set(wanted) <= {"PASS", "INCONCLUSIVE"}


def _reply(path: Path) -> Reply:
    try:
        return decode_reply(buffers.read(path))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: the answer that failed cannot be read ({error}); run again") from error
