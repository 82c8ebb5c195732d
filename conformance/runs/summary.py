"""A run in numbers: for each implementation and output the worst ρ, the verdicts, and what the bounds can resolve."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from conformance.model.numerics import holds, smallest
from conformance.model.outputs import EVERY
from conformance.model.results import CaseRecord, Result, Rho, Run
from conformance.runs.counts import is_judged


class Worst(msgspec.Struct):
    """The worst ρ of one output in one mode, where it was, and how many arrays and elements were judged.

    vacuous: how many elements have an infinite bound.
    depth: the largest effective depth of a sum; 0 where none shows.
    resolutions: for each array of y, the median of bound / |gamma|.
    """

    rho: Rho = None
    result: Result | None = None
    judged: int = 0
    failed: int = 0
    elements: int = 0
    vacuous: int = 0
    depth: float = 0.0
    resolutions: list[float] = []

    def add(self, result: Result) -> None:
        """Add one result."""
        self.judged += is_judged(result)
        self.failed += result.verdict == "FAIL"
        self.elements, self.vacuous = self.elements + result.elements, self.vacuous + result.vacuous
        if result.depth is not msgspec.UNSET:
            self.depth = max(self.depth, result.depth)
        if result.resolution is not msgspec.UNSET:
            self.resolutions.append(result.resolution)
        if self.result is None or as_number(result.rho) > as_number(self.rho):
            self.rho = None if result.rho is msgspec.UNSET else result.rho
            self.result = result

    @property
    def vacuous_share(self) -> float:
        """The share of elements with an infinite bound."""
        return self.vacuous / self.elements if self.elements else 0.0

    @property
    def resolution(self) -> float | None:
        """The median resolution of the arrays; None where the output has none."""
        return statistics.median(self.resolutions) if self.resolutions else None


_LARGE = 1000  # values per channel, from which on it matters how a sum is made


class Observed(msgspec.Struct, frozen=True):
    """The class and grade declared for training y, and the strictest one that every array of this run was inside.

    This is what one run saw, and no promise: other data, sizes or machines may show more.

    where: the layout and the size that it is about; empty for all arrays.
    """

    declared: str
    observed: str
    arrays: int
    where: str = ""

    @property
    def looser(self) -> bool:
        """Whether the declaration allows more than this run observed."""
        return self.observed not in ("", self.declared) and holds(self.declared, self.observed)


class Row(msgspec.Struct):
    """One implementation of a run: its results, output by output.

    values, elements: the most that a batch of a case judged has, per channel and in all.
    """

    id: str
    framework: str
    versions: dict[str, str]
    available: bool
    reason: str
    classes: list[str]
    outputs: dict[str, Worst]
    verdicts: dict[str, int]
    cases: int
    class_a: Rho = None
    observed: list[Observed] = []
    values: int = 0
    elements: int = 0

    @property
    def judged(self) -> bool:
        """Whether anything was compared."""
        return any(self.verdicts.get(verdict) for verdict in ("PASS", "FAIL", "ERROR"))

    @property
    def conforms(self) -> bool:
        """Whether everything that was asked for was judged, and nothing failed."""
        red = self.verdicts.get("FAIL") or self.verdicts.get("ERROR")
        return bool(self.verdicts.get("PASS")) and not red and not self.unjudged

    @property
    def unjudged(self) -> list[str]:
        """The outputs that were asked for and never judged, since every bound was infinite."""
        return [column for column, worst in self.outputs.items() if worst.rho is None]


def as_number(rho: Any) -> float:
    """Return ρ as a number to compare by; -1 where there is none.

    >>> as_number("inf"), as_number(None), as_number(0.5)
    (inf, -1.0, 0.5)
    """
    return -1.0 if rho is None or rho is msgspec.UNSET else float(rho)


def rows(run: Run) -> list[Row]:
    """Return one row per implementation, in the run's order."""
    table = {
        r.id: Row(r.id, r.framework, r.versions, r.available, r.reason, [], {}, {}, 0) for r in run.implementations
    }
    counts: dict[str, Counter[str]] = {identity: Counter() for identity in table}
    cases: dict[str, set[str]] = {identity: set() for identity in table}
    classes: dict[str, set[str]] = {identity: set() for identity in table}
    outside: dict[str, dict[str, dict[str, list[list[str]]]]] = {identity: {} for identity in table}
    for result in run.results:
        if result.implementation not in table:
            continue  # an interrupted run may hold results of a worker whose record was lost
        counts[result.implementation][result.verdict] += 1
        if result.verdict != "UNSUPPORTED":
            cases[result.implementation].add(result.case)
        if as_number(result.class_a) > as_number(table[result.implementation].class_a):
            table[result.implementation].class_a = cast("Rho", result.class_a)
        if is_judged(result) and (case := run.cases.get(result.case)):
            row = table[result.implementation]
            row.values, row.elements = max(row.values, case.values), max(row.elements, case.elements)
        if result.rho is not msgspec.UNSET:
            worst = table[result.implementation].outputs.setdefault(key(result), Worst())
            worst.add(result)
            classes[result.implementation].add(result.numerics)
        if result.outside is not msgspec.UNSET:
            places = outside[result.implementation].setdefault(result.numerics, {})
            places.setdefault(_place(run.cases.get(result.case)), []).append(result.outside)
    for identity, row in table.items():
        row.verdicts, row.cases = dict(sorted(counts[identity].items())), len(cases[identity])
        row.classes = sorted(classes[identity])
        declared = sorted(outside[identity].items())
        row.observed = [one for label, places in declared for one in _observed(label, places)]
    return list(table.values())


def _place(case: CaseRecord | None) -> str:
    """Return the layout and the size of a case, which a declaration may be looser in than in others."""
    if case is None or not case.layout:
        return ""
    return f"layout {case.layout}, N {'>' if case.values > _LARGE else '≤'} {_LARGE:,}"


def _observed(declared: str, places: dict[str, list[list[str]]]) -> Iterator[Observed]:
    """Yield what all arrays were inside of; if that is what is declared, then where less of it was needed."""
    found = {where: ({label for array in arrays for label in array}, len(arrays)) for where, arrays in places.items()}
    labels = {label for outside, _ in found.values() for label in outside}
    whole = Observed(declared, smallest(labels), sum(count for _, count in found.values()))
    yield whole
    parts = [Observed(declared, smallest(outside), count, where) for where, (outside, count) in sorted(found.items())]
    yield from (part for part in parts if part.looser and part.where and not whole.looser)


def key(result: Result) -> str:
    """Return the column of a result: the output, and the mode where both modes have it.

    >>> key(Result("c", "i", "PASS", output="dx", mode="train"))
    'dx train'
    """
    return f"{result.output} {result.mode}" if result.output in _BOTH else result.output


def _columns(output: str) -> tuple[str, ...]:
    return tuple(f"{output} {mode}" for mode in ("train", "infer")) if output in _BOTH else (output,)


_BOTH = {output.name for output in EVERY if output.kind in ("y", "gradients") and not output.along}
MAIN = tuple(column for output in EVERY if not output.special for column in _columns(output.name))
COLUMNS = (*MAIN, *(output.name for output in EVERY if output.special))
"""The columns of a table of implementations: first those that nearly all have, then those of some cases."""


def show(rho: Any) -> str:
    """Return ρ as it is shown to people.

    >>> show(0.123456), show("inf"), show(None), show(12345.6)
    ('0.123', '∞', '–', '1.23e+04')
    """
    if rho is None or rho is msgspec.UNSET:
        return "–"
    return "∞" if rho == "inf" else f"{rho:.3g}"


def not_finite(result: Result) -> str:
    """Return, in words, how many answers should be finite and are not, within the bounds or not; empty if none."""
    if not result.not_finite:
        return ""
    of = f"{result.not_finite} of {result.elements} answers"
    return f"{of} are not finite where the exact values are"
