"""The semantics matrix: what each implementation promises of each field, does beyond them, and the witness to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec

from conformance.model.results import Run
from conformance.model.statement import Statement, recorded
from conformance.runs import summary
from conformance.studies.audit import dimensions, written
from conformance.studies.audit.cells import FieldFinding
from conformance.studies.audit.documents import Contradiction
from reference import Semantics

AUDIT = "audit.json"
"""What `bnconf audit` leaves in a run's folder."""

_DEFAULT = Semantics()
FIELDS = [field.name for field in dataclasses.fields(Semantics)]


class Audited(msgspec.Struct):
    """What an audit left beside a run. inapplicable: why a field means nothing, by implementation and field."""

    proofs: dict[tuple[str, str], list[FieldFinding]] = {}
    inapplicable: dict[tuple[str, str], str] = {}
    contradictions: list[Contradiction] = []


class FieldPromise(msgspec.Struct):
    """What one implementation promises of one field.

    value: the value where nothing else is said.
    elsewhere: other values, and where they hold.
    cites: where that is documented.
    inapplicable: why the field means nothing; empty if it means something.
    key: what is compared with another's, where that is not the value as it stands.
    """

    value: str
    differs: bool
    elsewhere: list[str]
    cites: list[str]
    proofs: list[FieldFinding] = []
    inapplicable: str = ""
    key: str = ""

    @property
    def status(self) -> str:
        """The weakest status of the proofs; empty without a proof."""
        found = {proof.status for proof in self.proofs}
        return next((status for status in ("refuted", "undetermined", "proven") if status in found), "")


class PromiseRow(msgspec.Struct):
    """What one implementation promises, by field."""

    implementation: str
    promises: dict[str, FieldPromise]


def matrix(run: Run, audited: Audited) -> list[PromiseRow]:
    """Return a row for each implementation that has a statement."""
    rows, beyond = list[PromiseRow](), columns(audited)[len(FIELDS) :]
    for record in run.implementations:
        if record.statement:
            stated = recorded(record)
            promised = {field: _promise(stated, record.device, field) for field in FIELDS}
            promised |= {name: _done(audited.proofs.get((record.id, name), [])) for name in beyond}
            for field, promise in promised.items():
                promise.proofs = audited.proofs.get((record.id, field), [])
                promise.inapplicable = audited.inapplicable.get((record.id, field), "")
            rows.append(PromiseRow(record.id, promised))
    return rows


def _promise(statement: Statement, device: str, field: str) -> FieldPromise:
    default = getattr(_DEFAULT, field)
    value, elsewhere, cites = default, list[str](), list[str]()
    for rule in statement.rules:
        devices = rule.when.get("device")
        if field not in rule.semantics or (devices and device not in devices):
            continue
        when = {fact: values for fact, values in rule.when.items() if fact != "device"}
        cites.append(rule.cite)
        if when:
            elsewhere.append(f"{text(rule.semantics[field])} where {_words(when)}")
        else:
            value, elsewhere = rule.semantics[field], []
    return FieldPromise(text(value), value != default, elsewhere, cites)


def columns(audited: Audited) -> list[str]:
    """Return the columns of the matrix: every field, and what an audit asked beyond them."""
    return FIELDS + [name for name in dimensions.NAMES if any(field == name for _, field in audited.proofs)]


def _done(proofs: list[FieldFinding]) -> FieldPromise:
    """Return what is done in a dimension; it differs from the default where something else is done than is defined."""
    found = list(dict.fromkeys(str(proof.value) for proof in proofs))
    return FieldPromise(" / ".join(found), any(one != dimensions.AS_DEFINED for one in found), [], [])


def text(value: object) -> str:
    """Return a value of a field in words.

    >>> text("first_batch"), text(1e-05)
    ('first batch', '1e-05')
    """
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _words(when: dict[str, list[Any]]) -> str:
    return ", ".join(f"{fact} is {' or '.join(map(str, values))}" for fact, values in when.items())


def audit(folder: Path) -> Audited:
    """Return what an audit left in a run's folder; nothing where there was none."""
    path = folder / AUDIT
    if not path.exists():
        return Audited()
    found = written.read(path)
    audited = Audited({}, {(i.implementation, i.field): i.why for i in found.inapplicable}, found.documentation)
    for proof in found.cells:
        audited.proofs.setdefault((proof.implementation, proof.field), []).append(proof)
    return audited


def said(proof: FieldFinding) -> str:
    """Return a proof, in words."""
    words = [f"{text(proof.value)}: {proof.status}", proof.why, proof.divergence and f"divergence {proof.divergence}"]
    if proof.witness:
        w, rest = proof.witness, ", ".join(f"{text(v)} {summary.show(r)}" for v, r in proof.alternatives.items())
        asked = ", ".join(filter(None, (w.probe, w.place, w.dtype)))
        words.append(f"case {w.case} ({asked}), ρ {summary.show(proof.rho)}" + (f" against {rest}" if rest else ""))
    return "; ".join(filter(None, words))
