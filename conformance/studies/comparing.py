"""Two runs compared: what passes, fails, is refused or is less precise than before, of what was asked in both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from conformance.gate.baseline import WORSE
from conformance.model.results import CaseRecord, Result, Run
from conformance.runs import summary

Kind = Literal[
    "fails now",
    "is refused now",
    "crashes or hangs now",
    "is not available now",
    "is less precise now",
    "passes now",
    "is answered now",
    "is available now",
    "is more precise now",
    "fails otherwise now",
    "is not compared now",
]
WORSENED: tuple[Kind, ...] = (
    "fails now",
    "is refused now",
    "crashes or hangs now",
    "is not available now",
    "is less precise now",
    "is not compared now",
)
"""What makes a comparison red: an implementation does less than it did."""
_STATES: dict[str, Kind] = {
    "fails": "fails now",
    "refuses": "is refused now",
    "ends": "crashes or hangs now",
    "not compared": "is not compared now",
}
_NOTICED = 0.1
"""A worst ρ below this part of what is allowed is precise, whatever it was."""


class RunChange(msgspec.Struct, frozen=True):
    """What one implementation does otherwise than before, in cases of one kind.

    output: what it is about; empty where it is the whole implementation.
    fact: what the cases have in common: the feature, or the corpus case, and the dtype.
    arrays: how many results changed so. case, step: of the first of them.
    before, after: what they were, in words.
    """

    implementation: str
    kind: Kind
    output: str = ""
    fact: str = ""
    arrays: int = 0
    case: str = ""
    step: int = -1
    before: str = ""
    after: str = ""

    @property
    def worsened(self) -> bool:
        """Whether less is done than before."""
        return self.kind in WORSENED


class Comparison(msgspec.Struct, frozen=True):
    """Two runs, as far as both asked the same.

    common: how many pairs of a case and an implementation were asked in both; before, after: in each.
    gone, come: implementations that one of them was not to ask.
    versions: what an implementation ran on then and runs on now, where that differs.
    """

    common: int
    before: int
    after: int
    gone: list[str]
    come: list[str]
    versions: dict[str, tuple[str, str]]
    differences: list[RunChange]

    @property
    def worsened(self) -> bool:
        """Whether any implementation does less than before."""
        return any(one.worsened for one in self.differences)


_Step = tuple[str, str, int]


def compare(before: Run, after: Run) -> Comparison:
    """Return what differs between two runs in what both asked."""
    was, now = _Asked(before), _Asked(after)
    both = was.pairs & now.pairs
    found = [*_availability(was, now), *_grouped(_stepwise(was, now, both), after), *_precision(was, now, both)]
    return Comparison(
        len(both),
        len(was.pairs),
        len(now.pairs),
        sorted(was.records.keys() - now.records.keys()),
        sorted(now.records.keys() - was.records.keys()),
        dict(_versions(was, now)),
        sorted(found, key=lambda c: (not c.worsened, c.implementation, c.kind, -c.arrays, c.fact, c.output)),
    )


class _Asked:
    """A run's results by step, and what was asked."""

    def __init__(self, run: Run) -> None:
        self.records = {record.id: record for record in run.implementations}
        self.steps = defaultdict[_Step, dict[str, Result]](dict)
        for result in run.results:
            if result.verdict != "UNSUPPORTED":
                self.steps[result.case, result.implementation, result.step][result.output] = result
        self.pairs = {(case, identity) for case, identity, _ in self.steps}


def _state(result: Result) -> str:
    if result.outcome == "Refused":
        return "refuses"
    if result.outcome:
        return "ends"
    return "fails" if result.failed else "not compared" if result.verdict == "INCONCLUSIVE" else "passes"


def _availability(was: _Asked, now: _Asked) -> Iterator[RunChange]:
    for identity in sorted(was.records.keys() & now.records.keys()):
        old, new = was.records[identity], now.records[identity]
        if old.available and not new.available:
            yield RunChange(identity, "is not available now", after=new.reason)
        elif new.available and not old.available:
            yield RunChange(identity, "is available now", before=old.reason)


def _versions(was: _Asked, now: _Asked) -> Iterator[tuple[str, tuple[str, str]]]:
    for identity in sorted(was.records.keys() & now.records.keys()):
        old, new = was.records[identity].versions, now.records[identity].versions
        if differ := [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]:
            yield identity, (_named(old, differ), _named(new, differ))


def _named(versions: dict[str, str], names: list[str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in names)


def _stepwise(was: _Asked, now: _Asked, both: set[tuple[str, str]]) -> Iterator[tuple[Kind, Result, Result]]:
    """Yield each result that changed: how, what it was, what it is."""
    for key in sorted(was.steps.keys() | now.steps.keys()):
        if key[:2] in both:
            yield from _of_step(was.steps.get(key, {}), now.steps.get(key, {}))


def _of_step(old: dict[str, Result], new: dict[str, Result]) -> Iterator[tuple[Kind, Result, Result]]:
    """Compare one step: output by output, or as a whole where only one of the runs was given arrays."""
    shared = sorted(old.keys() & new.keys())
    for output in shared:
        if kind := _changed(old[output], new[output]):
            yield kind, old[output], new[output]
    if not shared and old and new:
        first, last = next(iter(old.values())), next(iter(new.values()))
        yield _STATES.get(_state(last), "is answered now") if last.outcome else "is answered now", first, last


def _changed(old: Result, new: Result) -> Kind | None:
    before, after = _state(old), _state(new)
    if before != after:
        if after == "passes":
            return "is answered now" if before in ("refuses", "ends") else "passes now"
        return _STATES[after]
    return "fails otherwise now" if after == "fails" and _said(old) != _said(new) else None


def _said(result: Result) -> str:
    """Return a result in words."""
    words = result.reason or result.outcome or _state(result)
    return (
        words if result.rho in (msgspec.UNSET, None) else f"{_state(result)} with ρ {summary.as_number(result.rho):.3g}"
    )


def _grouped(found: Iterable[tuple[Kind, Result, Result]], run: Run) -> Iterator[RunChange]:
    """Yield one change for all results of an implementation that changed alike in cases of one kind."""
    alike = defaultdict[tuple[str, Kind, str, str], list[tuple[Result, Result]]](list)
    for kind, old, new in found:
        output = "" if "outcome" in (old.output, new.output) else new.output
        alike[new.implementation, kind, output, fact(run.cases[new.case])].append((old, new))
    for (identity, kind, output, shared), those in alike.items():
        old, new = those[0]
        yield RunChange(identity, kind, output, shared, len(those), new.case, new.step, _said(old), _said(new))


def fact(record: CaseRecord) -> str:
    """Return what kind of case it is: its name in the corpus, or its feature, or plain, with the dtype of its input."""
    if record.name:
        return record.name
    signature: dict[str, str] = record.recipe.get("signature") or {}
    feature = signature.get("feature") or "plain"
    return f"{feature}, {record.dtype}" if record.dtype else feature


def _precision(was: _Asked, now: _Asked, both: set[tuple[str, str]]) -> Iterator[RunChange]:
    """Yield whose worst ρ of an output grew or shrank by more than `WORSE`, of arrays that pass in both runs."""
    passed = defaultdict[tuple[str, str], list[tuple[Result, Result]]](list)
    for key, old in was.steps.items():
        if key[:2] in both:
            for output, result in old.items():
                other = now.steps[key].get(output) if key in now.steps else None
                if other and _state(result) == _state(other) == "passes" and result.size >= 0:
                    passed[key[1], output].append((result, other))
    for (identity, output), found in passed.items():
        old, new = (max(result.size for result in of) for of in zip(*found, strict=True))
        if max(old, new) > _NOTICED and not 1 / WORSE <= new / max(old, 1e-300) <= WORSE:
            kind: Kind = "is less precise now" if new > old else "is more precise now"
            at = max(found, key=lambda pair: max(pair[0].size, pair[1].size))[1]
            yield RunChange(identity, kind, output, "", len(found), at.case, at.step, f"ρ {old:.3g}", f"ρ {new:.3g}")
