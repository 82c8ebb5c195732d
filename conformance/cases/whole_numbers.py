"""Batches whose sums no order of adding rounds: small whole numbers, balanced around each channel's mean (decision 22).

Three eighths of the values are m + 1, as many m - 1, and the others m, where m is a whole number. So the mean is m, and
the variance 3/4 where N is a multiple of 8: with epsilon 1/4 its root is 1. The cotangent is of whole numbers as well,
whose mean is 1/8, and whose mean product with the normalized values is 1/2.
"""

from __future__ import annotations

import dataclasses
import math

import msgspec
import numpy as np

from conformance.cases.feature import with_tensors
from conformance.model.case import Case
from reference.spec import Array, kept_shape, reduced_axes

EPSILON, MOMENTUM = 0.25, 0.5
OFFSETS = (0, 3, -2, 1)


def balanced(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with whole numbers for all its tensors."""
    spec = dataclasses.replace(case.spec, epsilon=EPSILON, momentum=MOMENTUM)
    kept = kept_shape(case.spec, case.shape)
    means = np.resize(OFFSETS, kept).astype(float)
    found = layer(kept, rng)
    for t in range(len(case.steps)):
        x, dy = _batch(case, t, means, rng)
        found |= {f"{t}.x": x, f"{t}.dy": dy}
    cast = {name: found[name].astype(array.dtype) for name, array in case.tensors.items()}
    return msgspec.structs.replace(with_tensors(case, cast), spec=spec)


def layer(kept: tuple[int, ...], rng: np.random.Generator) -> dict[str, Array]:
    """Return parameters and moving statistics of this shape that round nothing either."""
    return {
        "gamma": rng.choice([1.0, -2.0, 0.5], kept),
        "beta": rng.integers(-2, 3, kept).astype(float),
        "moving_mean": rng.integers(-2, 3, kept).astype(float),
        "moving_variance": np.full(kept, 0.75),
    }


def marked(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with nothing but zeros in its batches, and a few marks: at both ends, and beside a block's edge.

    However deep a kernel's sums are, leaving out a mark, or counting it twice, changes them by a good part.
    """
    case = balanced(case, rng)
    tensors = {n: _marks(case, array, rng) for n, array in case.tensors.items() if n.endswith((".x", ".dy"))}
    return with_tensors(case, tensors)


def _batch(case: Case, t: int, means: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a batch of the shape of step t's, and its cotangent."""
    shape = case.x(t).shape
    axes = reduced_axes(case.spec, len(shape))
    n = math.prod(shape[axis] for axis in axes)
    z, dy = zip(*(channel(n, rng) for _ in range(means.size)), strict=True)
    return laid_out(np.stack(z) + means.reshape(-1, 1), shape, axes), laid_out(np.stack(dy), shape, axes)


def drift(n: int) -> Array:
    """Return how much higher each of n values lies: by 1 every other one, by 2 the second half.

    So blocks have means of their own, and lanes: merged with a wrong weight, they have another variance.
    """
    place = np.arange(n)
    return place % 2 + 2.0 * (place >= n // 2)


def channel(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return n normalized values and their cotangent, in random order but that neither end is 0."""
    outer = 3 * n // 8
    z = np.repeat([1.0, -1.0, 0.0], [outer, outer, n - 2 * outer])
    parts = (outer, n // 4), (outer, -(n // 4)), (n - 2 * outer, n // 8)
    dy = np.concatenate([_adding_up_to(total, size, rng) for size, total in parts])
    order = rng.permutation(n)
    for end in (0, -1):
        if not z[order[end]] and outer:
            other = np.flatnonzero(z[order[1:-1]])[0] + 1
            order[[end, other]] = order[[other, end]]
    return z[order], dy[order]


def _adding_up_to(total: int, n: int, rng: np.random.Generator) -> Array:
    """Return n small whole numbers with this sum."""
    found = rng.integers(-1, 2, n)
    while n and (missing := total - int(found.sum())):
        found[rng.permutation(n)[: abs(missing)]] += np.sign(missing)
    return found.astype(float)


def laid_out(rows: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Return rows, one for each kept position, as an array of this shape."""
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    parts = rows.reshape([shape[axis] for axis in (*kept, *axes)])
    return np.moveaxis(parts, range(len(shape)), (*kept, *axes))


def _marks(case: Case, array: Array, rng: np.random.Generator) -> Array:
    """Return zeros, and a whole number from 4 to 8 at both ends of each channel and on both sides of a block's edge."""
    axes = reduced_axes(case.spec, array.ndim)
    n = math.prod(array.shape[axis] for axis in axes)
    rows = np.zeros((array.size // max(n, 1), n))
    where = [place for place in (0, n - 1, *_edges(n)) if 0 <= place < n]
    rows[:, where] = rng.integers(4, 9, (len(rows), len(where)))
    return laid_out(rows, array.shape, axes).astype(array.dtype)


def _edges(n: int) -> list[int]:
    """Return the places on both sides of the last edge of a block of 64, 1,024 and so on."""
    edges = [n // block * block for block in (64, 1024, 4096, 32768) if n > block]
    return [place for edge in edges for place in (edge - 1, edge)]
