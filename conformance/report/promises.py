"""The semantics matrix: what each implementation promises of each field, and the witness that proves it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import msgspec

from conformance import summary
from conformance.errors import InvalidInput
from conformance.results import ImplementationRecord, Rho, Run
from conformance.statement import Statement
from reference import Semantics

AUDIT = "audit.json"
"""What `bnconf audit` leaves in a run's folder."""

_DEFAULT = Semantics()
FIELDS = [field.name for field in dataclasses.fields(Semantics)]


class Witness(msgspec.Struct):
    """The case that settles a cell, and its file, from the audit's folder."""

    case: str = ""
    file: str = ""
    probe: str = ""
    place: str = ""
    dtype: str = ""


class Proof(msgspec.Struct):
    """What an audit found of one value of one field. alternatives: the ρ of each other value under its witness."""

    implementation: str
    field: str
    value: Any
    status: str
    witness: Witness | None = None
    rho: Rho = None
    alternatives: dict[str, Rho] = {}
    why: str = ""
    divergence: str = ""

    @property
    def said(self) -> str:
        """The proof in words."""
        words = [f"{_text(self.value)}: {self.status}", self.why, self.divergence and f"divergence {self.divergence}"]
        if self.witness:
            w, rest = self.witness, ", ".join(f"{_text(v)} {summary.show(r)}" for v, r in self.alternatives.items())
            asked = ", ".join(filter(None, (w.probe, w.place, w.dtype)))
            words.append(f"case {w.case} ({asked}), ρ {summary.show(self.rho)}" + (f" against {rest}" if rest else ""))
        return "; ".join(filter(None, words))


class Contradiction(msgspec.Struct):
    """Documentation that behaviour contradicts."""

    implementation: str
    field: str
    documented: Any
    cite: str
    behaves: Any
    quote: str = ""
    link: str = ""


class Audited(msgspec.Struct):
    """What an audit left beside a run. inapplicable: why a field means nothing, by implementation and field."""

    proofs: dict[tuple[str, str], list[Proof]] = {}
    inapplicable: dict[tuple[str, str], str] = {}
    contradictions: list[Contradiction] = []


class Promise(msgspec.Struct):
    """What one implementation promises of one field.

    value: where nothing else is said. elsewhere: other values, and where they hold. cites: where that is documented.
    inapplicable: why it means nothing, empty where it does.
    """

    value: str
    differs: bool
    elsewhere: list[str]
    cites: list[str]
    proofs: list[Proof] = []
    inapplicable: str = ""

    @property
    def status(self) -> str:
        """The weakest of the proofs; empty without one."""
        found = {proof.status for proof in self.proofs}
        return next((status for status in ("refuted", "undetermined", "proven") if status in found), "")


class Row(msgspec.Struct):
    """One implementation."""

    implementation: str
    promises: dict[str, Promise]


def matrix(run: Run, audited: Audited) -> list[Row]:
    """Return a row for each implementation that has a statement."""
    rows = list[Row]()
    for record in run.implementations:
        if record.statement:
            promised = {field: _promise(record, field) for field in FIELDS}
            for field, promise in promised.items():
                promise.proofs = audited.proofs.get((record.id, field), [])
                promise.inapplicable = audited.inapplicable.get((record.id, field), "")
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


class _Inapplicable(msgspec.Struct):
    implementation: str
    field: str
    why: str


class _File(msgspec.Struct):
    cells: list[Proof]
    inapplicable: list[_Inapplicable] = []
    documentation: list[Contradiction] = []


def audit(folder: Path) -> Audited:
    """Return what an audit left in a run's folder; nothing where there was none."""
    path = folder / AUDIT
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return Audited()
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"{path}: is no audit ({error}); write it again with bnconf audit --out {path}") from error
    audited = Audited({}, {(i.implementation, i.field): i.why for i in found.inapplicable}, found.documentation)
    for proof in found.cells:
        audited.proofs.setdefault((proof.implementation, proof.field), []).append(proof)
    return audited
