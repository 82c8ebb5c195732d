"""Ask one saved case again."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from conformance import environment as env
from conformance.campaign import Options
from conformance.case import case_id
from conformance.codec import encode_case, read_case
from conformance.errors import Incomplete, InvalidInput
from conformance.in_process import LocalWorker
from conformance.judgment import judge
from conformance.question import Question
from conformance.results import Result
from conformance.roster import environments
from conformance.statement import facts


def replay(file: Path, options: Options) -> list[Result]:
    """Return the judgments of one case file by every implementation that supports it."""
    case, _ = read_case(file)
    if "0.x" not in case.tensors:
        raise InvalidInput(f"{file}: step 0 has no input; the case needs a tensor named 0.x")
    question, identity, found = Question(case), case_id(case), list[Result]()
    entries = [e for e in options.entries if not e.statement.unsupported(facts(case))]
    by_id = {entry.id: entry for entry in entries}
    with tempfile.TemporaryDirectory() as folder:
        for host in environments(entries, options.interpreters):
            log = Path(folder) / f"{host.name}.log"
            try:
                worker = (
                    LocalWorker(host, options.device)
                    if options.in_process
                    else env.Worker(host, options.device, options.limits, log)
                )
            except env.WorkerDied as error:
                raise Incomplete(f"{host.name}: {error}") from error
            ready = [i.id for i in worker.hello.implementations if i.available and i.id in by_id]
            for reply in worker.ask([env.Request(0, functools.partial(encode_case, case), ready)]):
                found += judge(identity, question, by_id[reply.implementation].statement, reply)
            worker.close()
    return found
