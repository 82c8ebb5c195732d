"""Ask one saved case again."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from conformance import environment as env
from conformance.availability import advice, is_optional
from conformance.campaign import Options
from conformance.case import case_id
from conformance.codec import encode_case, read_case
from conformance.in_process import LocalWorker
from conformance.judgment import judge
from conformance.question import Question
from conformance.results import Result
from conformance.roster import Entry, environments
from conformance.statement import facts


def replay(file: Path, options: Options) -> tuple[list[Result], list[str]]:
    """Return the judgments of one case file by every implementation that supports it, and who could not be asked."""
    case, _ = read_case(file)
    entries = [e for e in options.entries if not e.statement.unsupported(facts(case))]
    identity, question = case_id(case), Question(case)
    found, missing = list[Result](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for host in environments(entries, options.interpreters):
            hosted = {entry.id: entry for entry in entries if entry.host == host.name}
            try:
                worker = _worker(host, options, Path(folder) / f"{host.name}.log")
            except env.WorkerDied as error:
                missing += _missing(hosted, dict.fromkeys(hosted, str(error)), options)
                continue
            reasons = {listing.id: listing.reason for listing in worker.hello.implementations if not listing.available}
            missing += _missing(hosted, reasons, options)
            ready = [name for name in hosted if name not in reasons]
            for reply in worker.ask([env.Request(0, functools.partial(encode_case, case), ready)]):
                found += judge(identity, question, hosted[reply.implementation].statement, reply)
            worker.close()
    return found, missing


def _worker(host: env.Environment, options: Options, log: Path) -> env.Worker | LocalWorker:
    if options.in_process:
        return LocalWorker(host)
    return env.Worker(host, options.limits, log)


def _missing(hosted: dict[str, Entry], reasons: dict[str, str], options: Options) -> list[str]:
    """Return a line for each implementation that was asked for, or should be there, and is not."""
    return [
        f"{identity} is not available: {advice(reason, hosted[identity].environment)}"
        for identity, reason in reasons.items()
        if options.requested or not is_optional(reason, hosted[identity].statement.packages)
    ]
