"""Whether given semantics explain one answer, and how far off it is if they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from conformance.gate.divergences import Divergence
from conformance.judging import expectation
from conformance.judging.bounds import bounds
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.judging.simulation import simulate
from conformance.model.case import Case
from conformance.model.case_facts import every_step, step_facts
from conformance.model.facts import Facts
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.results import Result, Rho
from conformance.model.rules import Rule, StatedRefusal
from conformance.model.statement import Statement
from conformance.studies.audit.fields import REFUSING
from reference import Refusal, Semantics
from reference.dtypes import stored
from reference.precision import widened
from reference.spec import Array

FAR = 100.0
"""How many bounds of the nearest semantics an answer must be off from a value that no bound is derived for."""

_DERIVED = {"renorm": "tf_1_15", "epsilon_placement": "inside"}
"""What bounds are derived for, of the fields where that is not so for every value."""


class Fit(msgspec.Struct, frozen=True):
    """What semantics make of an answer.

    status: whether they explain it; `vacuous` where nothing can be said.
    rho: the largest of any output; "inf" where the outcome is another one.
    why: what decided, in words.
    """

    status: Literal["explains", "fails", "vacuous"]
    rho: Rho = None
    why: str = ""


class ProbeAnswer(msgspec.Struct, frozen=True):
    """An implementation's answer to a case, to be held to several semantics.

    statement: what is promised, known divergences included.
    wrong: the divergences among them that predict no value at all.
    """

    exact_case: ExactCase
    statement: Statement
    reply: Reply
    wrong: tuple[Divergence, ...] = ()

    @property
    def semantics(self) -> Semantics:
        """What the statement promises for the case."""
        return self.statement.semantics(telling(self.exact_case.case))

    def fit(self, fields: Mapping[str, Any]) -> Fit:
        """Return what the answer is if these fields have these values, and the others are as promised."""
        with np.errstate(all="ignore"):  # overflow and 0/0 are values here, as they are to the judge
            return self._fit(supposing(self.statement, self.exact_case.case, fields))

    def storage(self, value: Any) -> Fit:
        """Return whether y came in the dtype that this value of `output_dtype` means."""
        wanted = stored(self.exact_case.case.dtypes.x, Semantics(output_dtype=value)).output
        for outcome in self.reply.outcomes:
            if isinstance(outcome, Outputs) and "y" in outcome.tensors:
                found = outcome.tensors["y"].dtype.name
                return Fit("explains", 0.0) if found == wanted else Fit("fails", "inf", f"y is {found}")
        return Fit("vacuous", None, "nothing was answered")

    def declines(self, mask: str) -> bool:
        """Return whether a mask of weights is refused, as implementations that take booleans may do."""
        masks = [self.exact_case.mask(t) for t in range(len(self.exact_case.case.steps))]
        weights = any(m is not None and m.dtype != bool for m in masks)
        return mask == "boolean" and weights and isinstance(self.reply.outcomes[0], Refused)

    def _fit(self, statement: Statement) -> Fit:
        promise = Promise.of(self.exact_case, statement)
        if promise.unjudged and not self.exact_case.unjudged:
            return self._far(statement, promise.semantics)
        expected = expectation.trajectory(promise, self.reply.refused)
        unlike = self._accepted(expected) or self._finite(expected)
        if unlike:
            return Fit("fails", "inf", unlike)
        results = [r for r in judge("", self.exact_case, statement, self.reply) if not self._is_wrong(r)]
        if any(result.verdict == "ERROR" for result in results):
            return self._far(statement, promise.semantics)
        return _summary(results, compared=self._matches_not_finite(expected))

    def _is_wrong(self, result: Result) -> bool:
        about = self.exact_case.about(result.step)
        return any(divergence.covers(about, result.output) for divergence in self.wrong)

    # --- what the judge does not compare -------------------------------------------------------------------------

    def _accepted(self, expected: list[Any]) -> str:
        """Return what was answered although these semantics refuse it; empty if nothing was."""
        for t, (wanted, outcome) in enumerate(zip(expected, self.reply.outcomes, strict=False)):
            judged = self.exact_case.case.steps[t].mode in self.statement.modes
            if judged and isinstance(wanted, Refusal) and isinstance(outcome, Outputs):
                return f"step {t} was answered, and would be refused"
        return ""

    def _declined(self, expected: list[Any]) -> str:
        """Return what was refused although these semantics answer it; empty if nothing was."""
        for t, (wanted, outcome) in enumerate(zip(expected, self.reply.outcomes, strict=False)):
            if not isinstance(wanted, Refusal) and isinstance(outcome, Refused):
                return f"step {t} was refused, and would be answered: {outcome.error}: {outcome.message}"
        return ""

    def _strange(self, expected: list[Any]) -> Iterator[tuple[int, str, Array, Array]]:
        """Yield each returned array of which something is expected to be not finite, and where."""
        for t, (wanted, outcome) in enumerate(zip(expected, self.reply.outcomes, strict=False)):
            if isinstance(wanted, Refusal) or not isinstance(outcome, Outputs):
                continue
            for output, value in _values(wanted).items():
                if output in ("mean", "variance") and not self.exact_case.case.x(t).size:
                    continue  # BN-25 is about the state
                got, strange = outcome.tensors.get(output), ~np.isfinite(value)
                if got is not None and got.shape == value.shape and strange.any():
                    yield t, output, widened(got, np.float64), strange

    def _finite(self, expected: list[Any]) -> str:
        """Return what is finite and should not be; empty if nothing is."""
        for t, output, got, strange in self._strange(expected):
            if np.isfinite(got[strange]).any():
                return f"{output} of step {t} is finite, and would be NaN"
        return ""

    def _matches_not_finite(self, expected: list[Any]) -> bool:
        return any(True for _ in self._strange(expected))

    def _far(self, statement: Statement, semantics: Semantics) -> Fit:
        """Return how far the answer is from semantics without bounds, in bounds of the nearest with some."""
        expected = simulate(self.exact_case, semantics)
        if unlike := self._accepted(expected) or self._finite(expected) or self._declined(expected):
            return Fit("fails", "inf", unlike)
        largest, where = 0.0, ""
        for t, output, ratio in self._ratios(changed(statement, _DERIVED), expected):
            if ratio > largest:
                largest, where = ratio, f"{output} of step {t}, held to another value's bound: none is derived"
        rho: Rho = float(f"{largest:.6g}") if np.isfinite(largest) else "inf"
        return Fit("fails" if largest > FAR else "vacuous", rho, where or "no bound is derived")

    def _ratios(self, near: Statement, expected: list[Any]) -> Iterator[tuple[int, str, float]]:
        bounded = expectation.trajectory(Promise.of(self.exact_case, near), self.reply.refused)
        for t, (mine, other, outcome) in enumerate(zip(bounded, expected, self.reply.outcomes, strict=False)):
            if isinstance(mine, Refusal) or isinstance(other, Refusal) or not isinstance(outcome, Outputs):
                continue
            for output in (o for o in mine if o in other and o in outcome.tensors):
                got, allowed = outcome.tensors[output], mine[output].bound
                if got.shape == other[output].shape and self.exact_case.case.steps[t].mode in self.statement.modes:
                    yield t, output, float(bounds.rho(got, other[output], allowed).max(initial=0))


def telling(case: Case) -> Facts:
    """Return the facts about the step that tells what a case is asked for: the first that trains, else the first.

    Rules may speak of a step's mode; what a field means shows in training, or in inference where there is none.
    """
    return step_facts(case, next((t for t, step in enumerate(case.steps) if step.mode == "train"), 0))


def documented(statement: Statement, case: Case) -> list[StatedRefusal]:
    """Return the documented refusals that some step of a case meets with."""
    met = [refusal for step in every_step(case) for refusal in statement.refusing(step)]
    return [refusal for refusal in statement.refusals if refusal in met]


def supposing(statement: Statement, case: Case, fields: Mapping[str, Any]) -> Statement:
    """Return the statement with these fields; a value stands for the documented refusals that meet the case."""
    if set(fields) & set(REFUSING):
        met = documented(statement, case)
        statement = msgspec.structs.replace(statement, refusals=[r for r in statement.refusals if r not in met])
    return changed(statement, fields) if fields else statement


def changed(statement: Statement, fields: Mapping[str, Any]) -> Statement:
    """Return the statement with these fields of its semantics, whatever the case."""
    kept = [_unstored(rule) if "output_dtype" in fields else rule for rule in statement.rules]
    return msgspec.structs.replace(statement, rules=[*kept, Rule("supposed", semantics=dict(fields))])


def _unstored(rule: Rule) -> Rule:
    """Return a rule without what y is stored in, where `output_dtype` says that."""
    if "y" not in rule.when.get("output", ["y"]):
        return rule
    return msgspec.structs.replace(rule, numerics={n: v for n, v in rule.numerics.items() if n != "stored"})


def _values(wanted: Any) -> dict[str, Array]:
    return {name: getattr(value, "value", value) for name, value in wanted.items()}


def _summary(results: list[Result], *, compared: bool) -> Fit:
    rhos: list[float | Literal["inf"]] = [r.rho for r in results if r.rho is not msgspec.UNSET and r.rho is not None]
    failed = [r for r in results if r.verdict == "FAIL"]
    if failed:
        worst = max(failed, key=lambda r: r.size)
        rho: Rho = "inf" if worst.rho is msgspec.UNSET or worst.rho is None else worst.rho
        return Fit("fails", rho, _words(worst))
    empty = any(r.dtype and not r.elements for r in results)  # of the right shape: all that there is to compare
    if compared or empty or any(r.verdict == "PASS" for r in results):
        return Fit("explains", max(rhos, key=float) if rhos else None)
    return Fit("vacuous", None, next((r.reason for r in results if r.reason), "nothing could be compared"))


def _words(result: Result) -> str:
    return f"{result.output} of step {result.step}" + (f": {result.reason}" if result.reason else "")
