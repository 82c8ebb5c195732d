"""From a case and whom it is about to a script and an issue: asked, shortened, run, and set in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from conformance.cases import corpus
from conformance.gate import divergences
from conformance.gate.divergences import Divergence
from conformance.gate.explanation import FailedAnswer
from conformance.hosts.environment import Environment
from conformance.hosts.participants import Participants
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case, case_id
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.results import Result
from conformance.model.statement import Statement, recorded
from conformance.runs import replaying
from conformance.runs.recording import RecordedAnswer, Recording
from conformance.studies import recall
from conformance.studies.recall import Instead, KnownReport
from conformance.studies.upstream import issue, running
from conformance.studies.upstream.running import Ran
from conformance.studies.upstream.shorter import Telling
from conformance.studies.upstream.shown import Shown, failures, shown


class BugReport(msgspec.Struct, frozen=True):
    """A failure, told.

    title: what is wrong, in a line. script, issue: what is to be sent.
    ran: what the script printed; None where what it imports is not there. shows: it printed wrong and right.
    """

    implementation: str
    case: str
    title: str
    script: str
    issue: str
    ran: Ran | None
    shows: bool


@dataclass(frozen=True)
class Wrong:
    """An answer that is not what was expected, and by what: `name` says whose expectation it is where not promised."""

    answer: RecordedAnswer
    results: list[Result]
    statement: Statement
    name: str = ""
    known: Sequence[Divergence] = field(default_factory=list[Divergence])


def tell(part: Recording, who: Participants, instead: Instead | None, seconds: float) -> BugReport:
    """Return the failure of the first implementation that fails the case, told.

    instead: what was expected where the implementation promises otherwise. seconds: for the search for a shorter case.
    Raise `Untold` where no script tells it, InvalidInput where nothing is wrong.
    """
    asked = replaying.ask([part.case], who)[0]
    if not asked.answers:
        raise Incomplete("; ".join([*asked.missing.values(), *asked.unsupported.values()]) or "nobody was asked")
    wrong = next(filter(None, (_wrong(part.case, answer, instead) for answer in asked.answers)), None)
    if wrong is None:
        raise InvalidInput(
            f"{part.name}: nothing is wrong here of {', '.join(a.record.id for a in asked.answers)}; "
            "say what you expected with --instead FIELD=VALUE"
        )
    others = [a for a in (*asked.answers, *part.answers) if a.record.id != wrong.answer.record.id]
    return told(part.case, wrong, others, who, seconds)


def told(case: Case, wrong: Wrong, others: Sequence[RecordedAnswer], who: Participants, seconds: float) -> BugReport:
    """Return a wrong answer, told; others: further answers, of which those that are right are named."""
    one = _shown(case, wrong.answer, wrong)
    if one is None:
        raise InvalidInput(f"{wrong.answer.record.id}: of what fails there is no value to show; see bnconf explain")
    entry = next(e for e in who.entries if e.id == wrong.answer.record.id)
    alone = msgspec.structs.replace(who, entries=[entry])

    def ask(other: Case) -> RecordedAnswer | None:
        return next(iter(replaying.ask([other], alone)[0].answers), None)

    one, script = Telling(one, lambda c, a: _shown(c, a, wrong), ask, seconds).tell()
    ran = _ran(script, alone.environments()[0], seconds)
    agree = [name for name in _agreeing(one, others) if name != entry.id]
    text = issue.text(one, script, ran, agree, wrong.known, wrong.name)
    showed = ran is not None and running.shows(one, ran)
    return BugReport(entry.id, case_id(one.case), issue.title(one), script, text, ran, showed)


def _ran(script: str, host: Environment, seconds: float) -> Ran | None:
    if not host.python:
        return None
    found = running.run(script, host.python, {}, seconds)
    return None if found.unavailable else found


def _wrong(case: Case, answer: RecordedAnswer, instead: Instead | None) -> Wrong | None:
    """Return what is wrong with an answer: by what was expected, by what is promised, or by the recall list."""
    if instead is not None:
        return of_expected(case, answer, instead, "whoever asked for this report")
    if found := failures(answer):
        return of_promise(case, answer, found)
    for entry in _entries(case, answer):
        if entry.instead and (one := of_expected(case, answer, entry.instead, entry.reference, entry.outputs)):
            return one
    return None


def _entries(case: Case, answer: RecordedAnswer) -> list[KnownReport]:
    named = next((one.name for one in corpus.read() if case_id(one.case) == case_id(case)), "")
    return [entry for entry in recall.read() if entry.case == named and entry.names(answer.record.id)]


def of_promise(case: Case, answer: RecordedAnswer, found: list[Result]) -> Wrong:
    """Return failures against what is promised, with the divergences that explain the first."""
    known = divergences.read()
    why = FailedAnswer(answer.record, ExactCase(case), answer.reply).explained(found[:1], known) if answer.reply else []
    ids = {name for one in why if one.kind == "explained" for name in one.divergences}
    return Wrong(answer, found, recorded(answer.record), known=[one for one in known if one.id in ids])


def of_expected(
    case: Case, answer: RecordedAnswer, instead: Instead, name: str, outputs: Sequence[str] = ()
) -> Wrong | None:
    """Return failures against what somebody expected; None if there are none."""
    if answer.reply is None:
        return None
    statement = instead.of(recorded(answer.record))
    judged = tuple(judge(case_id(case), ExactCase(case), statement, answer.reply))
    found = failures(msgspec.structs.replace(answer, results=judged), lambda r: not outputs or r.output in outputs)
    return Wrong(answer, found, statement, name) if found else None


def _shown(case: Case, answer: RecordedAnswer, wrong: Wrong) -> Shown | None:
    """Return what there is to show of an answer to the case, or to a shorter one."""
    if answer is not wrong.answer:
        judged = tuple(judge("", ExactCase(case), wrong.statement, answer.reply)) if answer.reply else ()
        places = {result.output for result in wrong.results}
        found = failures(msgspec.structs.replace(answer, results=judged), lambda result: result.output in places)
        return shown(case, answer, found, wrong.statement)
    return shown(case, answer, wrong.results, wrong.statement)


def _agreeing(one: Shown, others: Sequence[RecordedAnswer]) -> list[str]:
    """Return who gives the same output of the same step rightly, the suite's own subjects apart."""
    right = [
        answer.record.id
        for answer in others
        for result in answer.results
        if (result.step, result.output) == (one.step, one.output) and result.verdict == "PASS"
    ]
    return [name for name in dict.fromkeys(right) if not name.startswith("numpy.")]
