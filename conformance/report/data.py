"""What the page's script reads: groups of results with their counts, the rows kept, the cases, and who fared how."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from conformance.model.results import CaseRecord, ImplementationRecord, Result, Run
from conformance.report import accuracy
from conformance.report.drill import Sample
from conformance.report.entries import ReportedResult
from conformance.report.groups import Group
from conformance.report.overview import packages
from conformance.report.pack import pack
from conformance.report.porting import translatable
from conformance.report.ranking import Ranked
from conformance.report.tally import Count, ResultGroup
from conformance.runs import commands, summary
from reference.spec import Array

LONGEST = 400
"""How much of a message is shown."""

NOT_ASKED, UNSUPPORTED, INCONCLUSIVE, CONFORMS, FAILS = 0, 1, 2, 3, 255
"""Codes of the grid where there is no ρ; those between are `code`s of one."""
_PER_DECADE, _ONE = 16, 100
_MOST = float(np.finfo(np.float32).max)
_HERE = "cases/0123456789abcdef.safetensors"  # as long as any, and as little to be quoted


class Extra(NamedTuple):
    """What is shown beside results.

    steps: those of each case, in words; reasons: those of known divergences, by id; porting: what is compared;
    ranked: who is how accurate, by dtype and check; attached: case files by id.
    """

    groups: list[Group]
    samples: list[Sample]
    steps: dict[str, list[str]]
    reasons: dict[str, str]
    porting: dict[str, Any]
    ranked: list[Ranked]
    attached: dict[str, bytes]


def packed(run: Run, folder: Path, counts: list[Count], extra: Extra) -> str:
    """Return everything that the script reads, compressed."""
    rows = [(n, entry) for n, count in enumerate(counts) for entry in count.rows]
    arrays = [_single(array.ravel()) for sample in extra.samples for array in sample.arrays.values()]
    columns: dict[str, Array | Sequence[str]] = {
        **{f"kind.{name}": [getattr(c.kind, name) for c in counts] for name in ResultGroup._fields},
        "kind.number": np.asarray([c.number for c in counts], np.uint32),
        "kind.worst": _single([c.worst for c in counts]),
        **_rows(rows),
        **accuracy.packed(extra.ranked),
        "grid": grid(run),
        "passed": passed(run),
        "attached": np.frombuffer(b"".join(extra.attached.values()), np.uint8),
        "values": np.concatenate(arrays) if arrays else np.zeros(0, np.float32),
    }
    return pack(columns, _rest(run, folder, extra))


def _single(values: Any) -> Array:
    """Return numbers in single precision, which is enough to be looked at; what is too large for it is infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)


def _rows(rows: list[tuple[int, ReportedResult]]) -> dict[str, Array | Sequence[str]]:
    results = [entry.result for _, entry in rows]
    seen = [r.deviation for r in results]
    return {
        "row.kind": np.asarray([n for n, _ in rows], np.uint16 if len(rows) < 1 << 16 else np.uint32),
        "row.case": [r.case for r in results],
        "row.step": np.asarray([r.step for r in results], np.int8),
        "row.rho": _single([number(r) for r in results]),
        "row.how": [d.check if d else "" for d in seen],
        "row.ulps": _single([d.ulps if d else 0.0 for d in seen]),
        "row.at": [", ".join(map(str, d.index)) if d else "" for d in seen],
        "row.numerics": [r.numerics for r in results],
        "row.said": [said(r)[:LONGEST] for r in results],
        "row.expected": np.asarray([_of(r, r.deviation and r.deviation.expected) for r in results], np.float64),
        "row.got": np.asarray([_of(r, r.deviation and r.deviation.got) for r in results], np.float64),
        "row.bound": np.asarray([_brief(d.bound if d else None) for d in seen], np.float64),
    }


def _of(result: Result, value: float | str | None) -> float:
    """Return a number to its last digit where the result fails, and as it is shown where it passes."""
    return _brief(value) if not result.failed or value is None else float(value)


def _brief(value: float | str | None) -> float:
    """Return a number with the four digits that are shown, in few bits, so that it compresses well."""
    if value is None:
        return math.nan
    brief = float(f"{float(value):.4g}")
    near = float(np.float32(brief)) if abs(brief) < _MOST else brief
    return near if f"{near:.4g}" == f"{brief:.4g}" else brief


def said(result: Result) -> str:
    """Return what a row says of a result in words: the outcome, the reason, and how many answers are not finite."""
    parts = f"{result.outcome} {result.reason}".strip(), summary.not_finite(result)
    return "; ".join(part for part in parts if part)


def number(result: Result) -> float:
    """Return ρ as a number; NaN if there is none."""
    return math.nan if result.rho is msgspec.UNSET or result.rho is None else float(result.rho)


def _rest(run: Run, folder: Path, extra: Extra) -> dict[str, Any]:
    return {
        "implementations": [
            {
                "id": r.id,
                "framework": r.framework,
                "replay": _replay(r, folder),
                "translate": translatable(r),
                "versions": packages(r),
            }
            for r in run.implementations
        ],
        "cases": [[*_case(case), extra.steps.get(case.case, [])] for case in run.cases.values()],
        "samples": [sample.described() for sample in extra.samples],
        "groups": [group.described() for group in extra.groups],
        "attached": [[case, len(content)] for case, content in extra.attached.items()],
        "reasons": extra.reasons,
        "porting": extra.porting,
    }


def _replay(record: ImplementationRecord, folder: Path) -> list[str]:
    """Return what stands before and after a case's file in the line that asks it again."""
    place, _, after = commands.with_file("replay", folder / _HERE, record).partition(_HERE)
    return [place, after]


def _case(case: CaseRecord) -> list[Any]:
    """Return a case as a list, in the order that `data.js` names."""
    conditioning = None if case.conditioning is None else _finite(float(f"{case.conditioning:.4g}"))
    recipe = {name: _finite(value) for name, value in case.recipe.items()}
    return [case.case, case.name, case.cell, case.summary[:LONGEST], case.file, conditioning, recipe]


def _finite(value: Any) -> Any:
    """Return a value as JSON has it: what is not finite as text."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {k: _finite(v) for k, v in cast("dict[str, Any]", value).items()}
        case list():
            return [_finite(v) for v in cast("list[Any]", value)]
        case _:
            return value


def grid(run: Run) -> Array:
    """Return how each implementation fared in each case, cases × implementations: its worst ρ, or why there is none."""
    cases = {case: n for n, case in enumerate(run.cases)}
    ids = {record.id: n for n, record in enumerate(run.implementations)}
    found = np.zeros((len(cases), len(ids)), np.uint8)
    for result in run.results:
        if result.case in cases and result.implementation in ids:
            place = cases[result.case], ids[result.implementation]
            found[place] = max(found[place], code(result))
    return found.ravel()


def passed(run: Run) -> Array:
    """Return how many results of each implementation pass in each case, cases × implementations; at most 255."""
    cases, ids = (
        {name: n for n, name in enumerate(names)} for names in (run.cases, [r.id for r in run.implementations])
    )
    found = np.zeros((len(cases), len(ids)), np.uint8)
    for result in run.results:
        if result.verdict == "PASS" and result.case in cases and result.implementation in ids:
            place = cases[result.case], ids[result.implementation]
            found[place] = min(int(found[place]) + 1, 255)
    return found.ravel()


def code(result: Result) -> int:
    """Return one byte for a result: what the grid holds.

    >>> [code(Result("c", "i", "PASS", rho=rho)) for rho in (0.0, 0.1, 1.0)]
    [4, 84, 100]
    >>> code(Result("c", "i", "FAIL", rho=1.0001)), code(Result("c", "i", "FAIL", reason="crashed"))
    (101, 255)
    """
    match result.verdict:
        case "UNSUPPORTED":
            return UNSUPPORTED
        case "INCONCLUSIVE":
            return INCONCLUSIVE
        case "PASS":
            rho = number(result)
            return CONFORMS if math.isnan(rho) else min(_scaled(rho), _ONE)
        case _:
            rho = number(result)
            return FAILS if not math.isfinite(rho) else max(_scaled(rho), _ONE + 1)


def _scaled(rho: float) -> int:
    return min(max(_ONE + round(_PER_DECADE * math.log10(rho)), CONFORMS + 1), FAILS - 1) if rho > 0 else CONFORMS + 1
