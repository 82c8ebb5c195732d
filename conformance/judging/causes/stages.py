"""Batch normalization with a name for each stage, so that another value can stand for what comes of it.

Stages, in order: gamma, beta, epsilon; of a training batch mean, variance, stored (what enters the moving variance) and
fraction (with which a batch enters); moving_mean, moving_variance; center, spread and r, which normalize; y; dy, z, c1
and c2 (the means of dy and of dy·z), scale, dx, dgamma, dbeta. `reference` computes the same without names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from conformance.judging.causes.failed_step import NEAR, FailedStep
from reference import State
from reference.averages import published, stored_factor, update_fraction
from reference.batch_norm import moments
from reference.batches import average, observe, total
from reference.spec import Array, floored_epsilon

Replace = Callable[[Any, Any], Any]


def modelled(step: FailedStep) -> bool:
    """Return whether these stages are all that the step has."""
    facts, semantics = step.exact_case.facts[step.t], step.semantics
    plain = not (facts.renorm or facts.virtual or facts.adjustment) and facts.of == "y" and facts.backward != "together"
    alone = step.exact_case.case.actions.members == 1 and semantics.moving_spread == "variance"
    return plain and alone and not semantics.mask_offset and step.x.size > 0


class Stages:
    """One step, stage by stage; at: what stands for stages, in the channels that are wrong."""

    def __init__(self, step: FailedStep, at: Mapping[str, Replace] | None = None) -> None:
        self.step, self.at = step, at or {}
        self.now: Any = SimpleNamespace(step=step, axes=step.axes)
        with np.errstate(all="ignore"):
            self._begin()
            self._take()
            self._move()
            self._normalize()
            self._differentiate()

    def put(self, name: str, value: Any) -> Any:
        """Set a stage's value, or what stands for it in the channels that are wrong."""
        if name in self.at:
            other: Array = self.at[name](value, self.now)
            value = np.where(self.step.channels, other, np.asarray(value))
        setattr(self.now, name, value)
        return value

    def _begin(self) -> None:
        step, now = self.step, self.now
        parameters, one = step.exact_case.parameters(step.t), np.ones((), step.x.dtype)
        now.x, now.training, now.one = step.x, step.training, one
        for name, array, default in (("gamma", parameters.gamma, one), ("beta", parameters.beta, 0 * one)):
            setattr(now, f"given_{name}", default if array is None else step.align(array))
        for name in ("gamma", "beta"):
            self.put(name, getattr(now, f"given_{name}"))
        self.put("epsilon", one * floored_epsilon(step.spec, step.semantics))
        before, nothing = step.before, np.full(step.channels.shape, np.nan)
        now.old_mean = nothing if before is None else step.align(before.mean)
        now.old_variance = nothing if before is None else step.align(before.variance)
        now.updates = before.updates if before else step.exact_case.case.batches

    def _take(self) -> None:
        """Take the batch's statistics."""
        step, now = self.step, self.now
        batch = observe(step.x, step.exact_case.mask(step.t), step.spec, step.semantics)
        now.n, now.shares = batch.n, batch.shares
        mean, variance = moments(batch.counted, batch.axes, batch.shares)
        now.counted, now.average = batch.counted, self.average
        if step.training:
            self.put("mean", mean)
            self.put("variance", variance)
            self.put("stored", now.variance * stored_factor(batch.n, step.spec, step.semantics))
        else:
            now.mean, now.variance, now.stored = mean, variance, variance

    def total(self, values: Any) -> Any:
        """Return the sum of each channel."""
        return total(values, self.now.axes)

    def average(self, values: Any) -> Any:
        """Return the mean of what counts."""
        return average(values, self.now.axes, self.now.shares)

    def _move(self) -> None:
        step, now = self.step, self.now
        moves = step.promise.updates(step.t)
        own = update_fraction(now.updates + 1, step.spec, step.semantics, step.x.dtype.type) if moves else 0
        self.put("fraction", now.one * own)
        new = ((now.old_mean, now.mean), (now.old_variance, now.stored))
        moved = [old + now.fraction * (one - old) if np.any(now.fraction != 0) else old for old, one in new]
        now.updated = now.updates + bool(moves)
        self.put("moving_mean", moved[0])
        self.put("moving_variance", moved[1])

    def _normalize(self) -> None:
        step, now = self.step, self.now
        used = now.mean, now.variance
        if not step.training or step.semantics.training_statistics == "moving":
            state = State(now.moving_mean, now.moving_variance, now.updated)
            if not step.training:
                state = State(now.old_mean, now.old_variance, now.updates)
            state = published(state, step.spec, step.semantics)
            used = state.mean, state.variance
        self.put("center", used[0])
        self.put("spread", used[1])
        now.outside = step.semantics.epsilon_placement == "outside"
        self.put("r", 1 / (np.sqrt(now.spread) + now.epsilon if now.outside else np.sqrt(now.spread + now.epsilon)))
        self.put("y", now.gamma * ((now.x - now.center) * now.r) + now.beta)

    def _differentiate(self) -> None:
        step, now, dy = self.step, self.now, self.step.exact_case.dy(self.step.t)
        if dy is None:
            return
        now.total = self.total
        dy = self.put("dy", np.asarray(dy))
        z = self.put("z", (now.x - now.center) * now.r)
        self.put("dbeta", now.total(dy))
        self.put("dgamma", now.total(dy * z))
        self.put("scale", now.gamma * now.r)
        if not step.training:
            self.put("dx", now.scale * dy)
            return
        self.put("c1", now.total(dy) / now.n)
        root = 1 / (now.r * np.sqrt(now.spread)) if now.outside else now.one
        self.put("c2", now.total(dy * z) / now.n * root)
        inside = now.one if now.shares is None else now.shares * now.n
        self.put("dx", now.scale * (dy - inside * now.c1 - inside * z * now.c2))

    @property
    def sizes(self) -> dict[str, Array]:
        """How large the terms are that outputs add up, in absolute values."""
        now = self.now
        with np.errstate(all="ignore"):
            found = {"y": np.abs(now.gamma * now.r) * (np.abs(now.x) + np.abs(now.center)) + np.abs(now.beta)}
            if hasattr(now, "dx"):
                around = np.abs(now.z) * np.abs(now.c2) + np.abs(now.c1) if now.training else 0.0
                found["dx"] = np.abs(now.scale) * (np.abs(now.dy) + around)
                found["dgamma"] = now.total(np.abs(now.dy * now.r) * (np.abs(now.x) + np.abs(now.center)))
        return found

    @property
    def outputs(self) -> dict[str, Array]:
        """What the step returns."""
        names = ["y", "dx", "dgamma", "dbeta", *(("mean", "variance") if self.now.training else ())]
        known = () if self.step.before is None else ("moving_mean", "moving_variance")
        found = {name: getattr(self.now, name) for name in (*names, *known) if hasattr(self.now, name)}
        if not self.step.training and self.step.before is None:
            return {}
        if self.step.semantics.training_statistics == "moving" and self.step.training:
            found.pop("dx", None)
        return found


def fits(step: FailedStep, right: Stages, at: Mapping[str, Replace], leeway: float = NEAR) -> bool:
    """Return whether a step's answer could be what comes of these values; right: its stages without them."""
    other = Stages(step, at)
    sizes, own = other.sizes, right.sizes
    with np.errstate(all="ignore"):
        more = {name: np.nan_to_num(np.maximum(size - own[name], 0.0)) for name, size in sizes.items()}
    return step.fits(other.outputs, more, leeway)
