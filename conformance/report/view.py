"""The values that the page's template shows, by the names that it uses."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from conformance.gate.divergences import Divergence
from conformance.model.codec import read_case
from conformance.model.errors import InvalidInput
from conformance.model.reference_rules import RULES
from conformance.model.results import Run
from conformance.report import coverage, data, drill, groups, history, overview, porting, promises
from conformance.report.accuracy import accuracy
from conformance.report.attached import attached
from conformance.report.entries import CHANGES, STANDINGS, ReportedResult, entries
from conformance.report.material import Material
from conformance.report.svg import SHAPES, sparkline
from conformance.report.tally import Count, tally
from conformance.runs import commands, counts, summary, timetable
from conformance.studies.translation import effects

_SAME = {
    "packages": overview.packages,
    "signs": overview.SIGNS,
    "shown": groups.SHOWN,
    "change_words": CHANGES,
    "standing_words": STANDINGS,
    "shapes": SHAPES,
    "compared_sizes": effects.VALUES,
    "rules": RULES,
    "said": promises.said,
    "noted": porting.noted,
    "timetable_parts": timetable.PARTS,
}
"""What every report shows alike."""


def view(material: Material) -> dict[str, Any]:
    """Return every value that the template shows."""
    run, folder = material.run, material.folder
    kinds = _counts(material)
    found = groups.groups(kinds, material.decision.groups if material.decision else ())
    rows = summary.rows(run)
    lines = overview.lines(run, rows, kinds, found)
    samples = drill.samples(run, folder, kinds)
    promised, columns = porting.rows(run, material.audited), [*porting.NATIVE, *promises.columns(material.audited)]
    compared = porting.for_script(promised, columns)
    accurate, asked = accuracy(material), coverage.asked(run)
    files = attached(run, folder, found)
    steps, reasons = _steps(run, folder), _reasons(material.known)
    extra = data.Extra(found, samples, steps, reasons, compared, accurate.choices, files)
    return _SAME | {
        "material": material,
        "run": run,
        "decision": material.decision,
        "divergences": {d.id: d for d in material.known},
        "headline": overview.headline(lines, kinds),
        "lines": lines,
        "departures": overview.departures(found, material.known),
        "unexplained": overview.unexplained(found, material.decision.groups if material.decision else ()),
        "checks": [c for c in overview.CHECKS if any(c in line.cells for line in lines)],
        "groups": found,
        "judged": counts.of(run.results).judged,
        "vacuous": _vacuous(run),
        "rows": rows,
        "accuracy": accurate,
        "field_groups": porting.groups(columns),
        "promises": promised,
        "notes": porting.notes(promised),
        "cells": coverage.cells(run),
        "asked": asked,
        "why_empty": coverage.why_empty(asked[1]),
        "history": _history(material.runs),
        "timetable": timetable.rows(run.end.timetable) if run.end and run.end.timetable else None,
        "command": partial(_command, run, folder),
        "commands": _commands(folder),
        "facts": partial(_facts, run, material.known),
        "packed": data.packed(run, folder, kinds, extra),
    }


def _commands(folder: Path) -> dict[str, str]:
    audit = commands.line("audit", "--out", commands.file(folder / "audit.json"))
    return {"gate": commands.line("gate", commands.file(folder)), "audit": audit}


def _counts(material: Material) -> list[Count]:
    cases = material.run.cases | (material.other.cases if material.other else {})
    dtypes = {case: record.dtype for case, record in cases.items()}
    found = entries(material.run, material.explanations, material.other)
    return tally(found, lambda r: dtypes.get(r.case) or r.dtype or "unknown")


def _vacuous(run: Run) -> float:
    """Return the share of elements whose bound is infinite."""
    elements = sum(r.elements for r in run.results)
    return sum(r.vacuous for r in run.results) / elements if elements else 0.0


def _steps(run: Run, folder: Path) -> dict[str, list[str]]:
    """Return the steps of each case in words, read from its file or, where that is gone, from its recipe."""
    found: dict[str, list[str]] = {}
    for case in run.cases.values():
        try:
            found[case.case] = list(drill.steps(read_case(folder / case.file)[0]))
        except InvalidInput:
            found[case.case] = str(case.recipe.get("modes", "")).split()
    return found


def _history(runs: list[history.Summary]) -> list[tuple[str, list[str], Any]]:
    """Return for each implementation its worst ρ in each run, and a small chart of these."""
    ids = list(dict.fromkeys(identity for run in runs for identity in run.implementations))
    lines: list[tuple[str, list[str], Any]] = []
    for identity in ids:
        known = [run.implementations.get(identity) for run in runs]
        values = [summary.as_number(i.worst) if i else math.nan for i in known]
        logs = [math.log10(v) if 0 < v < math.inf else math.nan for v in values]
        shown = [summary.show(i.worst) + (f" ({i.failed} ✗)" if i.failed else "") if i else "" for i in known]
        lines.append((identity, shown, sparkline(logs, f"worst ρ of {identity} from run to run")))
    return lines


def _reasons(known: list[Divergence]) -> dict[str, str]:
    return {d.id: f"{d.reason} ({d.rule}; {d.link})" for d in known}


def _command(run: Run, folder: Path, entry: ReportedResult) -> str:
    return commands.replay(run, entry.result, folder) if entry.result.case in run.cases else ""


def _facts(run: Run, known: list[Divergence], entry: ReportedResult) -> dict[str, Any]:
    """Return what is shown of a failure beside its numbers."""
    case = run.cases.get(entry.result.case)
    return {"summary": case.summary if case else "", "reasons": [d for d in known if d.id in entry.divergences]}
