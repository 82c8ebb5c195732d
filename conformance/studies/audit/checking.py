"""Whether what was identified is true: the statement is held to every answer, and to further cases."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from conformance.judging import mismatch
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case
from conformance.model.case_facts import channels, every_step, step_facts
from conformance.model.facts import Facts
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.results import Result
from conformance.model.rules import Rule, matches
from conformance.model.statement import Statement
from conformance.studies.audit import classes, further, raising, stating
from conformance.studies.audit.identifying import Identified
from reference.spec import reduced_axes


class Failure(msgspec.Struct, frozen=True):
    """A case in which the statement fails.

    n: values per channel of its first step.
    why: which output fails, and by how much.
    """

    case: str
    about: str
    n: int
    why: str


class Checked(msgspec.Struct, frozen=True):
    """A statement, and how the answers conform to it.

    statement: as data.
    computed: the rule of numerics that was missing.
    conformed, undecided: how many arrays and steps.
    tried: what was asked, in words, and up to which sizes it conforms.
    """

    statement: dict[str, Any]
    computed: dict[str, Any]
    refusals: list[dict[str, Any]]
    conformed: int
    undecided: int
    failed: int
    failures: list[Failure]
    tried: list[str]


class _Holding:
    """All answers, held to one statement after another."""

    def __init__(self, answers: Mapping[str, tuple[Case, Reply]]) -> None:
        self.answers = [(identity, ExactCase(case), reply) for identity, (case, reply) in answers.items()]

    def to(self, written: dict[str, Any], only: Collection[str] | None = None) -> dict[str, list[Result]]:
        """Return the verdicts by case; only: on these cases."""
        statement, found = msgspec.convert(written, Statement), dict[str, list[Result]]()
        for identity, exact_case, reply in self.answers:
            if (only is None or identity in only) and not statement.unsupported(*exact_case.facts):
                found[identity] = judge(identity, exact_case, statement, reply)
        return found

    def touched(self, rules: Iterable[dict[str, Any]]) -> set[str]:
        """Return the cases with a step that a rule or a refusal is about; no other verdict can change."""
        whens = [{n: v for n, v in rule.get("when", {}).items() if n != "output"} for rule in rules]
        return {i for i, exact_case, _ in self.answers for f in exact_case.facts if any(matches(w, f) for w in whens)}


def check(statement: Statement, identified: Identified) -> Checked:
    """Return the statement that was identified, with what the answers to more cases say of it."""
    for case in further.cases(statement, identified):
        identified.ask(case)
    holding = _Holding(identified.ask.answers)
    written = stating.proposed(statement, identified.found)
    results = holding.to(written)
    stored = _stored(written, results, holding)
    if stored:
        rules = [*statement.rules, *(msgspec.convert(rule, Rule) for rule in stored)]
        statement = msgspec.structs.replace(statement, rules=rules)
        written = stating.proposed(statement, identified.found)
        results |= holding.to(written, holding.touched(stored))
    refusals = raising.refusals(*_raised(holding, results))
    if refusals:
        written = stating.proposed(statement, identified.found, refusals)
        results |= holding.to(written, holding.touched(refusals))
    computed = _fitted(functools.partial(stating.proposed, statement, identified.found, refusals), holding, results)
    if computed:
        written = stating.proposed(statement, identified.found, refusals, computed)
        results |= holding.to(written, holding.touched([computed]))
    return _checked(written, refusals, computed, holding, results)


def _checked(
    written: dict[str, Any],
    refusals: list[dict[str, Any]],
    computed: dict[str, Any],
    holding: _Holding,
    results: dict[str, list[Result]],
) -> Checked:
    verdicts = [result.verdict for found in results.values() for result in found]
    failed = sum(verdict in ("FAIL", "ERROR") for verdict in verdicts)
    conformed, undecided = verdicts.count("PASS"), verdicts.count("INCONCLUSIVE")
    judged = {identity: exact_case.case for identity, exact_case, _ in holding.answers if identity in results}
    wrong = {identity: found for identity in judged if (found := [r for r in results[identity] if r.failed])}
    failures = [_failure(identity, judged[identity], found) for identity, found in wrong.items()]
    tried = _tried(judged, set(wrong), msgspec.convert(written, Statement).modes)
    return Checked(written, computed, refusals, conformed, undecided, failed, failures, tried)


# --- what the answers say ---------------------------------------------------------------------------------------


def _raised(holding: _Holding, results: dict[str, list[Result]]) -> tuple[list[tuple[str, Facts]], list[Facts]]:
    """Return error and facts of each step that raised and should not have, and the facts of the steps that answered."""
    raised, answered = list[tuple[str, Facts]](), list[Facts]()
    for identity, exact_case, reply in holding.answers:
        failed = {r.step for r in results.get(identity, []) if r.verdict == "FAIL" and r.outcome == "Refused"}
        for t, outcome in enumerate(reply.outcomes):
            if isinstance(outcome, Refused) and t in failed:
                raised.append((outcome.error, exact_case.facts[t]))
            elif isinstance(outcome, Outputs):
                answered.append(exact_case.facts[t])
    return raised, answered


def _stored(written: dict[str, Any], results: dict[str, list[Result]], holding: _Holding) -> list[dict[str, Any]]:
    """Return rules for outputs that came in another dtype than promised, by the dtype of the input."""
    outputs: dict[tuple[str, str], list[str]] = {}
    statement = msgspec.convert(written, Statement)
    for identity, exact_case, reply in holding.answers:
        failed = [r for r in results.get(identity, []) if r.failed and r.output != "y"]  # output_dtype says that of y
        for result in (r for r in failed if mismatch.of(exact_case, statement, reply, r) == "dtype"):
            names = outputs.setdefault((exact_case.case.dtypes.x, result.dtype), [])
            names += [result.output] * (result.output not in names)
    return [
        {"when": {"dtype": [dtype], "output": names}, "numerics": {"stored": stored}, "cite": "identified: as it came"}
        for (dtype, stored), names in outputs.items()
    ]


def _fitted(proposed: Callable[..., dict[str, Any]], holding: _Holding, results: dict[str, list[Result]]) -> Any:
    """Return a rule of numerics under which most of the failing cases that are nearest to conform do; else nothing.

    proposed: makes the statement with a rule. What is far off is no matter of rounding, and neither is another dtype.
    """
    near = {case: max(r.size for r in found if r.failed) for case, found in results.items() if _is_number(found)}
    failing = sorted(near, key=lambda case: near[case])[:_MOST]
    dtypes = sorted({exact_case.case.dtypes.x for identity, exact_case, _ in holding.answers if identity in failing})
    most, best = len(failing) // 2, dict[str, Any]()

    def left(rule: dict[str, Any], most: int) -> int:
        """Return how many still fail, counted no further than the most."""
        statement, remaining = proposed(rule), 0
        for case in failing:
            remaining += any(r.failed for r in holding.to(statement, [case])[case])
            if remaining > most:
                break
        return remaining

    def rule(numerics: dict[str, Any]) -> dict[str, Any]:
        cite = "identified by its answers: what it says of itself fails"
        return {"when": {"dtype": dtypes}, "numerics": numerics, "cite": cite}

    if not failing:
        return {}
    for numerics in classes.that_may(lambda one: left(rule(one), len(failing) // 2) <= len(failing) // 2):
        remaining = left(rule(numerics), most)
        if remaining <= most:
            best, most = rule(numerics), remaining - 1
        if most < 0:
            break
    return best


_MOST = 6
"""How many cases numerics are fitted to."""


def _is_number(found: list[Result]) -> bool:
    """Return whether a case fails, and by numbers alone."""
    failed = [r for r in found if r.failed]
    return bool(failed) and all(isinstance(r.rho, float) for r in failed)


def _failure(identity: str, case: Case, failed: list[Result]) -> Failure:
    worst = max(failed, key=lambda r: r.size)
    outputs = ", ".join(dict.fromkeys(result.output for result in failed))
    rho = worst.rho if isinstance(worst.rho, float) else "infinite" if worst.rho == "inf" else ""
    why = f"{outputs}: {worst.reason or f'{worst.output} of step {worst.step}'}" + (f", ρ {rho}" if rho else "")
    about = step_facts(case, max(worst.step, 0))
    words = [f"shape {'×'.join(map(str, case.shape))}", f"axis {case.spec.axis}", about.dtype]
    words += [
        f"{name} {value}"
        for name in ("mask", "start", "resized", "misplaced")
        if (value := about.said(name)) not in _USUAL
    ]
    return Failure(identity, ", ".join(words), _values(case), why)


_USUAL = (False, "given")


def _values(case: Case) -> int:
    """Return how many values per channel the largest step of a case has."""
    sizes = [
        case.x(t).size // max(channels(case, t), 1)
        for t in range(len(case.steps))
        if reduced_axes(case.spec, case.x(t).ndim)
    ]
    return max(sizes, default=1)


def _tried(judged: Mapping[str, Case], wrong: set[str], has: Collection[str]) -> list[str]:
    """Return what was asked, in words, and up to which sizes it conforms; has: the modes that are judged."""
    cases = list(judged.values())
    about = [one for case in cases for one in every_step(case)]

    def of(fact: str) -> str:
        return ", ".join(sorted({str(one.said(fact)) for one in about}))

    modes = sorted({step.mode for case in cases for step in case.steps if step.mode in has})
    most = max((channels(case, t) for case in cases for t in range(len(case.steps))), default=0)
    values = {identity: _values(case) for identity, case in judged.items()}
    return [
        f"{len(cases)} cases: dtypes {of('dtype')}; ranks {of('rank')}; kept axis {of('channel')}",
        f"modes {', '.join(modes)}; start {of('start')}",
        f"layouts {of('layout')}; derivatives {of('differentiation')}",
        f"masks {of('mask')}; renorm {of('renorm')}; virtual batches {of('virtual')}",
        f"up to {max(values.values(), default=0)} values per channel, and {most} channels",
        *_limit([n for i, n in values.items() if i in wrong], [n for i, n in values.items() if i not in wrong]),
    ]


def _limit(wrong: list[int], right: list[int]) -> list[str]:
    """Return the size up to which every case conforms, and from which every case fails, if there are such sizes.

    >>> _limit([65, 257], [8, 64])
    ['with up to 64 values per channel every case conforms, and with 65 or more every one fails']
    """
    smallest = min(wrong, default=0)
    below = max((n for n in right if n < smallest), default=0)
    if not below:
        return []
    clear = max(right) < smallest
    more = f"and with {smallest} or more every one fails" if clear else f"with {smallest} or more some fail"
    return [f"with up to {below} values per channel every case conforms, {more}"]


def words(checked: Checked, most: int = 6) -> list[str]:
    """Return how the answers conform to a statement, as lines for people."""
    lines = [f"tried: {checked.tried[0]}", *(f"  {line}" for line in checked.tried[1:])]
    lines += [f"raised {r['error'][0]} where {_facts(r['when'])}: stated as a refusal" for r in checked.refusals]
    if checked.computed:
        how, where = classes.words(checked.computed["numerics"]), _facts(checked.computed["when"])
        lines.append(f"computed with {how} where {where}: what it says of itself fails")
    lines.append(
        f"of {checked.conformed + checked.failed + checked.undecided} arrays and steps {checked.conformed} conform to "
        f"this statement, {checked.failed} fail, and of {checked.undecided} nothing can be said"
    )
    lines += [f"  fails in case {one.case} ({one.about}): {one.why}" for one in checked.failures[:most]]
    more = len(checked.failures) - most
    return lines + ([f"  and in {more} cases more"] if more > 0 else [])


def _facts(when: dict[str, list[Any]]) -> str:
    return " and ".join(f"{fact} is {' or '.join(map(str, values))}" for fact, values in when.items())
