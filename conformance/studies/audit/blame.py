"""The cause of an answer that contradicts a statement: a known divergence, its numerics, or one promise of many.

A promise that is not kept shows in nearly every case, and so does another way of computing. So a field is blamed only
if its own value is what must change: numerics are fitted first, and what was found to hold instead is taken as given in
the cases that come after.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from conformance.judging.exact_case import ExactCase
from conformance.model.outcome import Reply
from conformance.model.results import Rho
from conformance.model.statement import Statement
from conformance.studies.audit import classes, fields
from conformance.studies.audit.fits import ProbeAnswer, changed, supposing
from conformance.studies.audit.probes import PROBES
from conformance.studies.audit.subject import Subject, Try
from reference import Semantics

_ORDER = [probe.name for probe in PROBES]


class OtherNumerics(msgspec.Struct, frozen=True):
    """Numerics that are not as promised: what explains the answers instead, and a case that shows it.

    rho: that of the case under the promised numerics.
    why: where it shows.
    """

    implementation: str
    numerics: dict[str, Any]
    case: str
    rho: Rho
    why: str


class Unexplained(msgspec.Struct, frozen=True):
    """A case whose answer contradicts the statement, while no single change explains it.

    either: the changes that would explain it, if there are several.
    """

    implementation: str
    case: str
    probe: str
    place: str
    why: str
    either: tuple[str, ...] = ()


class Blame:
    """The statement under which each answer of one implementation is to be read, amended by what was found."""

    def __init__(self, subject: Subject, replies: dict[str, Reply], exact_cases: dict[str, ExactCase]) -> None:
        self.subject, self._replies, self._questions = subject, replies, exact_cases
        self._wrong = tuple(d for d in subject.divergences if d.predicts.wrong)
        self.bases: dict[str, ProbeAnswer] = {}
        self.mismatches: list[OtherNumerics] = []
        self.unexplained: dict[str, Unexplained] = {}
        self.instead: dict[str, Any] = {}
        tries = {t.id: t for t in subject.tries() if t.id in replies}
        self._blame(sorted(tries.values(), key=lambda t: _ORDER.index(t.probe.name)))

    @property
    def observed(self) -> Statement:
        """What is promised, with the numerics and fields that were found to hold instead."""
        return classes.computed(changed(self.subject.statement, self.instead), self._numerics)

    def _blame(self, tries: list[Try]) -> None:
        self._numerics: dict[str, Any] = {}
        left = [t for t in tries if not self._read(t, self._as_promised(t))]
        self._numerics = self._fitted(left)
        for t in left:
            supposed = [{}, self.instead, *({n: v} for n, v in self.instead.items())]
            if not self._read(t, [self._amended(t, one) for one in supposed]):
                self._search(t)

    def _as_promised(self, t: Try) -> list[ProbeAnswer]:
        """Return the answer as the statement alone promises it, and as it does with known divergences."""
        stated = ProbeAnswer(self._questions[t.id], self.subject.stated, self._replies[t.id])
        return [stated, ProbeAnswer(stated.exact_case, self.subject.statement, stated.reply, self._wrong)]

    def _read(self, t: Try, readings: list[ProbeAnswer]) -> bool:
        """Take the first reading that the answer does not contradict; if it contradicts all, the first."""
        found = next((one for one in readings if one.fit({}).status != "fails"), None)
        self.bases[t.id] = found or readings[0]
        return found is not None

    def _amended(self, t: Try, instead: dict[str, Any], numerics: dict[str, Any] | None = None) -> ProbeAnswer:
        """Return the answer under the statement with other numerics, and other values of fields."""
        statement = classes.computed(self.subject.statement, self._numerics if numerics is None else numerics)
        return self._under(t, supposing(statement, t.case, instead))

    def _under(self, t: Try, statement: Statement) -> ProbeAnswer:
        return ProbeAnswer(self._questions[t.id], statement, self._replies[t.id], self._wrong)

    def _fitted(self, left: list[Try]) -> dict[str, Any]:
        """Return the numerics that explain most of what is left, and report them; nothing if none explain any."""
        best, explained = dict[str, Any](), list[Try]()

        def explains(t: Try, numerics: dict[str, Any]) -> bool:
            return self._amended(t, {}, numerics).fit({}).status != "fails"

        for numerics in classes.that_may(lambda one: any(explains(t, one) for t in left)):
            found = [t for t in left if explains(t, numerics)]
            if len(found) > len(explained):
                best, explained = numerics, found
            if len(found) == len(left):
                break
        if explained:
            t = max(explained, key=lambda t: _size(self._as_promised(t)[-1].fit({}).rho))
            fit = self._as_promised(t)[-1].fit({})
            self.mismatches.append(OtherNumerics(self.subject.id, best, t.id, fit.rho, fit.why))
        return best

    # --- semantics -----------------------------------------------------------------------------------------------

    def _search(self, t: Try) -> None:
        """Find the promise that must change: one alone, or several of those that the probe is for."""
        found: dict[str, Any] = {}
        for name, value in self._single(t):
            found.setdefault(name, value)
        own = [name for name in found if name in t.probe.fields]
        several = [] if found else self._several(t)
        if len(found) == 1 or len(own) == 1:
            name = own[0] if own else next(iter(found))
            self._take(t, {name: found[name]})
        elif len(several) == 1:
            self._take(t, several[0])
        else:
            self._give_up(t, tuple(f"{name} {value}" for name, value in found.items()))

    def _give_up(self, t: Try, either: tuple[str, ...]) -> None:
        what = self.bases[t.id].fit({}).why or "the answer is another one"
        nothing = "no other value of a field explains it, and no other way of computing"
        words = f"{what}; {' or '.join(either) + ' would explain it' if either else nothing}"
        place = f"{t.place.name}, {t.place.dtype}"
        self.unexplained[t.id] = Unexplained(self.subject.id, t.id, t.probe.name, place, words, either)

    def _take(self, t: Try, instead: dict[str, Any]) -> None:
        self.instead |= instead
        self.bases[t.id] = self._amended(t, self.instead)

    def _single(self, t: Try) -> Iterator[tuple[str, Any]]:
        """Yield each field and value that explains the answer by itself."""
        for name in (name for name in fields.NAMES if name not in self.subject.inapplicable):
            for value in fields.values(name):
                if self._explains(t, {name: value}):
                    yield name, value

    def _several(self, t: Try) -> list[dict[str, Any]]:
        """Return the changes to the probe's fields that explain the answer, one for each meaning."""
        names = [name for name in t.probe.fields if name not in self.subject.inapplicable]
        promised, found = self._amended(t, self.instead).semantics, dict[Semantics, dict[str, Any]]()
        for values in itertools.product(*map(fields.values, names)) if len(names) > 1 else ():
            together = dict(zip(names, values, strict=True))
            meant = fields.canonical(dataclasses.replace(promised, **together))
            if meant not in found and self._explains(t, together):
                found[meant] = together
        return list(found.values())

    def _explains(self, t: Try, instead: dict[str, Any]) -> bool:
        return self._amended(t, self.instead).fit(instead).status == "explains"


def _size(rho: Rho) -> float:
    return float("inf") if rho == "inf" else rho or 0.0
