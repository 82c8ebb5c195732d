"""A case that people write as JSON: read field by field, so that each mistake has an error of its own.

`conformance/cases/CASES.md` is the page for those who write one. An error is a ValueError that names the place, the
value and the nearest thing that would be right; whoever knows the file puts its name before it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from conformance.model.case import SCHEMA, Case, Dtype, numpy_dtype
from reference.spec import Array

_FREE = {"schema", "about", "tensors"}  # beside the fields of `Case`: a version, what a corpus file says of itself
_OF_A_TENSOR = {"dtype", "data", "shape"}
_NO_NUMBERS = (str, dict, type(None))
_DTYPES = (*get_args(Dtype), "bool", "int32", "int64")


class NotACase(ValueError):
    """Some part of the JSON is of another kind than it must be."""


def fields(text: str) -> dict[str, Any]:
    """Return the fields of a case written as JSON, all of them known and of the right kind."""
    try:
        found: object = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ValueError(
            "not a case: its lists or objects are nested too deeply; a tensor has no more than 64 axes"
        ) from error
    if not isinstance(found, dict):
        raise NotACase(f'not a case: it must be an object, {{"spec": …}}, and is {_kind(found)}')
    given = cast("dict[str, Any]", found)
    if (schema := given.pop("schema", SCHEMA)) != SCHEMA:
        raise ValueError(f"schema {json.dumps(schema)}, but this version reads schema {SCHEMA}")
    given.pop("about", None)
    _check(given, Case, "")
    return given


def tensor(name: str, given: object) -> Array:
    """Return a tensor that is written inline: `{"dtype": "float32", "data": [[1, 2], [3, 4]]}`."""
    if not isinstance(given, dict):
        raise NotACase(f'tensors: {name} must be an object, {{"dtype": …, "data": …}}, and is {_kind(given)}')
    own = cast("dict[str, Any]", given)
    _known(own, _OF_A_TENSOR, ("dtype", "data"), f"tensors: {name}")
    if own["dtype"] not in _DTYPES:
        raise ValueError(f"tensors: {name}: {_none_of(own['dtype'], _DTYPES, 'dtype')}")
    if (wrong := _no_number(own["data"])) is not None:
        raise ValueError(
            f"tensors: {name}: data must be numbers in lists, and holds {json.dumps(wrong[0])}; write a number"
        )
    if own["dtype"] != "bool" and _no_number(own["data"], bool):
        raise ValueError(f"tensors: {name}: data holds true or false; write 1 or 0, or the dtype bool")
    try:
        with np.errstate(all="ignore"):
            array = np.array(own["data"], numpy_dtype(own["dtype"]))
    except (ValueError, TypeError, OverflowError) as error:
        rule = "data must be numbers in lists, all rows of one length"
        raise ValueError(f"tensors: {name}: {rule} ({error})") from error
    if (lost := _lost(own["data"], array)) is not None:
        raise ValueError(f"tensors: {name}: {lost} is too large for {own['dtype']}; write Infinity, or another dtype")
    return _shaped(name, array, own.get("shape"))


def _no_number(data: object, kinds: Any = _NO_NUMBERS) -> tuple[object] | None:
    """Return the first thing among nested lists that is no number; None if all are."""
    if isinstance(data, list):
        inner = (_no_number(one, kinds) for one in cast("list[object]", data))
        return next((found for found in inner if found), None)
    return (data,) if isinstance(data, kinds) else None


def _shaped(name: str, array: Array, shape: object) -> Array:
    try:
        return array if shape is None else array.reshape(cast("Any", shape))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"tensors: {name}: data holds {array.size} values, shape says {shape}; change one of them"
        ) from error


def _lost(data: object, array: Array) -> object:
    """Return a finite number that its dtype turned infinite; None if there is none."""
    if array.dtype.kind not in "fV" or np.isfinite(array.astype(np.float64)).all():
        return None
    flat = np.array(data, np.float64).ravel()
    wrong = np.isfinite(flat) & ~np.isfinite(array.astype(np.float64)).ravel()
    return float(flat[wrong][0]) if wrong.any() else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f'two fields of one object are called "{twice[0]}"; leave one of them out')
    return dict(pairs)


def _check(value: object, kind: Any, where: str) -> None:
    """Raise where a value has an unknown field, lacks one, or holds a word that is none of those allowed."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{where}: {_none_of(value, get_args(kind), 'value')}")
    elif get_origin(kind) is tuple and get_args(kind)[-1] is ...:
        if not isinstance(value, list):
            raise NotACase(f"{where} must be a list, and is {_kind(value)}")
        for n, inner in enumerate(cast("list[object]", value)):
            _check(inner, get_args(kind)[0], f"{where}[{n}]")
    elif get_origin(kind) in (Union, types.UnionType):
        inner = [k for k in get_args(kind) if dataclasses.is_dataclass(k)]
        if inner and value is not None:
            _check(value, inner[0], where)
    elif dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        _check_fields(value, kind, where)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _check_fields(value: object, kind: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise NotACase(f"{where} must be an object, and is {_kind(value)}")
    given, hints = cast("dict[str, Any]", value), _hints(kind)
    required = ("spec", "steps") if kind is Case else ("mode",) if "mode" in hints and "derivatives" in hints else ()
    _known(given, hints.keys() | (_FREE if kind is Case else set()), required, where)
    for name, inner in given.items():
        if name != "tensors":
            _check(inner, hints[name], f"{where}.{name}" if where else name)


def _known(given: dict[str, Any], known: Iterable[str], required: tuple[str, ...], where: str) -> None:
    names, at = sorted(known), f"{where}: " if where else ""
    for name in given:
        if name not in names:
            raise ValueError(f'{at}no field is called "{name}"; {_nearest(name, names)}')
    if gone := [name for name in required if name not in given]:
        raise ValueError(f'{at}missing required field "{gone[0]}"')


def _none_of(value: object, known: tuple[Any, ...], what: str) -> str:
    shown = json.dumps(value)
    return (
        f"{shown} is no {what} here; {_nearest(str(value), [str(k) for k in known], quote=isinstance(known[0], str))}"
    )


def _nearest(word: str, known: list[str], quote: bool = True) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    listed = f"use one of {', '.join(known)}"
    meant = near and (f'"{near[0]}"' if quote else near[0])
    return f"did you mean {meant}? Or {listed}" if near else listed


def unknown(word: str, known: list[str]) -> str:
    """Return what to say of a tensor that nothing reads, with the nearest name that something does read."""
    return f"no tensor is called {word}; {_nearest(word, known)}"


def _kind(value: object) -> str:
    names = (
        (dict, "an object"),
        (list, "a list"),
        (str, "a text"),
        (bool, "true or false"),
        (type(None), "null"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "a number")
