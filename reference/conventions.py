"""Conventions of calling, translated to those of `Spec`: it has no field for them (BN-1, BN-8)."""

from __future__ import annotations

from collections.abc import Sequence

from reference.spec import Refusal


def kept_momentum(updated: float | None) -> float | None:
    """Return the fraction that is kept, from the fraction that is updated, as torch has it; None stays None.

    >>> kept_momentum(0.25), kept_momentum(None)
    (0.75, None)
    """
    return None if updated is None else 1 - updated


def kept_axis(reduced: Sequence[int], rank: int) -> tuple[int, ...]:
    """Return the axes that are kept, from those that are averaged over, as haiku and `tf.nn.moments` have it.

    >>> kept_axis([0, 1, 2], rank=4), kept_axis([0, -1], rank=3)
    ((3,), (1,))
    """
    for axis in reduced:
        if not -rank <= axis < rank:
            raise Refusal(f"axis={axis} names no axis of an input of rank {rank}; use {-rank} to {rank - 1}")
    averaged = {axis % rank for axis in reduced}
    if len(averaged) < len(reduced):
        raise Refusal(f"axis={list(reduced)} names an axis of an input of rank {rank} twice; name each one once")
    return tuple(axis for axis in range(rank) if axis not in averaged)
