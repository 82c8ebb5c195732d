"""What a formula of a wrong value is asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conformance.judging.exact_case import ExactCase
from conformance.judging.expected import Expected
from conformance.model.outcome import Reply
from conformance.model.statement import Statement


@dataclass(frozen=True)
class WrongValue:
    """One output of one step of an answer, and the statement that it is judged by."""

    exact_case: ExactCase
    statement: Statement
    reply: Reply
    t: int
    output: str


Formula = Callable[[WrongValue], Expected | None]
"""What an output is known to be instead of what is right, with the error allowed; None: nothing is known of it."""
