"""What a wrong value is a multiple of the right one by, in words: N where N - 1 belongs, a sum for a mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.judging.causes.failed_step import FailedStep
from conformance.judging.causes.solving import Solved
from conformance.judging.causes.stages import Replace, Stages
from conformance.judging.causes.suspects import Suspect

_NAMES = {
    "r": "the inverse deviation",
    "spread": "the variance that normalizes",
    "center": "the mean that is subtracted",
    "c1": "the mean of dy in dx",
    "c2": "the mean of dy·x̂ in dx",
    "scale": "dx",
    "mean": "the mean",
    "variance": "the variance",
    "moving_mean": "the moving mean",
    "moving_variance": "the moving variance",
}
_BLOCKS = tuple(1 << k for k in range(15, 1, -1))
_ALIKE = 1e-2


def named(step: FailedStep, right: Stages, solved: Solved) -> Iterator[Suspect]:
    """Yield what the first of the solved values is, if it is the right one times something in every wrong channel."""
    (name, value), n = next(iter(solved.values.items())), float(np.max(right.now.n))
    ratio = _ratio(step, getattr(right.now, name), value)
    if ratio is None:
        return
    for names in (_plain(name, n), _blocks(name, n)):
        found = [(says, factor) for says, factor in names if abs(factor - ratio) <= _ALIKE * abs(factor - 1)]
        for says, factor in found:
            yield Suspect(solved.stage, says, solved.at | {name: _times(factor)})
        if found:
            return


def _times(factor: float) -> Replace:
    return lambda value, _now: value * factor


def _ratio(step: FailedStep, right: Any, value: Any) -> float | None:
    """Return by what every wrong channel's value is too large; None where that is not one number."""
    shape = step.channels.shape
    if np.shape(right) not in ((), shape):
        return None
    with np.errstate(all="ignore"):
        found = (np.broadcast_to(np.asarray(value), shape) / np.broadcast_to(np.asarray(right), shape))[step.channels]
    found = found[np.isfinite(found)]
    return float(np.median(found)) if found.size else None


def _plain(name: str, n: float) -> Iterator[tuple[str, float]]:
    """Yield what a value may be multiplied by, in words."""
    what = _NAMES.get(name, name)
    if name in ("dgamma", "dbeta"):
        yield f"{what} is a mean, not a sum", 1 / n
    yield f"{what} has the other sign", -1.0
    if n > 1:
        yield f"{what} is divided by N - 1, not by N", n / (n - 1)
        yield f"{what} is divided by N, not by N - 1", (n - 1) / n
    yield f"{what} is divided by N + 1, not by N", n / (n + 1)
    yield f"{what} is a sum, not a mean", n
    yield f"{what} is twice what is right", 2.0
    yield f"{what} is half of what is right", 0.5
    yield f"{what} is 0", 0.0


def _blocks(name: str, n: float) -> Iterator[tuple[str, float]]:
    """Yield what a value is multiplied by whose sum is divided by the size of whole blocks."""
    what = _NAMES.get(name, name)
    for block in (block for block in _BLOCKS if n % block and n > 1):
        yield f"{what} is divided by N rounded up to whole blocks of {block:,}", n / (-(-n // block) * block)
        if n > block:
            yield f"{what} is divided by N rounded down to whole blocks of {block:,}", n / (n // block * block)
