"""One implementation under audit: what it promises, known divergences included, and which cases may settle that."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import msgspec

from conformance.gate.divergences import Divergence
from conformance.model.case import Case, case_id
from conformance.model.case_facts import every_step
from conformance.model.results import ImplementationRecord
from conformance.model.rules import matches
from conformance.model.statement import Statement, recorded
from conformance.studies.audit import fields
from conformance.studies.audit.fits import documented, telling
from conformance.studies.audit.making import PLACES, InputLayout
from conformance.studies.audit.probes import PROBES, Probe
from reference import Semantics
from reference.dtypes import stored

Value = str | float
PLAIN = PROBES[0]


class Try:
    """A case that may settle a field of an implementation."""

    def __init__(self, place: InputLayout, probe: Probe, case: Case) -> None:
        self.place, self.probe, self.case = place, probe, case

    @cached_property
    def id(self) -> str:
        """The case's id."""
        return case_id(self.case)


class Subject:
    """An implementation, and what it can be asked.

    stated: what it promises.
    statement: the same, with the divergences that are about it.
    """

    def __init__(self, identity: str, stated: Statement, divergences: Iterable[Divergence] = ()) -> None:
        self.id, self.stated, self.divergences = identity, stated, tuple(divergences)
        self.statement = stated
        for divergence in self.divergences:
            self.statement = divergence.changed(self.statement)
        self.places = [place for place in PLACES if self._answers_in(place)]
        plain = [PLAIN.make(place) for place in self.places]
        self.keeps = any(self.promised("average", case) != "none" for case in plain)

    @classmethod
    def of(cls, record: ImplementationRecord, known: list[Divergence]) -> Subject:
        """Return the subject of a record, with the divergences that are about it."""
        statement = recorded(record)
        return cls(record.id, statement, [d for d in known if d.concerns(record)])

    def _answers_in(self, place: InputLayout) -> bool:
        """Return whether a plain case in this layout is answered at all."""
        case = PLAIN.in_place(place, self.statement)
        return case is not None and not documented(self.statement, case)

    def _of(self, probe: Probe) -> list[Try]:
        made = ((place, probe.case(place, self.statement)) for place in self.places)
        return [Try(place, probe, case) for place, case in made if case is not None]

    def promised(self, name: str, case: Case) -> Value:
        """Return the value of a field that is promised for a case, known divergences included."""
        if name in fields.REFUSING and name != "mask_rank" and documented(self.statement, case):
            return "refused"
        if name == "output_dtype":
            return self._storage()
        return getattr(self.statement.semantics(telling(case)), name)

    def _storage(self) -> Value:
        """Return the first value of `output_dtype` by which y has the dtype that is promised in each place."""
        for value in fields.values("output_dtype"):
            if all(self.promised_dtype(t.case) == _stored(t.case, value) for t in self._of(DTYPES)):
                return value
        return "by path"

    def promised_dtype(self, case: Case) -> str:
        """Return the dtype that y is promised in."""
        numerics = self.statement.numerics(telling(case), "infer", "y")
        return {"input": case.dtypes.x, "parameters": case.dtypes.parameters}.get(numerics.stored, numerics.stored)

    @cached_property
    def inapplicable(self) -> dict[str, str]:
        """Why fields cannot be asked about, by field."""
        reasons = {name: fields.inapplicable(self.stated, name, keeps=self.keeps) for name in fields.NAMES}
        found = {name: why for name, why in reasons.items() if why}
        for name in (name for name in fields.NAMES if name not in found):
            whys = {fields.meaningless(name, self.statement.semantics(telling(t.case))) for t in self._tries(name)}
            if "" not in whys:
                found[name] = "; ".join(sorted(whys)) or "every case of it is documented to be refused"
        return found

    @cached_property
    def asked(self) -> dict[str, dict[Value, list[Try]]]:
        """The cases to ask, by field and promised value: each probe for it, in the first layout with that value."""
        found: dict[str, dict[Value, list[Try]]] = {}
        for name in (name for name in fields.NAMES if name not in self.inapplicable):
            by_value = found.setdefault(name, {})
            for t in self._tries(name):
                semantics = self.statement.semantics(telling(t.case))
                if not fields.meaningless(name, semantics):
                    tries = by_value.setdefault(self.promised(name, t.case), [])
                    if all(other.probe is not t.probe or _differs(name, other, t) for other in tries):
                        tries.append(t)
        return found

    def tries(self) -> list[Try]:
        """Return every case to ask."""
        return [t for by_value in self.asked.values() for tries in by_value.values() for t in tries]

    def _tries(self, name: str) -> list[Try]:
        return [t for probe in PROBES if name in probe.fields for t in self._of(probe)]

    def rivals(self, name: str, value: Value, case: Case) -> tuple[Any, ...]:
        """Return the other values of a field, without those that no answer here could show."""
        semantics = self.statement.semantics(telling(case))
        if name == "output_dtype":
            cases = [t.case for t in self._of(DTYPES)]
            return tuple(v for v in fields.values(name) if any(_stored(c, v) != _stored(c, value) for c in cases))
        found = fields.rivals(name, semantics, keeps=self.keeps)
        return tuple(v for v in fields.values(name) if v != value and (v in found or v == getattr(semantics, name)))

    def divergence(self, name: str, case: Case) -> Divergence | None:
        """Return the known divergence that changes a field in a case."""
        return next((d for d in self.divergences if name in d.predicts.semantics and _holds(d, case)), None)

    def refusing(self, case: Case) -> Divergence | None:
        """Return the known divergence by which a case is refused."""
        return next((d for d in self.divergences if d.predicts.refuses and _holds(d, case)), None)

    def stated_semantics(self, case: Case) -> Semantics:
        """Return what the statement alone promises for a case."""
        return self.stated.semantics(telling(case))

    def where(self, name: str, value: Value) -> tuple[str, ...]:
        """Return the layouts in which a field is promised a value; empty if it is the same in all."""
        tries = [t for t in self._tries(name) if t.place.dtype == t.probe.dtypes[0]]
        here = tuple(dict.fromkeys(t.place.name for t in tries if self.promised(name, t.case) == value))
        return here if len(self.asked[name]) > 1 else ()

    def cite(self, name: str, case: Case) -> str:
        """Return where the value of a field is documented; without a rule for it, the documentation."""
        about = msgspec.structs.replace(telling(case), device=self.stated.device)
        cites = [rule.cite for rule in self.stated.rules if name in rule.semantics and matches(rule.when, about)]
        return cites[-1] if cites else self.stated.documentation


_BY_DTYPE = ("output_dtype", "mask_offset", "fraction_dtype", "fraction_rounded")


def _differs(name: str, one: Try, other: Try) -> bool:
    """Return whether a field may need both cases, since a rounding shows in one dtype and not in another."""
    return name in _BY_DTYPE and one.place.dtype != other.place.dtype


def _stored(case: Case, value: Any) -> str:
    return stored(case.dtypes.x, Semantics(output_dtype=value)).output


def _holds(divergence: Divergence, case: Case) -> bool:
    """Return whether a divergence holds in some step of a case."""
    return any(divergence.holds(facts) for facts in every_step(case))


DTYPES = next(probe for probe in PROBES if probe.name == "dtypes")
