"""What follows a refusal: the rest of a case is asked again, without the step that was refused.

A refused call leaves the layer as it was (BN-32), so that what comes after it follows from what came before. A worker's
answer ends with its first refusal. The host asks the case again without that step, and puts the new outcomes where they
belong in the whole answer, which recordings keep and which is judged as one.
"""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from conformance.hosts.environment import Request
from conformance.model.case import Case, without
from conformance.model.case_facts import every_step
from conformance.model.codec import case_in_parts
from conformance.model.facts import Facts
from conformance.model.outcome import Outcome, Outputs, Refused, Reply
from conformance.model.statement import Statement


class AskedCase(msgspec.Struct, frozen=True):
    """A case on its way to a worker: its number, and the implementations that are to answer it."""

    number: int
    case: Case
    implementations: list[str]

    def request(self) -> Request:
        """Return the request for a worker."""
        return Request(self.number, functools.partial(case_in_parts, self.case), list(self.implementations))


class Answering(Protocol):
    """Who answers requests: a worker, or one in this process."""

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield one reply per request and implementation."""
        ...


def ask(worker: Answering, questions: Iterable[AskedCase], statements: Mapping[str, Statement]) -> Iterator[Reply]:
    """Yield one reply per case and implementation, complete beyond every refusal.

    statements: by id. An implementation that does not support what is left of a case is not asked it.
    """
    cases: dict[int, Case] = {}
    begun: dict[tuple[int, str], Reply] = {}
    again: deque[Request] = deque()
    facts: dict[tuple[int, frozenset[int]], list[Facts]] = {}  # of what is left, the same for all who refused the same

    def requests() -> Iterator[Request]:
        for question in questions:
            cases[question.number] = question.case
            yield question.request()
            while again:
                yield again.popleft()

    def may_go_on(rest: Case, reply: Reply) -> bool:
        key = reply.request, reply.refused
        if key not in facts:
            facts[key] = every_step(rest)
        return not statements[reply.implementation].unsupported(*facts[key])

    pending = requests()
    while True:
        for reply in worker.ask(pending):
            key = reply.request, reply.implementation
            before = begun.pop(key, None)
            whole = reply if before is None else joined(before, reply)
            stuck = before is not None and len(before.outcomes) == len(whole.outcomes)
            rest = None if stuck else left(cases[reply.request], whole)
            if rest is not None and may_go_on(rest, whole):
                begun[key] = whole
                again.append(AskedCase(reply.request, rest, [reply.implementation]).request())
            else:
                yield whole
        if not again:
            return
        pending = iter([again.popleft() for _ in range(len(again))])


def left(case: Case, reply: Reply) -> Case | None:
    """Return the case without the refused step; None if the answer did not end with a refusal, or all its members' was.

    A call of an ensemble that is refused is a step of each of its members.
    """
    answered = reply.outcomes
    if (
        case.actions.members > 1
        or not answered
        or not isinstance(answered[-1], Refused)
        or len(answered) >= len(case.steps)
    ):
        return None
    return without(case, reply.refused)


def joined(whole: Reply, rest: Reply) -> Reply:
    """Return an answer with the outcomes of the case without the refused steps; outcomes it has already stay."""
    before = sum(t not in whole.refused for t in range(len(whole.outcomes)))
    new: tuple[Outcome, ...] = rest.outcomes[before:]
    died = rest.outcomes[-1:]
    if not new and died and not isinstance(died[0], Outputs | Refused):
        new = died  # a worker that dies says of no step which it was
    spent = dict(Counter(whole.spent) + Counter(rest.spent))
    return msgspec.structs.replace(whole, outcomes=whole.outcomes + new, cpu=whole.cpu + rest.cpu, spent=spent)
