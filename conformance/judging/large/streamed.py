"""Large arrays that are never whole.

A `Streamed` stands where an array stands. NumPy's functions of elements make another of it; a sum or a maximum of each
channel is computed at once, in one sweep over the pieces, and is an array. Whatever else is asked is computed from the
whole array, as ever: that costs memory, and is never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from conformance.judging.large import channels
from conformance.judging.large.algebra import made
from conformance.judging.large.expressions import Computation, Expression
from conformance.judging.large.pieces import Layout, Piece
from conformance.judging.large.written import leaf
from reference.spec import Array

_F = TypeVar("_F", bound=Callable[..., Any])
_ELEMENTWISE = {np.where, np.isposinf, np.isneginf}


class Streamed(Expression, NDArrayOperatorsMixin):
    """An expression, as an array."""

    __hash__: Any = object.__hash__

    @classmethod
    def of(cls, array: Array, layout: Layout, dtype: Any) -> Array:
        """Return an array that is to be taken piece by piece, as another dtype."""
        return cast("Array", leaf(cls, layout, array, dtype))

    def like(self, values: Any) -> Any:
        """Return values that broadcast against this array in its shape."""
        return values if isinstance(values, Streamed) else Streamed.of(values, self.layout, self.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole array."""
        return self.layout.shape

    @property
    def ndim(self) -> int:
        """Its rank."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return self.layout.channels * self.layout.n

    def reshape(self, *shape: Any) -> Any:
        """Return the array in a shape: itself in its own."""
        return self if shape == (self.shape,) else np.asarray(self).reshape(*shape)

    def __getattr__(self, name: str) -> Any:
        """Return what the whole array has."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __bool__(self) -> bool:
        """Raise: it has more than one element."""
        raise TypeError("a large array is neither true nor false")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **how: Any) -> Any:
        """Return the expression; or the sum of each channel."""
        in_place = how.keys() == {"out"} and how["out"][0] is self  # `a += b` gives `a` another value
        if method == "__call__" and (in_place or not how):
            return made(Streamed, self.layout, ufunc, inputs)
        if method == "reduce" and ufunc is np.add and how.get("keepdims") and isinstance(how["axis"], tuple):
            return self.total(cast("tuple[int, ...]", how["axis"]))
        return getattr(ufunc, method)(*map(_whole, inputs), **how)

    def __array_function__(self, function: Any, types: Any, arguments: Any, named: Any) -> Any:
        """Return the expression; or what a function gives for the whole."""
        if function in _ELEMENTWISE and not named:
            return made(Streamed, self.layout, function, arguments)
        if function is np.broadcast_to and tuple(arguments[1]) == self.shape:
            return self
        if function is np.zeros_like:
            return np.broadcast_to(np.zeros((), self.dtype), self.shape)
        if function is np.argmax and not named:
            return self.argmax()
        return function(*_whole(arguments), **{name: _whole(value) for name, value in named.items()})

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the whole array."""
        whole = np.empty(self.shape, self.dtype)

        def put(piece: Piece, values: Array) -> None:
            whole[piece.where] = self.layout.restored(piece, values)

        self.each(put)
        return whole if dtype is None else whole.astype(dtype)

    def astype(self, dtype: Any) -> Array:
        """Return the array as another dtype."""
        if np.dtype(dtype) == self.dtype:
            return cast("Array", self)
        if self.apply is None and np.can_cast(self.dtype, dtype):
            return Streamed.of(self.arguments[0], self.layout, dtype)
        return np.asarray(self).astype(dtype)

    def __getitem__(self, index: Any) -> Any:
        """Return an element or a box; other parts are those of the whole array."""
        if not isinstance(index, tuple) or not all(isinstance(i, int | np.integer | slice) for i in cast("Any", index)):
            return np.asarray(self)[index]
        places: list[Any] = list(cast("Any", index))
        slices: list[Any] = [i if isinstance(i, slice) else slice(int(i), int(i) + 1) for i in places]
        box = tuple(slice(*part.indices(size)) for part, size in zip(slices, self.shape, strict=True))
        piece = self.layout.piece(box)
        with np.errstate(all="ignore"):
            found = self.layout.restored(piece, Computation((self,)).whole(piece)[0])
        return found[tuple(slice(None) if isinstance(i, slice) else 0 for i in places)]

    def total(self, axes: tuple[int, ...]) -> Array:
        """Return the sum over axes, kept with size 1."""
        if set(axes) != set(self.layout.axes):
            return np.add.reduce(np.asarray(self), axes, keepdims=True)
        return self.layout.aligned(channels.total(self))

    def max(self, axis: tuple[int, ...] | None = None, *, keepdims: bool = False, initial: Any = -np.inf) -> Any:
        """Return the maximum over axes, kept with size 1; or of all elements."""
        if axis is None:
            find_largest([cast("Array", self)])
            return np.maximum(self.layout.known[self.number, "largest"][0], initial)
        if set(axis) != set(self.layout.axes) or not keepdims:
            return np.asarray(self).max(axis, keepdims=keepdims, initial=initial)
        return self.layout.aligned(np.maximum(channels.maximum(self), initial))

    def all(self, axis: tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
        """Return whether all elements are true, of everything or over axes kept with size 1."""
        return self._told(np.logical_and, axis, keepdims=keepdims)

    def any(self, axis: tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
        """Return whether an element is true, of everything or over axes kept with size 1."""
        return self._told(np.logical_or, axis, keepdims=keepdims)

    def _told(self, how: np.ufunc, axis: tuple[int, ...] | None, *, keepdims: bool) -> Any:
        if axis is not None and (set(axis) != set(self.layout.axes) or not keepdims):
            return how.reduce(np.asarray(self), axis, keepdims=keepdims)
        (found,) = channels.over_channels([(self, how)])
        return self.layout.aligned(found) if axis is not None else bool(how.reduce(found, axis=None))

    def sum(self) -> int:
        """Return how many elements are true."""
        return sum(self.each(lambda _, values: int(values.sum())))

    def argmax(self) -> int:
        """Return where the largest element is in the flattened array; NaN is larger than any."""
        find_largest([cast("Array", self)])
        return self.layout.known[self.number, "largest"][1]

    def sample(self, most: int) -> Array:
        """Return at most about so many elements, spread evenly over all channels and all pieces."""
        run, layout = Computation((self,)), self.layout
        every = max(self.size // most, 1)
        return np.concatenate(layout.sweep(lambda piece: run.whole(layout.thinned(piece, every))[0].ravel()))


def find_largest(arrays: Sequence[Array]) -> None:
    """Find the largest element of each of some arrays in one sweep, for whoever asks next what or where it is."""
    streamed = {a.number: a for a in arrays if isinstance(a, Streamed) and (a.number, "largest") not in a.layout.known}
    if not streamed:
        return
    layout, run = next(iter(streamed.values())).layout, Computation(list(streamed.values()))

    def best(piece: Piece) -> list[tuple[Any, int]]:
        places = [(values, int(np.argmax(values))) for values in run.whole(piece)]
        return [(v.flat[p], int(np.ravel_multi_index(layout.index(piece, p), layout.shape))) for v, p in places]

    for number, found in zip(streamed, zip(*layout.sweep(best), strict=True), strict=True):
        layout.known[number, "largest"] = found[int(np.argmax([value for value, _ in found]))]


def _whole(value: Any) -> Any:
    if isinstance(value, Streamed):
        return np.asarray(value)
    if isinstance(value, list | tuple):
        return [_whole(one) for one in cast("Sequence[Any]", value)]
    return value


def elementwise(quick: Callable[..., Any] | None = None, *, shrinks: bool = False) -> Callable[[_F], _F]:
    """Let a function of elements that gives nothing below 0 take large arrays, too.

    quick: a function that gives the same for a piece, where looking first is cheaper; the number 0.0 if all is 0.
    shrinks: it gives nothing larger than its first argument.
    """

    def decorate(function: _F) -> _F:
        each = quick or function
        channels.register(each, shrinks=shrinks)

        @wraps(function)
        def taking(*arguments: Any) -> Any:
            layout = next((a.layout for a in arguments if isinstance(a, Streamed)), None)
            return function(*arguments) if layout is None else made(Streamed, layout, each, arguments)

        return cast("_F", taking)

    return decorate
