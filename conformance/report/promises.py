"""The semantics matrix: what each implementation promises of each field, and the witness that proves it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import msgspec

from conformance.errors import InvalidInput
from conformance.results import ImplementationRecord, Run
from conformance.statement import Statement
from reference import Semantics

AUDIT = "audit.json"
"""What `bnconf audit` leaves in a run's folder."""

_DEFAULT = Semantics()
FIELDS = [field.name for field in dataclasses.fields(Semantics)]


class Witness(msgspec.Struct):
    """What an audit found of one cell. status: proven, undetermined or refuted; witness: the case that shows it."""

    implementation: str
    field: str
    value: Any
    status: str
    witness: Any = None

    @property
    def said(self) -> str:
        """The witness in words."""
        return self.witness if isinstance(self.witness, str) else msgspec.json.encode(self.witness).decode()


class Promise(msgspec.Struct):
    """What one implementation promises of one field.

    value: where nothing else is said. elsewhere: other values, and where they hold. cites: where that is documented.
    """

    value: str
    differs: bool
    elsewhere: list[str]
    cites: list[str]
    witness: Witness | None = None


class Row(msgspec.Struct):
    """One implementation."""

    implementation: str
    promises: dict[str, Promise]


def matrix(run: Run, witnesses: list[Witness]) -> list[Row]:
    """Return a row for each implementation that has a statement."""
    proofs = {(w.implementation, w.field): w for w in witnesses}
    rows = list[Row]()
    for record in run.implementations:
        if record.statement:
            promised = {field: _promise(record, field) for field in FIELDS}
            for field, promise in promised.items():
                bare = record.id.partition("@")[0]
                promise.witness = proofs.get((record.id, field)) or proofs.get((bare, field))
            rows.append(Row(record.id, promised))
    return rows


def _promise(record: ImplementationRecord, field: str) -> Promise:
    statement, default = msgspec.convert(record.statement, Statement), getattr(_DEFAULT, field)
    value, elsewhere, cites = default, list[str](), list[str]()
    for rule in statement.rules:
        devices = rule.when.get("device")
        if field not in rule.semantics or (devices and record.device not in devices):
            continue
        when = {fact: values for fact, values in rule.when.items() if fact != "device"}
        cites.append(rule.cite)
        if when:
            elsewhere.append(f"{_text(rule.semantics[field])} where {_words(when)}")
        else:
            value, elsewhere = rule.semantics[field], []
    return Promise(_text(value), value != default, elsewhere, cites)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _words(when: dict[str, list[Any]]) -> str:
    return ", ".join(f"{fact} is {' or '.join(map(str, values))}" for fact, values in when.items())


def rules() -> dict[str, str]:
    """Return the rule of the reference that each field belongs to.

    >>> rules()["mask_rank"], rules()["stored_variance"]
    ('BN-23', 'BN-11')
    """
    found: dict[str, str] = {}
    for names, rule in re.findall(r"^\s*([\w, ]+) \((BN-\d+)[^)]*\):", Semantics.__doc__ or "", re.MULTILINE):
        found |= dict.fromkeys(names.split(", "), rule)
    return found


def audit(folder: Path) -> list[Witness]:
    """Return what an audit left in a run's folder; nothing where there was none."""
    path = folder / AUDIT
    try:
        text = path.read_bytes()
    except OSError:
        return []
    try:
        found = msgspec.json.decode(text)
        return msgspec.convert(found["cells"] if isinstance(found, dict) else found, list[Witness])
    except (msgspec.MsgspecError, KeyError) as error:
        raise InvalidInput(f"{path}: is no audit ({error}); write it again with bnconf audit --json") from error
