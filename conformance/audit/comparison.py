"""What changed in semantics from one audit to another."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from conformance.audit.cells import Cell, Value
from conformance.errors import InvalidInput

_Key = tuple[str, str]


class Change(msgspec.Struct, frozen=True):
    """A field of an implementation that differs. before, after: each value with its status; empty where it is gone."""

    implementation: str
    field: str
    before: tuple[tuple[Value, str], ...]
    after: tuple[tuple[Value, str], ...]
    versions_before: dict[str, str] = {}
    versions_after: dict[str, str] = {}


class Kept(msgspec.Struct):
    """What a comparison reads of an audit that was written to a file."""

    cells: list[Cell]
    versions: dict[str, dict[str, str]] = {}


def read(path: Path) -> Kept:
    """Return an audit as it was written; raise `InvalidInput` where the file holds none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidInput(f"{path}: holds no audit ({error}); give what `bnconf audit --out FILE` wrote") from error


def changes(before: Kept, cells: Iterable[Cell], versions: dict[str, dict[str, str]]) -> list[Change]:
    """Return what differs in the implementations that both audits have; a witness may change freely."""
    old, new = _by_field(before.cells), _by_field(cells)
    there = {implementation for implementation, _ in old} & {implementation for implementation, _ in new}
    keys = [key for key in dict.fromkeys([*new, *old]) if key[0] in there]
    return [
        Change(*key, old.get(key, ()), new.get(key, ()), before.versions.get(key[0], {}), versions.get(key[0], {}))
        for key in keys
        if old.get(key, ()) != new.get(key, ())
    ]


def _by_field(cells: Iterable[Cell]) -> dict[_Key, tuple[tuple[Value, str], ...]]:
    found: dict[_Key, list[tuple[Value, str]]] = {}
    for cell in cells:
        found.setdefault((cell.implementation, cell.field), []).append((cell.value, cell.status))
    return {key: tuple(sorted(values, key=str)) for key, values in found.items()}
