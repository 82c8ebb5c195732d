"""The decision in plain lines, and the one safe line that every other format shares."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from conformance.gate.decision import GateDecision
from conformance.gate.findings import Finding
from conformance.model.results import Result, Run
from conformance.runs import commands

SHOWN = 3
"""How many failures of a finding are shown with their commands."""

_LONGEST = 2000


def as_text(decision: GateDecision, run: Run, folder: Path, *, first: bool = False) -> str:
    """Return the decision, the verdict last; each failure ends with its replay command.

    first: show no more than the first finding.
    """
    red = [finding for finding in decision.findings if finding.status]
    shown = red[:1] if first else decision.findings
    told = set[int]()
    lines = [line for finding in shown for line in _lines(decision, finding, told, run, folder)]
    found = Counter(e.divergences for e in decision.explained if not e.elsewhere)  # each failure once
    explained = [f"explained: {one_line(' and '.join(ids))} ({n} failures)" for ids, n in sorted(found.items())]
    return "\n".join([*lines, *explained, decision.verdict])


def _lines(decision: GateDecision, finding: Finding, told: set[int], run: Run, folder: Path) -> list[str]:
    """Return a finding in lines; told: the groups of failures of which all is said already."""
    group = decision.group(finding)
    why = [] if group is None else ["as above: one cause"] if id(group) in told else map(one_line, group.lines)
    told.add(id(group))
    shown = 1 if group else SHOWN
    lines = [f"{finding.kind.upper()} {one_line(finding.says)}", *(f"    {line}" for line in why)]
    lines += [f"    step {r.step} {r.mode}: {command(run, r, folder)}" for r in finding.failures[:shown]]
    more = len(finding.failures) - SHOWN
    return [*lines, f"    and {more} more"] if more > 0 and not group else lines


def command(run: Run, failure: Result, folder: Path) -> str:
    """Return what a shell takes to ask the case of a failure again, as one safe line."""
    return commands.replay(run, failure, folder)


def one_line(text: str) -> str:
    r"""Return text as one line that no terminal, parser or build server takes for more than text.

    A framework's message may hold anything: control characters are shown as escapes, a build server's commands are
    broken up, what is very long is cut.

    >>> one_line("no\n::error::\x1b[31m ##[add-mask]a")
    'no\\n::error::\\x1b[31m # #[add-mask]a'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: _LONGEST + 1])
    return (shown if len(text) <= _LONGEST else f"{shown[:_LONGEST]}…").replace("##[", "# #[")
