"""What a statement may say: the names and values that mean something. All else is refused with the nearest word."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, cast

from conformance.model import outputs
from conformance.model.facts import VALUES, WHOLE
from conformance.model.numerics import Numerics
from conformance.model.spelling import Misspelt, converted, stray
from reference import Semantics

CONVENTIONS: dict[str, tuple[str, ...]] = {"momentum": ("kept", "updated"), "axis": ("kept", "reduced", "fixed")}
_NOT_NEGATIVE = ("epsilon_floor", "mask_offset", "initial_variance")


def check_when(place: str, when: dict[str, list[Any]], *, besides: Iterable[str] = ()) -> None:
    """Raise `Misspelt` for an unknown fact, or for a value that a fact never has.

    besides: facts that mean nothing in this place.
    """
    known = [fact for fact in (*WHOLE, *VALUES) if fact not in besides]
    for fact, values in when.items():
        if fact in besides and fact in VALUES:
            raise Misspelt(f"{place}.{fact}: {fact} is no fact here; only the `when` of rules for numerics names it")
        if fact not in known:
            raise Misspelt(stray(place, "fact", fact, known))
        if not values:
            raise Misspelt(f"{place}.{fact}: lists no value, and would never hold; list one, or leave the fact out")
        for value in values:
            _check_value(f"{place}.{fact}", fact, value)


def _check_value(place: str, fact: str, value: Any) -> None:
    if fact in WHOLE:
        if not _is_number(fact, value):
            raise Misspelt(f"{place}: {json.dumps(value)} is not {WHOLE[fact]}{_whole(fact, value)}")
    elif not any(value == one and type(value) is type(one) for one in VALUES[fact]):
        raise Misspelt(stray(place, f"value of {fact}", value, VALUES[fact]))


def _whole(fact: str, value: Any) -> str:
    """Return, in words, which number was meant; empty if none can be read."""
    text = str(value).removesuffix(".0")
    meant = int(text) if text.removeprefix("-").isdecimal() else None
    return f"; did you mean {meant}?" if meant is not None and _is_number(fact, meant) else ""


def _is_number(fact: str, value: Any) -> bool:
    several = cast("list[Any]", value) if fact == "axis" and isinstance(value, list) else [value]
    least = {"rank": 0, "sites": 1}.get(fact, -math.inf)
    return bool(several) and all(isinstance(one, int) and not isinstance(one, bool) and one >= least for one in several)


def check_semantics(place: str, fields: dict[str, Any]) -> None:
    """Raise `Misspelt` for an unknown field of `Semantics`, or an unknown value of one."""
    found = converted(fields, Semantics, place)
    for name in ("initial_mean", *_NOT_NEGATIVE):
        value = getattr(found, name)
        if not math.isfinite(value) or (value < 0 and name in _NOT_NEGATIVE):
            least = " ≥ 0" if name in _NOT_NEGATIVE else ""
            raise Misspelt(f"{place}.{name}: {value:g} is not a finite number{least}")


def check_numerics(place: str, fields: dict[str, Any]) -> None:
    """Raise `Misspelt` for an unknown field of `Numerics`, or an unknown value of one."""
    converted(fields, Numerics, place)


def check_outputs(place: str, names: Iterable[str]) -> None:
    """Raise `Misspelt` for an unknown output."""
    check_words(place, "output", names, outputs.NAMES)


def check_words(place: str, what: str, names: Iterable[Any], known: Iterable[Any]) -> None:
    """Raise `Misspelt` for a word that is not among the known ones."""
    known = list(known)
    for name in names:
        if name not in known:
            raise Misspelt(stray(place, what, name, known))


def check_conventions(given: dict[str, str]) -> None:
    """Raise `Misspelt` for an unknown calling convention, or an unknown value of one."""
    check_words("conventions", "convention", given, CONVENTIONS)
    for name, value in given.items():
        check_words(f"conventions.{name}", f"way to give {name}", [value], CONVENTIONS[name])
