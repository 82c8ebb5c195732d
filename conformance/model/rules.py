"""The rules of a statement: under which conditions which semantics and numerics are promised, or what is refused.

A `When` maps facts to the values that they may have: `{"rank": [4], "mode": ["train"]}`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from conformance.model import vocabulary
from conformance.model.facts import Facts
from conformance.model.spelling import Misspelt

When = dict[str, list[Any]]
_DTYPE = "output_dtype"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where `when` holds, these semantics and numerics hold instead.

    cite: where that is documented or was measured.
    absent: outputs that it does not return there, such as gradients of a frozen layer's parameters.
    """

    cite: str
    when: When = {}
    semantics: dict[str, Any] = {}
    numerics: dict[str, Any] = {}
    absent: tuple[str, ...] = ()


class StatedRefusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where `when` holds, the implementation raises one of these exception types, as documented."""

    cite: str
    when: When
    error: list[str]


def matches(when: When, facts: Facts) -> bool:
    """Return whether every fact that `when` names has one of the values it allows."""
    return all(facts.said(fact) in allowed for fact, allowed in when.items())


def check(rules: list[Rule]) -> None:
    """Raise `Misspelt` for a meaningless rule, or for two that contradict one another."""
    for n, rule in enumerate(rules):
        _check_rule(f"rules[{n}]", rule)
    _check_stored(rules)


def check_refusals(refusals: list[StatedRefusal]) -> None:
    """Raise `Misspelt` for a meaningless refusal."""
    for n, refusal in enumerate(refusals):
        _check_refusal(f"refusals[{n}]", refusal)


def _check_rule(place: str, rule: Rule) -> None:
    """Raise `Misspelt` for a rule that is meaningless, or can never hold."""
    vocabulary.check_when(f"{place}.when", rule.when)
    vocabulary.check_semantics(f"{place}.semantics", rule.semantics)
    vocabulary.check_numerics(f"{place}.numerics", rule.numerics)
    vocabulary.check_outputs(f"{place}.absent", rule.absent)
    if not rule.cite.strip():
        raise Misspelt(f"{place}.cite: is empty; say where that is documented or was measured")
    if "output" in rule.when and (rule.semantics or rule.absent):
        wrong = "semantics" if rule.semantics else "absent"
        raise Misspelt(f"{place}.when.output: {wrong} depend on no output; put numerics into a rule of their own")


def _check_stored(rules: list[Rule]) -> None:
    """Raise `Misspelt` if two dtypes are promised for y in the same places, by `output_dtype` and by `stored`."""
    said = [(n, rule.when, rule.semantics["output_dtype"]) for n, rule in enumerate(rules) if _DTYPE in rule.semantics]
    for m, rule in enumerate(rules):
        of_y, when = "y" in rule.when.get("output", ["y"]), {f: v for f, v in rule.when.items() if f != "output"}
        for n, where, dtype in said if of_y and "stored" in rule.numerics else ():
            kept = rule.numerics["stored"]
            if when == where and kept != dtype and (dtype, kept) != ("at_least_float32", "float32"):
                place = f"rules[{n}].semantics.output_dtype"
                raise Misspelt(
                    f"{place}: {dtype} contradicts rules[{m}].numerics.stored, {kept}; leave one of them out"
                )


def _check_refusal(place: str, refusal: StatedRefusal) -> None:
    """Raise `Misspelt` for a meaningless refusal."""
    vocabulary.check_when(f"{place}.when", refusal.when, besides=("output",))
    if not [name for name in refusal.error if name.strip()]:
        raise Misspelt(f"{place}.error: names no error; name the types it raises there, such as ValueError")
    for name in refusal.error:
        if not re.fullmatch(r"[\w.$:]+", name):
            meant = re.sub(r"[^\w.$:]+", "", name)
            raise Misspelt(f'{place}.error: "{name}" is no name of a type, and none would match; did you mean {meant}?')
