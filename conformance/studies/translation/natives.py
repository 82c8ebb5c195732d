"""What `--from`, `--to` and NAME=VALUE mean: an implementation, its arguments, checked, and the variant they choose."""

from __future__ import annotations

import ast
import difflib
from typing import Any, cast

from conformance.hosts import roster
from conformance.hosts.roster import RosterEntry
from conformance.model.errors import InvalidInput
from conformance.studies.translation import layers
from conformance.studies.translation.layers import Layer, Type

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_RULES: dict[str, tuple[str, str]] = {
    "bool": ("true or false", "true"),
    "int": ("an integer", "64"),
    "int or none": ("an integer or none", "8"),
    "number": ("a number", "0.001"),
    "number or none": ("a number or none", "0.1"),
    "axes": ("an axis or a list of axes", "[0,1,2]"),
    "text": ("a word", "channels_last"),
    "limits": ("an object of rmin, rmax and dmax, or none", '\'{"rmax": 3, "dmax": 5}\''),
}


def chosen(option: str, named: str, rank: int | None, device: str, python: str) -> RosterEntry:
    """Return the one implementation that `--from` or `--to` names, for inputs of a rank; None: of any rank."""
    layer = next((layer for layer in layers.read() if layer.short and layer.short == named), None)
    if layer is None:
        found = _selected(option, named, device, python)
    else:
        found = [e for name in layer.main for e in roster.select((name,), device, python)]
    fitting = [e for e in found if rank is None or e.statement.takes("rank", rank)]
    if len(fitting) == 1 or (fitting and layer):
        return fitting[0]
    names = ", ".join(e.id for e in (fitting or found)[:5])
    if not fitting:
        raise InvalidInput(f"{option} {named}: {names} takes no input of rank {rank}; choose another --rank")
    raise InvalidInput(f"{option} {named}: names {len(fitting)} implementations ({names}, …); name one of them")


def _selected(option: str, named: str, device: str, python: str) -> list[RosterEntry]:
    try:
        return roster.select((named,), device, python)
    except InvalidInput as error:
        shorts = [layer.short for layer in layers.read() if layer.short]
        near = difflib.get_close_matches(named, shorts, n=1)
        said = f"no such implementation; did you mean {near[0]}?" if near else str(error).partition(": ")[2]
        raise InvalidInput(f"{option} {named}: {said} Short names are {', '.join(shorts)}") from error


def values(layer: Layer, called: str, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments that a user gave, checked; called: the layer's name in messages."""
    given: dict[str, Any] = {}
    known = [*layer.arguments, *layer.other]
    for pair in pairs:
        name, found, text = pair.partition("=")
        if not found:
            raise InvalidInput(f"{pair}: must be NAME=VALUE, for example {known[0]}=1")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise InvalidInput(
                f"{pair}: {called} has no argument {name}; did you mean {near[0]}? It has {', '.join(layer.arguments)}"
            )
        if name in given:
            raise InvalidInput(f"{pair}: {name} is given twice; give it once")
        kind = layer.arguments[name].type if name in layer.arguments else "any"
        given[name] = _checked(pair, called, value(text), kind)
    return given


def value(text: str) -> Any:
    """Return a word of the command line as a Python value; a word that is none stays text.

    >>> value("0.99"), value("true"), value("None"), value("[0, 1]"), value("channels_last")
    (0.99, True, None, [0, 1], 'channels_last')
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _checked(pair: str, called: str, given: Any, kind: Type) -> Any:
    if not fits(given, kind):
        rule, example = _RULES[kind]
        name = pair.partition("=")[0]
        raise InvalidInput(f"{pair}: {name} of {called} must be {rule}; give for example {name}={example}")
    return list(cast("tuple[Any, ...]", given)) if isinstance(given, tuple) else given


def fits(given: Any, kind: Type) -> bool:
    """Return whether a value is of a type.

    >>> fits(1, "number"), fits(True, "int"), fits(None, "number or none"), fits([0, 2], "axes")
    (True, False, True, True)
    """
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    whole = number and isinstance(given, int)
    return {
        "any": True,
        "bool": isinstance(given, bool),
        "text": isinstance(given, str),
        "int": whole,
        "int or none": whole or given is None,
        "number": number,
        "number or none": number or given is None,
        "axes": whole or given is None or _of_integers(given),
        "limits": given is None or _of_limits(given),
    }[kind]


def _of_integers(given: Any) -> bool:
    items = cast("list[Any]", given)
    return isinstance(given, (list, tuple)) and bool(items) and all(fits(item, "int") for item in items)


def _of_limits(given: Any) -> bool:
    if not isinstance(given, dict):
        return False
    limits = cast("dict[Any, Any]", given)
    return set(limits) <= {"rmin", "rmax", "dmax"} and all(fits(v, "number or none") for v in limits.values())


def variant(layer: Layer, entry: RosterEntry, given: dict[str, Any], device: str, python: str) -> RosterEntry | None:
    """Return the implementation that the arguments choose instead of the plain one; None if they choose none."""
    for name, argument in layer.arguments.items():
        chosen = argument.chooses.get(str(given.get(name, "")).lower())
        if chosen and chosen.split("+")[0] == entry.statement.id.split("+")[0]:
            (other,) = roster.select((chosen,), device, python)
            return other if other.host == entry.host else None
    return None
