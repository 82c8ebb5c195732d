"""Ways to add rows: one after the other, in another order, in lanes, as a tree, compensated, with fused products.

Each is called with an arithmetic and rows of shape (values, channels), and returns one row, of zeros where there is no
value. `word` is what a statement says of it: `tree`, or `serial`, which is any order at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Serial:
    """One after the other. reciprocal: a mean is the sum times 1/n, not divided by n."""

    word = "serial"

    def __init__(self, *, reciprocal: bool = False) -> None:
        self.reciprocal = reciprocal

    def order(self, rows: Any) -> Any:
        """Return the rows as they are added."""
        return rows

    def total(self, ar: Any, rows: Any) -> Any:
        """Return the sum of the rows."""
        return self.added(ar, self.order(rows)) if len(rows) else np.zeros_like(rows, shape=rows.shape[1:])

    def added(self, ar: Any, rows: Any) -> Any:
        """Return the sum of at least one row."""
        return ar.total(rows)

    def dot(self, ar: Any, a: Any, b: Any) -> Any:
        """Return the sum of the products."""
        return self.total(ar, ar.mul(a, b))

    def mean(self, ar: Any, rows: Any) -> Any:
        """Return the mean of the rows."""
        return self.share(ar, self.total(ar, rows), len(rows))

    def share(self, ar: Any, total: Any, n: int) -> Any:
        """Return a sum divided by n."""
        if self.reciprocal:
            return ar.mul(total, ar.div(ar.take(1), ar.take(n)))
        return ar.div(total, ar.take(n))


class Reversed(Serial):
    """From the last to the first."""

    def order(self, rows: Any) -> Any:
        """Turn the rows around."""
        return rows[::-1]


class Shuffled(Serial):
    """In a random order, the same for the same number of rows."""

    def order(self, rows: Any) -> Any:
        """Shuffle the rows."""
        return rows[np.random.default_rng(len(rows)).permutation(len(rows))]


class Lanes(Serial):
    """Every width-th row in a lane of its own, as vector units and threads do; then the lanes, in turn or as a tree."""

    def __init__(self, width: int, *, tree: bool = False, reciprocal: bool = False) -> None:
        super().__init__(reciprocal=reciprocal)
        self.width, self.tree = width, tree

    def added(self, ar: Any, rows: Any) -> Any:
        """Return the sum of at least one row."""
        whole, left = divmod(len(rows), self.width)
        lanes = rows[:0]
        if whole:
            lanes = ar.total(rows[: whole * self.width].reshape(whole, self.width, *rows.shape[1:]))
            lanes = np.concatenate([ar.add(lanes[:left], rows[len(rows) - left :]), lanes[left:]]) if left else lanes
        else:
            lanes = rows
        return halved(ar, lanes) if self.tree else ar.total(lanes)


class Blocks(Serial):
    """Runs of so many rows added up, then their sums, as blocks of threads do."""

    def __init__(self, size: int, *, reciprocal: bool = False) -> None:
        super().__init__(reciprocal=reciprocal)
        self.size = size

    def added(self, ar: Any, rows: Any) -> Any:
        """Return the sum of at least one row."""
        return ar.total(np.stack([ar.total(rows[i : i + self.size]) for i in range(0, len(rows), self.size)]))


class Pairwise(Serial):
    """Neighbours added to each other until one is left."""

    word = "tree"

    def added(self, ar: Any, rows: Any) -> Any:
        """Return the sum of at least one row."""
        return neighbours(ar, rows)


class Halves(Serial):
    """The first half of the rows added to the second until one is left, as warps of a GPU shuffle down."""

    word = "tree"

    def added(self, ar: Any, rows: Any) -> Any:
        """Return the sum of at least one row."""
        return halved(ar, rows)


class Kahan(Serial):
    """Compensated: what each sum loses is taken off the next term (Higham 2002, algorithm 4.2)."""

    word = "tree"

    def added(self, ar: Any, rows: Any) -> Any:
        """Return the sum of at least one row."""
        total, lost = rows[0], np.zeros_like(rows[0])
        for row in rows[1:]:
            term = ar.sub(row, lost)
            moved = ar.add(total, term)
            lost, total = ar.sub(ar.sub(moved, total), term), moved
        return total


class Fused(Serial):
    """One after the other, products fused with the sum."""

    def dot(self, ar: Any, a: Any, b: Any) -> Any:
        """Return the sum of the products."""
        a, b = self.order(a), self.order(b)
        total = np.zeros_like(a, shape=a.shape[1:])
        for left, right in zip(a, b, strict=True):
            total = ar.fma(left, right, total)
        return total


class FusedReversed(Fused, Reversed):
    """From the last to the first, products fused with the sum."""


def neighbours(ar: Any, rows: Any) -> Any:
    """Return the sum, neighbours added to each other until one is left; an odd one waits."""
    while len(rows) > 1:
        pairs = ar.add(rows[0 : len(rows) - 1 : 2], rows[1::2])
        rows = np.concatenate([pairs, rows[-1:]]) if len(rows) % 2 else pairs
    return rows[0]


def halved(ar: Any, rows: Any) -> Any:
    """Return the sum, the first half added to the second until one is left; an odd one waits."""
    while len(rows) > 1:
        half = len(rows) // 2
        pairs = ar.add(rows[:half], rows[half : 2 * half])
        rows = np.concatenate([pairs, rows[2 * half :]])
    return rows[0]
