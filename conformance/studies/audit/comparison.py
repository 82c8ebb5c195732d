"""What changed in semantics from one audit to another."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.studies.audit.cells import FieldFinding, Value
from conformance.studies.audit.written import Change, Written

_Key = tuple[str, str]


def changes(before: Written, cells: Iterable[FieldFinding], versions: dict[str, dict[str, str]]) -> list[Change]:
    """Return what differs in the implementations that both audits have; a witness may change freely."""
    old, new = _by_field(before.cells), _by_field(cells)
    there = {implementation for implementation, _ in old} & {implementation for implementation, _ in new}
    keys = [key for key in dict.fromkeys([*new, *old]) if key[0] in there]
    return [
        Change(*key, old.get(key, ()), new.get(key, ()), before.versions.get(key[0], {}), versions.get(key[0], {}))
        for key in keys
        if old.get(key, ()) != new.get(key, ())
    ]


def _by_field(cells: Iterable[FieldFinding]) -> dict[_Key, tuple[tuple[Value, str], ...]]:
    found: dict[_Key, list[tuple[Value, str]]] = {}
    for cell in cells:
        found.setdefault((cell.implementation, cell.field), []).append((cell.value, cell.status))
    return {key: tuple(sorted(values, key=str)) for key, values in found.items()}
