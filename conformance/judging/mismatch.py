"""Why a failed array has no ρ: in what it is unlike what was expected, beside how far its values are off."""

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
    """Return how an array is unlike the expected one.

    kind: an element must not be finite, and is, or is not as it must be.
    Empty: it is none of these, was never given, or has a ρ that is a number.
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
