"""Other ways of computing than the promised one: what they explain is no fault of semantics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_type_hints

import msgspec

from conformance.model.numerics import Numerics
from conformance.model.rules import Rule
from conformance.model.statement import Statement

_HINTS = get_type_hints(Numerics)


def others() -> list[dict[str, Any]]:
    """Return what to change of a promise of numerics, from one word to several; coarser arithmetic comes last.

    >>> {"affine": "folded"} in others()[:8]
    True
    """
    variances = [{"variance": value} | ({"clamped": False} if value == "fast" else {}) for value in _values("variance")]
    affine = [{"affine": value} for value in _values("affine")]
    affine += [{"affine": "folded", "shift": value} for value in _values("shift")]
    coarser = [{"accumulate": value} for value in ("float32", "input")]
    none = [dict[str, Any]()]
    parts = itertools.product([*none, {"sums": "serial"}], none + variances, none + affine, none + coarser)
    found = [a | b | c | d for a, b, c, d in parts]
    return sorted(filter(None, found), key=lambda o: ("accumulate" in o, o.get("accumulate") == "input", len(o)))


def that_may(explain: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    """Yield what to change, left out all those of which even the loosest explain nothing."""
    for accumulate, alike in itertools.groupby(others(), key=lambda one: one.get("accumulate")):
        if any(explain(one) for one in _loosest(accumulate)):
            yield from alike


def _loosest(accumulate: str | None) -> list[dict[str, Any]]:
    """Return the classes that hold all others of one arithmetic, but for where the shift comes from."""
    held: dict[str, Any] = {"sums": "serial", "variance": "fast", "clamped": False, "affine": "folded"}
    held |= {"accumulate": accumulate} if accumulate else {}
    return [held | {"shift": s} for s in _values("shift")]


def _values(name: str) -> tuple[Any, ...]:
    return get_args(_HINTS[name])


def computed(statement: Statement, numerics: Mapping[str, Any]) -> Statement:
    """Return the statement with these words of its numerics, whatever the output."""
    if not numerics:
        return statement
    return msgspec.structs.replace(statement, rules=[*statement.rules, Rule("supposed", numerics=dict(numerics))])


def words(numerics: Mapping[str, Any]) -> str:
    """Return what is computed otherwise, in words.

    >>> words({"affine": "folded", "shift": "apart"})
    'affine folded, shift apart'
    """
    return ", ".join(f"{name} {value}" for name, value in numerics.items())
