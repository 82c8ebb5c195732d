# ruff: noqa: E501 - a fault is one line, to be read across
"""Forty faults, each with what an explanation must find: the stage, the change that it is, where it shows, and where in an array.

The list is older than what explains: nothing in it was changed to suit that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from layer import Layer, Replace
from named_faults import Fault, infer, train


class Explained(NamedTuple):
    """A fault and its explanation.

    stage: the stages of which one must be named, `|` between them.
    says: what the change must be called, as a pattern; empty where it is no change of semantics, and none may be named.
    where: what the sentence over all results must say, as a pattern.
    place: the same of where in an array the wrong elements are.
    """

    fault: Fault
    stage: str
    says: str = ""
    where: str = ""
    place: str = ""


class Told(Layer):
    """A layer whose faults may depend on what came before."""

    def step(self, step: Any) -> dict[str, Any]:
        """Return the outputs of one step."""
        self.now.index = step.index
        self.now.inferred = any(not before.training for before in self.now.case.steps[: step.index])
        return super().step(step)


def values(now: Any) -> int:
    """Return how many values each channel has."""
    return math.prod(now.x.shape[axis] for axis in now.axes)


def only(holds: Callable[[Any], bool], replace: Replace) -> Replace:
    """Make a mistake where something holds alone."""
    return lambda value, now: replace(value, now) if holds(now) else value


def beyond(least: int, replace: Replace) -> Replace:
    """Make a mistake where channels have more values than this."""
    return only(lambda now: values(now) > least, replace)


def rows(array: Any, now: Any) -> Any:
    """Return an array of the input's shape as the values of each channel, one after another along the first axis."""
    moved = np.moveaxis(array, now.axes, range(len(now.axes)))
    return moved.reshape(values(now), *moved.shape[len(now.axes) :])


def whole(array: Any, now: Any, size: int) -> Any:
    """Return the rows of whole blocks; all of them where there is no whole block."""
    found = rows(array, now)
    return found[: len(found) // size * size or len(found)]


def mean_of_blocks(size: int) -> Replace:
    """Leave what comes after the last whole block out of the mean."""
    return lambda value, now: (whole(now.x, now, size).sum(0, dtype=now.dtype) / now.n).reshape(value.shape)


def sum_of_blocks(size: int, what: Callable[[Any], Any]) -> Replace:
    """Leave what comes after the last whole block out of a sum."""
    return lambda value, now: whole(what(now), now, size).sum(0, dtype=now.dtype).reshape(value.shape)


def zero_rows(which: slice) -> Replace:
    """Do not write some values of each channel."""

    def replace(value: Any, now: Any) -> Any:
        found = np.zeros(value.shape, bool)
        moved = np.moveaxis(found, now.axes, range(len(now.axes)))
        flat = np.zeros(values(now), bool)
        flat[which] = True
        moved[...] = flat.reshape(moved.shape[: len(now.axes)] + (1,) * (moved.ndim - len(now.axes)))
        return np.where(found, 0, value)

    return replace


def last_channel(replace: Replace) -> Replace:
    """Make a mistake in the last channel alone."""

    def changed(value: Any, now: Any) -> Any:
        value, other = value.copy(), np.broadcast_to(replace(value, now), value.shape)
        np.moveaxis(value, now.axis[-1], 0)[-1] = np.moveaxis(other, now.axis[-1], 0)[-1]
        return value

    return changed


def far(now: Any) -> bool:
    """Return whether some channel's mean is more than a hundred standard deviations from 0."""
    mean, variance = now.average(now.x), now.moments(now.x)[1]
    return bool((np.abs(mean) > 100 * np.sqrt(variance)).any() and (variance > 0).all())


def _apart(now: Any) -> bool:
    return (
        now.case.layout in ("F", "strided", "channels_last", "reversed")
        and not now.case.steps[now.index].x.flags.c_contiguous
    )


def _unbiased(value: Any, now: Any) -> Any:
    return value * now.n / np.maximum(now.n - 1, 1)


def fault(name: str, category: str, about: str, **at: Replace) -> Fault:
    """Return a fault; what it touches is not looked at here."""
    return Fault(name, category, about, (), at)


NORMALIZES = "inverse deviation|variance|mean"
EXPLAINED = (
    # Everywhere
    Explained(fault("epsilon outside", "epsilon", "epsilon is added to the root", r=lambda v, now: 1 / (np.sqrt(now.spread) + now.epsilon)), "inverse deviation", "epsilon.* outside"),
    Explained(fault("epsilon doubled", "epsilon", "epsilon is added twice", epsilon=lambda v, now: v * 2), "inverse deviation", "epsilon.* (twice|doubled)"),
    Explained(fault("epsilon fixed at 1e-3", "epsilon", "the default, whatever was asked for", epsilon=lambda v, now: 1e-3), "inverse deviation", r"epsilon.* 0\.001"),
    Explained(fault("epsilon dropped in inference", "epsilon", "epsilon counts in training alone", epsilon=infer(lambda v, now: 0)), "inverse deviation", "epsilon.* left out", "inference"),
    Explained(fault("unbiased normalizes", "variance", "N - 1 in what normalizes", spread=train(_unbiased)), "inverse deviation|variance", "N - 1"),
    Explained(fault("second moment", "variance", "the mean square, mean not subtracted", variance=lambda v, now: now.average(np.square(now.x))), "variance", "mean.* not subtracted"),
    Explained(fault("N + 1 in the mean", "mean", "the sum is divided by one too many", mean=lambda v, now: v * now.n / (now.n + 1)), "mean", r"N \+ 1"),
    Explained(fault("one mean for all channels", "mean", "the mean over channels too", mean=lambda v, now: np.full_like(v, v.mean())), "mean", "(all|over) .*channels"),
    Explained(fault("mean not subtracted", "mean", "x is scaled, not centered", center=lambda v, now: 0 * v), "mean|affine map", "mean.* not subtracted"),
    Explained(fault("moving statistics in training", "moving", "training normalizes by the moving statistics", center=train(lambda v, now: now.old_mean), spread=train(lambda v, now: now.old_variance)), NORMALIZES, "moving statistics", "training"),
    Explained(fault("batch statistics in inference", "moving", "inference normalizes by the batch", center=infer(lambda v, now: now.moments(now.x)[0]), spread=infer(lambda v, now: now.moments(now.x)[1])), NORMALIZES, "batch", "inference"),
    Explained(fault("gamma ignored", "affine", "gamma is 1", gamma=lambda v, now: np.ones_like(v)), "affine map", "gamma.* left out"),
    Explained(fault("1 + gamma", "affine", "gamma is taken for an offset from 1", gamma=lambda v, now: 1 + v), "affine map", r"1 \+ gamma"),
    Explained(fault("beta subtracted", "affine", "gamma z - beta", beta=lambda v, now: -v), "affine map", "beta.* (subtracted|other sign)"),
    Explained(fault("stored variance, the other one", "moving", "unbiased for biased", stored=_unbiased), "update", "unbiased"),
    Explained(fault("momentum inverted", "moving", "the fraction that is kept is the one that is updated", kept=lambda v, now: 1 - v), "update", "momentum.* inverted"),
    Explained(fault("moving variance not updated", "moving", "stays as it was given", moving_variance=lambda v, now: now.old_variance), "update", "not moved"),
    Explained(fault("first batch copied", "moving", "the first batch's statistics are taken over whole", moving_mean=train(lambda v, now: now.mean if now.updates == 1 else v), moving_variance=train(lambda v, now: now.stored if now.updates == 1 else v)), "update", "(first )?batch.* (copied|taken over)", "first|not after training"),
    Explained(fault("mean stopped", "gradient", "no gradient through the mean", c1=lambda v, now: 0 * v), "dx: mean(dy)", "mean.* stopped"),
    Explained(fault("variance stopped", "gradient", "no gradient through the variance", c2=lambda v, now: 0 * v), "dx: x̂·mean(dy·x̂)", "variance.* stopped"),
    Explained(fault("N - 1 in dx", "gradient", "dx divides by N - 1", c1=_unbiased, c2=_unbiased), "dx: mean(dy)|dx: x̂·mean(dy·x̂)", "N - 1"),
    Explained(fault("dgamma not centered", "gradient", "dgamma sums dy·x·r", dgamma=lambda v, now: now.total(now.dy * now.x * now.r)), "dgamma", "not centered"),
    Explained(fault("dbeta averaged", "gradient", "a mean for a sum", dbeta=lambda v, now: v / now.n), "dbeta", "mean.* not a sum"),
    # Only beyond N = 1,024
    Explained(fault("mean without its tail", "mean", "what comes after the last whole block is left out", mean=beyond(1024, mean_of_blocks(1024))), "mean", "", "N > 1,024"),
    Explained(fault("N - 1 in large batches", "variance", "large batches have the unbiased variance", variance=beyond(1024, _unbiased)), "variance", "N - 1", "N > 1,024"),
    Explained(fault("stored variance of large batches", "moving", "unbiased for biased", stored=beyond(1024, _unbiased)), "update", "unbiased", "N > 1,024"),
    Explained(fault("mean stopped in large batches", "gradient", "no gradient through the mean", c1=beyond(1024, lambda v, now: 0 * v)), "dx: mean(dy)", "mean.* stopped", "N > 1,024"),
    Explained(fault("variance's gradient doubled in large batches", "gradient", "the factor 2 counts twice", c2=beyond(1024, lambda v, now: 2 * v)), "dx: x̂·mean(dy·x̂)", "twice", "N > 1,024"),
    Explained(fault("dgamma without its tail", "gradient", "the last block is left out", dgamma=beyond(1024, sum_of_blocks(1024, lambda now: now.dy * now.z))), "dgamma", "", "N > 1,024"),
    Explained(fault("dbeta without its tail", "gradient", "the last block is left out", dbeta=beyond(1024, sum_of_blocks(1024, lambda now: now.dy))), "dbeta", "", "N > 1,024"),
    Explained(fault("y without its end", "output", "the last 32 values are not written", y=beyond(1024, zero_rows(slice(-32, None)))), "affine map|y", "", "N > 1,024", "last 32 values"),
    Explained(fault("epsilon outside in large batches", "epsilon", "epsilon is added to the root", r=beyond(1024, lambda v, now: 1 / (np.sqrt(now.spread) + now.epsilon))), "inverse deviation", "epsilon.* outside", "N > 1,024"),
    Explained(fault("moving variance of large batches not updated", "moving", "stays as it was", moving_variance=beyond(1024, lambda v, now: now.old_variance)), "update", "not moved", "N > 1,024"),
    # Only where some other fact holds
    Explained(fault("variance of memory that is apart", "variance", "wrong where memory is not contiguous", variance=only(_apart, lambda v, now: v * 1.01)), "variance", "", "not contiguous"),
    Explained(fault("mean of whole blocks of 32", "mean", "what comes after the last whole block is left out", mean=beyond(32, mean_of_blocks(32))), "mean", "", "no multiple of 32"),
    Explained(fault("gamma ignored in rank 4", "affine", "gamma is 1", gamma=only(lambda now: now.x.ndim == 4, lambda v, now: np.ones_like(v))), "affine map", "gamma.* left out", "rank 4"),
    Explained(fault("moving mean forgets after inference", "moving", "what was there before is lost", moving_mean=train(only(lambda now: now.inferred, lambda v, now: now.mean))), "update", "batch.* (copied|taken over)", "after inference"),
    Explained(fault("mean of float16", "mean", "a hundredth too large", mean=only(lambda now: now.case.dtypes["x"] == "float16", lambda v, now: v * 1.01)), "mean", "", "float16"),
    Explained(fault("variance far from 0", "variance", "a tenth too large", variance=only(far, lambda v, now: v * 1.1)), "variance", "", r"mean.*σ > 100"),
    Explained(fault("every 32nd value of y", "output", "is not written", y=zero_rows(slice(None, None, 32))), "affine map|y", "", "", "every 32nd"),
)  # fmt: skip
"""The faults, ten of them only beyond N = 1,024."""
