"""Kernels that work through a batch block by block, correct and with one bug each: `IMPLEMENTATIONS`, for `Panel`.

Twelve kernels: blocks of 64, 1,024, 4,096 and 32,768 values, and three ways to a variance. Each has six bugs that
people write in such kernels, all of them at the last block, which is short, or at an edge between two.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import gradients as g  # noqa: E402 - found by the path above, as what follows
import maps  # noqa: E402
import moments as mo  # noqa: E402
import numpy as np  # noqa: E402
from sums import Serial  # noqa: E402
from way import Way, way  # noqa: E402

SIZES = (64, 1024, 4096, 32768)
BUGS = ("tail", "count", "merge", "edge", "backward_tail", "backward_count")
"""What is wrong: the tail is skipped; the tail counts as a whole block; parts are merged with a wrong weight, or a sum
of squares is taken of the padding too; the value at an edge is counted twice; the tail is skipped in the backward pass;
its means are taken over the padded count."""


class Tiles(Serial):
    """Sums of blocks, added one after the other; bug: what is wrong with them, or nothing."""

    def __init__(self, size: int, bug: str = "") -> None:
        super().__init__()
        self.size, self.bug = size, bug

    def added(self, ar: Any, rows: Any) -> Any:
        """Return the sum of at least one row."""
        return ar.total(np.stack([self._block(ar, block) for block in blocks(self, rows)]))

    def _block(self, ar: Any, rows: Any) -> Any:
        return np.add.reduce(rows, 0, dtype=rows.dtype) if rows.dtype != object else ar.total(rows)

    def share(self, ar: Any, total: Any, n: int) -> Any:
        """Return a sum divided by n."""
        return super().share(ar, total, padded(n, self.size) if self.bug == "count" else n)


def padded(n: int, size: int) -> int:
    """Return how many values there are in whole blocks."""
    return -(-n // size) * size


def blocks(tiles: Tiles, rows: Any) -> list[Any]:
    """Return the rows, block by block, as the kernel sees them."""
    size, n = tiles.size, len(rows)
    overlap = tiles.bug == "edge" and n > size
    found = [rows[max(i - overlap, 0) : i + size] for i in range(0, n, size)]
    return found[:-1] if tiles.bug == "tail" and n > size and n % size else found


def two_pass(tiles: Tiles, ar: Any, x: Any) -> tuple[Any, Any]:
    """Mean, then the mean of squared distances; bug `merge`: the padding's distances as well."""
    mean, variance = mo.two_pass(ar, tiles, x)
    if tiles.bug != "merge":
        return mean, variance
    more = ar.mul(ar.take(padded(len(x), tiles.size) - len(x)), mean, mean)
    return mean, ar.add(variance, tiles.share(ar, more, len(x)))


def fast(tiles: Tiles, ar: Any, x: Any) -> tuple[Any, Any]:
    """E[x²] - E[x]²; bug `merge`: the squares of the tail are those of its first value."""
    mean, variance = mo.fast_clamped(ar, tiles, x)
    tail = len(x) % tiles.size
    if tiles.bug != "merge" or not tail:
        return mean, variance
    wrong = np.concatenate([x[:-tail], np.repeat(x[-tail : len(x) - tail + 1], tail, 0)])
    squares = tiles.share(ar, tiles.dot(ar, wrong, wrong), len(x))
    return mean, np.maximum(ar.sub(squares, ar.mul(mean, mean)), np.zeros_like(mean))


def merged(tiles: Tiles, ar: Any, x: Any) -> tuple[Any, Any]:
    """Each block by itself, merged one after the other (Chan, Golub & LeVeque 1983, eq. 2.1)."""
    parts = [_part(ar, block, tiles) for block in blocks(tiles, x)]
    whole = parts[0]
    for part in parts[1:]:
        whole = _merge(ar, whole, part, tiles.bug)
    return whole[0], ar.div(whole[1], ar.take(len(x)))


def _part(ar: Any, rows: Any, tiles: Tiles) -> Any:
    mean = ar.div(np.add.reduce(rows, 0, dtype=rows.dtype), ar.take(len(rows)))
    apart = ar.sub(rows, mean)
    count = tiles.size if tiles.bug == "count" else len(rows)
    return mean, np.add.reduce(ar.mul(apart, apart), 0, dtype=rows.dtype), count


def _merge(ar: Any, a: Any, b: Any, bug: str) -> Any:
    (mean, squares, n), (other, more, k) = a, b
    apart, share = ar.sub(other, mean), ar.div(ar.take(k), ar.take(n + k))
    weight = ar.take(k) if bug == "merge" else ar.mul(ar.take(n), share)
    grown = ar.add(ar.add(squares, more), ar.mul(apart, apart, weight))
    return ar.add(mean, ar.mul(apart, share)), grown, n + k


def backward(size: int, bug: str) -> Any:
    """Return the gradient in the form of PyTorch, its sums taken in blocks."""
    tiles = Tiles(size, {"backward_tail": "tail", "backward_count": "count"}.get(bug, ""))
    return lambda ar, _sums, known: g.torch(ar, tiles, known)


KINDS: dict[str, Any] = {"two_pass": two_pass, "fast": fast, "merged": merged}
_WORDS = {"two_pass": mo.TWO, "fast": mo.CLAMPED, "merged": mo.MOVED}


def kernel(kind: str, size: int, bug: str = "") -> type[Way]:
    """Return one kernel; bug: one of `BUGS`, or none."""
    tiles = Tiles(size, bug)
    moments: Any = lambda ar, _sums, x: KINDS[kind](tiles, ar, x)  # noqa: E731 - it gets an attribute
    moments.word = _WORDS[kind]
    name = f"{kind}_{size}" + (f"_{bug}" if bug else "")
    return way(name, moments=moments, gradient=backward(size, bug), root=maps.inverse, dtypes=HALVES)


HALVES = ("float32", "float16", "bfloat16")
IMPLEMENTATIONS = [kernel(kind, size, bug) for kind in KINDS for size in SIZES for bug in ("", *BUGS)]


def __getattr__(name: str) -> type[Way]:
    """Return the kernel of a name."""
    found = next((made for made in IMPLEMENTATIONS if made.__name__ == name), None)
    if found is None:
        raise AttributeError(f"no kernel is called {name}")
    return found
