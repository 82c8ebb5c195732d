"""What became of a case in an environment of one release."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from conformance.model.outcome import Crashed, Outcome, Outputs, Refused, TimedOut
from conformance.model.results import Result
from conformance.runs import summary
from conformance.runs.recording import RecordedAnswer

State = Literal[
    "passes", "fails", "refuses", "crashes", "not compared", "not supported", "cannot run here", "cannot be built"
]
DECISIVE: tuple[State, ...] = ("passes", "fails", "refuses", "crashes")
"""What a release did with a case, and not why it was not asked."""
_LONGEST = 160
LOOKED_FOR = "RuntimeError: "
"""How the reason begins where an adapter looked for what an older version does not have."""
MISSING = re.compile(r"No module named '(\w+)")
_BY_OTHERS = re.compile(r"No module named|module '(numpy|jax|scipy)|cannot import")
_NOT_THERE = re.compile(
    r"(?i:(unexpected|unrecognized) keyword|unknown (keyword )?argument)|Keyword argument not understood"
    r"|has no attribute|No module named|cannot import|No such layer|keyword arguments? .*(not|un)"
)
"""How a release says that it has not yet, or no longer, what an adapter calls."""


class Effect(msgspec.Struct, frozen=True):
    """What became of one case.

    failing: the outputs that fail, worst first, with ρ; or the error. Empty where it passes.
    why: of a case that was not asked or not compared, the reason.
    asked: whether the implementation was asked, and what came of it is not due to what else is installed.
    """

    state: State
    failing: str = ""
    why: str = ""
    asked: bool = True

    @property
    def decisive(self) -> bool:
        """Whether the release answered."""
        return self.state in DECISIVE

    def __str__(self) -> str:
        """Return it in words."""
        about = self.failing or self.why
        return f"{self.state}: {about}" if about else self.state


def lacking(why: str) -> Effect:
    """Return what it comes to that an adapter cannot begin; what it looked for itself is the release's own matter."""
    said = (why.partition(" is not available: ")[2] or why).partition("; pip install ")[0]
    return Effect("cannot run here", why=said, asked=said.startswith(LOOKED_FOR))


def answered(answer: RecordedAnswer) -> Effect:
    """Return what an answer comes to: an adapter's own error is no answer of the release."""
    outcomes = answer.reply.outcomes if answer.reply else ()
    if absent := next((outcome for outcome in outcomes if _absent(outcome)), None):
        return Effect("cannot run here", why=_said(absent), asked=not _BY_OTHERS.search(_said(absent)))
    failed = sorted((r for r in answer.results if r.failed), key=lambda r: -r.size)
    if not failed:
        return _passed(answer)
    raised = [outcomes[r.step] for r in failed if r.outcome and 0 <= r.step < len(outcomes)]
    first = next((o for o in raised if not isinstance(o, Outputs)), None)
    if first is None:
        return Effect("fails", _named(failed))
    if isinstance(first, Refused):
        return Effect("refuses", _said(first))
    return Effect("crashes", _said(first), asked=False)


def _passed(answer: RecordedAnswer) -> Effect:
    judged = [result for result in answer.results if result.verdict == "PASS"]
    return (
        Effect("passes") if judged else Effect("not compared", why=answer.results[0].reason if answer.results else "")
    )


def _absent(outcome: Outcome) -> bool:
    """Return whether something is not there that is called, in the release or beside it."""
    if isinstance(outcome, Crashed):
        return bool(MISSING.search(outcome.reason))
    return isinstance(outcome, Refused) and (outcome.by_adapter or bool(_NOT_THERE.search(outcome.message)))


def _said(outcome: Outcome) -> str:
    if isinstance(outcome, Refused):
        said = outcome.message if len(outcome.message) <= _LONGEST else f"{outcome.message[:_LONGEST]}…"
        return f"{outcome.error}: {said}"
    if isinstance(outcome, TimedOut):
        return f"no answer within {outcome.seconds:g} s"
    return outcome.reason if isinstance(outcome, Crashed) else ""


def _named(failed: list[Result]) -> str:
    """Return the outputs that fail, the worst of each first, with ρ; where it answers what is to be refused, that.

    >>> _named([Result("c", "i", "FAIL", output="y", rho=3e5), Result("c", "i", "FAIL", output="y", rho=2.0)])
    'y (ρ 3e+05)'
    """
    if failed[0].outcome:
        return "answers what is to be refused"
    worst = {r.output: r for r in reversed(failed)}
    return ", ".join(f"{name} (ρ {_size(worst[name])})" for name in sorted(worst, key=lambda n: -worst[n].size))


def _size(result: Result) -> str:
    return "∞" if result.rho is msgspec.UNSET or result.rho is None else f"{summary.as_number(result.rho):.3g}"
