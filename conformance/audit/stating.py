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
    rules = [
        rule for one in sorted(found, key=lambda f: -len(f.places)) for rule in rules_of(one, alone=len(found) == 1)
    ]
    kept: dict[str, Any] = msgspec.to_builtins(statement)
    before = [rule | {"semantics": {}} for rule in kept["rules"] if rule["numerics"] or rule["absent"]]
    defaults: dict[str, Any] = msgspec.to_builtins(Statement(statement.id, statement.packages, "", {}))
    written = {name: value for name, value in kept.items() if value != defaults[name] or name in ("id", "packages")}
    written |= {"rules": [_bare(rule) for rule in [*before, *rules]]}
    comments = [f"# {line}" for one in found for line in _remarks(one)]
    return "\n".join([*comments, f"statement = {pprint.pformat(written, width=110, sort_dicts=False)}", ""])


def rules_of(found: Found, *, alone: bool) -> list[dict[str, Any]]:
    """Return the rules for what was found; alone: it holds wherever it was looked."""
    whens: list[dict[str, Any]] = [{}] if alone else places_when(found.places)
    cases = ", ".join(dict.fromkeys(map(case_id, found.asked.values())))
    cite = f"identified by what it answered to the cases {cases}"
    rules = [{"when": when, "semantics": changed(found.semantics[0]), "cite": cite} for when in whens]
    for probe, fields in found.paths.items():
        case = case_id(found.asked[probe])
        cited = {"semantics": fields, "cite": f"identified by what it answered to the case {case}"}
        rules += [{"when": when | _FEATURES[probe]} | cited for when in whens if probe in _FEATURES]
    return rules


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
