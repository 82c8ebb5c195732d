"""Ways asked and judged in this process: a process for each would cost more than all their arithmetic."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from conformance.hosts.environment import Environment, Request
from conformance.hosts.in_process import LocalWorker
from conformance.judging.judgment import judge
from conformance.model.codec import encode_case
from conformance.model.results import Result
from conformance.model.statement import Statement
from conformance.runs.run_case import RunCase

WAYS = str(Path(__file__).resolve().parent / "ways.py")


class Panel:
    """The ways of an adapter; names: of those wanted, all where there are none."""

    def __init__(self, adapter: str = WAYS, names: Sequence[str] = ()) -> None:
        only = tuple(f"way.{name}@cpu" for name in names)
        self.worker = LocalWorker(Environment("ways", (adapter,), only))
        listed = self.worker.hello.implementations
        assert all(listing.available for listing in listed), listed
        self.statements = {one.id: msgspec.convert(one.statement, Statement).on("cpu") for one in listed}

    def results(self, item: RunCase) -> Iterator[Result]:
        """Yield what the judge says of each way's answer to a case."""
        asked = [identity for identity, stated in self.statements.items() if not stated.unsupported(*item.facts)]
        request = Request(item.index, functools.partial(encode_case, item.case), asked)
        with contextlib.redirect_stderr(io.StringIO()):  # a worker's log
            for reply in self.worker.ask([request] if asked else []):
                yield from judge(item.id, item.exact_case, self.statements[reply.implementation], reply)
