"""What each side of a translation is asked: the same numbers, laid out as each side has its channels."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import Any, Literal

import msgspec
import numpy as np

from conformance.hosts.roster import RosterEntry
from conformance.model.case import Case, Derivative, Dtypes, Step
from conformance.model.errors import InvalidInput
from conformance.studies.translation.layers import Layer
from conformance.studies.translation.weights import Average, Weights, converted, filled
from reference import Spec
from reference.spec import Array, kept_axes, kept_shape

CHANNELS = 3


class Scenario(msgspec.Struct, frozen=True):
    """A sequence of steps that both sides are asked.

    own: the layers start from their own statistics.
    frozen: the layers are frozen, whatever the user asked for.
    n: values per channel.
    momentum: another one than the user asked for.
    """

    name: str
    modes: str
    own: bool = False
    frozen: bool = False
    n: int | None = None
    momentum: float | None = None


SCENARIOS = (
    Scenario("moving", "infer train train train infer"),
    Scenario("new layer", "infer train infer train infer", own=True),
    Scenario("frozen", "train infer", frozen=True),
    Scenario("one value", "train", n=1),
)
"""From given statistics on; from the layer's own, inference before training included; frozen; one value per channel."""

SETTLED = Scenario("settled", "train infer", momentum=0.0)
"""What moving statistics become in the long run: those of one batch, as they are where nothing older is kept."""


class Shape(msgspec.Struct, frozen=True):
    """The shape of an input.

    rank: how many axes it has.
    channels: how many channels; several numbers where several axes are kept.
    n: values per channel.
    """

    rank: int
    channels: int
    n: int

    def sizes(self, axes: tuple[int, ...], n: int) -> tuple[int, ...]:
        """Return the shape of an input with these axes kept and n values per channel."""
        spread = iter(factors(n, self.rank - len(axes)))
        return tuple(self.channels if axis in axes else next(spread) for axis in range(self.rank))


def factors(n: int, parts: int) -> tuple[int, ...]:
    """Return n as a product of so many factors, close to one another, the largest first.

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
    """One implementation, the spec that it is asked for, and its starting weights; None: random ones."""

    entry: RosterEntry
    layer: Layer
    spec: Spec
    shape: Shape
    weights: Weights | None = None

    @property
    def average(self) -> Average:
        """The kind of its moving averages. No statement makes it depend on the case."""
        merged = {k: v for rule in self.entry.statement.rules for k, v in rule.semantics.items()}
        return merged.get("average", "exponential")

    def case(self, scenario: Scenario) -> Case:
        """Return the case of a scenario, laid out for this implementation."""
        spec = dataclasses.replace(self.spec, trainable=self.spec.trainable and not scenario.frozen)
        if scenario.momentum is not None:
            spec = dataclasses.replace(spec, momentum=scenario.momentum)
        n = self.shape.n if scenario.n is None else scenario.n
        start = self._start(spec)
        tensors = {name: a for name, a in start.items() if not (scenario.own and name.startswith("moving"))}
        steps: list[Step] = []
        for t, mode in enumerate(scenario.modes.split()):
            kind: Literal["train", "infer"] = "train" if mode == "train" else "infer"
            steps.append(Step(mode=kind, derivatives=(Derivative(),)))
            for name in ("x", "dy"):
                tensors[f"{t}.{name}"] = self._drawn(f"{scenario.name} {t} {name}", n)
        return Case(spec, tuple(steps), Dtypes(), batches=0 if scenario.own else self._batches(), tensors=tensors)

    def _drawn(self, what: str, n: int) -> Array:
        """Return random numbers, channels last. They depend only on their purpose and on the sizes."""
        number = int.from_bytes(hashlib.sha256(what.encode()).digest()[:4], "big")
        one, *more = self._axes
        sizes = self.shape.sizes(self._axes if more else (self.shape.rank - 1,), n)
        values = np.random.default_rng(number).normal(size=sizes).astype(np.float32)
        if what.endswith(" x"):
            values = np.float32(1.5) + np.float32(1.25) * values
        return values if more else np.ascontiguousarray(np.moveaxis(values, -1, one))

    def canonical(self, array: Array) -> Array:
        """Return an array with its channels last where it is laid out as the input is; any other one flat."""
        one, *more = self._axes
        if more or array.ndim < self.shape.rank or array.size == math.prod(self._kept):
            return array if more else array.reshape(-1)
        return np.moveaxis(array, one, -1)

    @property
    def _axes(self) -> tuple[int, ...]:
        return kept_axes(self.spec, self.shape.rank)

    @property
    def _kept(self) -> tuple[int, ...]:
        return kept_shape(self.spec, self.shape.sizes(self._axes, 1))

    def _start(self, spec: Spec) -> dict[str, Any]:
        w = filled(self.weights or self._made_up(), scale=spec.scale, center=spec.center)
        named = {"gamma": w.gamma, "beta": w.beta, "moving_mean": w.mean, "moving_variance": w.variance}
        there = {name: array for name, array in named.items() if array is not None}
        return {name: np.asarray(array, np.float32).reshape(self._kept) for name, array in there.items()}

    def _batches(self) -> int:
        """Return how many batches have entered the given statistics, for an implementation that counts them; else 0."""
        kept = None, self.spec.momentum
        given = self.weights or converted(self._made_up(), "exponential", self.average, kept, cumulative=False)
        return given.batches if self.entry.statement.takes("begun", value=True) else 0

    def _made_up(self) -> Weights:
        """Return random weights, the same whatever the layout."""
        rng, ranges = np.random.default_rng(8), ((0.5, 1.5), (-1, 1), (0.5, 2.5), (0.5, 3))
        made: list[Any] = [rng.uniform(*limits, self._kept).astype(np.float32) for limits in ranges]
        return Weights(*made)


def checked(shape: Shape, spec: Spec) -> Shape:
    """Return the shape; raise `InvalidInput` if virtual batches do not divide its rows."""
    size = spec.virtual_batch_size
    rows = shape.sizes(kept_axes(spec, shape.rank), shape.n)[0]
    if size and rows % size:
        raise InvalidInput(
            f"virtual_batch_size={size}: does not divide {rows} rows of --n {shape.n}; choose --n {shape.n * size}"
        )
    return shape
