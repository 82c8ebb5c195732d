"""The findings of an audit: for each implementation and field its value, and the case that proves it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from conformance.judging.exact_case import ExactCase
from conformance.model.outcome import Reply
from conformance.model.results import Rho
from conformance.studies.audit.blame import Blame
from conformance.studies.audit.fits import Fit, ProbeAnswer
from conformance.studies.audit.subject import Subject, Try, Value

Status = Literal["proven", "undetermined", "refuted"]
FOLDER = "witnesses"
"""The folder of the witnesses, beside the audit's file. (`cases` belongs to a run: the next run clears it.)"""


class Witness(msgspec.Struct, frozen=True):
    """The case that settles a finding.

    case: its id.
    file: where it is kept, from the audit's folder.
    probe: the probe that made it.
    place, dtype: where its kept axis is, and the dtype of its input.
    """

    case: str
    file: str
    probe: str = ""
    place: str = ""
    dtype: str = ""


class FieldFinding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One value of one field of one implementation, or what it does in one dimension (`dimensions`).

    rho: that of the witness under `value`.
    alternatives: the ρ of each other value; "inf" where the outcome would be another one, null where that is unknown.
    reasons: what decided it, by value.
    others: cases that rule out the values that the witness does not.
    where: the places in which the statement promises this value, if it promises several.
    promised: what the statement says, where a known divergence says otherwise.
    cite: where that is documented.
    """

    implementation: str
    field: str
    value: Value
    status: Status
    witness: Witness | None = None
    rho: Rho = None
    alternatives: dict[str, Rho] = {}
    why: str = ""
    reasons: dict[str, str] = {}
    others: dict[str, Witness] = {}
    where: tuple[str, ...] = ()
    promised: Value | None = None
    divergence: str = ""
    cite: str = ""


class Inapplicable(msgspec.Struct, frozen=True):
    """A field that means nothing for an implementation, or a dimension that it cannot be asked in, and why."""

    implementation: str
    field: str
    why: str


class _Tried(msgspec.Struct, frozen=True):
    """One case: what the promised value makes of the answer, and what each other value does."""

    case: Try
    mine: Fit
    others: dict[Value, Fit]

    @property
    def excluded(self) -> list[Value]:
        """The values that the answer rules out; none unless the promised value explains it."""
        if self.mine.status != "explains":
            return []
        return [value for value, fit in self.others.items() if fit.status == "fails"]


class Settling:
    """The findings for one implementation, drawn from its answers."""

    def __init__(self, subject: Subject, replies: dict[str, Reply], exact_cases: dict[str, ExactCase]) -> None:
        self.subject, self._replies = subject, replies
        self.blame = Blame(subject, replies, exact_cases)

    def cells(self) -> list[FieldFinding]:
        """Return a finding for each value of each field that applies."""
        asked = self.subject.asked
        return [self._cell(name, value, asked[name][value]) for name in asked for value in asked[name]]

    def inapplicable(self) -> list[Inapplicable]:
        """Return the fields that do not apply, each with the reason."""
        return [Inapplicable(self.subject.id, name, why) for name, why in self.subject.inapplicable.items()]

    def _cell(self, name: str, value: Value, tries: list[Try]) -> FieldFinding:
        tried = [self._tried(name, value, t) for t in tries if t.id in self._replies]
        cell = self._about(name, value, tries)
        if not tried:
            return msgspec.structs.replace(cell, why="no case of it was answered")
        failing = [t for t in tried if t.mine.status == "fails"]
        known = [t for t in failing if t.case.id not in self.blame.unexplained]
        if known:
            return self._refuted(cell, known[0])
        if failing:
            either = self.blame.unexplained[failing[0].case.id].either
            why = f"it is one of {', '.join(either)}" if either else "nothing that was tried explains its case"
            return _settled(cell, failing, "undetermined", why)
        return _settled(cell, tried)

    def _about(self, name: str, value: Value, tries: list[Try]) -> FieldFinding:
        case, known = tries[0].case, self.subject.divergence(name, tries[0].case)
        return FieldFinding(
            self.subject.id,
            name,
            value,
            "undetermined",
            where=self.subject.where(name, value),
            promised=getattr(self.subject.stated_semantics(case), name) if known else None,
            divergence=known.id if known else "",
            cite=self.subject.cite(name, case),
        )

    def _tried(self, name: str, value: Value, t: Try) -> _Tried:
        answered = self.blame.bases[t.id]
        fits = {v: _fit(answered, name, v) for v in self.subject.rivals(name, value, t.case)}
        return _Tried(t, _fit(answered, name, value), fits)

    def _refuted(self, cell: FieldFinding, failing: _Tried) -> FieldFinding:
        """Return the finding for a value that an answer contradicts, unless a known divergence says what holds."""
        explaining = [v for v, fit in failing.others.items() if fit.status == "explains"]
        known = self.subject.refusing(failing.case.case)
        if len(explaining) == 1 and known:
            observed = msgspec.structs.replace(cell, value=explaining[0], promised=cell.value, divergence=known.id)
            others = {v: fit for v, fit in failing.others.items() if v != explaining[0]} | {cell.value: failing.mine}
            return _settled(observed, [_Tried(failing.case, failing.others[explaining[0]], others)])
        nearest = f"; {' or '.join(map(str, explaining))} would explain it" if explaining else ""
        return _settled(cell, [failing], "refuted", (failing.mine.why or "the answer is another one") + nearest)


def _settled(cell: FieldFinding, tried: list[_Tried], status: Status | None = None, why: str = "") -> FieldFinding:
    """Return the finding with the case that rules out most values as its witness, and what the other cases add."""
    best = max(tried, key=lambda t: (len(t.excluded), t.mine.status == "explains", t.mine.rho is not None))
    every = list(dict.fromkeys(value for t in tried for value in t.others))
    by: dict[Value, _Tried] = {v: next((t for t in (best, *tried) if v in t.excluded), best) for v in every}
    left = [v for v in every if v not in by[v].excluded]
    fits = {v: by[v].others.get(v, Fit("vacuous")) for v in every}
    return msgspec.structs.replace(
        cell,
        status=status or ("undetermined" if left or best.mine.status != "explains" else "proven"),
        witness=witness(best.case),
        rho=best.mine.rho,
        alternatives={str(v): fit.rho for v, fit in fits.items()},
        reasons={str(v): fit.why for v, fit in fits.items() if fit.why},
        others={str(v): witness(by[v].case) for v in every if by[v] is not best},
        why=why or _remaining(best, left, fits),
    )


def _remaining(best: _Tried, left: list[Value], fits: dict[Value, Fit]) -> str:
    if best.mine.status == "vacuous":
        return best.mine.why or "nothing could be compared"
    words = [f"{v} {'explains the same answers' if fits[v].status == 'explains' else fits[v].why}" for v in left]
    return "; ".join(words)


def _fit(answered: ProbeAnswer, name: str, value: Any) -> Fit:
    if name == "output_dtype":
        return answered.storage(value)
    if name == "mask" and answered.declines(value):
        return Fit("explains", None, "masks that are not boolean are refused")
    return answered.fit({name: value})


def witness(t: Try) -> Witness:
    """Return the case of a try as what settles a finding."""
    return Witness(t.id, f"{FOLDER}/{t.id}.safetensors", t.probe.name, t.place.name, t.place.dtype)
