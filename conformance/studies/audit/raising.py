"""Where an implementation raises: the facts that all such steps share, and no step that was answered has."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from conformance.model.facts import Facts
from conformance.model.rules import When, matches

_FIRST = (
    *(
        "renorm",
        "virtual",
        "mask",
        "adjustment",
        "cumulative",
        "trainable",
        "resized",
        "no_rows",
        "one_channel",
        "finite",
    ),
    *("misplaced", "mixed", "begun", "start", "sites", "init_mode", "round_trip", "flag", "backward", "scalars", "of"),
    *("mapped", "replicas", "along", "input"),
    *("toggled", "unknown_sizes"),
    *("updates", "weights", "several_axes", "rank", "channel", "dtype", "parameters", "statistics", "differentiation"),
    *("affine", "layout", "n", "mode", "update", "trained"),
)
"""Facts that may tell such steps apart; a feature is likelier than what every case has."""


def refusals(raised: Iterable[tuple[str, Facts]], answered: list[Facts]) -> list[dict[str, Any]]:
    """Return refusals of a statement: for each error the fact, or two, that tell its steps from those answered.

    raised: the error and the facts of each step. An error that no two facts tell apart has none.

    >>> from conformance.model.case_facts import step_facts
    >>> from conformance.studies.audit.making import PLACES, plain
    >>> two, three = (step_facts(plain(place, "train"), 0) for place in PLACES[:2])
    >>> refusals([("TypeError", three)], [two])[0]["when"]
    {'rank': [3]}
    """
    by_error: dict[str, list[Facts]] = {}
    for error, facts in raised:
        by_error.setdefault(error, []).append(facts)
    found = [(error, len(steps), _when(steps, answered)) for error, steps in by_error.items()]
    return [
        {"cite": f"identified: it raised in {number} steps, and in no other", "when": when, "error": [error]}
        for error, number, when in found
        if when
    ]


def _when(raised: list[Facts], answered: list[Facts]) -> When:
    """Return conditions of each step that raised, and of none that was answered; empty where there are none."""
    values = {fact: _values(fact, raised) for fact in _FIRST}
    for number in (1, 2):
        for names in itertools.combinations(_FIRST, number):
            when = {name: values[name] for name in names}
            if all(when.values()) and not any(matches(when, facts) for facts in answered):
                return when
    return {}


def _values(fact: str, steps: list[Facts]) -> list[Any]:
    found = [facts.said(fact) for facts in steps]
    return [value for n, value in enumerate(found) if value not in found[:n]]
