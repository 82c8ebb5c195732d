"""What cannot be mapped, one difference at a time, and its size: the reference with it against that without."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import ExpectedOutputs, trajectory
from conformance.judging.promise import Promise
from conformance.model.case import Case
from conformance.model.case_facts import step_facts
from conformance.model.reference_rules import RULES
from conformance.model.rules import Rule
from conformance.model.statement import Statement
from conformance.studies.translation.calls import Dropped
from conformance.studies.translation.sides import SCENARIOS, SETTLED, Scenario, Side
from reference import Refusal, Semantics

_SPEC_RULES = {
    "momentum": "BN-8",
    "center": "BN-6",
    "scale": "BN-6",
    "trainable": "BN-14",
    "virtual_batch_size": "BN-20",
}


class Size(msgspec.Struct, frozen=True, omit_defaults=True):
    """The largest effect of a difference on one output.

    relative: the effect in relation to the largest value there.
    seen: it is beyond rounding.
    refused: one of the two refuses to answer, so that there is nothing to subtract.
    """

    scenario: str
    step: int
    mode: str
    output: str
    absolute: float
    relative: float
    seen: bool = False
    refused: bool = False


class Difference(msgspec.Struct, frozen=True):
    """One field of `Spec` or `Semantics` in which the sides differ, its rule, and the largest effects by output."""

    field: str
    rule: str
    source: Any
    target: Any
    sizes: list[Size]

    @property
    def seen(self) -> bool:
        """Whether it can be told from rounding anywhere."""
        return any(size.seen for size in self.sizes)


def differences(source: Side, target: Side, dropped: Dropped) -> list[Difference]:
    """Return every difference that has an effect, those beyond rounding first."""
    found = [
        Difference(name, _SPEC_RULES.get(name, "BN-16"), was, now, list(of_spec(source, {name: now})))
        for name, (was, now) in dropped.items()
    ]
    names = [field.name for field in dataclasses.fields(Semantics)]
    pairs = {s: _promised(source, target, s) for s in SCENARIOS}
    for name in names:
        values = {(getattr(a, name), getattr(b, name)) for a, b in pairs.values()}
        for was, now in sorted((pair for pair in values if pair[0] != pair[1]), key=str):
            sizes = _largest(of_semantics(source, target, name, now))
            if sizes:
                found.append(Difference(name, RULES.get(name, ""), was, now, sizes))
    return sorted(found, key=lambda one: not one.seen)


def _promised(source: Side, target: Side, scenario: Scenario) -> tuple[Semantics, Semantics]:
    a, b = (side.entry.statement.semantics(step_facts(side.case(scenario), 0)) for side in (source, target))
    return a, b


def of_spec(source: Side, change: dict[str, Any], scenarios: Sequence[Scenario] = (*SCENARIOS, SETTLED)) -> list[Size]:
    """Return the largest effect that a change of the spec has on each output."""
    found: list[Size] = []
    for scenario in scenarios:
        case = source.case(scenario)
        other = msgspec.structs.replace(case, spec=dataclasses.replace(case.spec, **change))
        found += _compared(scenario, case, source.entry.statement, other, source.entry.statement)
    return _largest(found)


def of_semantics(source: Side, target: Side, name: str, value: Any) -> list[Size]:
    """Return what a field of the source's semantics is worth in each step, were it the value given."""
    changed = msgspec.structs.replace(
        source.entry.statement, rules=[*source.entry.statement.rules, Rule("the target's", semantics={name: value})]
    )
    found: list[Size] = []
    for scenario in (*SCENARIOS, SETTLED):
        batches = max(side.case(scenario).batches for side in (source, target))
        case = msgspec.structs.replace(source.case(scenario), batches=batches)
        found += _compared(scenario, case, source.entry.statement, case, changed)
    return found


def _compared(scenario: Scenario, case: Case, statement: Statement, other: Case, changed: Statement) -> list[Size]:
    before, after = (_expected(c, s) for c, s in ((case, statement), (other, changed)))
    found: list[Size] = []
    for t, (one, two) in enumerate(zip(before, after, strict=True)):
        mode = case.steps[t].mode
        if isinstance(one, Refusal) or isinstance(two, Refusal):
            if type(one) is not type(two):
                found.append(Size(scenario.name, t, mode, "outcome", 0.0, 0.0, seen=True, refused=True))
            continue
        found += [_size(scenario.name, t, mode, output, one, two) for output in one if output in two]
    return [size for size in found if size.absolute or size.refused]


def _expected(case: Case, statement: Statement) -> list[ExpectedOutputs | Refusal]:
    with np.errstate(all="ignore"):
        return trajectory(Promise.of(ExactCase(case), statement))


def _size(scenario: str, t: int, mode: str, output: str, one: ExpectedOutputs, two: ExpectedOutputs) -> Size:
    a, b = one[output], two[output]
    with np.errstate(all="ignore"):
        off = np.nan_to_num(np.abs(a.value.reshape(-1) - b.value.reshape(-1)).astype(float), nan=0.0, posinf=np.inf)
        most = float(off.max(initial=0.0))
        whole = float(np.abs(a.value).max(initial=0.0))
        seen = bool((off > (a.bound + b.bound.reshape(a.bound.shape)).reshape(-1)).any())
    return Size(scenario, t, mode, output, most, most / whole if whole else float(bool(most)), seen=seen)


def _largest(sizes: list[Size]) -> list[Size]:
    """Return the largest effect on each output, by what it is relative to."""
    best: dict[str, Size] = {}
    for size in sizes:
        if size.output not in best or size.relative > best[size.output].relative:
            best[size.output] = size
    return sorted(best.values(), key=lambda size: (-size.refused, -size.relative))
