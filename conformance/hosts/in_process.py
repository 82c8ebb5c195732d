"""A worker without a process, for debugging: the same adapters, called directly in the host's interpreter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import msgspec

from conformance.hosts import worker as _worker
from conformance.hosts.environment import Environment, Hello, Request
from conformance.model.outcome import Reply, decode_reply

worker = cast("Any", _worker)  # Python 3.6 style, unannotated


class LocalWorker:
    """Answers as `conformance.hosts.environment.Worker` does. A crash or a hang is the host's own."""

    def __init__(self, environment: Environment) -> None:
        self.environment, self.starting = environment, 0.0
        self._ready, listing = worker.instantiate(environment.adapters, environment.device, environment.only)
        self.hello = msgspec.convert(worker.greeting(listing), Hello)

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield one reply per request and implementation."""
        for request in requests:
            body = request.body()
            whole = body if isinstance(body, bytes) else b"".join(body)
            yield from (decode_reply(b"".join(parts)) for parts in worker.replies(whole, self._ready))

    def kill(self) -> None:
        """Do nothing: there is no process to end."""

    def close(self) -> None:
        """Do nothing: there is no process to end."""
