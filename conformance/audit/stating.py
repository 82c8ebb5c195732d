"""A statement written from what was identified, ready to be put into an adapter."""

from __future__ import annotations

import pprint
from collections.abc import Iterable
from typing import Any

import msgspec

from conformance.audit.identifying import Found
from conformance.audit.making import Place
from conformance.case import case_id
from conformance.statement import Statement, channel
from reference import Semantics

_FEATURES: dict[str, dict[str, list[Any]]] = {
    "virtual batches": {"virtual": [True]},
    "adjustment": {"adjustment": [True]},
    "renorm": {"renorm": [True]},
    "mask": {"mask": ["full", "spread"]},
    "mask without the last axis": {"mask": ["without_last"]},
}
_HALVES = ("float16", "bfloat16")


def as_source(statement: Statement, found: list[Found]) -> str:
    """Return Python source: the statement with a rule for each path, and what is still open as comments."""
    ordered = sorted(found, key=lambda one: -len(one.places))
    rules = [rule for one in ordered for rule in rules_of(one, ordered[0])]
    kept: dict[str, Any] = msgspec.to_builtins(statement)
    before = [rule | {"semantics": {}} for rule in kept["rules"] if rule["numerics"] or rule["absent"]]
    defaults: dict[str, Any] = msgspec.to_builtins(Statement(statement.id, statement.packages, "", {}))
    written = {name: value for name, value in kept.items() if value != defaults[name] or name in ("id", "packages")}
    written |= {"rules": [_bare(rule) for rule in [*before, *rules]]}
    comments = [f"# {line}" for one in found for line in _remarks(one)]
    return "\n".join([*comments, f"statement = {pprint.pformat(written, width=110, sort_dicts=False)}", ""])


def rules_of(found: Found, first: Found) -> list[dict[str, Any]]:
    """Return the rules for what was found: those of the `first` path hold everywhere, and others say what differs."""
    alone = found is first
    whens: list[dict[str, Any]] = [{}] if alone else places_when(found.places)
    cases = list(dict.fromkeys(map(case_id, found.asked.values())))
    cite = f"identified by its answers to {len(cases)} cases, {', '.join(cases[:3])} among them"
    told = changed(found.semantics[0]) if alone else _differing(found, first)
    rules = [{"when": when, "semantics": told, "cite": cite} for when in whens]
    for probe, fields in found.paths.items():
        cited = {"semantics": fields, "cite": f"identified by its answer to the case {case_id(found.asked[probe])}"}
        rules += [{"when": when | _FEATURES[probe]} | cited for when in whens if probe in _FEATURES]
    return rules


def _differing(found: Found, first: Found) -> dict[str, Any]:
    """Return the fields that another path has otherwise, but for those that show only in float64 where it has none."""
    here, there = (msgspec.to_builtins(one.semantics[0]) for one in (found, first))
    hidden = () if "float64" in found.taken else ("fraction_dtype", "fraction_rounded")
    return {name: value for name, value in here.items() if value != there[name] and name not in hidden}


def changed(semantics: Semantics) -> dict[str, Any]:
    """Return the fields that are not the default."""
    defaults = msgspec.to_builtins(Semantics())
    return {name: value for name, value in msgspec.to_builtins(semantics).items() if value != defaults[name]}


def places_when(places: Iterable[Place]) -> list[dict[str, Any]]:
    """Return conditions, any of which holds in each of the places and in no other; halves go with float32.

    >>> from conformance.audit.making import PLACES
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


def _remarks(found: Found) -> list[str]:
    where = ", ".join(f"{place.name} {place.dtype}" for place in found.places)
    lines = [f"{where}: {len(found.semantics)} semantics explain every answer"]
    lines += [
        f"  {n} may be any of {', '.join(map(str, values))}: no case tells them apart"
        for n, values in found.open.items()
    ]
    return lines + [f"  no semantics explain the answer to: {probe}" for probe in found.unexplained]
