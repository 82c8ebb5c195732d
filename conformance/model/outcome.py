"""What an implementation answered, step by step: an `Outcome` is one of the four below."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from conformance.model.buffers import Body, Parts, decode, in_parts
from conformance.model.spelling import Misspelt, converted, stray
from conformance.model.stopwatch import part
from reference.spec import Array


class Outputs(msgspec.Struct, frozen=True, tag="outputs"):
    """The arrays that a step returned: y, dx, dgamma, dbeta, moving_mean, moving_variance, mean, variance."""

    tensors: dict[str, Any] = {}


class Refused(msgspec.Struct, frozen=True, tag="refused", omit_defaults=True):
    """The implementation raised an exception.

    by_adapter: the suite's own adapter raised it, and not the code that it calls.
    """

    error: str
    message: str
    by_adapter: bool = False

    @property
    def not_there(self) -> bool:
        """Whether an adapter says that what it calls is not there, as in another version."""
        missing = self.error in ("AttributeError", "ImportError", "ModuleNotFoundError")
        return self.by_adapter and (missing or "unexpected keyword argument" in self.message)


class Crashed(msgspec.Struct, frozen=True, tag="crashed"):
    """The process died, ran out of memory or wrote garbage: all later steps are lost. Or it wrote to its inputs."""

    reason: str


class TimedOut(msgspec.Struct, frozen=True, tag="timed_out"):
    """There was no answer within the time limit, in seconds: of CPU while it computed, else of the clock."""

    seconds: float


Outcome = Outputs | Refused | Crashed | TimedOut


class Reply(msgspec.Struct, frozen=True):
    """One implementation's answer to one case. There are fewer outcomes than steps where it stopped early.

    cpu: seconds of CPU that it took.
    spent: how many of them are known to be of a part, `trace` or `compile`; besides, those of the `wire` before it.
    """

    request: int
    implementation: str
    outcomes: tuple[Outcome, ...]
    cpu: float = 0.0
    spent: dict[str, float] = {}

    @property
    def refused(self) -> frozenset[int]:
        """The steps that were refused. They leave the layer as it was."""
        return frozenset(t for t, outcome in enumerate(self.outcomes) if isinstance(outcome, Refused))


def split_reply(reply: Reply) -> tuple[Reply, dict[str, Array]]:
    """Return a reply without its arrays, and these by step and name: `0.y`."""
    tensors = {
        f"{t}.{name}": array
        for t, outcome in enumerate(reply.outcomes)
        if isinstance(outcome, Outputs)
        for name, array in outcome.tensors.items()
    }
    bare = tuple(Outputs() if isinstance(outcome, Outputs) else outcome for outcome in reply.outcomes)
    return msgspec.structs.replace(reply, outcomes=bare), tensors


def join_reply(bare: Reply, tensors: dict[str, Array]) -> Reply:
    """Return a reply with its arrays; the reverse of `split_reply`."""
    outcomes = tuple(
        Outputs(_of_step(tensors, t)) if isinstance(outcome, Outputs) else outcome
        for t, outcome in enumerate(bare.outcomes)
    )
    return msgspec.structs.replace(bare, outcomes=outcomes)


def reply_in_parts(reply: Reply) -> Parts:
    """Return a reply as a frame's body, in parts: what `decode_reply` reads."""
    bare, tensors = split_reply(reply)
    return in_parts({"reply": msgspec.json.encode(bare).decode()}, tensors)


@part("wire")
def decode_reply(body: Body) -> Reply:
    """Return the reply in a frame's body; raise ValueError if it holds none."""
    metadata, tensors = decode(body)
    try:
        if "reply" not in metadata:
            raise Misspelt(stray("metadata", "name of a reply", next(iter(sorted(metadata)), ""), ["reply"]))
        bare = converted(json.loads(metadata["reply"]), Reply)
    except (json.JSONDecodeError, Misspelt) as error:
        raise ValueError(f"not a reply: {error}") from error
    return join_reply(bare, tensors)


def _of_step(tensors: dict[str, Array], t: int) -> dict[str, Array]:
    prefix = f"{t}."
    return {name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)}
