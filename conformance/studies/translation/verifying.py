"""Whether both sides answer as predicted: the difference of their answers against that of the two references."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from conformance.gate import predicted
from conformance.gate.divergences import Divergence
from conformance.hosts.participants import Participants
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import Expected, ExpectedOutputs, trajectory
from conformance.judging.promise import Promise
from conformance.model.case import Case
from conformance.model.outcome import Outputs, Refused
from conformance.model.statement import Statement
from conformance.runs.recording import RecordedAnswer
from conformance.runs.replaying import ask
from conformance.studies.translation.sides import Scenario, Side
from reference import Refusal
from reference.precision import widened
from reference.spec import Array

Verdict = Literal["agree", "differ as predicted", "known divergence", "NOT as predicted", "only one", "not compared"]


class Compared(msgspec.Struct, frozen=True, omit_defaults=True):
    """One output of one step, compared.

    predicted, measured: the largest difference of the references, and of the answers.
    rho: the worst of |measured - predicted| / (the sum of both bounds); at most 1 is as predicted.
    known: ids of known divergences that explain the rest.
    reason: why there is nothing to compare, or who refuses.
    layer: whose weights, in a file.
    vacuous: how many elements have no finite bound.
    """

    scenario: str
    step: int
    mode: str
    output: str
    verdict: Verdict
    predicted: float = 0.0
    measured: float = 0.0
    rho: float = 0.0
    known: tuple[str, ...] = ()
    reason: str = ""
    layer: str = ""
    vacuous: int = 0


class Inquiry:
    """Many sides and scenarios; every implementation is started once for all of them."""

    def __init__(self) -> None:
        self._cases: dict[tuple[str, str, str], tuple[Case, Side]] = {}
        self.answers: dict[str, RecordedAnswer] = {}
        self.missing: dict[str, str] = {}

    def add(self, label: str, side: Side, scenario: Scenario) -> None:
        """Add what a side is to be asked; label: distinguishes it from other sides of the same implementation."""
        self._cases[label, side.entry.id, scenario.name] = side.case(scenario), side

    def ask(self, who: Participants) -> None:
        """Ask everything."""
        entries = {side.entry.id: side.entry for _, side in self._cases.values()}
        chosen, keys = msgspec.structs.replace(who, entries=list(entries.values())), list(self._cases)
        found = ask([self._cases[key][0] for key in keys], chosen, [{key[1]} for key in keys])
        for key, asked in zip(keys, found, strict=True):
            self.missing |= asked.missing
            self.answers |= {repr(key): answer for answer in asked.answers}

    def told(self, label: str, side: Side, scenario: Scenario) -> Told:
        """Return what a side answered, with what the reference expects of it."""
        key = label, side.entry.id, scenario.name
        return Told(side, self._cases[key][0], self.answers.get(repr(key)))


class Told:
    """An answer of one side, and what the reference expects of it."""

    def __init__(self, side: Side, case: Case, answer: RecordedAnswer | None) -> None:
        self.side, self.case, self.answer = side, case, answer
        self.exact_case = ExactCase(case)
        self.statement = side.entry.statement
        self.expected = self._under(self.statement)
        self._changed: dict[tuple[str, ...], list[ExpectedOutputs | Refusal]] = {}

    @property
    def unsupported(self) -> str:
        """Why the case cannot be asked; empty if it can."""
        return self.statement.unsupported(*self.exact_case.facts)

    def _under(self, statement: Statement) -> list[ExpectedOutputs | Refusal]:
        with np.errstate(all="ignore"):
            return trajectory(Promise.of(self.exact_case, statement))

    def outputs(self, t: int) -> dict[str, Array] | None:
        """Return the arrays of a step; None if there are none."""
        outcomes = self.answer.reply.outcomes if self.answer and self.answer.reply else ()
        outcome = outcomes[t] if t < len(outcomes) else None
        return outcome.tensors if isinstance(outcome, Outputs) else None

    def refuses(self, t: int) -> str:
        """Return how a step should be refused; empty if it should be answered."""
        expected = self.expected[t]
        if isinstance(expected, Refusal):
            return str(expected)
        documented = self.statement.refusal(self.exact_case.facts[t])
        return f"{' or '.join(documented.error)}: {documented.cite}" if documented else ""

    def refused(self) -> str:
        """Return what the implementation raised; empty if it did not."""
        outcomes = self.answer.reply.outcomes if self.answer and self.answer.reply else ()
        return next((f"{o.error}: {o.message}" for o in outcomes if isinstance(o, Refused)), "")

    def known(self, t: int, output: str, divergences: list[Divergence]) -> list[Divergence]:
        """Return the known divergences that concern an output here."""
        about = self.exact_case.facts[t]
        return [d for d in divergences if self.answer and d.concerns(self.answer.record) and d.covers(about, output)]

    def is_wrong(self, t: int, output: str, about: Divergence) -> bool:
        """Return whether an output is wrong as a known divergence predicts: by its formula, or wrong without one."""
        formula, reply = about.predicts.formula, self.answer.reply if self.answer else None
        if not formula or reply is None:
            return about.predicts.wrong
        return predicted.explains(formula, predicted.WrongValue(self.exact_case, self.statement, reply, t, output))

    def as_diverging(self, t: int, output: str, about: list[Divergence]) -> Expected | None:
        """Return what is expected under known divergences."""
        key = tuple(d.id for d in about)
        if key not in self._changed:
            statement = self.statement
            for divergence in about:
                statement = divergence.changed(statement)
            self._changed[key] = self._under(statement)
        answers = self._changed[key][t]
        return None if isinstance(answers, Refusal) else answers.get(output)


def compare(scenario: Scenario, a: Told, b: Told, divergences: list[Divergence], layer: str = "") -> list[Compared]:
    """Return what became of every output of a scenario."""
    for told in (a, b):
        if why := told.unsupported or ("" if told.answer else "no answer"):
            reason = f"{told.side.entry.id}: {why}"
            return [Compared(scenario.name, -1, "", "", "not compared", reason=reason, layer=layer)]
    found: list[Compared] = []
    for t, step in enumerate(a.case.steps):
        at = (scenario.name, t, step.mode)
        if without := [told.side.entry.id for told in (a, b) if step.mode not in told.statement.modes]:
            reason = f"{' and '.join(without)} lacks this mode"
            found.append(Compared(*at, "y", "only one", reason=reason, layer=layer))
            continue
        refusal = _refusals(at, a, b, t, layer)
        if refusal:
            return [*found, refusal]
        one, two = a.outputs(t) or {}, b.outputs(t) or {}
        for output in dict.fromkeys([*one, *two]):
            found += _of_output(at, output, (a, one), (b, two), divergences, layer)
    return found


def _refusals(at: tuple[str, int, str], a: Told, b: Told, t: int, layer: str) -> Compared | None:
    """Return what became of a step that one side does not answer; None if both do."""
    if a.outputs(t) is not None and b.outputs(t) is not None and not (a.refuses(t) or b.refuses(t)):
        return None
    right = all(bool(told.refuses(t)) == bool(told.outputs(t) is None and told.refused()) for told in (a, b))
    who = [f"{told.side.entry.id} ({told.refused() or 'no answer'})" for told in (a, b) if told.outputs(t) is None]
    expected = " and ".join(told.side.entry.id for told in (a, b) if told.refuses(t)) or "nobody"
    reason = f"refused by {' and '.join(who) or 'nobody'}" + ("" if right else f"; predicted: by {expected}")
    both = len(who) == 2
    verdict: Verdict = ("agree" if both else "differ as predicted") if right else "NOT as predicted"
    return Compared(*at, "outcome", verdict, reason=reason, layer=layer)


_Half = tuple[Told, dict[str, Array]]


def _of_output(
    at: tuple[str, int, str], output: str, a: _Half, b: _Half, known: list[Divergence], layer: str
) -> list[Compared]:
    t = at[1]
    expected = [answers.get(output) for told, _ in (a, b) if not isinstance(answers := told.expected[t], Refusal)]
    one, two = expected
    if output not in a[1] or output not in b[1]:
        who = (a if output in a[1] else b)[0].side.entry.id
        return [Compared(*at, output, "only one", reason=f"only {who} returns it", layer=layer)]
    if one is None or two is None:
        return []
    first = _measured(at, output, (a, one), (b, two), layer)
    if first.verdict != "NOT as predicted":
        return [first]
    return [_explained(first, at, output, a, b, known)]


def _measured(
    at: tuple[str, int, str], output: str, a: tuple[_Half, Expected], b: tuple[_Half, Expected], layer: str
) -> Compared:
    values = [(told.side, given[output], expected) for (told, given), expected in (a, b)]
    got = [side.canonical(widened(array, expected.value.dtype.type)) for side, array, expected in values]
    value = [side.canonical(expected.value) for side, _, expected in values]
    bound = [side.canonical(expected.bound) for side, _, expected in values]
    with np.errstate(all="ignore"):
        predicted, measured, allowed = value[0] - value[1], got[0] - got[1], bound[0] + bound[1]
        off = np.abs(measured - predicted)
        both = np.isnan(measured) & np.isnan(predicted)
        rho = np.where((off == 0) | both | np.isinf(allowed), 0.0, off / allowed)
        worst = float(np.nan_to_num(rho, nan=np.inf).max(initial=0.0))
        alike = bool((np.abs(predicted) <= allowed).all())
        sizes = [float(np.nan_to_num(np.abs(d), nan=0.0).max(initial=0.0)) for d in (predicted, measured)]
    verdict: Verdict = "NOT as predicted" if worst > 1 else "agree" if alike else "differ as predicted"
    vacuous = int(np.isinf(allowed).sum())
    if vacuous == allowed.size:
        return Compared(*at, output, "not compared", reason="no element has a finite bound", layer=layer)
    return Compared(*at, output, verdict, sizes[0], sizes[1], worst, layer=layer, vacuous=vacuous)


def _explained(
    found: Compared, at: tuple[str, int, str], output: str, a: _Half, b: _Half, known: list[Divergence]
) -> Compared:
    about = [told.known(at[1], output, known) for told, _ in (a, b)]
    ids = tuple(dict.fromkeys(d.id for part in about for d in part))
    if any(told.is_wrong(at[1], output, d) for (told, _), part in zip((a, b), about, strict=True) for d in part):
        return msgspec.structs.replace(found, verdict="known divergence", known=ids)
    changed = [told.as_diverging(at[1], output, part) for (told, _), part in zip((a, b), about, strict=True)]
    one, two = changed
    if not ids or one is None or two is None:
        return found
    again = _measured(at, output, (a, one), (b, two), found.layer)
    return found if again.rho > 1 else msgspec.structs.replace(again, verdict="known divergence", known=ids)
