"""A statement written from what was identified, to be put into an adapter."""

from __future__ import annotations

import pprint
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conformance.model.case import case_id
from conformance.model.case_facts import channel
from conformance.model.statement import Statement
from conformance.studies.audit.identifying import Found, Identified
from conformance.studies.audit.making import InputLayout
from reference import Semantics

_FEATURES: dict[str, dict[str, list[Any]]] = {
    "virtual batches": {"virtual": [True]},
    "adjustment": {"adjustment": [True]},
    "renorm": {"renorm": [True]},
    "mask": {"mask": ["full", "spread"]},
    "mask without the last axis": {"mask": ["without_last"]},
}
_REQUIRED = ("id", "packages", "documentation", "conventions")
_HALVES = ("float16", "bfloat16")


def proposed(
    statement: Statement,
    found: Iterable[Found],
    refusals: Iterable[dict[str, Any]] = (),
    computed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the statement with a rule for each path, as data.

    refusals: what was found to raise, beside the refusals it states.
    computed: a rule for how it computes, if that is not as it states.
    """
    ordered = sorted(found, key=lambda one: (bool(one.differentiation), -len(one.places)))
    rules = [rule for one in ordered for rule in rules_of(one, ordered[0])]
    kept: dict[str, Any] = msgspec.to_builtins(statement)
    before = [rule | {"semantics": {}} for rule in kept["rules"] if rule["numerics"] or rule["absent"]]
    if "train" not in statement.modes:  # a training step leaves it as it is
        rules[:0] = [{"semantics": {"average": "none"}, "cite": "identified: it has no training that moves a state"}]
    rules += [dict(computed)] if computed else []
    defaults: dict[str, Any] = msgspec.to_builtins(Statement(statement.id, statement.packages, "", {}))
    kept |= {"rules": [_bare(rule) for rule in [*before, *rules]], "refusals": [*kept["refusals"], *refusals]}
    return {name: value for name, value in kept.items() if value != defaults[name] or name in _REQUIRED}


def as_source(written: Mapping[str, Any]) -> str:
    """Return a statement as Python source."""
    return f"statement = {pprint.pformat(dict(written), width=110, sort_dicts=False)}\n"


def rules_of(found: Found, first: Found) -> list[dict[str, Any]]:
    """Return the rules for what was found: those of the `first` path hold everywhere, other paths say what differs."""
    alone = found is first
    path = {"differentiation": [found.differentiation]} if found.differentiation else {}
    whens: list[dict[str, Any]] = [{}] if found.places == first.places else places_when(found.places)
    whens = [when | path for when in whens]
    cases = list(dict.fromkeys(map(case_id, found.asked.values())))
    cite = f"identified by its answers to {len(cases)} cases, {', '.join(cases[:3])} among them"
    told = changed(found.semantics[0]) if alone else _differing(found, first)
    rules = [{"when": when, "semantics": told, "cite": cite} for when in whens]
    for probe, fields in found.paths.items():
        cited = {"semantics": fields, "cite": f"identified by its answer to the case {case_id(found.asked[probe])}"}
        rules += [{"when": when | _FEATURES[probe]} | cited for when in whens if probe in _FEATURES]
    return rules


def _differing(found: Found, first: Found) -> dict[str, Any]:
    """Return the fields that differ on another path, except those that show only in float64 if it has none."""
    here, there = (msgspec.to_builtins(one.semantics[0]) for one in (found, first))
    hidden = () if "float64" in found.taken else ("fraction_dtype", "fraction_rounded")
    return {name: value for name, value in here.items() if value != there[name] and name not in hidden}


def changed(semantics: Semantics) -> dict[str, Any]:
    """Return the fields that are not at their defaults."""
    defaults = msgspec.to_builtins(Semantics())
    return {name: value for name, value in msgspec.to_builtins(semantics).items() if value != defaults[name]}


def places_when(places: Iterable[InputLayout]) -> list[dict[str, Any]]:
    """Return conditions, any of which holds in each of the places and in no other; halves go with float32.

    >>> from conformance.studies.audit.making import PLACES
    >>> places_when(PLACES[3:5])
    [{'rank': [4], 'channel': ['second', 'last'], 'dtype': ['float32', 'float16', 'bfloat16']}]
    """
    ranks: dict[tuple[str, str], list[int]] = {}
    for place in places:
        rank = len(place.shape)
        ranks.setdefault((place.dtype, channel((place.axis % rank,), rank)), []).append(rank)
    channels: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (dtype, where), found in ranks.items():
        channels.setdefault((dtype, tuple(found)), []).append(where)
    dtypes: dict[tuple[tuple[int, ...], tuple[str, ...]], list[str]] = {}
    for (dtype, found), where in channels.items():
        halves = _HALVES if dtype == "float32" else ()
        dtypes.setdefault((found, tuple(where)), []).extend((dtype, *halves))
    return [{"rank": [*r], "channel": [*c], "dtype": names} for (r, c), names in dtypes.items()]


def _bare(rule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if value or name == "cite"}


def remarks(identified: Identified) -> list[str]:
    """Return what was found, in words: what explains the answers, what is open, what raised, what nothing explains."""
    lines = [line for one in identified.found for line in _of_path(one)]
    outside: dict[tuple[str, ...], list[str]] = {}
    for one in identified.outside:
        way = f"; near a known way to be wrong: {one.way}" if one.way else ""
        said = ("it raised", one.why) if one.raised else ("no semantics explain the plain case", f"{one.why}{way}")
        outside.setdefault(said, []).append(f"{one.place.name} {one.place.dtype}")
    return lines + [f"{', '.join(places)}: {what}: {why}" for (what, why), places in outside.items()]


def _of_path(found: Found) -> list[str]:
    where = ", ".join(f"{place.name} {place.dtype}" for place in found.places)
    where += ", where no gradient is taken" if found.differentiation else ""
    lines = [f"{where}: {len(found.semantics)} semantics explain every answer"]
    if found.differentiation:
        lines.append("  it answers otherwise where a gradient is taken: its state moves, or not, in the backward pass")
    lines += [
        f"  {n} may be any of {', '.join(map(str, values))}: no case tells them apart"
        for n, values in found.open.items()
    ]
    lines += [f"  it raised in: {probe}: {raised.words}" for probe, raised in found.raised.items()]
    return lines + [
        f"  no semantics explain the answer to: {probe}; {words}" for probe, words in found.unexplained.items()
    ]
