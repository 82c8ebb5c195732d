"""Whether what was identified is so: the statement is held to every answer, and to cases that no probe asks.

Probes are small. A statement that explains them may fail at sizes that a kernel takes in blocks, or where rounding
shows; so the cases of a small run are asked too, and a ladder of sizes, none of which a power of two divides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from conformance import strategies
from conformance.audit import classes, making, raising, stating
from conformance.audit.identifying import Identified
from conformance.audit.making import Place
from conformance.case import Case, case_id
from conformance.judgment import judge
from conformance.outcome import Outputs, Refused, Reply
from conformance.question import Question
from conformance.results import Result
from conformance.statement import Statement, channels, facts, step_facts
from reference.spec import reduced_axes

_N = (33, 65, 127, 257, 1025, 4099)
_FAR, _CHANNELS = 65_539, (65, 257, 1025)
_SEED = 0


class Failure(msgspec.Struct, frozen=True):
    """A case in which the statement fails. n: values per channel of its first step. why: which output, and how far."""

    case: str
    about: str
    n: int
    why: str


class Checked(msgspec.Struct, frozen=True):
    """A statement, and how the answers conform to it.

    statement: as data. numerics: what it says of itself that had to change. conformed, undecided: arrays and steps.
    tried: what was asked, in words. largest: N per channel, and channels, of what conforms.
    """

    statement: dict[str, Any]
    numerics: dict[str, Any]
    refusals: list[dict[str, Any]]
    conformed: int
    undecided: int
    failed: int
    failures: list[Failure]
    tried: list[str]


class _Holding:
    """All answers, held to one statement after another."""

    def __init__(self, answers: Iterable[tuple[Case, Reply]]) -> None:
        self.answers = [(case, Question(case), reply) for case, reply in answers]

    def to(self, written: dict[str, Any], only: set[str] | None = None) -> dict[str, list[Result]]:
        """Return the verdicts by case; only: on these cases."""
        statement, found = msgspec.convert(written, Statement), dict[str, list[Result]]()
        for case, question, reply in self.answers:
            identity = case_id(case)
            if (only is None or identity in only) and not statement.unsupported(facts(case)):
                found[identity] = judge(identity, question, statement, reply)
        return found


def check(statement: Statement, identified: Identified) -> Checked:
    """Return the statement that was identified, with what the answers to more cases say of it."""
    for case in _more(statement, identified):
        identified.ask(case)
    holding = _Holding(identified.ask.answers.values())
    written = stating.proposed(statement, identified.found)
    refusals = raising.refusals(*_raised(holding, holding.to(written)))
    written = stating.proposed(statement, identified.found, refusals)
    results = holding.to(written)
    numerics = _fitted(statement, identified, refusals, holding, results)
    if numerics:
        written = stating.proposed(statement, identified.found, refusals, numerics)
        results = holding.to(written)
    verdicts = [result.verdict for found in results.values() for result in found]
    failures = [_failure(case, found) for case, _, _ in holding.answers if (found := _failing(case, results))]
    failed = sum(verdict in ("FAIL", "ERROR") for verdict in verdicts)
    conformed, undecided = verdicts.count("PASS"), verdicts.count("INCONCLUSIVE")
    tried = _tried([case for case, _, _ in holding.answers if case_id(case) in results], {f.case for f in failures})
    return Checked(written, numerics, refusals, conformed, undecided, failed, failures, tried)


# --- what is asked ----------------------------------------------------------------------------------------------


def _more(statement: Statement, identified: Identified) -> Iterator[Case]:
    """Yield the cases to ask beside the probes: a ladder of sizes, and what a small run asks."""
    for plain in _sizes(statement, identified):
        wanted = [making.first(plain), plain] if "dx" in statement.outputs else [plain]
        yield from [case for case in wanted if not statement.unsupported(facts(case))][:1]
    pooled = list[strategies.Signature]()
    for recipe, case in strategies.cases(_SEED, strategies.SMOKE):
        if statement.unsupported(facts(case)):
            continue
        if recipe.signature not in pooled:
            if statement.compiled and (not recipe.pooled or len(pooled) == statement.signatures):
                continue
            pooled.append(recipe.signature)
        yield case


def _sizes(statement: Statement, identified: Identified) -> Iterator[Case]:
    """Yield plain cases in which ever more is averaged, and of ever more channels: whole rows, then places in a row."""
    places = list({_kind(p): p for found in identified.found for p in reversed(found.places)}.values())
    few = statement.compiled
    for place in places:
        for n in (65, 257, 4099) if few else _N:
            yield making.sized(place, _shape(place, n, 3))
        for c in (257,) if few else _CHANNELS:
            yield making.sized(place, _shape(place, 8, c))
    for place in places[:1]:
        yield making.sized(place, _shape(place, _FAR, 1))
        other = {d for found in identified.found for d in found.taken} - {place.dtype}
        for dtype in sorted(other):
            for n in (257, 4099):
                yield making.sized(place._replace(dtype=dtype), _shape(place, n, 3))


def _kind(place: Place) -> tuple[int, int, str]:
    """Return what kernels choose by: the rank, of which 2 is one kind and more another, the kept axis, the dtype."""
    return min(len(place.shape), 3), place.axis, place.dtype


def _shape(place: Place, n: int, channels: int) -> tuple[int, ...]:
    """Return a shape with n values per channel: n rows for rank 2, else two samples of which one is n - n // 2 long."""
    rank = len(place.shape)
    shape = [1] * rank
    shape[place.axis % rank] = channels
    shape[0 if rank == 2 else next(a for a in range(1, rank) if a != place.axis % rank)] = n
    return tuple(shape)


# --- what the answers say ---------------------------------------------------------------------------------------


def _raised(holding: _Holding, results: dict[str, list[Result]]) -> tuple[list[tuple[str, Any]], list[Any]]:
    """Return the error and the facts of each step that raised and should not have, and the facts of those answered."""
    raised, answered = list[tuple[str, Any]](), list[Any]()
    for case, _, reply in holding.answers:
        failed = {r.step for r in results.get(case_id(case), []) if r.verdict == "FAIL" and r.outcome == "Refused"}
        for t, outcome in enumerate(reply.outcomes):
            if isinstance(outcome, Refused) and t in failed:
                raised.append((outcome.error, step_facts(case, t)))
            elif isinstance(outcome, Outputs):
                answered.append(step_facts(case, t))
    return raised, answered


def _fitted(
    statement: Statement,
    identified: Identified,
    refusals: list[dict[str, Any]],
    holding: _Holding,
    results: dict[str, list[Result]],
) -> dict[str, Any]:
    """Return the numerics under which most of the failing cases that are nearest to conform do; none where few would.

    What is far off is no matter of rounding, and neither is another dtype.
    """
    near = {case: max(r.size for r in found if r.failed) for case, found in results.items() if _is_number(found)}
    failing = set(sorted(near, key=lambda case: near[case])[:_MOST])
    best, least = dict[str, Any](), len(failing) // 2 + 1
    for numerics in classes.others() if failing else ():
        written = stating.proposed(statement, identified.found, refusals, numerics)
        left = sum(any(r.failed for r in found) for found in holding.to(written, failing).values())
        if left < least:
            best, least = numerics, left
        if not left:
            break
    return best


_MOST = 8
"""How many cases numerics are fitted to."""


def _is_number(found: list[Result]) -> bool:
    """Return whether a case fails, and by numbers alone."""
    failed = [r for r in found if r.failed]
    return bool(failed) and all(isinstance(r.rho, float) for r in failed)


def _failing(case: Case, results: dict[str, list[Result]]) -> list[Result]:
    return [result for result in results.get(case_id(case), []) if result.failed]


def _failure(case: Case, failed: list[Result]) -> Failure:
    worst = max(failed, key=lambda r: r.size)
    outputs = ", ".join(dict.fromkeys(result.output for result in failed))
    rho = worst.rho if isinstance(worst.rho, float) else "infinite" if worst.rho == "inf" else ""
    why = f"{outputs}: {worst.reason or f'{worst.output} of step {worst.step}'}" + (f", ρ {rho}" if rho else "")
    about = facts(case)
    words = [f"shape {'×'.join(map(str, case.shape))}", f"axis {case.spec.axis}", f"{about['dtype']}"]
    words += [
        f"{name} {about[name]}" for name in ("mask", "start", "resized", "misplaced") if about[name] not in _USUAL
    ]
    return Failure(case_id(case), ", ".join(words), _values(case), why)


_USUAL = (False, "given")


def _values(case: Case) -> int:
    """Return how many values per channel the largest step of a case has."""
    sizes = [
        case.x(t).size // max(channels(case, t), 1)
        for t in range(len(case.steps))
        if reduced_axes(case.spec, case.x(t).ndim)
    ]
    return max(sizes, default=1)


def _tried(cases: list[Case], failing: set[str]) -> list[str]:
    """Return what was asked, in words, and up to which sizes it conforms."""
    about = [facts(case) for case in cases]

    def of(fact: str) -> str:
        return ", ".join(map(str, sorted({str(one[fact]) for one in about})))

    asked = [
        f"{len(cases)} cases: dtypes {of('dtype')}; ranks {of('rank')}; kept axis {of('channel')}",
        f"layouts {of('layout')}",
    ]
    asked.append(
        f"derivatives {of('differentiation')}; masks {of('mask')}; renorm {of('renorm')}; virtual {of('virtual')}"
    )
    modes = sorted({step.mode for case in cases for step in case.steps})
    most = max((max(channels(case, t) for t in range(len(case.steps))) for case in cases), default=0)
    asked.append(
        f"modes {', '.join(modes)}; up to {max(map(_values, cases), default=0)} values per channel, {most} channels"
    )
    return asked + _limit(cases, failing)


def _limit(cases: list[Case], failing: set[str]) -> list[str]:
    """Return from which size on every case fails, where there is one such size."""
    wrong = [_values(case) for case in cases if case_id(case) in failing]
    right = [_values(case) for case in cases if case_id(case) not in failing]
    if not wrong or not right or min(wrong) <= max(right):
        smallest = min(wrong, default=0)
        below = max((n for n in right if n < smallest), default=0)
        return [
            f"every case of up to {below} values per channel conforms; some with more fail, {smallest} first"
        ] * bool(below)
    return [f"every case of up to {max(right)} values per channel conforms, and every one from {min(wrong)} on fails"]


def words(checked: Checked, most: int = 6) -> list[str]:
    """Return how the answers conform to a statement, as lines for people."""
    lines = [f"tried: {checked.tried[0]}", *(f"  {line}" for line in checked.tried[1:])]
    lines += [f"raised {r['error'][0]} where {_facts(r['when'])}: stated as a refusal" for r in checked.refusals]
    if checked.numerics:
        lines.append(f"computed with {classes.words(checked.numerics)}: what it says of itself fails")
    lines.append(
        f"of {checked.conformed + checked.failed + checked.undecided} arrays and steps {checked.conformed} conform to "
        f"this statement, {checked.failed} fail, and of {checked.undecided} nothing can be said"
    )
    lines += [f"  fails in case {one.case} ({one.about}): {one.why}" for one in checked.failures[:most]]
    more = len(checked.failures) - most
    return lines + ([f"  and in {more} cases more"] if more > 0 else [])


def _facts(when: dict[str, list[Any]]) -> str:
    return " and ".join(f"{fact} is {' or '.join(map(str, values))}" for fact, values in when.items())
