"""The declared way of computing an output (`Numerics`), and the units of its arithmetic."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, cast

import ml_dtypes
import msgspec

Stored = Literal["input", "parameters", "statistics", "float16", "bfloat16", "float32", "float64"]


class Numerics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The declared way of computing one output.

    variance: `two_pass`; `stable` (Welford, Chan); `fast`, E[x²] - E[x]². affine: `direct`, gamma (x - m) r + beta;
    `folded`, x * scale + shift. sums: `tree`, as deep as a pairwise or vectorized sum; `serial`, any order at all.
    accumulate: `wide`, float32 or wider; `input`, the input's own dtype; `float32`, even where the input is wider.
    widened: which sums of arithmetic in half precision are made in float32 and rounded once, `statistics`, means and
    variances; `all`, those of gradients too; `none`. clamped: a fast variance is kept >= 0.
    shift: of a folded map, `of_scale`, beta - m * scale; `apart`, with a product of its own, beta - (m r) gamma, where
    the rounding of the scale does not cancel. merge: of running means, `weighted`, (m n + x) / (n + 1), or in whatever
    other way; `moved`, m + (x - m) k, which rounds a quarter as often.
    stored: the dtype the output is stored in, `input`, `parameters`, `statistics`, or a name.
    """

    variance: Literal["two_pass", "stable", "fast"] = "two_pass"
    affine: Literal["direct", "folded"] = "direct"
    sums: Literal["tree", "serial"] = "serial"
    accumulate: Literal["wide", "input", "float32"] = "wide"
    widened: Literal["none", "statistics", "all"] = "none"
    clamped: bool = False
    shift: Literal["of_scale", "apart"] = "of_scale"
    merge: Literal["weighted", "moved"] = "weighted"
    stored: Stored = "input"

    @property
    def label(self) -> str:
        """The numerical class and its grade, such as `A′·S`."""
        if self.accumulate == "input":
            name = "C"
        else:
            name = ("B" if self.variance == "fast" else "A") + ("′" if self.affine == "folded" else "")
        return f"{name}·{'T' if self.sums == 'tree' else 'S'}"


_ORDER: list[tuple[Literal["two_pass", "stable", "fast"], Literal["direct", "folded"]]] = [
    ("two_pass", "direct"),
    ("stable", "folded"),
    ("fast", "direct"),
    ("fast", "folded"),
]
"""A, A′, B and B′; each holds those before it, but that B does not hold A′."""


def classes(promised: Numerics) -> dict[str, Numerics]:
    """Return every class and grade by its label, from the strictest; accumulation and clamping as promised.

    >>> list(classes(Numerics()))
    ['A·T', 'A·S', 'A′·T', 'A′·S', 'B·T', 'B·S', 'B′·T', 'B′·S']
    """
    found = [
        msgspec.structs.replace(promised, variance=variance, affine=affine, sums=sums)
        for variance, affine in _ORDER
        for sums in ("tree", "serial")
    ]
    return {numerics.label: numerics for numerics in found}


def holds(wide: str, narrow: str) -> bool:
    """Return whether a class and grade holds all of another, by their labels.

    >>> holds("B′·S", "A·T"), holds("A·T", "A·S"), holds("B·S", "A′·S"), holds("C·S", "A·T")
    (True, False, False, False)
    """
    order = ["A", "A′", "B", "B′"]
    (name, grade), (other, its_grade) = wide.split("·"), narrow.split("·")
    if name not in order or other not in order or (name, other) == ("B", "A′"):
        return False
    return order.index(name) >= order.index(other) and grade <= its_grade


def smallest(without: set[str]) -> str:
    """Return the strictest class and grade that is not among these, empty where all are.

    >>> smallest({"A·T", "A′·T"}), smallest(set())
    ('A·S', 'A·T')
    """
    return next((label for label in classes(Numerics()) if label not in without), "")


@dataclass(frozen=True)
class Units:
    """Rounding unit of the arithmetic `u`, its smallest normal and largest number; the same of the stored output.

    taken_u, parameters_u: what inputs, and gamma and beta, are rounded by when arithmetic coarser than their own dtype
    takes them in, 0 otherwise.
    """

    u: float
    smallest: float
    largest: float
    stored_u: float
    stored_quantum: float
    stored_largest: float
    taken_u: float = 0.0
    parameters_u: float = 0.0

    @classmethod
    @functools.cache  # a dozen pairs of dtypes, asked for with every bound
    def of(cls, arithmetic: str, stored: str, taken: str = "bfloat16", parameters: str = "bfloat16") -> Units:
        """Return the units for arithmetic in one dtype, storage in another, input and parameters of others.

        Storing at no less costs nothing, nor does taking in what is no wider.
        """
        info, out = finfo(arithmetic), finfo(stored)
        rounds = float(out.eps) > float(info.eps)
        return cls(
            float(info.eps) / 2,
            float(info.smallest_normal),
            float(info.max),
            float(out.eps) / 2 if rounds else 0.0,
            float(out.smallest_subnormal) / 2 if rounds else 0.0,
            float(out.max),
            *(float(info.eps) / 2 if float(finfo(d).eps) < float(info.eps) else 0.0 for d in (taken, parameters)),
        )


@functools.cache
def finfo(name: str) -> Any:
    """Return limits of a dtype; NumPy has no bfloat16."""
    return cast("Any", ml_dtypes).finfo(name)
