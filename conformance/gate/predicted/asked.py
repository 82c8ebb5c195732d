"""What a formula of a wrong value is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conformance.judging.exact_case import ExactCase
from conformance.judging.expected import Expected
from conformance.model.outcome import Reply
from conformance.model.statement import Statement


@dataclass(frozen=True)
class WrongValue:
    """One output of one step of an answer, and the statement by which it is judged."""

    exact_case: ExactCase
    statement: Statement
    reply: Reply
    t: int
    output: str


Formula = Callable[[WrongValue], Expected | None]
"""Returns the wrong value that an output is known to have, with the error allowed; None if none is known."""
