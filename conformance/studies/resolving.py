"""What the bounds can see: the smallest errors that are never allowed, against how many values a channel has.

Of float32, one channel. A relative error of one element of y or dx, or of a statistic, is seen where it is larger than
the bound is beside the value; what a sum may miss is counted in terms of its mean size. Measured for ordinary data and
for whole numbers, whose sums round nothing (decision 22).
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from conformance.cases.whole_numbers import EPSILON, channel
from conformance.judging.bounds.batch import BatchStatistics
from conformance.judging.bounds.bounds import Affine, Bounds
from conformance.judging.bounds.gradients import GradientBounds
from conformance.model.numerics import Numerics, Units
from reference import Semantics, Spec
from reference.batches import observe
from reference.spec import Array

CLASSES = {
    "A, two passes": Numerics(root="rounded"),
    "A′, folded": Numerics(affine="folded", root="rounded"),
    "B, E[x²] − E[x]²": Numerics(variance="fast", clamped=True, root="rounded"),
}
"""In any order of adding (grade S), by the class's name."""
SIZES = (100, 128, 1_000, 1_024, 8_192, 10_000, 65_536, 100_000, 1_000_000, 1_048_576)
MEASURED = Path(__file__).with_name("resolving.json")
"""What `tests/benchmarks/resolving_power.py` found."""


class Power(msgspec.Struct, frozen=True):
    """What is seen of one class and one kind of data, with `n` values per channel.

    y, dx: the relative error of one element, at the median; mean, variance, dgamma, dbeta: of the statistic itself.
    missing: how many terms of mean size the sum that may miss most of them may miss.
    """

    of: str
    whole: bool
    n: int
    y: float
    dx: float
    mean: float
    variance: float
    dgamma: float
    dbeta: float
    missing: float


def measured() -> list[Power]:
    """Return what was measured for every class, kind of data and size."""
    return msgspec.json.decode(MEASURED.read_bytes(), type=list[Power])


def power(of: str, n: int, *, whole: bool, seed: int = 0) -> Power:
    """Return what is seen of a class, with n values per channel.

    >>> power("A, two passes", 1024, whole=True).missing
    0.0
    """
    x, dy = _data(n, np.random.default_rng(seed), whole=whole)
    batch = BatchStatistics.of(observe(x, None, Spec(axis=1), Semantics()))
    b, one, none = Bounds(CLASSES[of], Units.of("float32", "float32"), n, EPSILON), np.ones((1, 1)), np.zeros((1, 1))
    used = b.used_of(batch)
    gradient = GradientBounds(b, batch, used, dy, none)
    z, dx = gradient.z, gradient.used.r * gradient.t_train(1.0)
    sums = {
        "mean": (batch.mean, b.e_mean(batch), x),
        "variance": (batch.variance, b.e_variance(batch), batch.deviation**2),
        "dgamma": (gradient.c2, gradient.e_mean_dyz, dy * z),
        "dbeta": (gradient.c1, gradient.e_mean_dy, dy),
    }
    y = _beside(b.e_y(x, z, Affine(one, none, none, none), used), z)
    rest = {name: _part(e, value) for name, (value, e, _) in sums.items()}
    missing = max(n * float(e.item()) / float(np.abs(terms).mean()) for _, e, terms in sums.values())
    return Power(of, whole, n, y, _beside(gradient.e_dx_train(one, 1.0), dx), **rest, missing=missing)


def _data(n: int, rng: np.random.Generator, *, whole: bool) -> tuple[Array, Array]:
    """Return one channel and its cotangent, of mean 1/8, and of mean product with the normalized values 1/2."""
    if whole:
        z, dy = channel(n, rng)
        return z[:, np.newaxis] + (3.0 if n & (n - 1) == 0 else 0.0), dy[:, np.newaxis]
    z = rng.normal(size=(n, 1))
    return (z + 3).astype(np.float32).astype(np.float64), (z / 2 + 0.125 + rng.normal(size=(n, 1))).astype(np.float64)


def _part(bound: Array, value: Array) -> float:
    """Return a bound beside its value; 0 where there is none."""
    return float(bound.item() / abs(value.item())) if bound.item() else 0.0


def _beside(bound: Array, value: Array) -> float:
    """Return the median of a bound beside the values that are not 0."""
    there = value != 0
    return float(np.median(np.broadcast_to(bound, value.shape)[there] / np.abs(value[there])))
