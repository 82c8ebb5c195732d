"""A search for cases that an implementation fails: Hypothesis looks for large ρ, one kind of failure at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings, target
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from conformance.cases import building, strategies
from conformance.cases.cells import CELLS
from conformance.cases.features import FEATURES
from conformance.cases.recipe import Recipe
from conformance.gate.divergences import Divergence
from conformance.gate.explanation import FailedAnswer
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case, case_id
from conformance.model.case_facts import every_step
from conformance.model.codec import case_to_json
from conformance.model.errors import InvalidInput
from conformance.model.results import ImplementationRecord, Result
from conformance.model.statement import recorded
from conformance.runs.asking import Ask
from conformance.studies.hunt import minimizing

SIZES = (2, 1, 3, 4, 5, 7, 8, 16, 17, 64, 127, 129, 1000)
"""The sizes of one axis, in the order in which shrinking prefers them: two rows say more than one."""
ELEMENTS = 20_000
ROUND = 200
"""How many cases Hypothesis draws before it starts from another seed."""
VAIN = 5_000
"""After this many unsupported cases a search that has asked nothing is over."""
LATE_SECONDS, LATE_CASES = 60.0, 500
"""The least time left to make the last case smaller after the search is over."""


class FailureKind(NamedTuple):
    """What makes two failures the same: the mode of the step, the output, and what came instead of numbers."""

    mode: str
    output: str
    outcome: str

    def __str__(self) -> str:
        """Return the kind in words."""
        return " ".join(part for part in self if part)


class Caught(msgspec.Struct, frozen=True):
    """A kind of failure with its smallest case, kept in a file. rho: null where there is no number."""

    kind: str
    case: str
    file: str
    rho: float | None
    reason: str
    elements: int


class _Failed(Exception):
    """Raised by a case that fails in the way that is looked for."""


_PLAIN, _FEATURED = ([cell for cell in CELLS if bool(cell.feature) == featured] for featured in (False, True))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw a recipe of any cell, with the sizes of its axes drawn one by one, the first of those that are asked for."""
    cell = draw(st.sampled_from(_PLAIN) | st.sampled_from(_FEATURED))  # shrinking gets to the first choice most easily
    recipe = draw(strategies.recipe(cell))
    first = sorted(FEATURES[cell.feature].first) if cell.feature else []
    shape, left = list[int](), ELEMENTS
    for axis in range(len(recipe.signature.shape)):
        sizes = first if first and not axis else SIZES
        shape.append(draw(st.sampled_from([size for size in sizes if size <= left])))
        left //= shape[-1]
    return msgspec.structs.replace(recipe, signature=msgspec.structs.replace(recipe.signature, shape=tuple(shape)))


class Hunt:
    """A search for cases that one implementation fails.

    folder: keeps what was found, and Hypothesis's database, from one search to the next.
    known: the divergences whose failures are not looked for.
    tell: is told what happens, line by line.
    """

    def __init__(
        self, record: ImplementationRecord, ask: Ask, known: list[Divergence], folder: Path, tell: Callable[[str], None]
    ) -> None:
        self.record, self.ask, self.known, self.folder, self.tell = record, ask, known, folder, tell
        self.statement = recorded(record)
        self.asked, self.judged, self.largest = 0, 0, dict[str, float]()
        self.excluded: list[str] = []
        self._judged: dict[str, list[Result]] = {}
        self._kind: FailureKind | None = None
        self._last: tuple[Case, Result] | None = None
        self._until, self._most = 0.0, math.inf

    def run(self, seconds: float, cases: float, run_seed: int) -> list[Caught]:
        """Search for this long, or until so many cases were asked; return all kinds caught, earlier ones included."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._until, self._most = time.monotonic() + seconds, cases
        found, number = self._before(), run_seed
        while not self._over:
            self._round(number, {caught.kind for caught in found})
            number += 1
            if self._last is not None and self._kind is not None:
                found.append(self._keep(self._kind, *self._last))
            best = ", ".join(f"{output} {rho:.3g}" for output, rho in sorted(self.largest.items()))
            self.tell(f"{self.record.id}: {self.asked} cases asked, {len(found)} kinds caught; largest ρ: {best}")
        return found

    @property
    def _over(self) -> bool:
        in_vain = not self.asked and len(self.excluded) >= VAIN
        return in_vain or time.monotonic() > self._until or self.asked >= self._most

    def _round(self, number: int, caught: set[str]) -> None:
        """Draw cases until one fails in a way that is not caught yet, and let Hypothesis make its recipe smaller."""
        self._kind = self._last = None

        @seed(number)
        @settings(
            max_examples=ROUND,
            database=DirectoryBasedExampleDatabase(self.folder / "database"),
            deadline=None,
            phases=[Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
            report_multiple_bugs=False,
            verbosity=Verbosity.quiet,
        )
        @given(recipes())
        def fails(recipe: Recipe) -> None:
            case = building.build(recipe, 0)
            results = self._asked(case)
            self._aim(results)
            for result in results:
                kind = kind_of(result)
                if result.failed and str(kind) not in caught and self._kind in (None, kind):
                    self._kind, self._last = kind, (case, result)
                    raise _Failed

        try:
            fails()
        except _Failed:
            self.tell(f"{self.record.id}: {self._kind} fails")

    def _asked(self, case: Case) -> list[Result]:
        """Return the results of a case, known failures left out; none where time is up, or it cannot be asked."""
        identity = case_id(case)
        if identity not in self._judged:
            if self._over:
                return []
            if why := self.statement.unsupported(*every_step(case)):
                self.excluded.append(why)
                return []
            self.asked += 1
            self._judged[identity] = self._results(identity, case)
        return self._judged[identity]

    def _results(self, identity: str, case: Case) -> list[Result]:
        exact_case, reply = ExactCase(case), self.ask(case)
        results = judge(identity, exact_case, self.statement, reply)
        self.judged += any(result.verdict in ("PASS", "FAIL") for result in results)
        failures = [result for result in results if result.failed]
        explained = FailedAnswer(self.record, exact_case, reply).explained(failures, self.known) if failures else []
        expected = [one.result for one in explained if one.kind == "explained"]
        return [result for result in results if result not in expected]

    def _aim(self, results: list[Result]) -> None:
        """Tell Hypothesis what to maximize: the largest finite ρ of each output."""
        largest: dict[str, float] = {}
        for result in results:
            if 0 < result.size < math.inf:
                largest[result.output] = max(result.size, largest.get(result.output, 0.0))
        for output, rho in largest.items():
            target(math.log10(rho), label=output)
            self.largest[output] = max(rho, self.largest.get(output, 0.0))

    def _keep(self, kind: FailureKind, case: Case, result: Result) -> Caught:
        """Make the case smaller, element by element, and write it as a file of the corpus."""

        def still(smaller: Case) -> Result | None:
            return next((r for r in self._asked(smaller) if r.failed and kind_of(r) == kind), None)

        limits = self._until, self._most
        self._until = max(self._until, time.monotonic() + LATE_SECONDS)
        self._most = max(self._most, self.asked + LATE_CASES)
        case, result = minimizing.smallest(case, result, still)
        self._until, self._most = limits
        name = f"{self.record.id.partition('@')[0]}-{'-'.join(kind[:2])}".replace(".", "-").replace("_", "-").lower()
        path = self.folder / f"{name.strip('-')}.json"
        about = {"title": f"{self.record.id}: {kind} fails", "rule": "BN-?", "source": "unreported"}
        path.write_text(case_to_json(case, about), encoding="utf-8")
        rho = result.size if math.isfinite(result.size) else None
        elements = sum(case.x(t).size for t in range(len(case.steps)))
        caught = Caught(str(kind), case_id(case), path.name, rho, result.reason, elements)
        with (self.folder / "caught.jsonl").open("ab") as stream:
            stream.write(msgspec.json.encode(caught) + b"\n")
        return caught

    def _before(self) -> list[Caught]:
        path = self.folder / "caught.jsonl"
        found, number = list[Caught](), 0
        try:
            for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):  # noqa: B007
                found.append(msgspec.json.decode(line, type=Caught))
        except ValueError as error:
            raise InvalidInput(f"{path}, line {number}: {error}; take the line out, or name another --out") from error
        return found


def kind_of(result: Result) -> FailureKind:
    """Return the kind of a failure."""
    return FailureKind(result.mode, result.output, result.outcome if result.outcome != "Outputs" else "")
