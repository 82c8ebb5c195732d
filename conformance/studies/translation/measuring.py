"""The effects of differences in semantics, measured: two layers that differ in one thing, both by the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import msgspec

from conformance.hosts import roster
from conformance.model.rules import Rule
from conformance.studies.translation import layers, sizes
from conformance.studies.translation.effects import OF_SEMANTICS, OF_SPEC, EffectSize
from conformance.studies.translation.sides import SCENARIOS, Shape, Side
from reference import Spec


def effects(n: int) -> Iterator[EffectSize]:
    """Yield the effect of every pair of values, with n values per channel."""
    for field, values in (OF_SPEC | OF_SEMANTICS).items():
        for place, one in enumerate(values):
            for other in values[place + 1 :]:
                yield effect(field, one, other, n)


def effect(field: str, one: Any, other: Any, n: int) -> EffectSize:
    """Return the effect of one pair of values.

    >>> effect("stored_variance", "biased", "unbiased", 8).sizes["moving_variance"]  # 8/7 - 1
    0.143
    """
    side = _plain(n)
    if field in OF_SPEC:
        spec = dataclasses.replace(side.spec, **{field: one})
        scenarios = [s for s in SCENARIOS if not s.frozen and s.n is None]
        found = sizes.of_spec(dataclasses.replace(side, spec=spec), {field: other}, scenarios)
    else:
        found = sizes.of_semantics(_meaning(side, field, one), side, field, other)
    best = dict[str, float]()
    for size in found:
        if size.seen and not size.refused:
            best[size.output] = max(best.get(size.output, 0.0), float(f"{size.relative:.3g}"))
    return EffectSize(field, one, other, n, best)


def _plain(n: int) -> Side:
    (entry,) = roster.select(("numpy.two_pass",))
    return Side(entry, layers.of(entry.id), Spec(), Shape(2, 3, n))


def _meaning(side: Side, field: str, value: Any) -> Side:
    """Return a side that promises a value of a field."""
    statement = side.entry.statement
    rules = [*statement.rules, Rule("one of two", semantics={field: value})]
    entry = msgspec.structs.replace(side.entry, statement=msgspec.structs.replace(statement, rules=rules))
    return dataclasses.replace(side, entry=entry)
