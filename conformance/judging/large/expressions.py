"""What is to be computed of large arrays, and how it is computed for one piece after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from conformance.judging.large.pieces import Layout, Piece, added
from reference.spec import Array

_T = TypeVar("_T")


class Expression:
    """A function of other expressions and of columns, which hold one number for each channel.

    apply: the function, which works element by element; None: the only argument is an array.
    number: of everything that it is made of; whatever is made of the same has the same.
    nonnegative: whether no element can be below 0.
    """

    def __init__(
        self, layout: Layout, apply: Callable[..., Any] | None, arguments: tuple[Any, ...], dtype: Any, number: int,
        *, nonnegative: bool = False,
    ) -> None:  # fmt: skip
        self.layout, self.apply, self.arguments, self.dtype = layout, apply, arguments, np.dtype(dtype)
        self.number, self.nonnegative = number, nonnegative

    @property
    def operands(self) -> list[Expression]:
        """The expressions among its arguments."""
        return [one for one in self.arguments if isinstance(one, Expression)]

    def each(self, function: Callable[[Piece, Array], _T]) -> list[_T]:
        """Return what a function gives for the values of every piece."""
        run = Computation((self,))
        return self.layout.sweep(lambda piece: function(piece, run.whole(piece)[0]))


def over_pieces(wanted: Sequence[tuple[Expression, np.ufunc]]) -> None:
    """Compute sums and maxima of every channel, as columns, in one sweep, and keep them in the layout."""
    layout, run = wanted[0][0].layout, Computation([expression for expression, _ in wanted])

    def reduced(piece: Piece) -> list[Array]:
        found = zip(run.whole(piece), wanted, strict=True)
        return [added(values) if how is np.add else how.reduce(values, axis=1) for values, (_, how) in found]

    for (expression, how), parts in zip(wanted, zip(*layout.sweep(reduced), strict=True), strict=True):
        layout.known[expression.number, how] = layout.joined(parts, how)


class Computation:
    """Some expressions, computed for one piece after the other. What is needed twice is computed once."""

    def __init__(self, wanted: Sequence[Expression]) -> None:
        order: dict[int, Expression] = {}
        for expression in wanted:
            _visit(expression, order)
        self.places = {number: place for place, number in enumerate(order)}
        self.wanted = [self.places[expression.number] for expression in wanted]
        last = {self.places[o.number]: place for place, e in enumerate(order.values()) for o in e.operands}
        done: dict[int, list[int]] = {}
        for place, until in last.items():
            if place not in self.wanted:
                done.setdefault(until, []).append(place)
        self.steps = [(e, self._given(e), done.get(place, [])) for place, e in enumerate(order.values())]

    def _given(self, expression: Expression) -> list[tuple[int, Any]]:
        """Return where each argument is, or what it is."""
        return [(self.places[a.number], None) if isinstance(a, Expression) else (-1, a) for a in expression.arguments]

    def __call__(self, piece: Piece) -> list[Any]:
        """Return the values of every expression, as (channels, values); or one number, where it is the same in all."""
        values: list[Any] = []
        for expression, given, done in self.steps:
            values.append(_computed(expression, given, values, piece, done))
            for place in done:
                values[place] = None
        return [values[place] for place in self.wanted]

    def whole(self, piece: Piece) -> list[Array]:
        """Return the same, with as many values as the piece has."""
        shape = piece.shape
        return [v if getattr(v, "shape", ()) == shape else np.broadcast_to(v, shape) for v in self(piece)]


def _visit(expression: Expression, order: dict[int, Expression]) -> None:
    if expression.number not in order:
        for operand in expression.operands:
            _visit(operand, order)
        order[expression.number] = expression


def _computed(e: Expression, given: list[tuple[int, Any]], values: list[Any], piece: Piece, done: list[int]) -> Any:
    apply = e.apply
    if apply is None:
        return e.layout.load(e.arguments[0], piece, e.dtype)
    taken: list[Any] = [values[p] if p >= 0 else a[piece.rows] if isinstance(a, np.ndarray) else a for p, a in given]
    if apply is np.multiply and (type(taken[0]) is float or type(taken[1]) is float):
        return 0.0
    if done and isinstance(apply, np.ufunc):  # what is needed no more gives its memory, which the cache still holds
        out = values[done[0]]
        if type(out) is np.ndarray and out.dtype == e.dtype and out.shape == piece.shape:
            return apply(*taken, out=out)
    return apply(*taken)


def is_nothing(values: Any) -> bool:
    """Return whether a function has said that it is 0 in all of a piece: by a Python number."""
    return type(values) is float
