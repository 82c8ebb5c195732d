"""How an output is declared to be computed (`Numerics`), and the rounding units of that arithmetic."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import ml_dtypes
import msgspec

Stored = Literal["input", "parameters", "statistics", "float16", "bfloat16", "float32", "float64"]


class Numerics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one output is declared to be computed. Its bound follows from this.

    variance: `two_pass`; `stable` (Welford, Chan); `fast`, E[x²] - E[x]²; or `shifted`, that of x - k for a k from
        the least to the largest value of the channel, such as its first.
    affine: `direct`, gamma (x - m) r + beta; or `folded`, x * scale + shift.
    sums: `tree`, as deep as a pairwise or vectorized sum; `serial`, in any order; or `compensated` (Kahan, Neumaier).
    lanes: how many partial sums, or running means, are made side by side, of n / lanes terms each; `sums` says how
        these are put together then, in a tree or in any order.
    block: how many terms a partial sum has at most, and is put together with others as for lanes; 0: any number.
    accumulate: `wide`, float32 or wider; `input`, the input's own dtype; or a dtype that has the name, even for a wider
        input. `tf32` is float32 with 11 bits.
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
    division: how a sum is divided by its count: `approximate`, times a rounded 1 / n too; or `rounded`, one quotient as
        IEEE 754 has it, so that 3 / 12 is exact.
    products: what gradients sum: `any`, dy (x - m) r in whatever order, by way of x too; or `deviations`, dy (x - m),
        which r multiplies once.
    root: `approximate`, a reciprocal root within `root_ulps`; `rounded`, a square root and a quotient each rounded
        once, as IEEE 754 has it, so that the root of a power of 4 is exact; or `logarithm`, exp(-log(w) / 2).
    root_ulps: by how many units in the last place an approximate reciprocal root may be off; of a logarithm, it and
        the exponential each.
    saved: what a batch's mean, variance and reciprocal root are rounded to before they are used for anything: `input`,
        `parameters`, `statistics`, a dtype, or `unrounded`.
    recovered: gradients take normalized values from the stored y, (y - beta) / gamma, as activated batch normalization
        in place does (Rota Bulò, Porzi & Kontschieder, arXiv:1712.02616).
    entering: what enters the moving variance: the batch's `variance`, or one `recovered` from its reciprocal root r as
        1 / r² - epsilon, whose digits are gone where epsilon is much the larger.
    tangent: derivatives along a tangent are taken along all of it `at_once`, in forward or reverse mode; or along
        `each` element by itself, a matrix of derivatives, which is multiplied by the tangent then.
    stored: the dtype of the output: `input`, `parameters`, `statistics`, or a name.
    """

    variance: Literal["two_pass", "stable", "fast", "shifted"] = "two_pass"
    affine: Literal["direct", "folded"] = "direct"
    sums: Literal["tree", "serial", "compensated"] = "serial"
    lanes: Annotated[int, msgspec.Meta(ge=1)] = 1
    block: Annotated[int, msgspec.Meta(ge=0)] = 0
    accumulate: Literal["wide", "input", "float16", "bfloat16", "tf32", "float32", "float64"] = "wide"
    widened: Literal["none", "statistics", "all"] = "none"
    wider: Literal["float32", "float64"] = "float32"
    clamped: bool = False
    shift: Literal["of_scale", "apart"] = "of_scale"
    merge: Literal["weighted", "moved"] = "weighted"
    means: Literal["once", "in_turn"] = "once"
    division: Literal["approximate", "rounded"] = "approximate"
    products: Literal["any", "deviations"] = "any"
    root: Literal["approximate", "rounded", "logarithm"] = "approximate"
    root_ulps: Annotated[float, msgspec.Meta(ge=0.5)] = 2.0
    saved: Literal[Stored, "unrounded"] = "unrounded"
    recovered: bool = False
    entering: Literal["variance", "recovered"] = "variance"
    tangent: Literal["at_once", "each"] = "at_once"
    stored: Stored = "input"

    @property
    def coarse(self) -> bool:
        """Whether the arithmetic may be coarser than float32, so that no class is told apart."""
        return self.accumulate in ("input", "float16", "bfloat16", "tf32")

    @property
    def label(self) -> str:
        """The numerical class and its grade, such as `A′·S`."""
        if self.coarse:
            name = "C"
        else:
            name = ("B" if self.variance == "fast" else "A") + ("′" if self.affine == "folded" else "")
        return f"{name}·{self.grade}"

    @property
    def grade(self) -> str:
        """`S` where sums may be serial, else `T`; a compensated sum is as good as a tree."""
        return "S" if self.sums == "serial" else "T"


_ORDER: list[tuple[Literal["two_pass", "stable", "fast"], Literal["direct", "folded"]]] = [
    ("two_pass", "direct"),
    ("stable", "folded"),
    ("fast", "direct"),
    ("fast", "folded"),
]
"""The classes A, A′, B and B′. Each allows what those before it allow, except that B does not allow A′."""


def classes(promised: Numerics) -> dict[str, Numerics]:
    """Return every class and grade by its label, the strictest first. Accumulation and clamping stay as promised.

    A tree is a plain one, whatever partial sums are promised.

    >>> list(classes(Numerics()))
    ['A·T', 'A·S', 'A′·T', 'A′·S', 'B·T', 'B·S', 'B′·T', 'B′·S']
    """
    found = [
        msgspec.structs.replace(promised, variance=variance, affine=affine, **sums)
        for variance, affine in _ORDER
        for sums in ({"sums": "tree", "lanes": 1, "block": 0}, {"sums": "serial"})
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
    saved_u, saved_quantum, saved_largest: of what the batch's statistics are saved in; 0 where that rounds nothing.
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
    saved_u: float = 0.0
    saved_quantum: float = 0.0
    saved_largest: float = math.inf

    @classmethod
    @functools.cache  # a dozen pairs of dtypes, asked for with every bound
    def of(
        cls,
        arithmetic: str,
        stored: str,
        taken: str = "bfloat16",
        parameters: str = "bfloat16",
        saved: str = "unrounded",
    ) -> Units:
        """Return the units for arithmetic in one dtype, and storage, input, parameters and saved statistics in others.

        Storing in a dtype that is no narrower rounds nothing, nor does taking in an input that is no wider.
        """
        info, kept = finfo(arithmetic), finfo(stored)
        stored_u, stored_quantum = _rounding(stored, arithmetic)
        saved_u, saved_quantum = (0.0, 0.0) if saved == "unrounded" else _rounding(saved, arithmetic)
        return cls(
            float(info.eps) / 2,
            float(info.smallest_normal),
            float(info.max),
            stored_u,
            stored_quantum,
            float(kept.max),
            taken_u=_rounding(arithmetic, taken)[0],
            parameters_u=_rounding(arithmetic, parameters)[0],
            saved_u=saved_u,
            saved_quantum=saved_quantum,
            saved_largest=math.inf if saved == "unrounded" else float(finfo(saved).max),
        )


def _rounding(into: str, of: str) -> tuple[float, float]:
    """Return what a dtype rounds another by, a unit roundoff and half its smallest number; 0 where it does not.

    >>> _rounding("float32", "bfloat16"), _rounding("bfloat16", "float32")[0] == 2**-8
    ((0.0, 0.0), True)
    >>> _rounding("float16", "bfloat16") == (0.0, 2.0**-25)
    True
    """
    to, wide = finfo(into), finfo(of)
    eps, least = float(to.eps), float(to.smallest_subnormal)
    coarser = eps > float(wide.eps)
    return (eps / 2 if coarser else 0.0, least / 2 if coarser or least > float(wide.smallest_subnormal) else 0.0)


@dataclass(frozen=True)
class _Tf32:
    """The limits of a number with the exponents of float32 and the bits of float16 (NVIDIA A100 whitepaper, 2020)."""

    eps: float = 2.0**-10
    smallest_normal: float = 2.0**-126
    smallest_subnormal: float = 2.0**-136
    max: float = (2 - 2.0**-10) * 2.0**127


@functools.cache
def finfo(name: str) -> Any:
    """Return the limits of a dtype, those included that NumPy does not know."""
    return _Tf32() if name == "tf32" else cast("Any", ml_dtypes).finfo(name)
