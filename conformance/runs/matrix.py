"""What each implementation was asked in a run, counted: the table of `conformance/implementations/README.md`."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec

from conformance.cases import corpus
from conformance.model.case import case_id
from conformance.model.case_facts import every_step
from conformance.model.facts import Facts
from conformance.model.outputs import EVERY
from conformance.model.results import CaseRecord, Result, Run
from conformance.model.statement import COLUMNS, Statement, recorded
from conformance.runs.counts import is_judged

_DERIVATIVES = {o.name: "second order" if o.order > 1 else "gradient" if o.wrt else "forward" for o in EVERY if o.order}
FEATURES = {
    "mask": ("mask",),
    "mask without last": ("mask",),
    "renorm": ("renorm",),
    "virtual": ("virtual batch",),
    "virtual renorm": ("renorm", "virtual batch"),
    "adjustment": ("adjustment",),
}
_OF_REPLICAS = {"masked replicas": ("mask",)}
_OF_STEPS = ("mask", "renorm", "virtual batch", "adjustment")
"""Columns that the facts of a step say."""
_OF_ARRAYS = ("forward", "second order")
"""Columns that are known by their arrays alone, of which a step that fails as a whole has none."""


class MatrixRow(msgspec.Struct):
    """One implementation: judged arrays per column, dtype and rank, those that failed, and why a column is empty.

    named: those of the judged arrays of each column that cases of the corpus ask for, the others being generated.
    """

    id: str
    judged: dict[str, int]
    failed: dict[str, int]
    named: dict[str, int]
    dtypes: dict[str, int]
    ranks: dict[str, int]
    empty: dict[str, str]


def lines(run: Run) -> list[MatrixRow]:
    """Return a line for each implementation that the run judged, in its order."""
    counts: defaultdict[str, dict[str, Counter[str]]] = defaultdict(
        lambda: {name: Counter() for name in ("judged", "failed", "named", "steps", "refused", "dtypes", "ranks")}
    )
    facts = _facts(run)
    for result in run.results:
        case = run.cases.get(result.case)
        if case and result.output == "outcome":
            counts[result.implementation]["refused"][result.mode] += 1
        if case and case.recipe and result.output == "outcome" and result.failed:
            counts[result.implementation]["steps"][case.recipe["signature"].get("feature", "")] += 1
        if case and is_judged(result) and (case.recipe or case.case in facts):
            _count(counts[result.implementation], result, case, facts)
    known = {record.id: recorded(record) for record in run.implementations}
    return [_line(identity, counts[identity], known[identity]) for identity in known if identity in counts]


def _facts(run: Run) -> dict[str, list[Facts]]:
    """Return the facts about the steps of a run's named cases, of those that the corpus still has."""
    named = ((case_id(named.case), named.case) for named in corpus.every())
    return {identity: every_step(case) for identity, case in named if identity in run.cases}


def _count(counts: dict[str, Counter[str]], result: Result, case: CaseRecord, facts: dict[str, list[Facts]]) -> None:
    signature: dict[str, Any] = case.recipe.get("signature", {})
    of_step = None if case.recipe else facts[case.case][result.step]
    for column in _columns(result, signature, of_step):
        counts["judged"][column] += 1
        counts["failed"][column] += result.verdict == "FAIL"
        counts["named"][column] += of_step is not None
    counts["dtypes"][case.dtype or (of_step.dtype if of_step else "")] += 1
    counts["ranks"][str(of_step.rank if of_step else len(signature["shape"]))] += 1


def _columns(result: Result, signature: dict[str, Any], of_step: Facts | None) -> list[str]:
    """Return the columns that a judged array belongs to: what it is, and the features of its case or named step."""
    features = (FEATURES | _OF_REPLICAS).get(signature.get("feature", ""), ())
    if of_step:
        features = [name for name in _OF_STEPS if of_step.said(COLUMNS[name][0]) in COLUMNS[name][1]]
    return [_DERIVATIVES.get(result.output, result.mode), *features]


def _line(identity: str, counts: dict[str, Counter[str]], statement: Statement) -> MatrixRow:
    judged = dict(counts["judged"])
    failed_steps = {column: counts["steps"][column] for column in _OF_ARRAYS}
    empty = {c: _reason(c, statement, failed_steps.get(c, 0)) for c in COLUMNS if not judged.get(c)}
    for mode in empty.keys() & counts["refused"].keys():
        empty[mode] = empty[mode] or f"{counts['refused'][mode]} steps were asked, and none gave an array"
    failed, named, dtypes, ranks = (dict(sorted(counts[n].items())) for n in ("failed", "named", "dtypes", "ranks"))
    return MatrixRow(identity, judged, failed, named, dtypes, ranks, empty)


def _reason(column: str, statement: Statement, failed_steps: int) -> str:
    """Return the reason why nothing was judged, stated or that the steps failed; empty if there is none: a gap."""
    if not statement.offers(column):
        return statement.lacks.get(column, "")
    return f"{failed_steps} steps were asked, and failed as a whole" if failed_steps else ""


def gaps(table: list[MatrixRow]) -> list[str]:
    """Return a line for each empty cell without a stated reason."""
    return [
        f"{line.id}: nothing judged for {column}, and its statement does not say why"
        for line in table
        for column, reason in line.empty.items()
        if not reason
    ]


def as_markdown(table: list[MatrixRow], run: Run) -> str:
    """Return the table with its counts, the reasons as numbered notes."""
    notes = {reason: n for n, reason in enumerate(sorted({r for line in table for r in line.empty.values() if r}), 1)}
    head = ["implementation", *COLUMNS, "dtypes", "ranks"]
    rows = [_row(line, notes) for line in table]
    body = "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
    said = "\n".join(f"{number}. {reason}" for reason, number in notes.items())
    versions: defaultdict[str, set[str]] = defaultdict(set)  # environments may have different ones
    for record in run.implementations:
        for name, found in record.versions.items():
            versions[name].add(found)
    listed = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in sorted(versions.items()))
    return _PAGE.format(body=body, notes=said, seed=run.header.seed, cases=run.header.cases, versions=listed)


def _row(line: MatrixRow, notes: dict[str, int]) -> list[str]:
    cells = [_cell(line, column, notes) for column in COLUMNS]
    short = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}
    dtypes = ", ".join(f"{short[name]} {count}" for name, count in line.dtypes.items())
    return [f"`{line.id}`", *cells, dtypes, ", ".join(f"{rank}: {count}" for rank, count in line.ranks.items())]


def _cell(line: MatrixRow, column: str, notes: dict[str, int]) -> str:
    if column in line.empty:
        return f"[{notes[line.empty[column]]}](#why-a-cell-is-empty)" if line.empty[column] else "**none**"
    judged, failed, named = line.judged[column], line.failed.get(column), line.named.get(column)
    return f"{judged}" + (" named" if named == judged else "") + (f" ({failed} FAIL)" if failed else "")


_PAGE = """# The roster

Generated by `bnconf matrix RUN --out conformance/implementations/README.md`; do not edit. Each cell counts the arrays
that a run with seed {seed} and {cases} generated cases judged, those of the corpus included, and those of them that
failed; `named`: cases of the corpus alone ask for it. A number in brackets leads to why there is none. An array belongs
to what it is (train, infer, gradient, …) and to each feature that its case asks for.

{body}

## Why a cell is empty

{notes}

Versions: {versions}.
"""
