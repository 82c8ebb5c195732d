"""GitHub Actions: a step summary in Markdown, and annotations; both keep the limits of the service.

A step summary may have 1 MiB, and a step ten annotations of each kind (docs.github.com, workflow commands).
"""

from __future__ import annotations

import html
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from conformance.gate.decision import GateDecision
from conformance.gate.findings import Finding
from conformance.gate.outputs.checks import table
from conformance.gate.outputs.text import SHOWN, command, one_line
from conformance.model.results import Run

LIMIT = 1 << 20
_ROOM = 512  # for the line that says what was cut
_ANNOTATIONS = 9
_STATES = ("passed", "known", "not judged", "failed", "error")

Level = Literal["error", "warning", "notice"]


def as_summary(decision: GateDecision, run: Run, folder: Path) -> str:
    """Return the decision as Markdown of less than 1 MiB: the verdict, what it found, a table of implementations."""
    found = sorted(decision.findings, key=lambda finding: not finding.status)
    head = f"## bnconf gate: {_text(decision.verdict)}\n\n"
    room = LIMIT - _ROOM - len(head.encode())
    sections = (_section(finding, decision.causes(finding), run, folder) for finding in found)
    kept, left = _fitting(sections, room)
    tables = itertools.chain(_rows(decision, run, folder), _known(decision))
    rows, cut = _fitting(tables, room - sum(len(part.encode()) for part in kept))
    more = [f"\n{len(found) - len(kept)} more findings are left out here.\n"] if left else []
    more += ["\nThe tables are cut here.\n"] if cut else []
    return head + "".join([*kept, *rows, *more])


def _fitting(parts: Iterable[str], room: int) -> tuple[list[str], bool]:
    """Return the first parts that fit, and whether any is left out."""
    kept: list[str] = []
    for part in parts:
        room -= len(part.encode())
        if room < 0:
            return kept, True
        kept.append(part)
    return kept, False


def _section(finding: Finding, causes: list[str], run: Run, folder: Path) -> str:
    commands = [html.escape(command(run, failure, folder)) for failure in finding.failures[:SHOWN]]
    block = f"\n  <pre>{'&#10;'.join(commands)}</pre>\n" if commands else ""
    why = "".join(f"  - {_text(one_line(line))}\n" for line in causes)
    return f"- **{finding.kind}** {_text(one_line(finding.says))}\n{why}{block}"


def _rows(decision: GateDecision, run: Run, folder: Path) -> Iterator[str]:
    counts: dict[str, Counter[str]] = {}
    for check in table(decision, run, folder):
        counts.setdefault(check.implementation, Counter())[check.state] += 1
    yield f"\n| checks of | {' | '.join(_STATES)} |\n|---|{'---:|' * len(_STATES)}\n"
    for identity, states in counts.items():
        yield f"| {_text(one_line(identity))} | {' | '.join(str(states[state] or '') for state in _STATES)} |\n"


def _known(decision: GateDecision) -> Iterator[str]:
    """Yield why what is known fails, with how many failures each reason explains."""
    counts = Counter(name for one in decision.explained for name in one.divergences)
    if counts:
        yield "\n| failures | that are known, and why |\n|---:|---|\n"
    for name, number in counts.most_common():
        yield f"| {number} | {_text(name)}: {_text(one_line(decision.reasons.get(name, '')))} |\n"


def _text(text: str) -> str:
    """Return text that Markdown shows as it stands: an entity is never taken for markup.

    >>> _text("a_b | <script>")
    'a&#95;b &#124; &#60;script&#62;'
    """
    return re.sub(r"[^\w\s.,:;=/()ρ∞…-]|_", lambda found: f"&#{ord(found[0])};", text)


def as_annotations(decision: GateDecision) -> str:
    """Return workflow commands, at most nine of a level, and one that counts the rest."""
    found: dict[Level, list[Finding]] = {"error": [], "warning": [], "notice": []}
    for finding in decision.findings:
        found[_level(finding)].append(finding)
    lines = (line for level, findings in found.items() for line in _annotated(level, findings, decision))
    return "".join(line + "\n" for line in lines)


def _level(finding: Finding) -> Level:
    return "error" if finding.status else "notice" if finding.kind == "version changed" else "warning"


def _annotated(level: Level, findings: list[Finding], decision: GateDecision) -> Iterator[str]:
    for finding in findings[:_ANNOTATIONS]:
        title = _property(one_line(f"bnconf gate: {finding.kind} {finding.implementation} {finding.output}".strip()))
        says = "; ".join(map(one_line, [finding.says, *decision.causes(finding)]))
        yield f"::{level} title={title}::{_data(says)}"
    if len(findings) > _ANNOTATIONS:
        yield f"::{level} title=bnconf gate::and {len(findings) - _ANNOTATIONS} more"


def _data(text: str) -> str:
    """Return text as the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Return text as a property of a workflow command.

    >>> _property("50%: a,b")
    '50%25%3A a%2Cb'
    """
    return _data(text).replace(":", "%3A").replace(",", "%2C")
