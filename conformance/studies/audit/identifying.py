"""What an undescribed implementation means: every `Semantics` that its answers are consistent with.

A candidate gives values to the fields asked about so far. Each case adds the fields that its answer depends on, in
every combination with the candidates left, and drops those that do not explain the answer. The next case is the one to
which the reference answers in the most different ways under the candidates. Implementations choose their path by where
the kept axis is and by dtype: layouts with the same plain answers are taken together. Plain cases are asked with
gradients too, as some implementations move their state in the backward pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import msgspec

from conformance.model.case import Case, case_id
from conformance.model.outcome import Reply
from conformance.model.rules import Rule
from conformance.model.statement import Statement
from conformance.runs.asking import Ask
from conformance.studies.audit import fields, ways
from conformance.studies.audit.making import PLACES, InputLayout
from conformance.studies.audit.probes import PROBES
from conformance.studies.audit.searching import PLAIN, Candidate, Raised, Search
from reference import Semantics
from reference.dtypes import stored

_LOOSEST = Rule("supposed", numerics={"variance": "fast", "affine": "folded", "sums": "serial"})
_WIDE = ("float32", "float64")


class Found(msgspec.Struct, frozen=True):
    """What was found in some layouts.

    semantics: all that explain every answer.
    open: the values that are left, of the fields with several.
    unexplained: the probes whose answers no semantics explain, each with what is nearest.
    asked: the cases, by probe.
    paths: the fields that differ in a probe.
    taken: the dtypes of inputs that were answered.
    raised: the errors, by probe.
    differentiation: the kind of derivatives under which this holds; empty: under all.
    """

    places: tuple[InputLayout, ...]
    semantics: tuple[Semantics, ...]
    open: dict[str, tuple[Any, ...]]
    unexplained: dict[str, str]
    asked: dict[str, Case]
    paths: dict[str, Candidate]
    taken: tuple[str, ...]
    raised: dict[str, Raised] = {}
    differentiation: str = ""


class Outside(msgspec.Struct, frozen=True):
    """A layout whose plain answer no semantics give, or that raised.

    way: a known way to be wrong that the answer is near to.
    """

    place: InputLayout
    case: Case
    why: str
    raised: bool = False
    way: str = ""


class Recorder:
    """An `Ask` that remembers: each case is asked once."""

    def __init__(self, ask: Ask) -> None:
        self._ask, self.answers = ask, dict[str, tuple[Case, Reply]]()

    def __call__(self, case: Case) -> Reply:
        """Return the answer to a case."""
        identity = case_id(case)
        if identity not in self.answers:
            self.answers[identity] = case, self._ask(case)
        return self.answers[identity][1]


class Identified(msgspec.Struct, frozen=True):
    """All that was found of an implementation; answers: every case that was asked, with the reply."""

    found: tuple[Found, ...]
    outside: tuple[Outside, ...]
    ask: Any

    @property
    def explained(self) -> bool:
        """Whether something was found, and every answer is explained; an error is no answer."""
        strange = any(one.unexplained for one in self.found) or any(not one.raised for one in self.outside)
        return bool(self.found) and not strange


def unknown(statement: Statement) -> Statement:
    """Return a statement that promises no semantics, and the loosest numerical class."""
    rules = [msgspec.structs.replace(rule, semantics={}) for rule in statement.rules]
    return msgspec.structs.replace(statement, rules=[*rules, _LOOSEST], refusals=[], accepts=[])


def identify(statement: Statement, ask: Ask) -> Identified:
    """Return what an implementation means: a finding for each group of layouts that answer plain cases alike."""
    recorder = Recorder(ask)
    begin = set(_WIDE) & set(statement.supports.get("dtype", _WIDE)) or set(statement.supports["dtype"])
    searches = [Search(unknown(statement), recorder, place) for place in PLACES if place.dtype in begin]
    groups: dict[Any, list[Search]] = {}
    outside: list[Outside] = []
    for search in searches:
        if search.begin():
            groups.setdefault(search.alike(), []).append(search)
        elif search.asked:
            outside.append(_outside(search, recorder))
    return Identified(tuple(found for group in groups.values() for found in _finish(group)), tuple(outside), recorder)


def _outside(search: Search, ask: Recorder) -> Outside:
    case = search.asked[PLAIN.name]
    if PLAIN.name in search.raised:
        return Outside(search.place, case, search.raised[PLAIN.name].words, raised=True)
    why = search.unexplained.get(PLAIN.name, "nothing was returned")
    return Outside(search.place, case, why, way=ways.nearest(case, ask(case)))


def _finish(group: list[Search]) -> list[Found]:
    """Search on in the first layout of a group, and with gradients too if they make a difference."""
    first, places = group[0], tuple(search.place for search in group)
    taking = _taking(first)
    if taking is None or taking.alike() == first.alike() or taking.unexplained or taking.raised:
        _go_on(first, group)
        beside = taking or first
        found = _found(first, places)
        return [
            msgspec.structs.replace(
                found,
                asked=found.asked | {f"{name}, with gradients": case for name, case in beside.asked.items()},
                unexplained=found.unexplained | _named(beside.unexplained, beside is taking),
                raised=found.raised | _named(beside.raised, beside is taking),
            )
        ]
    for search in (taking, first):
        _go_on(search, group)
    return [_found(taking, places), msgspec.structs.replace(_found(first, places), differentiation="none")]


def _named(found: dict[str, Any], wanted: bool) -> dict[str, Any]:
    return {f"{name}, with gradients": one for name, one in found.items()} if wanted else {}


def _taking(first: Search) -> Search | None:
    """Return the same search with gradients, its plain case asked; None if no gradient can be asked for."""
    if "dx" not in first.statement.outputs or "train" not in first.statement.modes:
        return None
    taking = Search(first.statement, first.ask, first.place, taking=True)
    taking.begin()
    return taking if taking.asked else None


def _go_on(search: Search, group: list[Search]) -> None:
    """Ask what is left in the layout of a search, and in other dtypes what shows only there."""
    search.go_on(PROBES)
    alike = {one.place.dtype for one in group}
    for dtype in search.statement.supports.get("dtype", list(_WIDE)):
        if dtype != search.place.dtype and (dtype in alike or dtype not in _WIDE):
            probes = [p for p in PROBES if dtype in p.dtypes and p is not PLAIN]
            search.go_on_in(search.place._replace(dtype=dtype), probes)


def _found(search: Search, places: tuple[InputLayout, ...]) -> Found:
    """Return what is left; fields that mean nothing here are left out."""
    meanings = (meant(search.statement, Semantics(**candidate), search.taken) for candidate in search.candidates)
    left = tuple(dict.fromkeys(meanings))
    values = {n: tuple(dict.fromkeys(getattr(s, n) for s in left)) for n in fields.NAMES}
    several = {name: found for name, found in values.items() if len(found) > 1}
    taken = tuple(search.taken)
    return Found(places, left, several, search.unexplained, search.asked, search.paths, taken, search.raised)


def meant(statement: Statement, semantics: Semantics, taken: Iterable[str]) -> Semantics:
    """Return the semantics without the fields that show in no answer; taken: the dtypes that are answered."""
    keeps = semantics.average != "none"
    silent = {n: getattr(Semantics(), n) for n in fields.NAMES if fields.hidden(statement, n, keeps=keeps)}
    if "float64" not in taken:  # float32 rounds any fraction
        silent |= {name: getattr(Semantics(), name) for name in ("fraction_dtype", "fraction_rounded")}
    silent.setdefault("output_dtype", _storage(semantics, list(taken)))
    return fields.canonical(dataclasses.replace(semantics, **silent), keeps=keeps)


def _storage(semantics: Semantics, taken: list[str]) -> Any:
    """Return the first value of `output_dtype` that means the same dtypes for all inputs that are taken."""

    def dtypes(value: Any) -> list[str]:
        return [stored(dtype, dataclasses.replace(semantics, output_dtype=value)).output for dtype in taken]

    return next(v for v in fields.values("output_dtype") if dtypes(v) == dtypes(semantics.output_dtype))
