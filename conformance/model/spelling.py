"""Misspelt words, each with the nearest right one: one clear sentence on data that others wrote, instead of a guess."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

T = TypeVar("T")

_MEANT = {
    "gpu": "cuda",
    "inference": "infer",
    "eval": "infer",
    "evaluation": "infer",
    "test": "infer",
    "training": "train",
    "learn": "train",
    "keep": "kept",
    "half": "float16",
    "single": "float32",
    "float": "float32",
    "double": "float64",
    "first": "second",
    "yes": "true",
    "no": "false",
    "on": "true",
    "off": "false",
    "channels_first": "second",
    "channels_last": "last",
    "nchw": "second",
    "nhwc": "last",
    "welford": "stable",
    "chan": "stable",
    "gradient": "dx",
}
"""Words of others, and what they are called here."""

_LISTED = 12  # more words than that hide the one that was meant
_KINDS: dict[type[inspect.Type], str] = {
    inspect.StrType: "a text",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.ListType: "a list",
    inspect.VarTupleType: "a list",
    inspect.DictType: "an object",
    inspect.StructType: "an object",
    inspect.DataclassType: "an object",
}


class Misspelt(ValueError):
    """Data says something meaningless. The message names the place, the value, and the nearest right word."""


def nearest(value: Any, known: Iterable[Any]) -> Any:
    """Return the right word that a wrong one is nearest to.

    >>> nearest("frozn", ["frozen", "fraction_dtype"]), nearest("gpu", ["cpu", "cuda"]), nearest("yes", [False, True])
    ('frozen', 'cuda', True)
    """
    words = {_word(one).lower(): one for one in known}
    said = _word(value).lower()
    meant = said if said in words else _MEANT.get(said, said)
    return words[difflib.get_close_matches(meant, words, n=1, cutoff=0.0)[0]]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def stray(place: str, what: str, value: Any, known: Iterable[Any]) -> str:
    """Return what to say of a word that is not among those known."""
    known = list(known)
    near = nearest(value, known)
    meant = _word(near) if isinstance(value, str) else _shown(near)
    listed = f" One of: {', '.join(_word(one) for one in known)}" if len(known) <= _LISTED else ""
    return f"{place}: {_shown(value)} is no {what}; did you mean {meant}?{listed}".removeprefix(": ")


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) < 80 else text[:77] + "..."


def converted(value: Any, wanted: type[T], place: str = "") -> T:
    """Return data converted to a type; raise `Misspelt` for the first thing in it that is wrong.

    place: what the message calls the data. Unknown fields are refused by types that forbid them, and by dataclasses.
    """
    faults = _faults(_info(wanted), value, place)
    try:
        found = msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        raise Misspelt(next(faults, None) or f"{place}: {error}".removeprefix(": ")) from error
    if (fault := next(faults, None)) is not None:  # a dataclass takes what it does not know
        raise Misspelt(fault)
    return found


@functools.cache
def _info(wanted: Any) -> inspect.Type:
    return inspect.type_info(wanted)


def _faults(info: inspect.Type, value: Any, place: str) -> Iterator[str]:
    """Yield what is wrong with data that should be of a type, in the order of the data."""
    if isinstance(info, inspect.LiteralType):
        if not any(value == one and type(value) is type(one) for one in info.values):
            yield stray(place, "word for it", value, info.values)
    elif isinstance(info, inspect.UnionType):
        yield from _of_union(info, value, place)
    elif isinstance(info, (inspect.StructType, inspect.DataclassType)):
        yield from _of_fields(info, value, place)
    elif isinstance(info, inspect.DictType):
        yield from _of_dict(info, value, place)
    elif isinstance(info, (inspect.ListType, inspect.VarTupleType)):
        yield from _of_list(info, value, place)
    elif isinstance(value, str) and not value.isprintable() and (bad := _no_utf8(value)):
        yield f"{place}: {value!a} holds {bad}, which is no character; leave it out"
    elif type(info) in _KINDS and not _is(info, value):
        yield _wrong(place, value, _KINDS[type(info)], _as(info, value))


def _no_utf8(text: str) -> str:
    """Return the first half of a surrogate pair in a text, which no file could hold; empty if there is none."""
    return next((ascii(one) for one in text if "\ud800" <= one <= "\udfff"), "")


def _of_union(info: inspect.UnionType, value: Any, place: str) -> Iterator[str]:
    tagged = {one.tag: one for one in info.types if isinstance(one, inspect.StructType) and one.tag is not None}
    if not tagged:
        if all(next(_faults(one, value, place), None) for one in info.types):
            yield from _faults(info.types[0], value, place)
        return
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if "type" not in given:
        yield f"{place}: {_shown(value)} has no type; add one of {', '.join(str(tag) for tag in tagged)}"
    elif given["type"] not in tagged:
        yield stray(f"{place}.type", "word for it", given["type"], tagged)
    else:
        yield from _of_fields(tagged[given["type"]], {n: v for n, v in given.items() if n != "type"}, place)


def _of_fields(info: inspect.StructType | inspect.DataclassType, value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _wrong(place, value, "an object", None)
        return
    given = cast("dict[str, Any]", value)
    fields = {field.encode_name: field for field in info.fields}
    refuses = not isinstance(info, inspect.StructType) or info.forbid_unknown_fields
    unknown = [name for name in given if name not in fields]
    missing = [name for name, field in fields.items() if field.required and name not in given]
    for name in unknown if refuses or missing else ():
        yield stray(place, "field", name, [n for n in missing or fields if n not in given] or fields)
    for name in missing:
        yield f"{place}: {name} is missing; add it".removeprefix(": ")
    for name in (n for n in given if n in fields):
        yield from _faults(fields[name].type, given[name], f"{place}.{name}" if place else name)


def _of_dict(info: inspect.DictType, value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _wrong(place, value, "an object", None)
        return
    for name, one in cast("dict[str, Any]", value).items():
        yield from _faults(info.key_type, name, f"a name in {place}")
        yield from _faults(info.value_type, one, f"{place}.{name}")


def _of_list(info: inspect.ListType | inspect.VarTupleType, value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, (list, tuple)):
        yield _wrong(place, value, "a list", None if value is None else [value])
        return
    for n, one in enumerate(cast("list[Any]", value)):
        yield from _faults(info.item_type, one, f"{place}[{n}]")


def _is(info: inspect.Type, value: Any) -> bool:
    match info:
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case _:
            return True


def _as(info: inspect.Type, value: Any) -> Any:
    """Return a value as the type wants it; None if it cannot be read so."""
    if isinstance(info, inspect.StrType):
        return None if value is None or isinstance(value, (dict, list)) else str(value)
    meant = _MEANT.get(str(value).lower(), value)
    kinds: dict[type[inspect.Type], Any] = {inspect.IntType: int, inspect.FloatType: float, inspect.BoolType: bool}
    try:
        return msgspec.convert(meant, kinds.get(type(info), str), strict=False)
    except msgspec.ValidationError:
        return None


def _wrong(place: str, value: Any, kind: str, right: Any) -> str:
    meant = "" if right is None else f"; did you mean {_shown(right)}?"
    return f"{place}: {_shown(value)} is not {kind}{meant or f'; give {kind}'}".removeprefix(": ")
