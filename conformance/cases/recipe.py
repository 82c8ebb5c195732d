"""A recipe: everything that a case is made from, as data."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import msgspec

from conformance.model.case import Dtypes, Layout


class Signature(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a compiled implementation compiles for.

    feature, variant: what the case asks beyond the plain layer.
    """

    shape: tuple[int, ...]
    axis: int | tuple[int, ...]
    dtypes: Dtypes
    momentum: float
    affine: Literal["both", "none", "scale", "center"]
    feature: str = ""
    variant: str = ""


class Recipe(msgspec.Struct, frozen=True):
    """Everything that a case is made from.

    cell: the one it was drawn for.
    pooled: its signature is one of the pool that compiled implementations share.
    ratio: mean / standard deviation.
    spread: standard deviation / √epsilon.
    drift: how far the mean moves from step to step.
    number: which of the cell's recipes it is.
    """

    cell: str
    signature: Signature
    pooled: bool
    epsilon: float
    modes: str
    layout: Layout
    last_batch_smaller: bool
    pattern: str
    ratio: float
    spread: float
    drift: float
    values: str
    number: int


def seed_of(*parts: object) -> int:
    """Return a seed that depends on these parts and on nothing else."""
    text = json.dumps([msgspec.to_builtins(part) for part in parts], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
