"""The most that roundings can do to what a program computes, to first order: each as large as it may be, all one way.

A program is run in float64, its value is taken back in reverse to every result on the way, and each result's rounding
counts by how much the value changes with it. What a bound allows must be no less, and should be little more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from calculus import Calculus, Value

ROOT = 4
"""Roundings of a reciprocal root that is good to 2 ulp."""


def worst(of: Value, row: int) -> Any:
    """Return the most that one row of a value, or the value of each channel, may be off by, in unit roundoffs."""
    seed = np.zeros_like(of.data)
    seed[row if of.rows else slice(None)] = 1
    c, total = of.calculus, np.zeros(of.data.shape[-1])
    for value, cotangent in c.reverse(of, c.take(seed)).items():
        e = np.abs(cotangent.data) * rounded(value)
        total = total + (e.sum(0) if e.ndim > 1 else e)
    return total


def rounded(value: Value) -> Any:
    """Return what computing a value from what it was made of may be off by, in unit roundoffs."""
    size = np.abs(value.data)
    match value.of:
        case "add" | "sub" | "div":
            return size
        case "mul":
            return size * (not any(_scales(made.data) for made in value.made))
        case "share":
            return size * _divisions(value.calculus)
        case "root":
            return ROOT * size
        case "total":
            return _partial_sums(value.made[0].data)
        case "dot":
            terms = value.made[0].data * value.made[1].data
            return np.abs(terms).sum(0) + _partial_sums(terms)
        case _:
            return 0 * size


def _partial_sums(terms: Any) -> Any:
    return np.abs(np.cumsum(terms, 0)[1:]).sum(0)


def _divisions(c: Calculus) -> int:
    """Return how often dividing by n rounds: not by a power of 2, and otherwise 1/n does, and the product."""
    return 0 if c.n & (c.n - 1) == 0 else 2


def _scales(factor: Any) -> bool:
    """Return whether multiplying by this rounds nothing."""
    return np.ndim(factor) == 0 and bool(np.frexp(np.abs(factor))[0] == 0.5)
