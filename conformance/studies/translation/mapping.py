"""Which weight of one layer becomes which of another, and how the axes of their inputs correspond."""

from __future__ import annotations

import msgspec

from conformance.studies.translation.sides import Side
from reference import Spec
from reference.spec import kept_axes


class Mapped(msgspec.Struct, frozen=True):
    """One weight: its neutral name, and its name and shape on both sides; an empty name: that side has none."""

    meaning: str
    source: str
    target: str
    source_shape: str
    target_shape: str


def transpose(source: Spec, target: Spec, rank: int) -> list[int]:
    """Return the axes of the source's input in the order in which the target takes them; nothing where it is the same.

    >>> transpose(Spec(axis=-1), Spec(axis=1), 4), transpose(Spec(axis=1), Spec(axis=-1), 4)
    ([0, 3, 1, 2], [0, 2, 3, 1])
    """
    here, there = kept_axes(source, rank), kept_axes(target, rank)
    if here == there:
        return []
    order = [axis for axis in range(rank) if axis not in here]
    order.insert(there[0], here[0])
    return order


def mapping(source: Side, target: Side) -> list[Mapped]:
    """Return which weight becomes which, shapes in words."""
    sides = (source, target)
    renorm = [name for side in sides for name in side.layer.renorm if side.spec.renorm]
    debiased = [f"{name} as used" for side in sides for name in side.layer.averages]
    names = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance", *debiased, *renorm, "batches"))
    found: list[Mapped] = []
    for name in names:
        there = [_name(side, name) for side in sides]
        shapes = [_shape(side, name) if own else "" for side, own in zip(sides, there, strict=True)]
        found += [Mapped(name, *there, *shapes)] if any(there) else []
    return found


def _name(side: Side, name: str) -> str:
    """Return what a side calls a weight; empty if it has none."""
    if name in side.layer.renorm:
        return name if side.spec.renorm else ""
    if name == "batches":
        return ", ".join(side.layer.counters)
    wanted = {"gamma": side.spec.scale, "beta": side.spec.center}.get(name, True)
    named = side.layer.names | {f"{of} as used": own for of, own in side.layer.averages.items()}
    return named.get(name, "") if wanted else ""


def _shape(side: Side, name: str) -> str:
    kind = side.layer.shape if name in ("gamma", "beta") else side.layer.statistics_shape
    one, *more = kept_axes(side.spec, side.shape.rank)
    if name == "batches":
        return "()"
    if kind == "vector" and not more:
        return "(C,)"
    full = ["C" if axis in (one, *more) else "1" for axis in range(side.shape.rank)]
    parts = full[one:] if kind == "trailing" and not more else full
    return f"({', '.join(parts)}{',' * (len(parts) == 1)})"
