"""How results are counted: one definition, whoever prints a number.

A **judged array** is one (case, implementation, step, output) of which something was decided: at least one of its
bounds is finite, or what it promises is not finite, or it is empty and has a shape and a dtype. It is counted once,
however many checks judge it, and it is PASS or FAIL. Beside arrays there are **outcomes**: a step that was refused,
crashed or timed out, as promised or not. What is INCONCLUSIVE, UNSUPPORTED or an ERROR is neither.
A **failure** is an array or an outcome that is FAIL, or an ERROR; it is counted once, however many divergences explain
it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from conformance.model.results import Result


class Counts(NamedTuple):
    """How many results there are of each kind. They add up to all results."""

    passed: int = 0
    failed: int = 0
    outcomes_passed: int = 0
    outcomes_failed: int = 0
    inconclusive: int = 0
    unsupported: int = 0
    errors: int = 0

    @property
    def judged(self) -> int:
        """How many arrays were judged."""
        return self.passed + self.failed

    @property
    def failures(self) -> int:
        """How many results fail, `Result.failed`: arrays, outcomes and errors."""
        return self.failed + self.outcomes_failed + self.errors

    @property
    def words(self) -> str:
        """The judged arrays and what became of them, then everything else, in a line whose numbers add up.

        >>> Counts(8, 1, 2, 0, 3).words
        '9 judged arrays: 8 PASS, 1 FAIL; beside them 2 refusals PASS, 3 INCONCLUSIVE'
        """
        others = {
            "refusals PASS": self.outcomes_passed,
            "refusals, crashes and the like FAIL": self.outcomes_failed,
            "INCONCLUSIVE": self.inconclusive,
            "ERROR": self.errors,
        }
        beside = ", ".join(f"{n} {what}" for what, n in others.items() if n)
        arrays = ", ".join(f"{n} {what}" for what, n in (("PASS", self.passed), ("FAIL", self.failed)) if n)
        return f"{self.judged} judged arrays: {arrays or 'none'}" + (f"; beside them {beside}" if beside else "")


def is_judged(result: Result) -> bool:
    """Return whether a result is a judged array: it has a ρ, and that is not null.

    >>> [is_judged(Result("c", "i", "PASS", rho=rho)) for rho in (0.5, "inf", None, msgspec.UNSET)]
    [True, True, False, False]
    """
    return result.rho is not None and result.rho is not msgspec.UNSET


def of(found: Iterable[Result]) -> Counts:
    """Return how many of these results are of each kind."""
    counts = dict.fromkeys(Counts._fields, 0)
    for result in found:
        counts[_kind(result)] += 1
    return Counts(**counts)


def _kind(result: Result) -> str:
    named = {"INCONCLUSIVE": "inconclusive", "UNSUPPORTED": "unsupported", "ERROR": "errors"}
    if result.verdict in named:
        return named[result.verdict]
    kind = "passed" if result.verdict == "PASS" else "failed"
    return kind if is_judged(result) else f"outcomes_{kind}"
