"""Batch normalization in scalar loops over exact rationals: nothing rounds but the root, good to 200 bits.

Written from `reference/README.md`, value by value, without arrays: it shares no formula with the reference.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from reference import Semantics, Spec

Key = tuple[int, ...]
BITS = 200


def number(value: Any) -> Fraction:
    """Return a floating-point number as the rational it is."""
    return Fraction(*value.as_integer_ratio())


def root(value: Fraction) -> Fraction:
    """Return the square root, to 200 bits after the point."""
    return Fraction(math.isqrt((value.numerator << (2 * BITS)) // value.denominator), 1 << BITS)


class Layer:
    """A layer that is stepped through batches; `mean`, `variance` and so on are dictionaries by kept position."""

    def __init__(self, scenario: Any, data: Any) -> None:
        self.scenario, self.data = scenario, data
        self.spec: Spec = scenario.spec
        self.semantics: Semantics = scenario.semantics
        self.epsilon = max(number(self.spec.epsilon), number(self.semantics.epsilon_floor))
        if self.semantics.epsilon_dtype == "float32":
            self.epsilon = number(float(np.float32(float(self.epsilon))))
        axes = self.spec.axis if isinstance(self.spec.axis, tuple) else (self.spec.axis,)
        rank = len(scenario.shape)
        self.kept = sorted(a % rank for a in axes)
        self.keys = list(product(*(range(scenario.shape[a]) for a in self.kept)))
        self.mean = self.by_key(data.state.mean)
        self.variance = self.by_key(data.state.variance)
        self.gamma = self.by_key(data.parameters.gamma, 1)
        self.beta = self.by_key(data.parameters.beta, 0)
        self.t = 0
        self.begin_renorm()

    def by_key(self, array: Any, default: int = 0) -> dict[Key, Fraction]:
        """Return an array of the kept shape by kept position."""
        if array is None:
            return dict.fromkeys(self.keys, Fraction(default))
        return dict(zip(self.keys, (number(v) for v in array.ravel()), strict=True))

    def begin_renorm(self) -> None:
        """Set P, Q, the moving standard deviation, and the weights."""
        flavour = self.semantics.renorm
        self.p = dict(self.mean)
        extra = self.epsilon if flavour == "paper" else 0
        self.q = {k: root(v + extra) for k, v in self.variance.items()}
        self.deviation = dict(self.q)
        self.weight = dict.fromkeys(self.keys, Fraction(0))
        if flavour == "tf_1_7":
            self.p = dict.fromkeys(self.keys, Fraction(0))
            self.q = dict.fromkeys(self.keys, Fraction(0))

    def key(self, index: Key) -> Key:
        """Return the kept position of an element."""
        return tuple(index[a] for a in self.kept)

    def group(self, index: Key) -> int:
        """Return the virtual batch of an element."""
        size, rows = self.spec.virtual_batch_size, self.scenario.shape[0]
        if size is None or self.semantics.virtual_batches == "ignored":
            return 0
        return index[0] % (rows // size) if self.semantics.virtual_batches == "strided" else index[0] // size

    def weight_of(self, index: Key) -> Fraction:
        """Return how much an element counts."""
        mask = self.data.mask
        if mask is None or self.semantics.mask == "ignored":
            return Fraction(1)
        value = mask[index[: mask.ndim]]
        return Fraction(bool(value)) if self.semantics.mask == "boolean" else number(float(value))

    def spread(self, variance: Fraction) -> Fraction:
        """Return what a deviation is divided by."""
        if self.semantics.epsilon_placement == "outside":
            return root(variance) + self.epsilon
        return root(variance + self.epsilon)

    def statistics(self, x: Any, members: list[Key]) -> tuple[Fraction, Fraction, Fraction]:
        """Return mean, biased variance and the sum of weights of some elements."""
        count = sum((self.weight_of(i) for i in members), Fraction(0))
        masked = self.data.mask is not None and self.semantics.mask != "ignored"
        divisor = (count or Fraction(1)) + (number(self.semantics.mask_offset) if masked else 0)
        mean = sum((self.weight_of(i) * number(x[i]) for i in members), Fraction(0)) / divisor
        squares = sum((self.weight_of(i) * (number(x[i]) - mean) ** 2 for i in members), Fraction(0))
        return mean, squares / divisor, count

    def stored(self, variance: Fraction, count: Fraction) -> Fraction:
        """Return the variance that is stored."""
        if self.semantics.stored_variance == "biased" or self.spec.renorm:
            return variance
        return variance * count / (count - 1) if count > 1 else variance

    def rounded_complement(self, momentum: float) -> Fraction:
        """Return the update fraction for a momentum."""
        if self.semantics.fraction_dtype == "float64":
            return 1 - number(momentum)
        if self.semantics.fraction_rounded == "momentum":
            return 1 - number(np.float32(momentum))
        return number(np.float32(1 - momentum))

    def fraction(self) -> Fraction:
        """Return the update fraction of the batch that enters now."""
        if self.semantics.average == "none":
            return Fraction(0)
        if self.semantics.average == "first_batch" and self.t == 0:
            return Fraction(1)
        if self.spec.momentum is None:
            return Fraction(1, self.t + 1)
        return self.rounded_complement(self.spec.momentum)

    def train(self, x: Any) -> tuple[dict[Key, Fraction], dict[Key, Fraction], dict[Key, Fraction]]:
        """Take one training step; return y by element, and the returned mean and variance by kept position."""
        indices = list(product(*(range(n) for n in x.shape)))
        if not self.spec.trainable and self.semantics.frozen == "infer":
            return self.infer(x), self.mean, self.variance
        groups = sorted({self.group(i) for i in indices})
        members = {
            (k, g): [i for i in indices if self.key(i) == k and self.group(i) == g] for k in self.keys for g in groups
        }
        found = {kg: self.statistics(x, those) for kg, those in members.items()}
        mean = {k: sum((found[k, g][0] for g in groups), Fraction(0)) / len(groups) for k in self.keys}
        variance = {k: sum((found[k, g][1] for g in groups), Fraction(0)) / len(groups) for k in self.keys}
        corrections = {k: self.correction(k, mean[k], self.spread(variance[k])) for k in self.keys}
        if self.passes(x):
            return {i: number(x[i]) for i in indices}, mean, variance
        if self.moves():
            self.advance(x, members, found, groups)
        y = {}
        for i in indices:
            k = self.key(i)
            m, v = found[k, self.group(i)][:2]
            if self.semantics.training_statistics == "moving":
                m, v = self.published(k)
            z = (number(x[i]) - m) / self.spread(v)
            if self.spec.renorm:
                r, d = corrections[k]
                z = r * z + d
            if self.data.adjustment is not None:
                z = number(self.data.adjustment.scale[i]) * z + number(self.data.adjustment.bias[i])
            y[i] = self.activated(self.gamma[k] * z + self.beta[k])
        return y, mean, variance

    def activated(self, y: Fraction) -> Fraction:
        """Return y behind the activation."""
        return max(y, Fraction(0)) if self.semantics.activation == "relu" else y

    def passes(self, x: Any) -> bool:
        """Return whether y is x: one value for each kept position."""
        return self.semantics.single_value == "identity" and x.size == len(self.keys)

    def moves(self) -> bool:
        """Return whether a step moves the state."""
        if not self.spec.trainable and self.semantics.frozen != "train":
            return False
        if not self.scenario.updating and self.semantics.updates != "always":
            return False
        return self.semantics.average != "none"

    def advance(self, x: Any, members: Any, found: Any, groups: list[int]) -> None:
        """Let the statistics of a batch enter the state."""
        rule = self.semantics.virtual_statistics
        if rule == "sequential":
            for g in groups:
                self.enter({k: (found[k, g][0], self.stored(found[k, g][1], found[k, g][2])) for k in self.keys})
            return
        entering = {}
        for k in self.keys:
            if rule == "pooled":
                m, v, n = self.statistics(x, [i for g in groups for i in members[k, g]])
                entering[k] = m, self.stored(v, n)
            else:
                means = [found[k, g][0] for g in groups]
                stored = [self.stored(found[k, g][1], found[k, g][2]) for g in groups]
                entering[k] = sum(means, Fraction(0)) / len(groups), sum(stored, Fraction(0)) / len(groups)
        self.enter(entering)

    def enter(self, entering: dict[Key, tuple[Fraction, Fraction]]) -> None:
        """Move every statistic towards one pair of mean and stored variance."""
        a, b = self.fraction(), self.rounded_complement(self.spec.renorm_momentum)
        for k, (m, v) in entering.items():
            s = self.spread(v)
            if not self.spec.renorm:
                self.mean[k] += a * (m - self.mean[k])
                if self.semantics.moving_spread == "stddev":
                    old = root(self.variance[k] + self.epsilon)
                    self.variance[k] = max((old + a * (s - old)) ** 2 - self.epsilon, Fraction(0))
                else:
                    self.variance[k] += a * (v - self.variance[k])
            elif self.semantics.renorm == "paper":
                self.mean[k] += a * (m - self.mean[k])
                self.q[k] += a * (s - self.q[k])
                self.p[k], self.deviation[k] = self.mean[k], self.q[k]
                self.variance[k] = max(self.q[k] ** 2 - self.epsilon, Fraction(0))
            else:
                self.p[k] += b * (m - self.p[k])
                self.q[k] += b * (s - self.q[k])
                self.weight[k] += b * (1 - self.weight[k])
                if self.semantics.renorm == "tf_1_7":
                    self.mean[k] += a * (self.p[k] / self.weight[k] - self.mean[k])
                    debiased = (self.q[k] / self.weight[k]) ** 2 - self.epsilon
                    self.variance[k] += a * (debiased - self.variance[k])
                else:
                    self.mean[k] += a * (m - self.mean[k])
                    self.deviation[k] += a * (s - self.deviation[k])
                    self.variance[k] = max(self.deviation[k] ** 2 - self.epsilon, Fraction(0))
        self.t += 1

    def correction(self, k: Key, mean: Fraction, stddev: Fraction) -> tuple[Fraction, Fraction]:
        """Return renorm's r and d, clipped, from the state before the step."""
        p, q = self.p[k], self.q[k]
        if self.semantics.renorm == "tf_1_7":
            p, q = p + (1 - self.weight[k]) * mean, q + (1 - self.weight[k]) * stddev
        if self.semantics.renorm == "tf_1_15":
            q = max(q, root(self.epsilon))
        r, d = stddev / q, (mean - p) / q
        limits = self.spec.renorm_clipping
        if limits is None:
            return r, d
        if limits.rmin is not None:
            r = max(r, number(limits.rmin))
        elif self.semantics.renorm == "paper" and limits.rmax is not None:
            r = max(r, 1 / number(limits.rmax))
        if limits.rmax is not None:
            r = min(r, number(limits.rmax))
        if limits.dmax is not None:
            d = min(max(d, -number(limits.dmax)), number(limits.dmax))
        return r, d

    def published(self, k: Key) -> tuple[Fraction, Fraction]:
        """Return the statistics that inference uses."""
        if self.semantics.average != "zero_debiased" or self.t == 0 or self.spec.momentum is None:
            return self.mean[k], self.variance[k]
        weight = 1 - number(self.spec.momentum) ** self.t
        return self.mean[k] / weight, self.variance[k] / weight

    def infer(self, x: Any) -> dict[Key, Fraction]:
        """Return the output of inference by element."""
        y = {}
        for i in product(*(range(n) for n in x.shape)):
            m, v = self.published(self.key(i))
            y[i] = self.activated(
                self.gamma[self.key(i)] * (number(x[i]) - m) / self.spread(v) + self.beta[self.key(i)]
            )
        return y
