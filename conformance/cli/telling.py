"""What fails in a run, told while it runs: each kind once, and whether the list of known divergences explains it."""

from __future__ import annotations

import re
import textwrap
import threading
from collections import defaultdict

from conformance.gate.divergences import Divergence
from conformance.gate.explanation import Explained, Explanation, FailedAnswer, Statements
from conformance.model.results import Deviation, ImplementationRecord, Result
from conformance.runs import summary
from conformance.runs.progress import FailedReply
from conformance.runs.run_case import RunCase

_LONGEST = 240
"""Letters of a message that are told; the report has all of it."""
_KEPT = 20_000
"""Answers of which it is kept what the known divergences make of them; the others are judged again at the end."""


class ToldFailures:
    """The failures of a run, once for each kind: a known divergence, or an implementation and what is wrong with it.

    explained: what the known divergences make of each failure is added to it.
    """

    def __init__(self, known: list[Divergence], explained: Explained | None = None) -> None:
        self._known, self._lock = known, threading.Lock()
        self.explained: Explained = {} if explained is None else explained
        self._about: dict[str, list[Divergence]] = {}
        self._statements, self._told = defaultdict[str, Statements](dict), set[tuple[str, ...]]()

    def lines(self, failed: FailedReply) -> list[str]:
        """Return a line for each failure in an answer that is of a kind not told yet."""
        found = self._explained(failed, self._of(failed.record))
        return [_line(failed.item, one) for one in found if self._is_new(_kind(one))]

    def _explained(self, failed: FailedReply, about: list[Divergence]) -> list[Explanation]:
        if not about:
            return [Explanation(result, "unexplained") for result in failed.failures]
        statements = self._statements[failed.record.id]
        answer = FailedAnswer(failed.record, failed.item.exact_case, failed.reply, statements)
        found = answer.explained(failed.failures, about)
        if len(self.explained) < _KEPT:
            self.explained[failed.item.id, failed.record.id] = found
        return found

    def _of(self, record: ImplementationRecord) -> list[Divergence]:
        if record.id not in self._about:
            self._about[record.id] = [divergence for divergence in self._known if divergence.concerns(record)]
        return self._about[record.id]

    def _is_new(self, kind: tuple[str, ...]) -> bool:
        with self._lock:
            is_new = kind not in self._told
            self._told.add(kind)
        return is_new


def _kind(one: Explanation) -> tuple[str, ...]:
    """Return what makes two failures the same for whoever reads: what explains both, or who does what wrong."""
    if one.kind == "explained":
        return one.divergences
    return one.kind, one.result.implementation, one.result.output, _message(one.result), *one.divergences


def _message(result: Result) -> str:
    """Return what was said where there is no array, without its numbers."""
    return "" if result.deviation else re.sub(r"\d+", "", result.reason)


def _line(item: RunCase, one: Explanation) -> str:
    """Return a failure in a line: known or not, who, which output of what, how far off."""
    result, names = one.result, ", ".join(one.divergences)
    sign = "known" if one.kind == "explained" else "FAIL "
    standing = {
        "explained": f" ({names})",
        "changed": f"; not as {names} predicts",
        "spread": f"; as {names}, where that is not predicted",
    }
    where = f"{result.output} in {result.mode}" if result.output != "outcome" else f"{result.mode or 'the case'}"
    of = f"case {result.case} step {result.step}, {_size(item, result)}"
    said = _deviation(result, result.deviation) if result.deviation else textwrap.shorten(result.reason, _LONGEST)
    return f"{sign} {result.implementation} {where}, {of}: {said}{standing.get(one.kind, '')}"


def _size(item: RunCase, result: Result) -> str:
    """Return the shape of what was normalized, and among how many values of a channel."""
    if not 0 <= result.step < len(item.case.steps):
        return f"shape {item.case.shape}"
    return f"shape {tuple(item.case.x(result.step).shape)}, N = {item.exact_case.whole(result.step).count}"


def _deviation(result: Result, d: Deviation) -> str:
    got, expected, bound = (f"{v:.6g}" if isinstance(v, float) else str(v) for v in (d.got, d.expected, d.bound))
    return f"ρ = {summary.show(result.rho)}: got {got}, expected {expected} ± {bound}"
