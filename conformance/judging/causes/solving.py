"""Which stage is wrong: the value that a stage must have had, found from the answer, and whether it explains all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from conformance.judging.causes.failed_step import FailedStep
from conformance.judging.causes.stages import Replace, Stages, fits
from conformance.judging.causes.suspects import (
    AFFINE,
    DBETA,
    DGAMMA,
    DX,
    DX_MEAN,
    DX_PRODUCT,
    DX_SCALE,
    INVERSE,
    MEAN,
    UPDATE,
    VARIANCE,
    Y,
)
from reference.spec import Array

LEEWAY = 16.0
"""What was found from rounded answers may be off by more bounds than what is known."""


class Solved(NamedTuple):
    """A stage, and the values that would explain the answer, by the names of `stages`."""

    stage: str
    values: Mapping[str, Array]

    @property
    def at(self) -> dict[str, Replace]:
        """What stands for which values."""
        return {name: _constant(value) for name, value in self.values.items()}


def _constant(value: Array) -> Replace:
    return lambda right, _now: np.where(np.isfinite(value), value, right)


def stage(step: FailedStep, right: Stages) -> Solved | None:
    """Return the first stage of which some value explains the answer; None where none does."""
    with np.errstate(all="ignore"):
        for one in _candidates(step, right):
            if set(step.wrong) <= _reached(step, one) and fits(step, right, one.at, LEEWAY):
                return one
    return None


def _reached(step: FailedStep, one: Solved) -> set[str]:
    """Return the outputs that these values may change."""
    return {output for name in one.values for output in _REACH.get(name, {name})} & step.got.keys()


_NORMALIZED = {"y", "dx", "dgamma"}
_REACH: dict[str, set[str]] = {
    "mean": _NORMALIZED | {"mean", "moving_mean"},
    "variance": _NORMALIZED | {"variance", "moving_variance"},
    "center": _NORMALIZED,
    "spread": _NORMALIZED,
    "r": _NORMALIZED,
    "gamma": {"y", "dx"},
    "beta": {"y"},
    "c1": {"dx"},
    "c2": {"dx"},
    "scale": {"dx"},
}


def _candidates(step: FailedStep, right: Stages) -> Iterator[Solved]:
    """Yield what may be wrong, what comes first in the computation first, one value before several."""
    found = _Found(step, right)
    if step.training:
        for mean in found.means():
            yield Solved(MEAN, {"mean": mean})
        for variance in found.variances():
            yield Solved(VARIANCE, {"variance": variance})
    yield from _of_y(found)
    yield from _of_update(step)
    yield from _of_gradients(step, found)
    if step.training:
        for mean in found.means():
            for variance in (*found.variances(), right.now.variance + np.square(mean - right.now.mean)):
                yield Solved(MEAN, {"mean": mean, "variance": variance})
    for name in (Y, DX):
        if name in step.got:
            yield Solved(AFFINE if name == Y else DX, {name: step.got[name]})


def _of_y(found: _Found) -> Iterator[Solved]:
    if found.line is None:
        return
    scale, center, shift = found.line
    yield Solved(INVERSE, {"r": scale / found.now.gamma})
    yield Solved(AFFINE, {"gamma": scale / found.now.r})
    yield Solved(AFFINE, {"beta": shift})
    yield Solved(MEAN, {"center": center})
    yield Solved(MEAN, {"center": center, "r": scale / found.now.gamma})
    yield Solved(AFFINE, {"gamma": scale / found.now.r, "beta": shift})


def _of_update(step: FailedStep) -> Iterator[Solved]:
    for names in (("moving_mean",), ("moving_variance",), ("moving_mean", "moving_variance")):
        if all(name in step.got for name in names):
            yield Solved(UPDATE, {name: step.got[name] for name in names})


def _of_gradients(step: FailedStep, found: _Found) -> Iterator[Solved]:
    means = found.of_dx()
    if means:
        yield Solved(DX_MEAN, {"c1": means[0]})
        yield Solved(DX_PRODUCT, {"c2": means[1]})
        yield Solved(DX_MEAN, {"c1": means[0], "c2": means[1]})
    if (scale := found.scale()) is not None:
        yield Solved(DX_SCALE, {"scale": scale})
    for name in (DGAMMA, DBETA):
        if name in step.got:
            yield Solved(name, {name: step.got[name]})
    own = {name: step.got[name] for name in (DGAMMA, DBETA) if name in step.got}
    if own:
        yield Solved(next(iter(own)), own)
    if means and own:
        yield Solved(DX_MEAN, {"c1": means[0], "c2": means[1], **own})
        yield Solved(DX_MEAN, {"c1": means[0], **own})
        yield Solved(DX_PRODUCT, {"c2": means[1], **own})


class _Found:
    """Values of stages, found from an answer."""

    def __init__(self, step: FailedStep, right: Stages) -> None:
        self.step, self.now = step, right.now
        self.line = self._line()

    def _line(self) -> tuple[Array, Array, Array] | None:
        """Return the slope of y along x, what x is centered by, and y at the right center; None without y."""
        if Y not in self.step.got:
            return None
        axes, y, x = self.step.axes, self.step.got[Y], self.now.x
        apart = x - x.mean(axes, keepdims=True)
        level = y.mean(axes, keepdims=True)
        slope = ((y - level) * apart).mean(axes, keepdims=True) / np.square(apart).mean(axes, keepdims=True)
        center = x.mean(axes, keepdims=True) - (level - self.now.beta) / slope
        shift = level - slope * (x.mean(axes, keepdims=True) - self.now.center)
        return slope, center, shift

    def means(self) -> Iterator[Array]:
        """Yield the batch's mean as returned, as normalizing, as it entered the moving mean."""
        if "mean" in self.step.got:
            yield self.step.got["mean"]
        if self.line is not None:
            yield self.line[1]
        if "moving_mean" in self.step.got:
            yield (self.step.got["moving_mean"] - self.now.old_mean) / self.now.fraction + self.now.old_mean

    def variances(self) -> Iterator[Array]:
        """Yield the batch's variance, as its mean."""
        if "variance" in self.step.got:
            yield self.step.got["variance"]
        if self.line is not None and not self.now.outside:
            yield np.square(self.now.gamma / self.line[0]) - self.now.epsilon
        if "moving_variance" in self.step.got:
            entered = (self.step.got["moving_variance"] - self.now.old_variance) / self.now.fraction
            yield (entered + self.now.old_variance) * (self.now.variance / self.now.stored)

    def of_dx(self) -> tuple[Array, Array] | None:
        """Return the means of dy and dy·x̂ that dx was made of; None where it has none."""
        now, axes = self.now, self.step.axes
        if DX not in self.step.got or not self.step.training or now.shares is not None:
            return None
        rest = now.dy - self.step.got[DX] / now.scale
        c1 = rest.mean(axes, keepdims=True)
        return c1, ((rest - c1) * now.z).mean(axes, keepdims=True) / np.square(now.z).mean(axes, keepdims=True)

    def scale(self) -> Array | None:
        """Return what dx was multiplied by; None where there is no dx."""
        if DX not in self.step.got:
            return None
        wanted: Any = self.now.dx / self.now.scale
        axes = self.step.axes
        along = (self.step.got[DX] * wanted).sum(axes, keepdims=True)
        return along / np.square(wanted).sum(axes, keepdims=True)
