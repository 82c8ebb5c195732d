"""What each side of a translation is asked: the same numbers, laid out as each has its channels."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import Any, Literal

import msgspec
import numpy as np

from conformance.case import Case, Derivative, Dtypes, Step
from conformance.errors import InvalidInput
from conformance.roster import Entry
from conformance.statement import facts
from conformance.translation.natives import Layer
from conformance.translation.weights import Average, Weights, converted, filled
from reference import Spec
from reference.spec import Array, kept_axes

CHANNELS = 3


class Scenario(msgspec.Struct, frozen=True):
    """A sequence of steps. own: from the layer's own start. trainable: as asked, or frozen. n: values per channel."""

    name: str
    modes: str
    own: bool = False
    frozen: bool = False
    n: int | None = None


SCENARIOS = (
    Scenario("moving", "infer train train train infer"),
    Scenario("new layer", "infer train infer train infer", own=True),
    Scenario("frozen", "train infer", frozen=True),
    Scenario("one value", "train", n=1),
)
"""From given statistics on; from the own start, inference before training included; frozen; one value per channel."""


class Shape(msgspec.Struct, frozen=True):
    """An input: its rank, its channels (several, where several axes are kept), and values per channel."""

    rank: int
    channels: int
    n: int

    def sizes(self, axes: tuple[int, ...], n: int) -> tuple[int, ...]:
        """Return the shape that has these axes kept, its rows a multiple of as many examples as can be."""
        spread = iter(factors(n, self.rank - len(axes)))
        return tuple(self.channels if axis in axes else next(spread) for axis in range(self.rank))


def factors(n: int, parts: int) -> tuple[int, ...]:
    """Return so many factors of n, near one another, the largest first.

    >>> factors(64, 3), factors(7, 2), factors(1, 2)
    ((4, 4, 4), (7, 1), (1, 1))
    """
    found: list[int] = []
    for left in range(parts, 0, -1):
        root = round(n ** (1 / left))
        factor = n if left == 1 else next(k for k in range(max(root, 1), n + 1) if n % k == 0)
        found.append(factor)
        n //= factor
    return tuple(sorted(found, reverse=True))


@dataclasses.dataclass(frozen=True)
class Side:
    """One implementation, the spec that it is asked for, the weights that it starts from; None: made up for it."""

    entry: Entry
    layer: Layer
    spec: Spec
    shape: Shape
    weights: Weights | None = None

    @property
    def average(self) -> Average:
        """The kind of its moving averages, which no rule of a statement makes depend on a case."""
        merged = {k: v for rule in self.entry.statement.rules for k, v in rule.semantics.items()}
        return merged.get("average", "exponential")

    def case(self, scenario: Scenario) -> Case:
        """Return the case of a scenario, as this implementation is asked it."""
        spec = dataclasses.replace(self.spec, trainable=self.spec.trainable and not scenario.frozen)
        n = self.shape.n if scenario.n is None else scenario.n
        start = self._start(spec)
        tensors = {} if scenario.own else {n: a for n, a in start.items() if a is not None}
        steps: list[Step] = []
        for t, mode in enumerate(scenario.modes.split()):
            kind: Literal["train", "infer"] = "train" if mode == "train" else "infer"
            steps.append(Step(mode=kind, derivatives=(Derivative(),)))
            for name in ("x", "dy"):
                tensors[f"{t}.{name}"] = self._drawn(f"{scenario.name} {t} {name}", n)
        return Case(spec, tuple(steps), Dtypes(), batches=0 if scenario.own else self._batches(), tensors=tensors)

    def _drawn(self, what: str, n: int) -> Array:
        """Return random numbers that depend on nothing but what they are for and the sizes, channels where we have them."""
        axes = kept_axes(self.spec, self.shape.rank)
        number = int.from_bytes(hashlib.sha256(what.encode()).digest()[:4], "big")
        values = np.random.default_rng(number).normal(size=(math.prod(self.shape.sizes(axes, n)),))
        if what.endswith(" x"):
            values = 1.5 + 1.25 * values
        values = values.astype(np.float32)
        if len(axes) > 1:
            return values.reshape(self.shape.sizes(axes, n))
        last = self.shape.sizes((self.shape.rank - 1,), n)
        return np.ascontiguousarray(np.moveaxis(values.reshape(last), -1, axes[0]))

    def canonical(self, array: Array) -> Array:
        """Return an input, an output or a gradient of one with its channels last; other arrays flat."""
        axes = kept_axes(self.spec, self.shape.rank)
        if len(axes) > 1 or array.ndim < self.shape.rank or array.size == self._kept:
            return array if len(axes) > 1 else array.reshape(-1)
        return np.moveaxis(array, axes[0], -1)

    @property
    def _kept(self) -> int:
        return self.shape.channels ** len(kept_axes(self.spec, self.shape.rank))

    def _start(self, spec: Spec) -> dict[str, Any]:
        w = filled(self.weights or self._made_up(), scale=spec.scale, center=spec.center)
        return {
            name: None if array is None else np.asarray(array, np.float32)
            for name, array in zip(
                ("gamma", "beta", "moving_mean", "moving_variance"), (w.gamma, w.beta, w.mean, w.variance), strict=True
            )
        }

    def _batches(self) -> int:
        """Return how many batches have entered the given statistics, of whoever counts them; many, of those made up."""
        kept = None, self.spec.momentum
        given = self.weights or converted(self._made_up(), "exponential", self.average, kept, cumulative=False)
        return given.batches if self.entry.statement.takes("begun", value=True) else 0

    def _made_up(self) -> Weights:
        rng, size = np.random.default_rng(8), self._kept
        axes = kept_axes(self.spec, self.shape.rank)
        full = tuple(self.shape.channels if axis in axes else 1 for axis in range(self.shape.rank))
        kept = full if len(axes) > 1 else (size,)
        if self.spec.virtual_batch_size is not None:
            kept = (full[0], 1, *full[1:])
        ranges = ((0.5, 1.5), (-1, 1), (0.5, 2.5), (0.5, 3))
        return Weights(*(rng.uniform(*limits, size).astype(np.float32).reshape(kept) for limits in ranges))




def checked(shape: Shape, spec: Spec) -> Shape:
    """Return the shape; raise `InvalidInput` where virtual batches do not divide its rows."""
    size = spec.virtual_batch_size
    rows = shape.sizes(kept_axes(spec, shape.rank), shape.n)[0]
    if size and rows % size:
        raise InvalidInput(f"virtual_batch_size={size}: does not divide {rows} rows of --n {shape.n}; choose --n {shape.n * size}")
    return shape
