"""Failures as the page lists them: one group for each implementation, output, standing and change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from conformance.report.entries import STANDINGS, ReportedResult
from conformance.report.tally import NOT_ASKED, Count, ResultGroup
from conformance.runs.failures.groups import FailureGroup

SHOWN = 4
"""How many failures of a group are listed without the script."""


class Group(msgspec.Struct):
    """Failures of one implementation, output, standing and change, in every dtype.

    anchor: its place on the page.
    number: how many there are.
    why: what is wrong, where over all results, and where in the arrays, as the gate found it, a line each.
    rows: those that are kept, the worst first.
    """

    anchor: str
    kind: ResultGroup
    number: int
    dtypes: list[str]
    verdicts: list[str]
    rows: list[ReportedResult]
    why: list[str] = []

    @property
    def worst(self) -> ReportedResult:
        """The failure with the largest ρ."""
        return self.rows[0]

    def described(self) -> dict[str, Any]:
        """Return what the page filters it by."""
        k = self.kind
        fixed = {f: getattr(k, f) for f in ("implementation", "check", "standing", "change")}
        several = {"dtype": self.dtypes, "verdict": self.verdicts}
        return fixed | several | {"anchor": self.anchor, "output": k.column, "divergence": k.divergences}


def groups(counts: list[Count], told: Sequence[FailureGroup] = ()) -> list[Group]:
    """Return the groups of what fails, or failed in another run, those that nothing explains first.

    told: what the gate found of failures that nothing explains.
    """
    found: dict[tuple[str, ...], list[Count]] = {}
    for count in counts:
        k = count.kind
        if k.verdict in ("FAIL", "ERROR", NOT_ASKED) or k.change:
            found.setdefault((k.implementation, k.column, k.standing, k.change, k.divergences), []).append(count)
    made, anchors = list[Group](), set[str]()
    for of_group in found.values():
        anchor = _anchor(of_group[0].kind, anchors)
        anchors.add(anchor)
        made.append(_group(anchor, of_group, told))
    order = {standing: n for n, standing in enumerate(STANDINGS)}
    return sorted(made, key=lambda g: (order.get(g.kind.standing, len(order)), g.kind))


def _group(anchor: str, counts: list[Count], told: Sequence[FailureGroup]) -> Group:
    rows = sorted((row for count in counts for row in count.rows), key=lambda e: -e.result.size)
    dtypes, verdicts = (list(dict.fromkeys(getattr(c.kind, f) for c in counts)) for f in ("dtype", "verdict"))
    return Group(
        anchor, counts[0].kind, sum(c.number for c in counts), dtypes, verdicts, rows, _why(rows, counts[0].kind, told)
    )


def _why(rows: list[ReportedResult], kind: ResultGroup, told: Sequence[FailureGroup]) -> list[str]:
    """Return what the gate found of failures; nothing where they are explained, or were not looked at."""
    outputs = {row.result.output for row in rows}
    mine = [g for g in told if g.implementation == kind.implementation and outputs & set(g.outputs)]
    return mine[0].lines if mine and mine[0].where and kind.standing not in ("", "explained") else []


def _anchor(kind: ResultGroup, taken: set[str]) -> str:
    """Return a group's place, the same in every run that has it: `torch.F.batch_norm@cpu:dx-train`."""
    plain = re.sub(r"[^\w.+@:-]", "-", f"{kind.implementation}:{kind.column}")
    names = (plain, *(f"{plain}:{re.sub(r'[^a-z]', '-', w)}" for w in (kind.standing, kind.change) if w))
    return next((n for n in names if n not in taken), f"{plain}:{len(taken)}")
