"""How an output is declared to be computed (`Numerics`), and the rounding units of that arithmetic."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, cast

import ml_dtypes
import msgspec

Stored = Literal["input", "parameters", "statistics", "float16", "bfloat16", "float32", "float64"]


class Numerics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one output is declared to be computed. Its bound follows from this.

    variance: `two_pass`; `stable` (Welford, Chan); or `fast`, E[x²] - E[x]².
    affine: `direct`, gamma (x - m) r + beta; or `folded`, x * scale + shift.
    sums: `tree`, as deep as a pairwise or vectorized sum; or `serial`, in any order.
    accumulate: `wide`, float32 or wider; `input`, the input's own dtype; or `float32`, even for a wider input.
    widened: which sums are made in a wider dtype and rounded once: `statistics`, those of means and variances; `all`,
        those of gradients too; or `none`.
    wider: that dtype, `float32`, or `float64`. Where the arithmetic is as wide itself, nothing is widened.
    clamped: a fast variance is kept >= 0.
    shift: how a folded map gets its shift: `of_scale`, beta - m * scale; or `apart`, beta - (m r) gamma, with a product
        of its own, so that the rounding of the scale does not cancel.
    merge: how running means are merged: `moved`, m + (x - m) k, which rounds a quarter as often; or `weighted`,
        (m n + x) / (n + 1), which stands for every other way too.
    means: how a mean is taken: `once`, a sum divided by its count; or `in_turn`, means of parts averaged again, so that
        each part is divided, and rounded, before it is added to others.
    root: `approximate`, a reciprocal root within 2 ulp; or `rounded`, a square root and a quotient each rounded once,
        as IEEE 754 has it, so that the root of a power of 4 is exact.
    stored: the dtype of the output: `input`, `parameters`, `statistics`, or a name.
    """

    variance: Literal["two_pass", "stable", "fast"] = "two_pass"
    affine: Literal["direct", "folded"] = "direct"
    sums: Literal["tree", "serial"] = "serial"
    accumulate: Literal["wide", "input", "float32"] = "wide"
    widened: Literal["none", "statistics", "all"] = "none"
    wider: Literal["float32", "float64"] = "float32"
    clamped: bool = False
    shift: Literal["of_scale", "apart"] = "of_scale"
    merge: Literal["weighted", "moved"] = "weighted"
    means: Literal["once", "in_turn"] = "once"
    root: Literal["approximate", "rounded"] = "approximate"
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
"""The classes A, A′, B and B′. Each allows what those before it allow, except that B does not allow A′."""


def classes(promised: Numerics) -> dict[str, Numerics]:
    """Return every class and grade by its label, the strictest first. Accumulation and clamping stay as promised.

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
    """Return whether whatever one class and grade allows, another allows too; both by their labels.

    >>> holds("B′·S", "A·T"), holds("A·T", "A·S"), holds("B·S", "A′·S"), holds("C·S", "A·T")
    (True, False, False, False)
    """
    order = ["A", "A′", "B", "B′"]
    (name, grade), (other, its_grade) = wide.split("·"), narrow.split("·")
    if name not in order or other not in order or (name, other) == ("B", "A′"):
        return False
    return order.index(name) >= order.index(other) and grade <= its_grade


def smallest(without: set[str]) -> str:
    """Return the strictest class and grade that is not among these; empty where all are.

    >>> smallest({"A·T", "A′·T"}), smallest(set())
    ('A·S', 'A·T')
    """
    return next((label for label in classes(Numerics()) if label not in without), "")


@dataclass(frozen=True)
class Units:
    """The rounding units of an output's arithmetic, and of the dtype that it is stored in.

    u: the unit roundoff of the arithmetic.
    taken_u: what the input is rounded by when the arithmetic is coarser than its dtype; otherwise 0.
    parameters_u: the same of gamma and beta.
    The other fields are the smallest normal and the largest numbers, and the unit of the stored output.
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
        """Return the units for arithmetic in one dtype, and storage, input and parameters in others.

        Storing in a dtype that is no narrower rounds nothing, nor does taking in an input that is no wider.
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
    """Return the limits of a dtype, bfloat16 included, which NumPy does not know."""
    return cast("Any", ml_dtypes).finfo(name)
