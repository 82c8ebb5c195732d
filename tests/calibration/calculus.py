"""Differentiation as frameworks do it, in reverse and along a tangent, of what was computed with explicit roundings.

A `Value` remembers what it was made of. Derivatives are made of the same operations, so that they can be differentiated
again, in whatever order of modes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_numbers = itertools.count()


@dataclass(eq=False)
class Value:
    """Rows of shape (values, channels), or one number of each channel.

    of: the name of the operation that made it, empty for what was given. made: what it was made of. number: when.
    """

    data: Any
    calculus: Calculus
    of: str = ""
    made: tuple[Value, ...] = ()
    number: int = field(default_factory=lambda: next(_numbers))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.data)

    def __neg__(self) -> Value:
        """Return the negative, which rounds nothing."""
        return Value(-self.data, self.calculus, "neg", (self,))

    @property
    def rows(self) -> bool:
        """Whether it is one number of each row, and not of each channel alone."""
        return self.data.ndim > 1


Slope = Callable[["Calculus", Value, Value, Value], Value]


def cubed(c: Calculus, rate: Value, r: Value, _w: Value) -> Value:
    """The rate of r, from that of w: -rate/2 r³, as torch has it."""
    return c.mul(c.mul(c.take(-0.5), rate), c.mul(r, r, r))


def divided(c: Calculus, rate: Value, r: Value, w: Value) -> Value:
    """The same by rate (-r/2 / w), as JAX has it."""
    return c.mul(rate, c.div(c.mul(c.take(-0.5), r), w))


def squared(c: Calculus, rate: Value, r: Value, _w: Value) -> Value:
    """The same by (-rate/2 r) r², as TensorFlow has it."""
    return c.mul(c.mul(c.mul(rate, c.take(-0.5)), r), c.mul(r, r))


class Calculus:
    """An arithmetic and a way of adding in one, for `moments`, `maps` and `gradients`, whose arrays are `Value`s."""

    def __init__(self, ar: Any, sums: Any, root: Any, n: int, slope: Slope = cubed) -> None:
        self.ar, self.sums, self.inverse_root, self.n, self.slope = ar, sums, root, n, slope

    def take(self, values: Any) -> Value:
        """Return what is given."""
        return values if isinstance(values, Value) else Value(self.ar.take(values), self)

    def add(self, a: Value, b: Value) -> Value:
        """Return a + b."""
        return Value(self.ar.add(a.data, b.data), self, "add", (a, b))

    def sub(self, a: Value, b: Value) -> Value:
        """Return a - b."""
        return Value(self.ar.sub(a.data, b.data), self, "sub", (a, b))

    def mul(self, *factors: Value) -> Value:
        """Return the product, from the left."""
        product = factors[0]
        for factor in factors[1:]:
            product = Value(self.ar.mul(product.data, factor.data), self, "mul", (product, factor))
        return product

    def div(self, a: Value, b: Value) -> Value:
        """Return a / b."""
        return Value(self.ar.div(a.data, b.data), self, "div", (a, b))

    def root(self, w: Value) -> Value:
        """Return 1 / sqrt(w)."""
        return Value(self.inverse_root(self.ar, w.data), self, "root", (w,))

    def spread(self, a: Value) -> Value:
        """Return a number of each channel in every row."""
        return Value(np.broadcast_to(a.data, (self.n, len(a.data))), self, "spread", (a,))

    def total(self, _: Any, rows: Value) -> Value:
        """Return the sum of the rows."""
        return Value(self.sums.total(self.ar, rows.data), self, "total", (rows,))

    def dot(self, _: Any, a: Value, b: Value) -> Value:
        """Return the sum of the products."""
        return Value(self.sums.dot(self.ar, a.data, b.data), self, "dot", (a, b))

    def share(self, _: Any, total: Value, n: int) -> Value:
        """Return a sum divided by n."""
        return Value(self.sums.share(self.ar, total.data, n), self, "share", (total,))

    def mean(self, _: Any, rows: Value) -> Value:
        """Return the mean of the rows."""
        return self.share(_, self.total(_, rows), self.n)

    # --- reverse --------------------------------------------------------------------------------------------------

    def reverse(self, of: Value, cotangent: Value) -> dict[Value, Value]:
        """Return the cotangent of all that a value was made of."""
        found = {of: cotangent}
        for value in sorted(_below(of), key=lambda one: -one.number):
            if value in found:
                for made, its in zip(value.made, self._back(value, found[value]), strict=True):
                    found[made] = self.add(found[made], its) if made in found else its
        return found

    def _back(self, value: Value, c: Value) -> Iterable[Value]:
        """Return the cotangents of what a value was made of, in turn, from its own."""
        if len(value.made) == 1:
            return (self._linear(value, c, back=True),)
        a, b = value.made
        if value.of == "mul":
            return self._product(a, c, b), self._product(b, c, a)
        if value.of == "dot":
            return self.mul(b, c), self.mul(a, c)
        if value.of == "div":
            quotient = self.div(c, b)
            return self._for(a, quotient), -self._product(b, quotient, value)
        return self._for(a, c), self._for(b, c) if value.of == "add" else -self._for(b, c)

    def _linear(self, value: Value, rate: Value, *, back: bool = False) -> Value:
        """Return the rate of what is made of one value from that value's; back: its cotangent from that of the made."""
        of = {"total": "spread", "spread": "total"}.get(value.of, value.of) if back else value.of
        match of:
            case "neg":
                return -rate
            case "total":
                return self.total(None, rate)
            case "spread":
                return self.spread(rate)
            case "share":
                return self.share(None, rate, self.n)
            case _:
                return self.slope(self, rate, value, value.made[0])

    def _for(self, made: Value, c: Value) -> Value:
        return self.total(None, c) if c.rows and not made.rows else c

    def _product(self, made: Value, c: Value, other: Value) -> Value:
        """Return the cotangent of one factor: c times the other, added up where the factor is the channel's."""
        if made.rows or not (c.rows or other.rows):
            return self.mul(c, other)
        if c.rows and other.rows:
            return self.dot(None, c, other)
        return self.total(None, self.mul(c, other))

    # --- forward --------------------------------------------------------------------------------------------------

    def forward(self, of: Value, x: Value, tangent: Value) -> Value | None:
        """Return how fast a value changes along a tangent of x; None where it does not depend on it."""
        found = {x: tangent}
        for value in sorted(_below(of), key=lambda one: one.number):
            rate = self._rate(value, [found.get(made) for made in value.made])
            if rate is not None:
                found[value] = rate
        return found.get(of)

    def _rate(self, value: Value, rates: list[Value | None]) -> Value | None:
        """Return the rate of a value from those of what it was made of; None is 0."""
        parts = [self._partly(value, n, rate) for n, rate in enumerate(rates) if rate is not None]
        if not parts:
            return None
        full = [self.spread(p) if value.rows and not p.rows else p for p in parts]
        return full[0] if len(full) == 1 else self.add(*full)

    def _partly(self, value: Value, n: int, rate: Value) -> Value:
        """Return what the n-th thing that a value was made of adds to its rate."""
        if len(value.made) == 1:
            return self._linear(value, rate)
        other = value.made[1 - n]
        if value.of == "mul":
            return self.mul(rate, other)
        if value.of == "dot":
            return self.dot(None, rate, other)
        if value.of == "div":
            return self.div(-self.mul(rate, value), value.made[1]) if n else self.div(rate, other)
        return -rate if value.of == "sub" and n else rate


def _below(of: Value) -> set[Value]:
    """Return a value and all that it was made of, if that was made of something."""
    found: set[Value] = set()
    waiting = [of]
    while waiting:
        value = waiting.pop()
        if value not in found and value.made:
            found.add(value)
            waiting += value.made
    return found
