"""Ways to take the mean and the biased variance of rows; `word` is what a statement says of the variance.

Each takes an arithmetic, a way of adding, and at least one row of shape (values, channels), and returns two rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Moments = Callable[[Any, Any, Any], tuple[Any, Any]]
TWO = {"variance": "two_pass"}
MOVED = {"variance": "stable", "merge": "moved"}
CLAMPED = {"variance": "fast", "clamped": True}


def two_pass(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """Mean, then the mean of squared distances from it."""
    mean = sums.mean(ar, x)
    apart = ar.sub(x, mean)
    return mean, sums.share(ar, sums.dot(ar, apart, apart), len(x))


def corrected_variance(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """Two passes, the variance corrected by what its distances add up to (Chan, Golub & LeVeque 1983, eq. 1.7)."""
    mean = sums.mean(ar, x)
    apart = ar.sub(x, mean)
    left = sums.total(ar, apart)
    squares = ar.sub(sums.dot(ar, apart, apart), sums.share(ar, ar.mul(left, left), len(x)))
    return mean, sums.share(ar, squares, len(x))


def corrected_mean(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """Two passes, the mean corrected by the mean of what it leaves, before distances are taken."""
    mean = sums.mean(ar, x)
    mean = ar.add(mean, sums.mean(ar, ar.sub(x, mean)))
    apart = ar.sub(x, mean)
    return mean, sums.share(ar, sums.dot(ar, apart, apart), len(x))


def corrected_both(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """Two passes, mean and variance corrected, as the suite's own reference has it."""
    mean = sums.mean(ar, x)
    mean = ar.add(mean, sums.mean(ar, ar.sub(x, mean)))
    apart = ar.sub(x, mean)
    left = sums.mean(ar, apart)
    return mean, ar.sub(sums.share(ar, sums.dot(ar, apart, apart), len(x)), ar.mul(left, left))


def welford(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """One value at a time (Welford 1962)."""
    mean, squares = _running(ar, x, divided=True)
    return mean, sums.share(ar, squares, len(x))


def welford_reciprocal(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """One value at a time, multiplied by 1/n."""
    mean, squares = _running(ar, x, divided=False)
    return mean, sums.share(ar, squares, len(x))


def _running(ar: Any, x: Any, *, divided: bool) -> tuple[Any, Any]:
    mean, squares = x[0], np.zeros_like(x[0])
    for count, row in enumerate(x[1:], 2):
        n, apart = ar.take(count), ar.sub(row, mean)
        mean = ar.add(mean, ar.div(apart, n) if divided else ar.mul(apart, ar.div(ar.take(1), n)))
        squares = ar.add(squares, ar.mul(apart, ar.sub(row, mean)))
    return mean, squares


Part = tuple[Any, Any, Any]
"""Mean, sum of squared distances, and count of a part, as arrays of the arithmetic."""


def weighted(ar: Any, a: Part, b: Part) -> Part:
    """Merge two parts: mean = (m_a n_a + m_b n_b) * (1 / n), `welford_merge_element` of PyTorch and apex."""
    (mean, squares, n), (other, more, k) = a, b
    count = ar.add(n, k)
    factor, apart = ar.div(ar.take(1), count), ar.sub(mean, other)
    grown = ar.add(squares, ar.add(more, ar.mul(apart, apart, k, n, factor)))
    return ar.mul(ar.add(ar.mul(other, k), ar.mul(mean, n)), factor), grown, count


def chan(ar: Any, a: Part, b: Part) -> Part:
    """Merge two parts: mean = m_a + δ (n_b / n) (Chan, Golub & LeVeque 1983, eq. 2.1), as `WelfordOps` of PyTorch."""
    (mean, squares, n), (other, more, k) = a, b
    count = ar.add(n, k)
    share, apart = ar.div(k, count), ar.sub(other, mean)
    grown = ar.add(ar.add(squares, more), ar.mul(apart, apart, n, share))
    return ar.add(mean, ar.mul(apart, share)), grown, count


def merged(merge: Callable[[Any, Part, Part], Part], width: int, *, tree: bool = False) -> Moments:
    """Return the way in which so many lanes merge one value after the other, and then each other, in turn or a tree."""

    def moments(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
        parts = [_lane(ar, x[lane::width], merge) for lane in range(min(width, len(x)))]
        while len(parts) > 1:
            paired = zip(parts[0::2], parts[1::2], strict=False) if tree else [(parts[0], parts[1])]
            done = [merge(ar, a, b) for a, b in paired]
            parts = done + parts[2 * len(done) :]
        return parts[0][0], sums.share(ar, parts[0][1], len(x))

    return _said(moments, merge)


def _lane(ar: Any, x: Any, merge: Callable[[Any, Part, Part], Part]) -> Part:
    one = ar.take(1)
    part = x[0], np.zeros_like(x[0]), one
    for row in x[1:]:
        part = merge(ar, part, (row, np.zeros_like(row), one))
    return part


def of_ones(merge: Callable[[Any, Part, Part], Part]) -> Moments:
    """Return the way in which lanes (x, 0, 1) are merged two by two, all at once, as inductor's kernels do."""

    def moments(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
        parts = x, np.zeros_like(x), ar.take(np.ones((len(x), 1)))
        while len(parts[0]) > 1:
            pairs = merge(ar, tuple(p[0 : len(p) - 1 : 2] for p in parts), tuple(p[1::2] for p in parts))
            odd = len(parts[0]) % 2
            parts = tuple(
                np.concatenate([new, old[-1:]]) if odd else new for new, old in zip(pairs, parts, strict=True)
            )
        return parts[0][0], sums.share(ar, parts[1][0], len(x))

    return _said(moments, merge)


def _said(moments: Any, merge: Any) -> Moments:
    """Return the way with what a statement says of it: the rule by which it merges."""
    moments.word = MOVED if merge is chan else {"variance": "stable"}
    return moments


def fast(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """One pass, E[x²] - E[x]², as it comes out."""
    mean = sums.mean(ar, x)
    return mean, ar.sub(sums.share(ar, sums.dot(ar, x, x), len(x)), ar.mul(mean, mean))


def shifted(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """One pass over x less its first value, of which the mean and the fast variance are taken."""
    mean, variance = fast(ar, sums, ar.sub(x, x[0]))
    return ar.add(x[0], mean), np.maximum(variance, np.zeros_like(variance))


def fast_clamped(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """One pass, E[x²] - E[x]², kept at 0 or above."""
    mean, variance = fast(ar, sums, x)
    return mean, np.maximum(variance, np.zeros_like(variance))


def fast_fused(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """One pass, the square of the mean fused with the difference, kept at 0 or above."""
    mean = sums.mean(ar, x)
    variance = ar.fma(-mean, mean, sums.share(ar, sums.dot(ar, x, x), len(x)))
    return mean, np.maximum(variance, np.zeros_like(variance))


def fast_sums(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """One pass, (Σx² - (Σx)²/n)/n, kept at 0 or above."""
    total = sums.total(ar, x)
    squares = ar.sub(sums.dot(ar, x, x), sums.share(ar, ar.mul(total, total), len(x)))
    variance = sums.share(ar, squares, len(x))
    return sums.share(ar, total, len(x)), np.maximum(variance, np.zeros_like(variance))


WORDS: dict[Any, dict[str, Any]] = {
    welford: MOVED,
    welford_reciprocal: MOVED,
    fast: {"variance": "fast"},
    shifted: {"variance": "shifted", "clamped": True},
    fast_clamped: CLAMPED,
    fast_fused: CLAMPED,
    fast_sums: CLAMPED,
    two_pass: TWO,
    corrected_variance: TWO,
    corrected_mean: TWO,
    corrected_both: TWO,
}
"""What a statement says of these."""


def word(moments: Moments) -> dict[str, Any]:
    """Return what a statement says of the variance, and of how running means are merged."""
    return WORDS.get(moments) or getattr(moments, "word", {})
