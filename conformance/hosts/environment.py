"""Environments and their worker processes: started, asked, timed, and replaced when they die."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from conformance.hosts.machine import PINNED
from conformance.hosts.process import Process, WorkerSilent
from conformance.hosts.process import WorkerDied as WorkerDied
from conformance.model.buffers import Parts, decode
from conformance.model.outcome import Crashed, Outcome, Refused, Reply, TimedOut, decode_reply
from conformance.model.spelling import Misspelt, converted, stray
from conformance.model.stopwatch import part

WORKER = Path(__file__).with_name("worker.py")
PROTOCOL = 1  # of PROTOCOL.md; worker.py, which imports nothing of ours, has it too
WINDOW = 3  # requests in flight: judging overlaps with the worker

_LOST = re.compile(
    "CUDA error: (?!out of memory|invalid argument|no kernel image)|CUDA_ERROR_(ILLEGAL|LAUNCH|ASSERT|MISALIGNED)"
    "|device-side assert|unspecified launch failure"
)
_XLA = "XLA_FLAGS"
_HIDDEN = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
_SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}  # workers share one GPU


class Limits(msgspec.Struct, frozen=True):
    """How many seconds of `Patience` a worker has to start and to answer one case, and how many GiB it may allocate.

    memory: as was said, for a worker on a CPU and for what asking one case takes; None: 8, and for a case no more than
        there is.
    """

    start: float = 180.0
    case: float = 120.0
    memory: float | None = None

    @property
    def gib(self) -> float:
        """How many GiB asking a case may take, and its answer on a CPU."""
        return self.memory or 8.0

    def of_worker(self, device: str) -> float:
        """How many GiB a worker may allocate; 0: any, since CUDA reserves much that it never uses."""
        return self.gib if device == "cpu" else 0.0


class Environment(msgspec.Struct, frozen=True):
    """A Python that hosts adapters, or a program that speaks the protocol itself.

    adapters: the targets it hosts.
    only: the ids that are wanted of them; empty: all.
    python: the interpreter; empty if `bnconf env create` has yet to make it.
    variables: what the worker's environment variables are set to.
    device: where the implementations run.
    program: the command line of an executable that speaks the protocol itself; nothing is hosted for it.
    """

    name: str
    adapters: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    python: str = sys.executable
    variables: dict[str, str] = {}
    device: str = "cpu"
    program: tuple[str, ...] = ()

    def command(self, limits: Limits) -> list[str]:
        """Return the command line that starts its worker."""
        if self.program:
            return list(self.program)
        if not self.python:
            raise NotCreated(f"not created; bnconf env create {self.name}")
        options = ["--device", self.device, "--memory", str(limits.of_worker(self.device))]
        options += [argument for identity in self.only for argument in ("--only", identity)]
        return [self.python, str(WORKER), *options, *self.adapters]

    def settings(self) -> dict[str, str]:
        """Return the environment variables of its worker that are not the host's own."""
        variables = PINNED | {"BNCONF_DEVICE": self.device}
        variables |= _HIDDEN if self.device == "cpu" else _SHARED
        if said := os.environ.get(_XLA):  # what the user says comes last, and wins
            variables[_XLA] = f"{variables[_XLA]} {said}"
        return variables | self.variables

    def process(self, limits: Limits, log: Path) -> Process:
        """Start its worker."""
        limit = limits.of_worker(self.device) or None if self.program else None  # worker.py limits itself
        return Process(self.command(limits), self.settings(), log, limit)


class Listing(msgspec.Struct, frozen=True):
    """One implementation as its worker announced it.

    about: what it runs on besides versions, such as the GPU.
    narrower: of `supports`, the facts of which the version that is installed allows fewer values, with those.
    """

    id: str
    statement: dict[str, Any]
    available: bool = True
    reason: str = ""
    about: dict[str, str] = {}
    absent: str = ""
    narrower: dict[str, list[Any]] = {}


class Hello(msgspec.Struct, frozen=True):
    """A worker's first frame."""

    protocol: int
    implementations: list[Listing]
    versions: dict[str, str] = {}
    pid: int = 0
    cpu: float = 0.0


class NotCreated(WorkerDied):
    """Its interpreter is yet to be made."""


class Unreadable(WorkerDied):
    """The worker's hello has meaningless words in it. The message names the nearest right one."""


class Request(msgspec.Struct):
    """A request in flight: a case's bytes, and the implementations that still owe an answer."""

    number: int
    encode: Callable[[dict[str, str]], bytes | Parts]
    implementations: list[str]

    @part("wire")
    def body(self) -> bytes | Parts:
        """Return the request as a frame's body, whole or in parts."""
        asked = {"id": self.number, "implementations": self.implementations}
        return self.encode({"request": json.dumps(asked)})


def _hello(body: bytes) -> Hello:
    """Return a worker's first frame; raise ValueError if it is none, or of another version of the protocol."""
    metadata, _ = decode(body)
    try:
        if "hello" not in metadata:
            raise Misspelt(stray("metadata", "name of a first frame", next(iter(sorted(metadata)), ""), ["hello"]))
        said = json.loads(metadata["hello"])
        spoken = cast("dict[str, Any]", said).get("protocol") if isinstance(said, dict) else None
        if isinstance(spoken, bool) or not isinstance(spoken, int) or spoken == PROTOCOL:
            return converted(said, Hello)
    except (json.JSONDecodeError, Misspelt) as error:
        raise Misspelt(f"the worker's first frame is no hello: {error}") from error
    raise ValueError(f"the worker speaks protocol {spoken}, this bnconf speaks {PROTOCOL}; update the older of the two")


class Worker:
    """The worker of an environment, whichever process that is at the moment.

    starting: seconds of CPU that its processes took until they said hello.
    """

    def __init__(
        self,
        environment: Environment,
        limits: Limits,
        log: Path,
        started: Callable[[str, int], None] = lambda _name, _pid: None,
    ) -> None:
        self.environment, self.limits, self.log, self._started = environment, limits, log, started
        self._broken, self.starting = False, 0.0
        self.hello = self._start()

    def kill(self) -> None:
        """End the process at once, without waiting."""
        self._process.kill()

    def _start(self) -> Hello:
        self._process = self.environment.process(self.limits, self.log)
        self._started(self.environment.name, self._process.pid)
        try:
            hello = _hello(self._process.receive(self.limits.start))
            self.starting += hello.cpu
            return hello
        except WorkerSilent:
            reason = f"the worker did not say hello within {self.limits.start:g} s"
        except Misspelt as error:
            self._process.close()
            raise Unreadable(f"{error}; see {self.log}") from error
        except (WorkerDied, ValueError) as error:
            reason = f"{error}, before it said hello"
        self._process.close()
        raise WorkerDied(f"{reason}; see {self.log}")

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield one reply per request and implementation. A crash or a hang is the outcome of one of them."""
        pending: deque[Request] = deque()
        for request in requests:
            pending.append(request)
            if not self._broken:
                self._process.send(request.body())
            while len(pending) >= WINDOW:
                yield from self._settle(pending)
        while pending:
            yield from self._settle(pending)

    def _settle(self, pending: deque[Request]) -> Iterator[Reply]:
        """Yield every reply to the oldest request."""
        request = pending[0]
        while request.implementations:
            yield self._next(request, pending)
        pending.popleft()

    def _next(self, request: Request, pending: deque[Request]) -> Reply:
        if self._broken:
            self._restart(pending)
        owed, started = request.implementations[0], time.monotonic()
        try:
            reply = decode_reply(self._process.receive(self.limits.case))
            if (reply.request, reply.implementation) != (request.number, owed):
                raise ValueError(f"it answered {reply.implementation} of request {reply.request}")
            request.implementations.pop(0)
            return self._unless_lost(reply)
        except WorkerSilent:
            outcome: Outcome = TimedOut(self.limits.case)
        except WorkerDied as error:
            outcome = Crashed(str(error))
        except ValueError as error:
            outcome = Crashed(f"the worker wrote garbage: {error}")
        request.implementations.pop(0)
        self._broken = True  # the next question starts a new process; this answer must not wait for one
        return Reply(request.number, owed, (outcome,), cpu=time.monotonic() - started)

    def _unless_lost(self, reply: Reply) -> Reply:
        """Return a reply; a crash where the GPU was lost in it: whatever the process asks of it from then on fails.

        https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html: "the process must be terminated"
        """
        outcomes = list(reply.outcomes)
        for t, outcome in enumerate(outcomes):
            if isinstance(outcome, Refused) and self.environment.device != "cpu" and _LOST.search(outcome.message):
                self._broken = True
                lost = Crashed(f"the GPU was lost: {outcome.error}: {outcome.message}")
                return msgspec.structs.replace(reply, outcomes=(*outcomes[:t], lost))
        return reply

    def _restart(self, pending: deque[Request]) -> None:
        """Start a new process and ask it what the old one still owed."""
        self._process.close()
        self._start()
        self._broken = False
        for request in pending:
            if request.implementations:
                self._process.send(request.body())

    def close(self) -> None:
        """End the process."""
        self._process.close()
