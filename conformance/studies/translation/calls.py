"""A layer's own arguments as a `Spec`, and a `Spec` as another layer's own arguments."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any, cast

import msgspec

from conformance.model.case_facts import channel
from conformance.model.errors import InvalidInput
from conformance.model.statement import Statement
from conformance.studies.translation import natives
from conformance.studies.translation.layers import Argument, Layer
from reference import Refusal, Spec
from reference.conventions import kept_axis
from reference.spec import Clipping, kept_axes

_SAME = ("epsilon", "center", "scale", "trainable", "renorm", "renorm_momentum", "virtual_batch_size")
_FORMATS = {2: ("NC", "NC"), 3: ("NCW", "NWC"), 4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}
_BEYOND = {"trainable": True, "renorm": False, "virtual_batch_size": None}  # fields that not everybody has
_FACTS = {"trainable": "trainable", "renorm": "renorm", "virtual_batch_size": "virtual"}


class Call(msgspec.Struct, frozen=True):
    """What a layer is asked for.

    placed: whether the user said where the channels are.
    channels: how many there are; None: not said.
    assumed: arguments without a default, or with one that is no batch normalization, and what was taken instead.
    unread: arguments that were given and set nothing of `Spec`.
    """

    spec: Spec
    placed: bool = False
    channels: int | None = None
    assumed: dict[str, Any] = {}
    unread: dict[str, Any] = {}


def read(layer: Layer, statement: Statement, given: dict[str, Any], rank: int) -> Call:
    """Return what native arguments ask for; those that are not given are at their defaults."""
    said = {name: given.get(name, argument.taken) for name, argument in layer.arguments.items()}
    by_meaning = {layer.arguments[name].meaning: value for name, value in said.items()}
    fields = {name: by_meaning[name] for name in _SAME if name in by_meaning}
    if "affine" in by_meaning:
        fields["scale"] = by_meaning["affine"]
        fields["center"] = bool(by_meaning["affine"] and fields.get("center", True))
    for meaning in ("momentum", "kept momentum"):
        if meaning in by_meaning:
            updated = meaning == "momentum" and statement.conventions.get("momentum") == "updated"
            fields["momentum"] = complement(by_meaning[meaning]) if updated else by_meaning[meaning]
    if by_meaning.get("renorm_clipping"):
        fields["renorm_clipping"] = Clipping(**by_meaning["renorm_clipping"])
    axes = ("axis", "kept axis", "reduced axes", "data_format")
    places = [name for meaning in axes if (name := layer.named(meaning))]
    return Call(
        Spec(axis=_axis(layer, statement, by_meaning, rank), **fields),
        placed=any(name in given for name in places),
        channels=by_meaning.get("channels"),
        assumed={n: a.taken for n, a in layer.arguments.items() if n not in given and a.assumed is not None},
        unread={n: v for n, v in given.items() if n in layer.other or _without_meaning(layer.arguments[n], v)},
    )


def _without_meaning(argument: Argument, value: Any) -> bool:
    chosen = str(value).lower() in argument.chooses or value in (argument.taken, argument.written)
    return not argument.meaning and not chosen


def complement(fraction: float | None) -> float | None:
    """Return 1 - fraction with the decimals that a person would write; None stays None.

    >>> complement(0.99), complement(0.1), complement(None)
    (0.01, 0.9, None)
    """
    return None if fraction is None else float(1 - Decimal(repr(fraction)))


def _axis(layer: Layer, statement: Statement, said: dict[str, Any], rank: int) -> int | tuple[int, ...]:
    """Return the kept axis, or several, from whichever argument says it."""
    reduced = statement.conventions.get("axis") == "reduced"
    for meaning in ("kept axis", "axis", "reduced axes"):
        axes = said.get(meaning)
        if axes is None or isinstance(axes, str):
            continue
        listed = cast("list[int]", axes if isinstance(axes, list) else [axes])
        try:
            if meaning == "reduced axes" or (meaning == "axis" and reduced):
                return _short(kept_axis(listed, rank), rank)
            return _short(tuple(listed), rank)
        except Refusal as error:
            raise InvalidInput(f"{error}, or another --rank") from error
    if "data_format" in said:
        last = said["data_format"].endswith(("last", "C"))
        return -1 if last else 1
    return layer.channels


def _short(kept: tuple[int, ...], rank: int) -> int | tuple[int, ...]:
    for axis in kept:
        if not -rank <= axis < rank:
            raise InvalidInput(f"axis={axis}: names no axis of an input of rank {rank}; use {-rank} to {rank - 1}")
    if not kept:
        raise InvalidInput("axis: averages over every axis, so that no channel is kept; leave one axis out")
    axes = kept_axes(Spec(axis=kept), rank)
    if len(set(axes)) < len(axes):
        raise InvalidInput(f"axis={list(kept)}: names an axis of an input of rank {rank} twice; name each one once")
    one, *more = axes
    return axes if more else -1 if one == rank - 1 else one


# --- towards the target -------------------------------------------------------------------------------------------

Dropped = dict[str, tuple[Any, Any]]
"""Fields of `Spec` that cannot be asked for, each with what was asked and what holds instead."""


def expressed(spec: Spec, layer: Layer, statement: Statement) -> tuple[Spec, Dropped]:
    """Return the nearest spec that an implementation can be asked for, and the fields that had to change."""
    changed: dict[str, Any] = {
        name: plain
        for name, plain in _BEYOND.items()
        if getattr(spec, name) != plain and not statement.takes(_FACTS[name], value=_fact(getattr(spec, name)))
    }
    if changed.get("renorm") is False and spec.renorm_clipping:
        changed["renorm_clipping"] = None
    affine = {(True, True): "both", (True, False): "center", (False, True): "scale", (False, False): "none"}
    if not statement.takes("affine", affine[spec.center, spec.scale]):
        changed |= {name: True for name in ("center", "scale") if not getattr(spec, name)}
    if spec.momentum is None and not statement.takes("cumulative", value=True):
        changed["momentum"] = _own_momentum(layer, statement)
    return dataclasses.replace(spec, **changed), {n: (getattr(spec, n), value) for n, value in changed.items()}


def _fact(value: Any) -> bool:
    return value if isinstance(value, bool) else value is not None


def _own_momentum(layer: Layer, statement: Statement) -> float:
    default = layer.arguments[layer.named("momentum")].taken if layer.named("momentum") else Spec().momentum
    kept = complement(default) if statement.conventions.get("momentum") == "updated" else default
    assert kept is not None
    return kept


def placed(call: Call, layer: Layer, statement: Statement, rank: int) -> int | tuple[int, ...]:
    """Return where the target keeps its channels: where the user said, if it can, otherwise where it does by itself."""
    axis = call.spec.axis
    if isinstance(axis, tuple):
        if statement.takes("several_axes", value=True) and statement.takes("channel", "several"):
            return axis
        raise InvalidInput(f"axis={list(axis)}: keeps several axes, which {statement.id} cannot; keep a single one")
    own = layer.channels
    if call.placed and statement.takes("channel", channel(kept_axes(call.spec, rank), rank)):
        return axis
    return own if own >= 0 or rank > 2 else -1


def written(layer: Layer, statement: Statement, spec: Spec, rank: int, channels: int | None) -> dict[str, Any]:
    """Return a spec as a layer's own arguments, without those that neither mean anything nor choose a variant."""
    found: dict[str, Any] = {}
    for name, argument in layer.arguments.items():
        value = _argument(argument, statement, spec, rank, channels)
        cumulative = argument.meaning.endswith("momentum") and spec.momentum is None and "none" in argument.type
        if value is not None or cumulative:
            found[name] = value
        elif not argument.meaning and (fixed := _fixed(argument, statement)) is not None:
            found[name] = fixed
    if (both := layer.named("reduced axes")) in found and layer.named("data_format"):
        del found[both]  # data_format says it
    return {n: v for n, v in found.items() if not _silent(layer, n, v, spec)}


def _fixed(argument: Argument, statement: Statement) -> Any:
    """Return the value of an argument without a meaning: the one that chooses this variant, or that must be given."""
    chooses = next((value for value, chosen in argument.chooses.items() if chosen == statement.id), None)
    if chooses is not None and argument.written is None:
        return natives.value(chooses)
    return argument.written if argument.written is not None or not argument.required else argument.taken


def _silent(layer: Layer, name: str, value: Any, spec: Spec) -> bool:
    """Return whether an argument need not be said: no renorm, or no bias in a layer without parameters."""
    argument = layer.arguments[name]
    if argument.meaning == "center" and layer.named("affine"):
        return bool(value or not spec.scale)
    beyond = argument.meaning in (*_BEYOND, "renorm_clipping", "renorm_momentum")
    return beyond and (value == argument.default or (argument.meaning == "renorm_momentum" and not spec.renorm))


def _argument(argument: Argument, statement: Statement, spec: Spec, rank: int, channels: int | None) -> Any:
    kept, meaning = kept_axes(spec, rank), argument.meaning
    reduced = meaning == "reduced axes" or (meaning == "axis" and statement.conventions.get("axis") == "reduced")
    if reduced:
        return [axis for axis in range(rank) if axis not in kept]
    if meaning in ("axis", "kept axis"):
        return list(spec.axis) if isinstance(spec.axis, tuple) else spec.axis
    if meaning == "data_format":
        last = kept == (rank - 1,)
        return _FORMATS[rank][last] if str(argument.default).startswith("N") else f"channels_{_END[last]}"
    if meaning == "momentum" and statement.conventions.get("momentum") == "updated":
        return complement(spec.momentum)
    if meaning == "renorm_clipping":
        return spec.renorm_clipping and {
            n: v for n, v in dataclasses.asdict(spec.renorm_clipping).items() if v is not None
        }
    if meaning == "affine":
        return spec.scale or spec.center
    same = {"channels": channels, "momentum": spec.momentum, "kept momentum": spec.momentum}
    return same[meaning] if meaning in same else getattr(spec, meaning) if meaning in _SAME else None


_END = {True: "last", False: "first"}
