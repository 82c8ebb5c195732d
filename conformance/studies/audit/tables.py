"""An audit for people: a table in a terminal, or a page of Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from conformance.studies.audit import dimensions, fields
from conformance.studies.audit.auditing import Audit
from conformance.studies.audit.cells import FieldFinding
from conformance.studies.audit.classes import words
from conformance.studies.audit.comparison import Change
from conformance.studies.audit.documents import Contradiction

_SIGN = {"proven": "", "undetermined": " ?", "refuted": " ✗"}


def headline(audit: Audit) -> str:
    """Return how many cells are settled.

    >>> headline(Audit())
    '0 of 0 cells proven, 0 undetermined, 0 refuted; 0 do not apply'
    """
    n = Counter(cell.status for cell in audit.cells)
    return (
        f"{n['proven']} of {len(audit.cells)} cells proven, {n['undetermined']} undetermined, "
        f"{n['refuted']} refuted; {len(audit.inapplicable)} do not apply"
    )


def print_audit(audit: Audit, contradicted: list[Contradiction], changed: list[Change], console: Console) -> None:
    """Print one row per implementation and field, then what needs a word."""
    table = Table(box=None, pad_edge=False)
    for name in ("implementation", "field", "value", "ρ", "ruled out", "witness"):
        table.add_column(name, no_wrap=name != "ruled out", overflow="fold")
    for cell in audit.cells:
        table.add_row(*_row(cell))
    console.print(table)
    for line in (*_remarks(audit), *map(_contradicts, contradicted), *map(_changed, changed)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(headline(audit), markup=False, highlight=False)


def _row(cell: FieldFinding) -> tuple[str, ...]:
    others = ", ".join(f"{value} {_number(rho)}" for value, rho in cell.alternatives.items())
    witness = cell.witness.case if cell.witness else ""
    return cell.implementation, cell.field, f"{cell.value}{_SIGN[cell.status]}", _number(cell.rho), others, witness


def _number(rho: float | str | None) -> str:
    return "–" if rho is None else "∞" if rho == "inf" else f"{float(rho):.3g}"


def _remarks(audit: Audit) -> list[str]:
    cells = [
        f"{cell.status}: {cell.implementation}, {cell.field} {cell.value}: {cell.why}"
        for cell in audit.cells
        if cell.status != "proven"
    ]
    computed = [
        f"numerics: {one.implementation}: computed with {words(one.numerics)}, which it does not promise; "
        f"{one.why}, ρ {_number(one.rho)} as promised, case {one.case}"
        for one in audit.numerics
    ]
    return [
        *cells,
        *computed,
        *(
            f"unexplained: {one.implementation}, {one.probe} in {one.place}: {one.why}, case {one.case}"
            for one in audit.unexplained
        ),
    ]


def _contradicts(one: Contradiction) -> str:
    said = f' "{one.quote}"' if one.quote else ""
    instead = f"{one.divergence}, {one.link}; " if one.divergence else ""
    return (
        f"documentation: {one.implementation}, {one.field}: documented {one.documented},{said} {one.cite}; "
        f"behaves {one.behaves}, {instead}case {one.witness.case}"
    )


def _changed(one: Change) -> str:
    before, after = (
        " and ".join(f"{v} ({status})" for v, status in side) or "not applicable" for side in (one.before, one.after)
    )
    return f"changed: {one.implementation}, {one.field}: {before} → {after}"


def as_markdown(audit: Audit, contradicted: Iterable[Contradiction], changed: Iterable[Change]) -> str:
    """Return the matrix as a page: a row for each implementation, and a section for each kind of remark."""
    there_are = {cell.field for cell in audit.cells}
    names = [name for name in (*fields.NAMES, *dimensions.NAMES) if name in there_are]
    rows = {i: _matrix_row(i, names, audit) for i in dict.fromkeys(cell.implementation for cell in audit.cells)}
    sections = {
        "Not proven": _remarks(audit),
        "Documentation that behaviour contradicts": [_contradicts(one) for one in contradicted],
        "Changed": [_changed(one) for one in changed],
    }
    lines = [
        "# Semantics",
        "",
        headline(audit),
        "",
        _line(["implementation", *names]),
        _line(["---"] * (len(names) + 1)),
    ]
    lines += [_line(row) for row in rows.values()]
    for title, found in sections.items():
        lines += ["", f"## {title}", "", *(f"- {line}" for line in found)] if found else []
    return "\n".join(lines) + "\n"


def _matrix_row(implementation: str, names: list[str], audit: Audit) -> list[str]:
    cells = [cell for cell in audit.cells if cell.implementation == implementation]
    found = {name: [f"{c.value}{_SIGN[c.status]}" for c in cells if c.field == name] for name in names}
    return [f"`{implementation}`", *(" / ".join(found[name]) or "–" for name in names)]


def _line(values: list[str]) -> str:
    return f"| {' | '.join(values)} |"
