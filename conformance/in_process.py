"""A worker without a process, for debugging: the same adapters, called directly, in the host's interpreter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import msgspec

from conformance import worker
from conformance.codec import decode
from conformance.environment import Environment, Hello, Question
from conformance.outcome import Reply, decode_reply


class LocalWorker:
    """Answers like `conformance.environment.Worker`; a crash or a hang is the host's own."""

    def __init__(self, environment: Environment, device: str) -> None:
        self.environment = environment
        self._ready, listing = worker.instantiate(environment.adapters, device, environment.only)
        versions = worker.versions(sorted({name for entry in listing for name in entry["statement"]["packages"]}))
        hello = {"protocol": worker.PROTOCOL, "pid": 0, "implementations": listing, "versions": versions}
        self.hello = msgspec.convert(hello, Hello)

    def ask(self, questions: Iterable[Question]) -> Iterator[Reply]:
        """Yield one reply per question and implementation."""
        for question in questions:
            metadata, tensors = decode(question.body())
            request, fields = json.loads(metadata["request"]), json.loads(metadata["case"])
            for identity in request["implementations"]:
                yield decode_reply(worker.answer(self._ready[identity], identity, request["id"], fields, tensors))

    def close(self) -> None:
        """Nothing to end."""
