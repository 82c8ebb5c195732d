"""Ask saved cases again, and say what became of each answer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import structs

from conformance.hosts import availability, going_on
from conformance.hosts.participants import Participants
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case, case_id
from conformance.model.facts import Facts
from conformance.model.outcome import Reply
from conformance.model.results import ImplementationRecord, Result
from conformance.model.statement import Statement, recorded
from conformance.runs import fitting
from conformance.runs.recording import RecordedAnswer, Recording

Word = Literal["CONFORMS", "INCONCLUSIVE", "FAILS", "FIXED", "STILL FAILING", "CHANGED"]


class ReplayedCase(msgspec.Struct, frozen=True):
    """A case asked again: the answers, and why other implementations did not give one.

    missing: why an implementation could not be asked, by id.
    unsupported: why it was not asked, by id: which fact, which value, what is supported.
    """

    answers: list[RecordedAnswer]
    missing: dict[str, str]
    unsupported: dict[str, str]


def ask(
    cases: list[Case], who: Participants, wanted: list[set[str]] | None = None, *, keep: bool = True
) -> list[ReplayedCase]:
    """Ask implementations the cases that they support, and that memory holds; each environment is started once.

    wanted: the ids to ask, for each case; without it, everybody.
    keep: the arrays of the answers too, not only what was judged of them.
    """
    everybody = [{entry.id for entry in who.entries}] * len(cases)
    exact_cases = [ExactCase(case) for case in cases]
    about = [(one.facts, only) for one, only in zip(exact_cases, wanted or everybody, strict=True)]
    why = [{e.id: e.statement.unsupported(*known) for e in who.entries if e.id in only} for known, only in about]
    asked = [{identity for identity, reason in of_case.items() if not reason} for of_case in why]
    found = [_unasked(of_case) for of_case in why]
    _skip(cases, asked, found, fitting.room(who.limits))
    needed = structs.replace(who, entries=[e for e in who.entries if any(e.id in ids for ids in asked)])
    with tempfile.TemporaryDirectory() as folder:
        for host in needed.environments():
            hosted, log = needed.hosted(host), Path(folder) / f"{host.name}.log"
            started = availability.hosting(host, hosted, who.limits, log, in_process=who.in_process)
            with started as there:
                worker, records, _ = there
                gone = availability.missing(there, requested=who.requested)
                for one, ids in zip(found, asked, strict=True):
                    one.missing.update({n: f"{n} is not available: {why}" for n, why in gone.items() if n in ids})
                ready = {record.id: record for record in records if record.available}
                promised = {identity: recorded(record) for identity, record in ready.items()}
                _narrow(asked, found, promised, [one.facts for one in exact_cases])
                asking = _questions(cases, asked, list(ready))
                for reply in going_on.ask(worker, asking, promised) if worker else ():
                    answer = _answer(exact_cases[reply.request], ready, reply)
                    found[reply.request].answers.append(answer if keep else structs.replace(answer, reply=None))
    return found


def _skip(cases: list[Case], asked: list[set[str]], found: list[ReplayedCase], room: fitting.Room) -> None:
    """Ask nobody the cases that memory does not hold, and say so."""
    for case, ids, one in zip(cases, asked, found, strict=True):
        if needed := room.lacking(case.nbytes):
            one.missing.update(dict.fromkeys(ids, f"case {case_id(case)}: {room.refusal(needed)}"))
            ids.clear()


def _narrow(
    asked: list[set[str]], found: list[ReplayedCase], promised: dict[str, Statement], facts: list[list[Facts]]
) -> None:
    """Do not ask what the installed versions do not support, and say so."""
    for ids, one, steps in zip(asked, found, facts, strict=True):
        why = {identity: promised[identity].unsupported(*steps) for identity in ids & promised.keys()}
        one.unsupported.update((identity, reason) for identity, reason in why.items() if reason)
        ids.difference_update(one.unsupported)


def _unasked(why: dict[str, str]) -> ReplayedCase:
    return ReplayedCase([], {}, {identity: reason for identity, reason in why.items() if reason})


def _questions(cases: list[Case], asked: list[set[str]], ready: list[str]) -> Iterator[going_on.AskedCase]:
    for number, (case, ids) in enumerate(zip(cases, asked, strict=True)):
        if names := [name for name in ready if name in ids]:
            yield going_on.AskedCase(number, case, names)


def _answer(exact_case: ExactCase, records: dict[str, ImplementationRecord], reply: Reply) -> RecordedAnswer:
    record = records[reply.implementation]
    statement = recorded(record)
    return RecordedAnswer(record, tuple(judge(case_id(exact_case.case), exact_case, statement, reply)), reply)


def judged_again(recording: Recording) -> list[RecordedAnswer]:
    """Return the recorded answers, judged anew by today's bounds, without any framework."""
    exact_case = ExactCase(recording.case)
    return [_answer(exact_case, {a.record.id: a.record}, a.reply) for a in recording.answers if a.reply]


def word(now: tuple[Result, ...], before: tuple[Result, ...] | None) -> Word:
    """Return what became of an answer; before: what was recorded of it, None if nothing was.

    `INCONCLUSIVE`: nothing fails, but some output was never judged, or none was; so neither CONFORMS nor FIXED is true.
    `FIXED`: it failed, and conforms. `STILL FAILING`: it fails in the same outputs of the same steps. `CHANGED`: it
    fails in others, or had not failed.
    """
    fails, failed_before = _places(now), None if before is None else _places(before)
    if not fails and (not now or any(result.verdict in ("INCONCLUSIVE", "UNSUPPORTED") for result in now)):
        return "INCONCLUSIVE"
    if failed_before is None:
        return "FAILS" if fails else "CONFORMS"
    if not fails:
        return "FIXED" if failed_before else "CONFORMS"
    return "STILL FAILING" if fails == failed_before else "CHANGED"


def _places(judged: tuple[Result, ...]) -> set[tuple[int, str, str]]:
    return {(result.step, result.output, result.outcome) for result in judged if result.failed}
