"""Why a failed array has no number for ρ: how it is unlike the expected one, other than by values that are off."""

from __future__ import annotations

from typing import Literal

from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import compared
from conformance.judging.not_finite import NOTHING
from conformance.model.outcome import Outputs, Reply
from conformance.model.results import Result
from conformance.model.statement import Statement

Mismatch = Literal["", "shape", "dtype", "kind"]


def of(exact_case: ExactCase, statement: Statement, reply: Reply, result: Result) -> Mismatch:
    """Return how an array is unlike the expected one, in a word.

    `kind`: an element must not be finite and is, or is not what it must be. Empty: it is unlike in none of these
    ways, was never given, or has a number for ρ.
    """
    outcome = reply.outcomes[result.step] if 0 <= result.step < len(reply.outcomes) else None
    got = outcome.tensors.get(result.output) if isinstance(outcome, Outputs) else None
    if result.rho != "inf" or got is None:
        return ""
    checks = compared(exact_case, statement, reply, result.step)
    wanted, worst = checks.get("trajectory", {}).get(result.output), result.deviation
    if wanted is None or worst is None:
        return wanted.unlike(got) if wanted else ""
    return "kind" if checks[worst.check][result.output].kind(tuple(worst.index)) != NOTHING else ""
