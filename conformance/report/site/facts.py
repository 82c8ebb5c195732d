"""What the page of an implementation says: its promises, what was proven, what departs, and how accurate it is."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from conformance.gate.divergences import Divergence
from conformance.gate.explanation import Explanation
from conformance.model.results import ImplementationRecord, Result, Rho, Run
from conformance.report import overview, porting
from conformance.report.entries import entries
from conformance.report.material import Material
from conformance.report.overview import State
from conformance.report.promises import FieldPromise
from conformance.report.tally import tally
from conformance.runs import commands, counts, summary

WORDS: dict[State, str] = {
    "conforms": "✓ conforms",
    "explained": "▲ known departures",
    "departs": "✗ departs",
    "nothing compared": "– nothing compared",
    "not judged": "– not judged",
}
"""What an implementation's state is called here, where nobody knows the word of the report."""
ENDED = {"Outputs": "answered", "Refused": "refused", "Crashed": "crashed", "TimedOut": "no end"}
"""How a step ended that should have ended otherwise."""
SCENARIOS = Path("conformance/cases/corpus/scenarios")
"""Where witnesses are, from the root of the suite."""


class SiteAccuracy(msgspec.Struct, frozen=True):
    """One output: how many arrays were judged, how many fail, and of the others the worst ρ and errors in ulps.

    median, most, largest: the error of an array's worst element in the middle, that of 99 %, and the largest, over
    arrays of well-posed cases; NaN where there are none.
    """

    output: str
    judged: int
    failed: int
    inside: Rho
    median: float
    most: float
    largest: float


class SiteDeparture(msgspec.Struct, frozen=True):
    """A known divergence that an implementation shows: how many failures, and the worst of them."""

    divergence: Divergence
    number: int
    worst: Result
    command: str


class NewDeparture(msgspec.Struct, frozen=True):
    """Failures of one output that no known divergence explains: how many, and the worst of them."""

    output: str
    number: int
    worst: Result


class SitePage(msgspec.Struct):
    """One implementation as its page shows it.

    judged: how many arrays; failed: how many failures, and known: those that known divergences explain.
    inside: the worst ρ within the bound.
    promises: by field, without those that mean nothing for it.
    command: what asks it the same again.
    """

    id: str
    slug: str
    record: ImplementationRecord
    state: State
    versions: str
    cases: int
    judged: int
    failed: int
    known: int
    inside: Rho
    promises: dict[str, FieldPromise]
    departures: list[SiteDeparture]
    new: list[NewDeparture]
    accuracy: list[SiteAccuracy]
    classes: list[str]
    command: str

    @property
    def proofs(self) -> Counter[str]:
        """How many promises an audit has proven, refuted, or not determined."""
        return Counter(promise.status for promise in self.promises.values() if promise.status)


def pages(material: Material) -> list[SitePage]:
    """Return the page of each implementation of a run: those that depart first."""
    run = material.run
    found = tally(entries(run, material.explanations), lambda result: result.dtype)
    promised = {row.implementation: row.promises for row in porting.rows(run, material.audited)}
    mine: dict[str, list[Result]] = {record.id: [] for record in run.implementations}
    for result in run.results:
        mine.get(result.implementation, []).append(result)
    explained = _by_implementation(material.explanations)
    return [
        _page(line, mine[line.record.id], explained.get(line.record.id, []), promised, material)
        for line in overview.lines(run, summary.rows(run), found, [])
    ]


def _by_implementation(explanations: Iterable[Explanation]) -> dict[str, list[Explanation]]:
    found: dict[str, list[Explanation]] = {}
    for one in explanations:
        found.setdefault(one.result.implementation, []).append(one)
    return found


def _page(
    line: overview.OverviewRow,
    mine: list[Result],
    explained: list[Explanation],
    promised: dict[str, dict[str, FieldPromise]],
    material: Material,
) -> SitePage:
    record, counted = line.record, counts.of(mine)
    accuracy = _accuracy(mine, {name for name, case in material.run.cases.items() if case.well_posed})
    return SitePage(
        record.id,
        slug(record.id),
        record,
        line.state,
        overview.packages(record) or f"numpy {record.versions.get('numpy', 'of no version')}",
        line.cases,
        counted.judged,
        counted.failures,
        sum(one.kind == "explained" for one in explained),
        max(accuracy, key=lambda one: summary.as_number(one.inside)).inside if accuracy else None,
        {name: p for name, p in promised.get(record.id, {}).items() if not p.inapplicable and p.value != "–"},
        _departures(explained, material.known, record),
        _new(explained),
        accuracy,
        line.classes,
        _again(material.run, record),
    )


def _departures(
    explained: list[Explanation], known: list[Divergence], record: ImplementationRecord
) -> list[SiteDeparture]:
    """Return the known divergences that an implementation shows, the worst first."""
    found: dict[str, list[Result]] = {}
    for one in explained:
        for name in one.divergences if one.kind == "explained" else ():
            found.setdefault(name, []).append(one.result)
    shown = [
        SiteDeparture(d, len(found[d.id]), _worst(found[d.id]), _witness(d, record)) for d in known if d.id in found
    ]
    return sorted(shown, key=lambda one: (-one.worst.size, -one.number))


def _worst(those: list[Result]) -> Result:
    """Return the failure with the largest ρ; one without an array only where there is no other."""
    return max(those, key=lambda result: (result.deviation is not None, result.size))


def _witness(divergence: Divergence, record: ImplementationRecord) -> str:
    return commands.line("replay", SCENARIOS / f"{divergence.witness}.json", "-i", _named(record))


def _named(record: ImplementationRecord) -> str:
    """Return what `-i` names an implementation by, without the folders of the machine that it was asked on."""
    path, colon, rest = record.named.partition(":")
    return f"{Path(path).name}{colon}{rest}" if path.endswith(".py") else record.named or record.id


def _new(explained: list[Explanation]) -> list[NewDeparture]:
    """Return what no known divergence explains, output by output, the worst first."""
    found: dict[str, list[Result]] = {}
    for one in explained:
        if one.kind != "explained":
            found.setdefault(summary.key(one.result), []).append(one.result)
    made = [NewDeparture(name, len(those), _worst(those)) for name, those in found.items()]
    return sorted(made, key=lambda one: -one.worst.size)


def _accuracy(mine: list[Result], well_posed: set[str]) -> list[SiteAccuracy]:
    """Return how accurate each output is, in the order of the report's tables."""
    found: dict[str, list[Result]] = {}
    for result in mine:
        if counts.is_judged(result):
            found.setdefault(summary.key(result), []).append(result)
    order = {name: n for n, name in enumerate(summary.COLUMNS)}
    names = sorted(found, key=lambda name: order.get(name, len(order)))
    return [_of_output(name, found[name], well_posed) for name in names]


def _of_output(name: str, those: list[Result], well_posed: set[str]) -> SiteAccuracy:
    inside = [result for result in those if not result.failed]
    worst = max(inside, key=lambda result: result.size, default=None)
    rho = worst.rho if worst and worst.rho is not msgspec.UNSET else None
    ulps = [result.deviation.ulps for result in inside if result.deviation and result.case in well_posed]
    errors = np.quantile(ulps, (0.5, 0.99, 1.0)).tolist() if ulps else [math.nan] * 3
    return SiteAccuracy(name, len(those), len(those) - len(inside), rho, *errors)


def _again(run: Run, record: ImplementationRecord) -> str:
    """Return the command that asks an implementation what the run asked it."""
    seed, cases = str(run.header.seed), str(run.header.cases)
    return commands.line("run", "-i", _named(record), "--seed", seed, "--cases", cases)


def slug(identity: str) -> str:
    """Return what the files of an implementation are called, whatever characters its name has.

    >>> slug("torch.F.batch_norm+vmap@cpu"), slug("../x y")
    ('torch.F.batch_norm+vmap@cpu', 'x-y-46c740c6')
    """
    plain = re.sub(r"[^A-Za-z0-9._+@-]", "-", identity).strip(".-")
    return plain if plain == identity else f"{plain}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
