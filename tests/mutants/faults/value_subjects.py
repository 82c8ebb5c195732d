"""Subjects with a mistake that certain values show, where no point of `layer.py` can stand for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from layer import TwoPass

from conformance.hosts import worker
from conformance.hosts.roster import ADAPTERS

Renorm = worker.load(str(ADAPTERS / "numpy.py"))[3]
(Reference,) = worker.load(str(Path(__file__).parents[2] / "conformance" / "adapters" / "reference_subject.py"))
_HALVES = ["float16", "bfloat16"]


class InHalf(TwoPass):
    """Computes in float32, and keeps everything in half precision."""

    statement = TwoPass.statement | {
        "id": "numpy.in_half",
        "supports": dict.fromkeys(["dtype", "parameters", "statistics"], _HALVES),
        "outputs": ["y", "moving_mean", "moving_variance"],
        "rules": [*TwoPass.statement["rules"], {"cite": "below", "semantics": {"statistics_dtype": "input"}}],
    }
    kept_in: Callable[[float], Any] = float

    def run(self, case: Any) -> Iterator[dict[str, Any]]:
        """Yield the outputs of each step."""
        half, state = case.steps[0].x.dtype, [self.spread(a, case) for a in (case.mean, case.variance)]
        gamma, beta = (a.astype(np.float32) for a in self.parameters(case))
        kept = np.float32(self.kept_in(case.native["momentum"]))
        for step in case.steps:
            self.axes, x = step.reduced, step.x.astype(np.float32)
            used = old = [a.astype(np.float32) for a in state]
            if step.training:
                used = self.moments(x)
                state = [(kept * o + (1 - kept) * b).astype(half) for o, b in zip(old, used, strict=True)]
            r = 1 / np.sqrt(used[1] + np.float32(case.native["epsilon"]))
            y = self.affine(x, used[0], r, gamma, beta).astype(half)
            yield {"y": y, "moving_mean": state[0].reshape(case.kept), "moving_variance": state[1].reshape(case.kept)}


class MomentumInHalf(InHalf):
    """Takes a momentum that bfloat16 makes 1 of for 1."""

    @staticmethod
    def kept_in(momentum: float) -> float:
        """Return the momentum that is used."""
        return 1.0 if ml_dtypes.bfloat16(momentum) == 1 else momentum


class NoRminWithoutRmax(Renorm):
    """Clips by rmin only where there is an rmax."""

    def correction(self, mean: Any, stddev: Any, toward: Any, scale: Any) -> tuple[Any, Any]:
        """Return r and d, clipped."""
        if self.limits.get("rmax") is None:
            self.limits = dict(self.limits, rmin=None)
        return Renorm.correction(self, mean, stddev, toward, scale)


class AdjustsChannels(Reference):
    """Takes an adjustment of as many values as there are channels for theirs, wherever the channels are."""

    def step(self, x: Any, step: Any, *more: Any) -> Any:
        """Return the outputs of one step, and the state after it."""
        if step.adjustment is not None and step.adjustment[0].shape == (x.shape[step.axis[0]],):
            to = [-1 if axis in step.axis else 1 for axis in range(x.ndim)]
            step.adjustment = tuple(a.reshape(to) for a in step.adjustment)
        return Reference.step(self, x, step, *more)


class GroupsOfOneAreNone(Reference):
    """Takes a virtual batch size of 1 for none: all rows are one group."""

    def run(self, case: Any) -> Any:
        """Return the outputs of each step."""
        if case.spec["virtual_batch_size"] == 1:
            case.spec = dict(case.spec, virtual_batch_size=case.shape[0])
        return Reference.run(self, case)


SUBJECTS = [
    (InHalf, MomentumInHalf, "half averages"),
    (Renorm, NoRminWithoutRmax, "one limit"),
    (Reference, AdjustsChannels, "fitting adjustment"),
    (Reference, GroupsOfOneAreNone, "one group"),
]
"""A right one, a wrong one, and the feature whose cases tell them apart."""
