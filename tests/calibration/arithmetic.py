"""Floating point arithmetic with every rounding explicit: to nearest, with subnormals flushed, or as bad as it may be.

Arrays go in and out of the operations in the arithmetic's own dtype; `take` brings others in.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

_PRECISION = {"bfloat16": 8, "float16": 11, "float32": 24}


def dtype_of(name: str) -> np.dtype[Any]:
    """Return a dtype by its name; NumPy has no bfloat16 of its own."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


class Nearest:
    """Every operation of one dtype rounded to nearest, as NumPy does it."""

    def __init__(self, name: str) -> None:
        self.name, self.dtype = name, dtype_of(name)

    def take(self, values: Any) -> Any:
        """Return values in this arithmetic, rounded where it is coarser than theirs."""
        return self.done(np.asarray(values).astype(self.dtype))

    def done(self, values: Any) -> Any:
        """Return the result of an operation as it is kept."""
        return values

    def add(self, a: Any, b: Any) -> Any:
        """Return a + b."""
        return self.done(a + b)

    def sub(self, a: Any, b: Any) -> Any:
        """Return a - b."""
        return self.done(a - b)

    def mul(self, *factors: Any) -> Any:
        """Return the product, from the left."""
        product = factors[0]
        for factor in factors[1:]:
            product = self.done(product * factor)
        return product

    def div(self, a: Any, b: Any) -> Any:
        """Return a / b."""
        return self.done(a / b)

    def sqrt(self, a: Any) -> Any:
        """Return the square root."""
        return self.done(np.sqrt(a))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return a * b + c, rounded once."""
        if self.name != "float64":
            wide = np.asarray(a).astype(np.float64) * np.asarray(b).astype(np.float64)
            return self.done((wide + np.asarray(c).astype(np.float64)).astype(self.dtype))
        return self.done(_fused(a, b, c))

    def near(self, exact: Any, ulps: float) -> Any:
        """Return what a function good to this many ulps may give at worst, below or above; exact: a long double."""
        place = np.ldexp(np.longdouble(1), np.frexp(exact)[1] - _digits(self.name))
        steps = exact / place + ulps
        whole = np.floor(steps) if ulps > 0 else np.ceil(steps)
        return self.done((np.where(np.isfinite(steps), whole, steps) * place).astype(self.dtype))

    def total(self, rows: Any) -> Any:
        """Return the rows added one after the other."""
        return np.add.accumulate(rows, 0)[-1]


class Flushed(Nearest):
    """To nearest, and what is subnormal becomes 0, going in and coming out."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.least = self.dtype.type(ml_dtypes.finfo(self.dtype).smallest_normal)

    def done(self, values: Any) -> Any:
        """Flush."""
        return np.where(np.abs(values) < self.least, self.dtype.type(0), values)

    def total(self, rows: Any) -> Any:
        """Return the rows added one after the other."""
        return _in_turn(self, rows)


class Tf32(Nearest):
    """To nearest, with the exponents of float32 and 11 bits, kept in float32, of whose products and sums it is."""

    def __init__(self, _: str) -> None:
        super().__init__("float32")

    def done(self, values: Any) -> Any:
        """Round."""
        exponent = 11 - np.frexp(values)[1]
        return np.ldexp(np.rint(np.ldexp(values, exponent)), -exponent).astype(np.float32)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return a * b + c, rounded once but for float32's rounding, which it holds."""
        return self.done(np.asarray(a).astype(np.float64) * b + c)

    def total(self, rows: Any) -> Any:
        """Return the rows added one after the other."""
        return _in_turn(self, rows)


class Whole(Nearest):
    """Every rounding off by up to a whole unit roundoff, to nearest never by more: numbers with one bit more, directed.

    Numbers of a float32 have 24 bits, and rounding to nearest is off by half of the last. With 25 bits, always rounded
    `up`, `down`, `away` from 0, `toward` it or `either` way by turns, every rounding is off by up to as much, most of
    them the same way. They are kept in float64, which holds the exact sum, product or quotient of two well enough.
    """

    def __init__(self, name: str, direction: str) -> None:
        super().__init__("float64")
        info = ml_dtypes.finfo(dtype_of(name))
        self.bits, self.direction = _digits(name) + 1, direction
        self.least, self.most = float(info.smallest_normal), float(info.max)
        self.turn = 0

    def done(self, values: Any) -> Any:
        """Round."""
        values = np.asarray(values, np.float64)
        exponent = self.bits - np.frexp(values)[1]
        scaled = np.ldexp(values, exponent)
        rounded = np.ldexp(self._directed(scaled), -exponent)
        rounded = np.where(np.abs(rounded) < self.least, 0.0, rounded)
        rounded = np.where(np.abs(rounded) > self.most, np.copysign(np.inf, values), rounded)
        return np.where(np.isfinite(values), rounded, values)

    def _directed(self, scaled: Any) -> Any:
        if self.direction == "either":
            self.turn += 1
            return np.ceil(scaled) if self.turn % 2 else np.floor(scaled)
        if self.direction == "away":
            return np.copysign(np.ceil(np.abs(scaled)), scaled)
        return {"up": np.ceil, "down": np.floor, "toward": np.trunc}[self.direction](scaled)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return a * b + c, rounded once."""
        return self.done(np.asarray(a) * b + c)

    def near(self, exact: Any, ulps: float) -> Any:
        """Return what a function good to this many ulps of the dtype may give at worst."""
        place = np.ldexp(np.longdouble(1), np.frexp(exact)[1] - (self.bits - 1))
        return self.done((exact + ulps * place).astype(np.float64))

    def total(self, rows: Any) -> Any:
        """Return the rows added one after the other."""
        return _in_turn(self, rows)


def _in_turn(arithmetic: Nearest, rows: Any) -> Any:
    total = rows[0]
    for row in rows[1:]:
        total = arithmetic.add(total, row)
    return total


def _digits(name: str) -> int:
    return _PRECISION.get(name, 53)


def _fused(a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c in float64: the product as an exact sum of two long doubles, and what the sum leaves added."""
    a, b, c = np.broadcast_arrays(*(np.asarray(value, np.longdouble) for value in (a, b, c)))
    product = a * b
    (high_a, low_a), (high_b, low_b) = _halves(a), _halves(b)
    left = ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b
    total = product + c
    part = total - product
    left = left + ((product - (total - part)) + (c - part))
    return np.where(np.isfinite(left), total + left, total).astype(np.float64)


def _halves(values: Any) -> tuple[Any, Any]:
    """Return two parts of at most 32 bits each (Dekker, Numerische Mathematik 18 (1971))."""
    moved = values * np.longdouble(2**32 + 1)
    high = moved - (moved - values)
    high = np.where(np.isfinite(high), high, values)
    return high, values - high
