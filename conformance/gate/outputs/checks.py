"""A run as a table of checks: implementation × group of outputs, each with what the gate decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from conformance.gate.decision import GateDecision
from conformance.gate.findings import Finding
from conformance.gate.outputs.text import SHOWN, command, one_line
from conformance.model.outputs import Kind, of_kind
from conformance.model.results import Result, Run

State = Literal["passed", "known", "not judged", "failed", "error"]
RUN = "run"  # stands for an implementation in checks of the run as a whole

_GROUPS: tuple[Kind, ...] = ("gradients", "moving_statistics", "batch_statistics")
OUTPUTS = {kind: of_kind(kind) for kind in _GROUPS}
OUTCOMES = "outcomes"  # what is refused, and what crashes, hangs or stops answering
DIVERGENCES = "divergences"  # whether what is known of an implementation is up to date


class Check(msgspec.Struct, frozen=True):
    """One check and its state.

    says: a line for each finding or divergence, and after a finding those on its cause.
    commands: those that replay its failures.
    """

    implementation: str
    group: str
    state: State
    says: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


_OF_RUN = (Check(RUN, "complete", "passed"), Check(RUN, DIVERGENCES, "passed"))


def group(result: Result) -> str:
    """Return the group of checks that a result belongs to.

    >>> [group(Result("c", "i", "PASS", output=o, mode="train")) for o in ("y", "dgamma", "outcome")]
    ['y_train', 'gradients', 'outcomes']
    """
    if result.output == "y":
        return f"y_{result.mode}"
    return next((name for name, outputs in OUTPUTS.items() if result.output in outputs), OUTCOMES)


def table(decision: GateDecision, run: Run, folder: Path) -> list[Check]:
    """Return every check of the implementations that a decision speaks of, and those of the run as a whole."""
    found: dict[tuple[str, str], Check] = {}
    for check in (*_OF_RUN, *_judged(decision, run), *_known(decision), *_red(decision, run, folder)):
        key, before = (check.implementation, check.group), found.get((check.implementation, check.group))
        if before and before.state in ("failed", "error"):
            worst: State = "error" if "error" in (before.state, check.state) else "failed"
            says, commands = before.says + check.says, tuple(dict.fromkeys(before.commands + check.commands))
            found[key] = msgspec.structs.replace(before, state=worst, says=says, commands=commands)
        else:
            found[key] = check
    order = {identity: n for n, identity in enumerate([RUN, *decision.implementations])}
    return sorted(found.values(), key=lambda check: order[check.implementation])


def never_judged(found: list[Result]) -> str:
    """Return, in words, which outputs of these results were asked for and never judged; empty if all were."""
    judged: dict[str, bool] = {}
    for result in found:
        if result.verdict != "UNSUPPORTED" and result.output != "outcome":
            judged[result.output] = judged.get(result.output, False) or result.verdict != "INCONCLUSIVE"
    without = [output for output, once in judged.items() if not once]
    return f"{', '.join(without)} {'was' if len(without) == 1 else 'were'} never judged" if without else ""


def _judged(decision: GateDecision, run: Run) -> Iterator[Check]:
    """Yield the state of each check before its failures are taken into account."""
    asked, found = set(decision.implementations), dict[tuple[str, str], list[Result]]()
    for result in run.results:
        if result.implementation in asked:
            found.setdefault((result.implementation, group(result)), []).append(result)
    for (implementation, name), judged in found.items():
        if any(result.verdict != "UNSUPPORTED" for result in judged):
            without = never_judged(judged)
            yield Check(implementation, name, "not judged" if without else "passed", (without,) if without else ())
    for record in run.implementations:
        if record.id in asked and not record.available:
            yield Check(record.id, "available", "not judged", (one_line(record.reason),))


def _known(decision: GateDecision) -> Iterator[Check]:
    counts: dict[tuple[str, str], Counter[tuple[str, ...]]] = {}
    for explanation in decision.explained:
        key = explanation.result.implementation, group(explanation.result)
        counts.setdefault(key, Counter())[explanation.divergences] += 1  # each failure once, whoever explains it
    for (implementation, name), found in counts.items():
        known = {ids: "; ".join(f"{d}: {decision.reasons[d]}" for d in ids) for ids in found}
        says = (one_line(f"{known[ids]}; {n} failures") for ids, n in sorted(found.items()))
        yield Check(implementation, name, "known", tuple(says))


def _red(decision: GateDecision, run: Run, folder: Path) -> Iterator[Check]:
    for finding in decision.findings:
        if not finding.status:
            continue
        state: State = "error" if finding.kind in ("fault", "incomplete") else "failed"
        says = tuple(map(one_line, [finding.says, *decision.causes(finding)]))
        for name, failures in _groups(finding).items():
            commands = tuple(command(run, failure, folder) for failure in failures[:SHOWN])
            yield Check(finding.implementation or RUN, name, state, says, commands)


def _groups(finding: Finding) -> dict[str, list[Result]]:
    """Return the checks that a finding is about, each with its failures."""
    found: dict[str, list[Result]] = {}
    for failure in finding.failures:
        found.setdefault(group(failure), []).append(failure)
    if finding.kind == "incomplete":
        return {"available" if finding.implementation else "complete": []}
    return found or {DIVERGENCES: []}
