"""How a large array is cut into pieces that fit a cache, each of them laid out as (channels, values)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from reference.precision import summation_depth
from reference.spec import Array

_T = TypeVar("_T")

ELEMENTS = 1 << 16
"""Of a piece: 512 KiB in float64, so that what a formula has at hand stays near a core. Of fewer, Python takes as long
as NumPy; of more, nothing is faster."""

_KEPT = 31 << 20
"""Bytes that are taken and given back before all else: glibc then keeps what is freed, up to twice as much, where it
would otherwise give each array of a piece back to the system, and have it zeroed again, for two thirds of the time."""

threads = 1
"""How many threads one judgment may use."""


@dataclass(frozen=True)
class Piece:
    """A part of an array.

    where: which, in the array's own axes.
    rows: which channels it has.
    sizes: those of its kept axes, and of the others.
    """

    where: tuple[slice, ...]
    rows: Any
    sizes: tuple[tuple[int, ...], tuple[int, ...]]

    @cached_property
    def shape(self) -> tuple[int, int]:
        """How many channels it has, and how many values of each."""
        return math.prod(self.sizes[0]), math.prod(self.sizes[1])


class Layout:
    """The pieces of all arrays of one shape.

    axes: those averaged over. The others are kept: a position along these is a channel here, of `n` values.
    depth: how many additions a term of a `total` passes through at most.
    numbers: those of the expressions of such arrays, by what they are made of.
    expressions: those in use, by number.
    known: what each channel of an expression adds up to and the like, by its number.
    arrays: those that came as they are, and the expressions that stand for them.
    """

    def __init__(self, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
        self.shape, self.axes = shape, axes
        self.kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
        self.channels, self.n = (math.prod(shape[axis] for axis in some) for some in (self.kept, axes))
        self.rows = np.arange(self.channels).reshape([1 if axis in axes else size for axis, size in enumerate(shape)])
        self.pieces = list(self._pieces())
        self.numbers: dict[Any, int] = {}
        self.expressions: Any = WeakValueDictionary()
        self.known: dict[tuple[int, Any], Any] = {}
        self.arrays: dict[int, Any] = {}
        np.empty(_KEPT, np.uint8)

    @cached_property
    def depth(self) -> int:
        """Pairwise in a piece, and pairwise again over the pieces of a channel."""
        together = max(Counter(map(self._channels, self.pieces)).values())
        return max(summation_depth(piece.shape[1]) for piece in self.pieces) + summation_depth(together)

    def number(self, key: Any) -> int:
        """Return the number of an expression that is made of this."""
        return self.numbers.setdefault(key, len(self.numbers))

    def _pieces(self) -> Iterator[Piece]:
        room, block = ELEMENTS, [1] * len(self.shape)
        for axis in reversed(range(len(self.shape))):
            block[axis] = min(self.shape[axis], max(room, 1))
            room //= max(block[axis], 1)
        starts = (range(0, size, of) for size, of in zip(self.shape, block, strict=True))
        for start in product(*starts):
            stops = (min(s + of, size) for s, of, size in zip(start, block, self.shape, strict=True))
            yield self.piece(tuple(slice(s, stop) for s, stop in zip(start, stops, strict=True)))

    def piece(self, where: tuple[slice, ...]) -> Piece:
        """Return one piece."""
        sizes = [len(range(size)[part]) for part, size in zip(where, self.shape, strict=True)]
        rows = self.rows[tuple(slice(None) if axis in self.axes else part for axis, part in enumerate(where))].ravel()
        run = int(rows[-1]) - int(rows[0]) == rows.size - 1
        return Piece(
            where,
            slice(int(rows[0]), int(rows[-1]) + 1) if run else rows,
            (tuple(sizes[axis] for axis in self.kept), tuple(sizes[axis] for axis in self.axes)),
        )

    def thinned(self, piece: Piece, every: int) -> Piece:
        """Return a piece with one in so many values of each channel, spread evenly over its longest axis."""
        if not self.axes:
            return piece
        longest = max(self.axes, key=lambda axis: piece.where[axis].stop - piece.where[axis].start)
        old = piece.where[longest]
        part = slice(old.start, old.stop, every)
        return self.piece((*piece.where[:longest], part, *piece.where[longest + 1 :]))

    def load(self, array: Array, piece: Piece, dtype: Any) -> Array:
        """Return a piece of an array. What is longer is contiguous: the values of a channel, or the channels."""
        kept, (channels, values) = piece.sizes, piece.shape
        if values >= channels:
            found = np.empty((channels, values), dtype)
            found.reshape(kept[0] + kept[1])[...] = array[piece.where].transpose(self.kept + self.axes)
            return found
        found = np.empty((values, channels), dtype)
        found.reshape(kept[1] + kept[0])[...] = array[piece.where].transpose(self.axes + self.kept)
        return found.T

    def restored(self, piece: Piece, values: Array) -> Array:
        """Return the values of a piece as that part of an array is laid out."""
        return values.reshape(piece.sizes[0] + piece.sizes[1]).transpose(np.argsort(self.kept + self.axes))

    def index(self, piece: Piece, flat: int) -> tuple[int, ...]:
        """Return the index of the element that is at a place of the flattened piece."""
        found = np.unravel_index(flat, piece.sizes[0] + piece.sizes[1])
        there = dict(zip(self.kept + self.axes, found, strict=True))
        return tuple(part.start + int(there[axis]) for axis, part in enumerate(piece.where))

    def sweep(self, each: Callable[[Piece], _T]) -> list[_T]:
        """Return what a function gives for every piece, in their order."""

        def quiet(piece: Piece) -> _T:
            with np.errstate(all="ignore"):
                return each(piece)

        if threads == 1 or len(self.pieces) == 1:
            return [quiet(piece) for piece in self.pieces]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(quiet, self.pieces))

    def column(self, values: Array) -> Array | None:
        """Return values that broadcast against the arrays as one for each channel, or one for all; None: of neither."""
        if values.size == 1 and self.channels != 1:
            return values.reshape(1, 1)
        if values.shape != self.rows.shape:
            aligned = values.reshape((1,) * (len(self.shape) - values.ndim) + values.shape)
            if any(aligned.shape[axis] != 1 for axis in self.axes if self.shape[axis] != 1):
                return None
            values = np.broadcast_to(aligned, self.rows.shape)
        return values.reshape(self.channels, 1)

    def largest(self, array: Array) -> float:
        """Return the largest magnitude in an array; NaN if there is one. No channel is told from another."""
        kept = array.dtype if array.dtype.itemsize >= 4 else np.dtype(np.float32)
        return float(np.max(self.sweep(lambda piece: np.abs(array[piece.where].astype(kept, copy=False)).max())))

    def joined(self, parts: Sequence[Array], how: np.ufunc) -> Array:
        """Return the sum or the maximum of each channel, as a column, from those of every piece."""
        of_rows: dict[tuple[int, ...], list[tuple[Piece, Array]]] = {}
        for piece, part in zip(self.pieces, parts, strict=True):
            of_rows.setdefault(self._channels(piece), []).append((piece, part))
        column = np.empty((self.channels, 1), parts[0].dtype)
        for found in of_rows.values():
            stacked = np.ascontiguousarray(np.stack([part for _, part in found]).T)
            column[found[0][0].rows, 0] = how.reduce(stacked, axis=1)
        return column

    def _channels(self, piece: Piece) -> tuple[int, ...]:
        return tuple(piece.where[axis].start for axis in self.kept)

    def aligned(self, column: Any) -> Array:
        """Return one value for each channel, in a shape that broadcasts against the arrays."""
        if getattr(column, "size", 1) != self.channels:
            column = np.broadcast_to(column, (self.channels, 1))
        return column.reshape(self.rows.shape)


def added(values: Array) -> Array:
    """Return the sum of each channel of a piece: pairwise, or of halves where the channels are what is contiguous."""
    if values.flags.c_contiguous:
        return np.add.reduce(values, axis=1)
    rows = values.T
    while len(rows) > 1:
        half = len(rows) // 2
        rest = rows[2 * half :]
        rows = rows[:half] + rows[half : 2 * half]
        if len(rest):
            rows[:1] += rest
    return rows[0]
