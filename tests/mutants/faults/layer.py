"""Batch normalization with a name for every value on its way, so that a fault can stand in for any of them.

Sums, moments and the affine map are those of the calibration subjects (`conformance/implementations/numpy.py`), and
without a fault the answers are theirs to the bit. Beside what those promise there are half precision, computed in
float32 and rounded at the end; masks; the unbiased variance in the moving statistics; and zero-debiased averages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from conformance.hosts import worker
from conformance.hosts.roster import ADAPTERS
from conformance.model.statement import Statement

TwoPass, Folded, Fast, Pairwise = worker.load(str(ADAPTERS / "numpy.py"))[:4]


class FoldedFast(Fast):
    """One pass, folded: class B′."""

    statement = Fast.statement | {
        "id": "numpy.fast_folded",
        "rules": [{**rule, "numerics": {**rule["numerics"], "affine": "folded"}} for rule in Fast.statement["rules"]],
    }
    folded = True


CLASSES = {"A·S": TwoPass, "A·T": Pairwise, "A′·S": Folded, "B·S": Fast, "B′·S": FoldedFast}
"""The calibration subject of each numerical class."""

Replace = Callable[[Any, SimpleNamespace], Any]


@dataclass(frozen=True)
class Subject:
    """A correct implementation: the class that it is of, and what it promises where implementations differ."""

    numerical_class: str = "A·S"
    stored_variance: str = "biased"
    average: str = "exponential"

    @property
    def base(self) -> Any:
        """The calibration subject that computes."""
        return CLASSES[self.numerical_class]

    @cached_property
    def statement(self) -> Statement:
        """What it promises."""
        semantics = {"stored_variance": self.stored_variance, "average": self.average}
        rules = [*self.base.statement["rules"], {"semantics": semantics, "cite": "tests/mutants/faults/layer.py"}]
        name = f"{self.base.statement['id']}+{self.stored_variance}+{self.average}"
        return msgspec.convert(self.base.statement | {"id": name, "rules": rules}, Statement)


class Layer:
    """A subject, with the values at some points replaced: by function of the value and of all that came before it.

    Points, in order: x, weights (of a mask), gamma, beta, epsilon, kept (momentum); of a training batch mean, variance
    and stored (the variance that moves the average); moving_mean, moving_variance; weight (of zero-debiasing); center,
    spread and r, which normalize; y; dy, z, c1 and c2 (the means of dy and dy·z), dgamma, dbeta, dx.
    """

    def __init__(self, subject: Subject, replaced: Mapping[str, Replace] | None = None) -> None:
        self.subject, self.base, self.replaced, self.now = subject, subject.base("cpu"), replaced or {}, None

    def run(self, case: Any) -> Iterator[dict[str, Any]]:
        """Yield the outputs of each step of a case as a worker sees it."""
        self.now = now = SimpleNamespace(case=case, axis=case.axis, axes=case.reduced, updates=case.batches)
        self.base.axes = case.reduced
        now.total, now.average, now.moments = self.base.total, self.average, self.moments
        now.dtype = np.promote_types(case.steps[0].x.dtype, np.float32)
        now.flat = case.kept if len(case.kept) == 1 else None
        start = np.zeros([case.steps[0].x.shape[a] if a in case.axis else 1 for a in range(case.rank)], now.dtype)
        now.moving_mean = start if case.mean is None else self.base.spread(case.mean, case)
        now.moving_variance = start + 1 if case.variance is None else self.base.spread(case.variance, case)
        for step in case.steps:
            yield self.step(step)

    def at(self, point: str, value: Any) -> Any:
        """Return the value at a point, or what stands in for it, of the same dtype; and keep it."""
        if point in self.replaced and value is not None:
            value = np.asarray(self.replaced[point](value, self.now)).astype(self.now.dtype)
        setattr(self.now, point, value)
        return value

    def step(self, step: Any) -> dict[str, Any]:
        """Return the outputs of one step."""
        now, case = self.now, self.now.case
        now.training, now.moving, now.one = step.training, step.training and step.update, now.dtype.type(1)
        self.at("x", step.x.astype(now.dtype))
        self.at("weights", self.weights(step))
        now.n = self.count(now.x, now.weights)
        for name, default in (("gamma", now.one), ("beta", 0 * now.one)):
            given = getattr(case, name)
            setattr(now, name, default) if given is None else self.at(name, self.base.spread(given, case))
        self.at("epsilon", now.dtype.type(case.native["epsilon"]))
        self.at("kept", now.dtype.type(case.native["momentum"]))
        self.move()
        out = {"y": self.normalize().astype(step.x.dtype)}
        names = ("moving_mean", "moving_variance", *(("mean", "variance") if now.training else ()))
        if step.dy is not None:
            out["dx"] = self.differentiate(step.dy.astype(now.dtype)).astype(step.x.dtype)
            names += tuple(n for p, n in (("gamma", "dgamma"), ("beta", "dbeta")) if getattr(case, p) is not None)
        return out | {name: self.kept_shape(getattr(now, name)) for name in names}

    def kept_shape(self, array: Any) -> Any:
        """Return an array of parameters or statistics in the shape in which they are given."""
        return array.copy() if self.now.flat is None else array.reshape(self.now.flat)

    # --- statistics ----------------------------------------------------------------------------------------------

    def weights(self, step: Any) -> Any:
        """Return the mask as numbers of the input's shape; None where there is none, or it does not count."""
        if step.mask is None or not step.training:
            return None
        mask = step.mask if step.mask.ndim == step.x.ndim else step.mask[..., np.newaxis]
        return np.broadcast_to(mask, step.x.shape).astype(self.now.dtype)

    def count(self, x: Any, weights: Any) -> Any:
        """Return how many values count."""
        if weights is None:
            return x.dtype.type(math.prod(x.shape[a] for a in self.now.axes))
        n = self.base.total(weights)
        return np.where(n == 0, 1, n)

    def average(self, values: Any, weights: Any = None) -> Any:
        """Return the mean of the values that count."""
        if weights is None:
            return self.base.mean(values)
        return self.base.total(weights * values) / self.count(values, weights)

    def moments(self, x: Any, weights: Any = None) -> tuple[Any, Any]:
        """Return mean and biased variance of the values that count."""
        if weights is None:
            return self.base.moments(x)
        mean = self.average(x, weights)
        if isinstance(self.base, Fast):
            return mean, np.maximum(self.average(np.square(x), weights) - mean * mean, 0)
        return mean, self.average(np.square(x - mean), weights)

    def move(self) -> None:
        """Take the batch's statistics, and let the moving ones follow."""
        now = self.now
        now.old_mean, now.old_variance = now.moving_mean, now.moving_variance
        new = now.old_mean, now.old_variance
        if now.training:
            mean, variance = self.moments(now.x, now.weights)
            now.updates += now.moving
            self.at("mean", mean)
            self.at("variance", variance)
            unbiased = self.subject.stored_variance == "unbiased"
            self.at("stored", now.variance * (now.n / np.maximum(now.n - 1, 1)) if unbiased else now.variance)
        if now.moving:
            new = (
                now.kept * now.old_mean + (1 - now.kept) * now.mean,
                now.kept * now.old_variance + (1 - now.kept) * now.stored,
            )
        self.at("moving_mean", new[0])
        self.at("moving_variance", new[1])

    # --- outputs -------------------------------------------------------------------------------------------------

    def normalize(self) -> Any:
        """Return y."""
        now = self.now
        used = (now.mean, now.variance) if now.training else (now.old_mean, now.old_variance)
        if self.subject.average == "zero_debiased" and now.updates and not now.training:
            weight = self.at("weight", 1 - now.kept**now.updates)
            used = used[0] / weight, used[1] / weight
        self.at("center", used[0])
        self.at("spread", used[1])
        self.at("r", 1 / np.sqrt(now.spread + now.epsilon))
        return self.at("y", self.base.affine(now.x, now.center, now.r, now.gamma, now.beta))

    def differentiate(self, dy: Any) -> Any:
        """Return dx; what the sums of dy and dy·z give stays beside it."""
        now = self.now
        dy, z = self.at("dy", dy), self.at("z", (now.x - now.center) * now.r)
        sum_dy, sum_dyz = now.total(dy), now.total(dy * z)
        self.at("dgamma", sum_dyz)
        self.at("dbeta", sum_dy)
        if not now.training:
            return self.at("dx", now.gamma * now.r * dy)
        inside = now.one if now.weights is None else now.weights
        c1, c2 = self.at("c1", sum_dy / now.n), self.at("c2", sum_dyz / now.n)
        return self.at("dx", now.gamma * now.r * (dy - inside * c1 - inside * z * c2))
