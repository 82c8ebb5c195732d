"""Ask saved cases again, and say what became of each answer."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from conformance import availability
from conformance import environment as env
from conformance.campaign import Options
from conformance.case import Case, case_id
from conformance.codec import encode_case
from conformance.in_process import LocalWorker
from conformance.judgment import judge
from conformance.question import Question
from conformance.recording import Answer, Recording
from conformance.results import Result
from conformance.roster import Entry, environments
from conformance.statement import Statement, facts

Word = Literal["CONFORMS", "FAILS", "FIXED", "STILL FAILING", "CHANGED"]


class Asked(msgspec.Struct, frozen=True):
    """A case asked again: the answers, and for each implementation that could not be asked a line that says why."""

    answers: list[Answer]
    missing: dict[str, str]


def ask(cases: list[Case], options: Options) -> list[Asked]:
    """Ask every implementation that supports them all of these cases, each environment started once."""
    found = [Asked([], {}) for _ in cases]
    supported = [{e.id for e in options.entries if not e.statement.unsupported(facts(case))} for case in cases]
    entries = [entry for entry in options.entries if any(entry.id in ids for ids in supported)]
    with tempfile.TemporaryDirectory() as folder:
        for host in environments(entries, options.interpreters):
            hosted = {entry.id: entry for entry in entries if entry.host == host.name}
            _ask(host, hosted, cases, supported, options, Path(folder) / f"{host.name}.log", found)
    return found


def _ask(
    host: env.Environment,
    hosted: dict[str, Entry],
    cases: list[Case],
    supported: list[set[str]],
    options: Options,
    log: Path,
    found: list[Asked],
) -> None:
    try:
        worker = LocalWorker(host) if options.in_process else env.Worker(host, options.limits, log)
    except env.WorkerDied as error:
        _missing(hosted, dict.fromkeys(hosted, str(error)), supported, options, found)
        return
    listings = {listing.id: listing for listing in worker.hello.implementations}
    gone = dict.fromkeys(hosted.keys() - listings.keys(), "its worker does not know it")
    gone |= {name: listing.reason for name, listing in listings.items() if not listing.available}
    _missing(hosted, gone, supported, options, found)
    records = {
        name: availability.record(entry, listings[name], worker.hello.versions)
        for name, entry in hosted.items()
        if name not in gone
    }
    for reply in worker.ask(_requests(cases, [[name for name in records if name in ids] for ids in supported])):
        case, entry = cases[reply.request], hosted[reply.implementation]
        judged = judge(case_id(case), Question(case), entry.statement, reply)
        found[reply.request].answers.append(Answer(records[entry.id], tuple(judged), reply))
    worker.close()


def _requests(cases: list[Case], wanted: list[list[str]]) -> Iterator[env.Request]:
    for number, (case, names) in enumerate(zip(cases, wanted, strict=True)):
        if names:
            yield env.Request(number, functools.partial(encode_case, case), list(names))


def _missing(
    hosted: dict[str, Entry], reasons: dict[str, str], supported: list[set[str]], options: Options, found: list[Asked]
) -> None:
    """Note each implementation that was asked for, or should be there, and is not."""
    for name, reason in reasons.items():
        if name in hosted and (
            options.requested or not availability.is_optional(reason, hosted[name].statement.packages)
        ):
            line = f"{name} is not available: {availability.advice(reason, hosted[name].environment)}"
            for asked, ids in zip(found, supported, strict=True):
                if name in ids:
                    asked.missing[name] = line


def judged_again(recording: Recording) -> list[Answer]:
    """Return the recorded answers judged anew: by today's bounds, and without any framework."""
    question = Question(recording.case)
    return [
        msgspec.structs.replace(
            answer,
            results=tuple(
                judge(recording.id, question, msgspec.convert(answer.record.statement, Statement), answer.reply)
            ),
        )
        for answer in recording.answers
        if answer.reply
    ]


def word(now: tuple[Result, ...], before: tuple[Result, ...] | None) -> Word:
    """Return what became of an answer; before: what was recorded of it, None where nothing was.

    `FIXED`: it failed, and conforms. `STILL FAILING`: in the same outputs of the same steps. `CHANGED`: it fails
    elsewhere than it did, or failed nowhere.
    """
    fails, failed_before = _places(now), None if before is None else _places(before)
    if failed_before is None:
        return "FAILS" if fails else "CONFORMS"
    if not fails:
        return "FIXED" if failed_before else "CONFORMS"
    return "STILL FAILING" if fails == failed_before else "CHANGED"


def _places(judged: tuple[Result, ...]) -> set[tuple[int, str, str]]:
    return {(result.step, result.output, result.outcome) for result in judged if result.failed}
