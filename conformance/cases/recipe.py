"""A recipe: everything a case is made from, as data."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

import msgspec

from conformance.model.case import Dtypes, Layout


class Signature(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a compiled implementation compiles for. feature, variant: what the case asks beyond the plain layer."""

    shape: tuple[int, ...]
    axis: int | tuple[int, ...]
    dtypes: Dtypes
    momentum: float
    affine: Literal["both", "none", "scale", "center"]
    feature: str = ""
    variant: str = ""


class Recipe(msgspec.Struct, frozen=True):
    """Everything a case is made from. ratio: mean / standard deviation; spread: standard deviation / √epsilon."""

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
    """Return a seed that depends on the parts and on nothing else."""
    text = json.dumps([msgspec.to_builtins(part) for part in parts], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
