"""What is stored in which dtype (BN-26). The reference itself computes in one dtype, that of its input."""

from __future__ import annotations

from dataclasses import dataclass

from reference.semantics import Semantics, Storage


@dataclass(frozen=True)
class Stored:
    """The names of the dtypes that gamma and beta, the moving statistics and the output are stored in."""

    parameters: str
    statistics: str
    output: str


def stored(dtype: str, semantics: Semantics) -> Stored:
    """Return the dtypes of a layer whose input has this dtype.

    >>> stored("float16", Semantics())
    Stored(parameters='float32', statistics='float32', output='float16')
    """
    return Stored(
        _name(dtype, semantics.parameter_dtype),
        _name(dtype, semantics.statistics_dtype),
        _name(dtype, semantics.output_dtype),
    )


def _name(dtype: str, storage: Storage) -> str:
    if storage == "at_least_float32":
        return "float64" if dtype == "float64" else "float32"
    return "float32" if storage == "float32" else dtype
