# ruff: noqa: E501 - a fault is one line, to be read across
"""Mistakes that somebody might make in batch normalization, by name, each as what it puts in the place of a value.

`at` maps a point of `layer.py` to a function of the right value and of everything computed before it. `touches` are the
outputs that it changes on some case; what it changes beyond those is an error of this list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

Replace = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Fault:
    """A mistake: its name, its category, what it is in a sentence, the outputs that it touches, and how it is made.

    One of the category `rounding` is none in exact arithmetic.
    """

    name: str
    category: str
    about: str
    touches: tuple[str, ...]
    at: Mapping[str, Replace]


def train(replace: Replace) -> Replace:
    """Make the mistake in training alone."""
    return lambda value, now: replace(value, now) if now.training else value


def infer(replace: Replace) -> Replace:
    """Make the mistake in inference alone."""
    return lambda value, now: value if now.training else replace(value, now)


def rounded(dtype: Any) -> Replace:
    """Round to a dtype."""
    return lambda value, now: value.astype(dtype)


def rolled(value: Any, now: Any) -> Any:
    """Give each channel what belongs to the one before it."""
    return np.roll(value, 1, now.axis[-1])


def last_from_first(value: Any, now: Any) -> Any:
    """Give the last channel what belongs to the first."""
    axis, value = now.axis[-1], value.copy()
    np.moveaxis(value, axis, 0)[-1] = np.moveaxis(value, axis, 0)[0]
    return value


def moments(rows: Callable[[int], slice], which: int) -> Replace:
    """Take the batch's statistics over some of its rows; which: 0 for the mean, 1 for the variance."""

    def replace(value: Any, now: Any) -> Any:
        axis = now.axes[0]
        some = (slice(None),) * axis + (rows(now.x.shape[axis]),)
        if now.x[some].size == 0:
            return value
        return now.moments(now.x[some], None if now.weights is None else now.weights[some])[which]

    return replace


def some_rows(rows: Callable[[int], slice]) -> dict[str, Replace]:
    """Take mean and variance over some rows."""
    return {"mean": moments(rows, 0), "variance": moments(rows, 1)}


def half_sums(value: Any, now: Any) -> Any:
    """Add one by one in half precision."""
    dtype = ml_dtypes.bfloat16 if now.case.steps[0].x.dtype == ml_dtypes.bfloat16 else np.float16
    rows = np.moveaxis(now.x, now.axes, range(len(now.axes)))
    inner = rows.shape[len(now.axes) :]
    total = np.add.accumulate(rows.reshape(-1, *inner).astype(dtype), 0)[-1]
    return total.astype(np.float64).reshape(value.shape) / now.n


def without_last_row(value: Any, now: Any) -> Any:
    """Leave the last row of the batch 0."""
    value = value.copy()
    np.moveaxis(value, now.axes[0], 0)[-1] = 0
    return value


def normalized(now: Any, x: Any) -> Any:
    """Return x by the statistics in use, without gamma and beta."""
    return (x - now.center) * now.r


Y, NORMALIZED = ("y",), ("y", "dx", "dgamma")
STATE, BATCH = ("moving_mean", "moving_variance"), ("mean", "variance")
OF_STORED = (*NORMALIZED, "moving_variance")
OF_VARIANCE, OF_MEAN = (*OF_STORED, "variance"), (*NORMALIZED, "moving_mean", "mean")
EVERYTHING_BUT_DBETA = (*NORMALIZED, *STATE, *BATCH)

FAULTS = (
    # Epsilon
    Fault("epsilon × 1.01", "epsilon", "epsilon is 1 % too large", NORMALIZED, {"epsilon": lambda v, now: v * 1.01}),
    Fault("epsilon doubled", "epsilon", "epsilon is added twice", NORMALIZED, {"epsilon": lambda v, now: v * 2}),
    Fault("epsilon dropped", "epsilon", "the variance alone is under the root", NORMALIZED, {"epsilon": lambda v, now: 0}),
    Fault("epsilon outside", "epsilon", "epsilon is added to the root", NORMALIZED, {"r": lambda v, now: 1 / (np.sqrt(now.spread) + now.epsilon)}),
    Fault("epsilon fixed at 1e-3", "epsilon", "the default, whatever was asked for", NORMALIZED, {"epsilon": lambda v, now: 1e-3}),
    Fault("epsilon floored at 1e-5", "epsilon", "cuDNN's floor, where none is promised", NORMALIZED, {"epsilon": lambda v, now: max(v, 1e-5)}),
    Fault("epsilon dropped in inference", "epsilon", "epsilon counts in training alone", NORMALIZED, {"epsilon": infer(lambda v, now: 0)}),
    Fault("epsilon in the moving variance", "epsilon", "the stored variance has epsilon in it already", OF_STORED, {"stored": lambda v, now: v + now.epsilon}),
    Fault("epsilon dropped in dgamma", "epsilon", "the normalized input of dgamma is made without epsilon", ("dgamma",), {"dgamma": lambda v, now: now.total(now.dy * (now.x - now.center) / np.sqrt(now.spread))}),
    # Variance
    Fault("unbiased normalizes", "variance", "N - 1 in what normalizes", NORMALIZED, {"spread": train(lambda v, now: v * now.n / np.maximum(now.n - 1, 1))}),
    Fault("stored variance, the other one", "variance", "biased for unbiased, and the reverse", OF_STORED, {"stored": lambda v, now: now.variance * np.where(v == now.variance, now.n / np.maximum(now.n - 1, 1), 1)}),
    Fault("N - 2 in the unbiased", "variance", "one too many subtracted, or N + 1 for N where it is biased", OF_STORED, {"stored": lambda v, now: v * now.n / np.maximum(now.n - 1, 1)}),
    Fault("root forgotten", "variance", "divides by the variance", NORMALIZED, {"r": lambda v, now: 1 / (now.spread + now.epsilon)}),
    Fault("deviation stored", "variance", "the moving variance averages standard deviations", OF_STORED, {"stored": lambda v, now: np.sqrt(v)}),
    Fault("second moment", "variance", "the mean square, mean not subtracted", OF_VARIANCE, {"variance": lambda v, now: now.average(np.square(now.x), now.weights)}),
    Fault("mean absolute deviation", "variance", "the mean of |x - m|, squared", OF_VARIANCE, {"variance": lambda v, now: np.square(now.average(np.abs(now.x - now.mean), now.weights))}),
    Fault("variance of the moving mean", "variance", "deviations from the moving mean", OF_VARIANCE, {"variance": lambda v, now: now.average(np.square(now.x - now.old_mean), now.weights)}),
    # Mean, and what is averaged over
    Fault("mean not subtracted", "mean", "x is scaled, not centered", NORMALIZED, {"center": lambda v, now: 0 * v}),
    Fault("half of the batch", "mean", "statistics of the first half of the rows", EVERYTHING_BUT_DBETA, some_rows(lambda n: slice((n + 1) // 2))),
    Fault("last row dropped", "mean", "statistics of all rows but the last", EVERYTHING_BUT_DBETA, some_rows(lambda n: slice(n - 1))),
    Fault("first row dropped", "mean", "statistics of all rows but the first", EVERYTHING_BUT_DBETA, some_rows(lambda n: slice(1, None))),
    Fault("every other row", "mean", "statistics of one row in two", EVERYTHING_BUT_DBETA, some_rows(lambda n: slice(None, None, 2))),
    Fault("N + 1 in the mean", "mean", "the sum is divided by one too many", OF_MEAN, {"mean": lambda v, now: v * now.n / (now.n + 1)}),
    Fault("statistics of the next channel", "mean", "channels are off by one where x is normalized", NORMALIZED, {"center": rolled, "spread": rolled}),
    Fault("last channel by the first", "mean", "the last channel is normalized by the first one's statistics", NORMALIZED, {"center": last_from_first, "spread": last_from_first}),
    Fault("one mean for all channels", "mean", "the mean over channels too", OF_MEAN, {"mean": lambda v, now: np.full_like(v, v.mean())}),
    # Affine
    Fault("beta before gamma", "affine", "gamma (z + beta)", Y, {"y": lambda v, now: now.gamma * (normalized(now, now.x) + now.beta)}),
    Fault("gamma ignored", "affine", "gamma is 1", ("y", "dx"), {"gamma": lambda v, now: np.ones_like(v)}),
    Fault("beta ignored", "affine", "beta is 0", Y, {"beta": lambda v, now: 0 * v}),
    Fault("1 + gamma", "affine", "gamma is taken for an offset from 1", ("y", "dx"), {"gamma": lambda v, now: 1 + v}),
    Fault("|gamma|", "affine", "the sign of gamma is lost", ("y", "dx"), {"gamma": lambda v, now: np.abs(v)}),
    Fault("gamma of the next channel", "affine", "gamma is off by one channel", ("y", "dx"), {"gamma": rolled}),
    Fault("beta of the next channel", "affine", "beta is off by one channel", Y, {"beta": rolled}),
    Fault("beta subtracted", "affine", "gamma z - beta", Y, {"beta": lambda v, now: -v}),
    Fault("gamma and beta in training alone", "affine", "inference returns z", Y, {"y": infer(lambda v, now: normalized(now, now.x))}),
    # Moving statistics
    Fault("momentum inverted", "moving", "the fraction that is kept is the one that is updated", (*NORMALIZED, *STATE), {"kept": lambda v, now: 1 - v}),
    Fault("momentum squared", "moving", "applied twice", (*NORMALIZED, *STATE), {"kept": lambda v, now: v * v}),
    Fault("momentum off by 1e-3", "moving", "a thousandth more is updated", (*NORMALIZED, *STATE), {"kept": lambda v, now: v - 1e-3}),
    Fault("momentum off by 1e-5", "moving", "a hundred-thousandth more is updated", (*NORMALIZED, *STATE), {"kept": lambda v, now: v - 1e-5}),
    Fault("momentum fixed at 0.99", "moving", "the default, whatever was asked for", (*NORMALIZED, *STATE), {"kept": lambda v, now: 0.99}),
    Fault("momentum warmed up", "moving", "min(momentum, (1 + t) / (10 + t)), as averages with num_updates have it", (*NORMALIZED, *STATE), {"kept": lambda v, now: min(v, (1 + now.updates) / (10 + now.updates))}),
    Fault("moving mean not updated", "moving", "stays as it was given", ("y", "dgamma", "moving_mean"), {"moving_mean": lambda v, now: now.old_mean}),
    Fault("moving variance not updated", "moving", "stays as it was given", OF_STORED, {"moving_variance": lambda v, now: now.old_variance}),
    Fault("updated once", "moving", "the first training step alone moves the averages", (*NORMALIZED, *STATE), {"moving_mean": lambda v, now: v if now.updates <= 1 else now.old_mean, "moving_variance": lambda v, now: v if now.updates <= 1 else now.old_variance}),
    Fault("updated in inference", "moving", "inference moves the moving mean", ("y", "dgamma", "moving_mean"), {"moving_mean": infer(lambda v, now: now.kept * v + (1 - now.kept) * now.average(now.x))}),
    Fault("updated twice", "moving", "each batch enters the moving mean twice", ("y", "dgamma", "moving_mean"), {"moving_mean": train(lambda v, now: now.kept * v + (1 - now.kept) * now.mean)}),
    Fault("first batch copied", "moving", "the first batch's mean is taken over whole", ("y", "dgamma", "moving_mean"), {"moving_mean": train(lambda v, now: now.mean if now.updates == 1 else v)}),
    Fault("moving statistics in training", "moving", "training normalizes by the moving statistics", NORMALIZED, {"center": train(lambda v, now: now.old_mean), "spread": train(lambda v, now: now.old_variance)}),
    Fault("batch statistics in inference", "moving", "inference normalizes by the batch", NORMALIZED, {"center": infer(lambda v, now: now.moments(now.x)[0]), "spread": infer(lambda v, now: now.moments(now.x)[1])}),
    Fault("never debiased", "moving", "a zero-debiased average is used as it is", NORMALIZED, {"weight": lambda v, now: 1}),
    Fault("debiased one step late", "moving", "1 - momentum**(t + 1)", NORMALIZED, {"weight": lambda v, now: 1 - now.kept ** (now.updates + 1)}),
    # Gradients
    Fault("mean stopped", "gradient", "no gradient through the mean", ("dx",), {"c1": lambda v, now: 0 * v}),
    Fault("variance stopped", "gradient", "no gradient through the variance", ("dx",), {"c2": lambda v, now: 0 * v}),
    Fault("statistics stopped", "gradient", "training's dx as inference has it", ("dx",), {"dx": lambda v, now: now.gamma * now.r * now.dy}),
    Fault("variance's gradient doubled", "gradient", "the factor 2 of the square counted twice", ("dx",), {"c2": lambda v, now: 2 * v}),
    Fault("N - 1 in dx", "gradient", "dx divides by N - 1", ("dx",), {"c1": lambda v, now: v * now.n / np.maximum(now.n - 1, 1), "c2": lambda v, now: v * now.n / np.maximum(now.n - 1, 1)}),
    Fault("dx without gamma", "gradient", "dx lacks gamma", ("dx",), {"dx": lambda v, now: v / np.where(now.gamma == 0, 1, now.gamma)}),
    Fault("dgamma without z", "gradient", "dgamma is dbeta", ("dgamma",), {"dgamma": lambda v, now: now.total(now.dy)}),
    Fault("dgamma not centered", "gradient", "dgamma sums dy·x·r", ("dgamma",), {"dgamma": lambda v, now: now.total(now.dy * now.x * now.r)}),
    Fault("dgamma times gamma", "gradient", "dgamma has gamma in it", ("dgamma",), {"dgamma": lambda v, now: v * now.gamma}),
    Fault("dgamma averaged", "gradient", "a mean for a sum", ("dgamma",), {"dgamma": lambda v, now: v / now.n}),
    Fault("dbeta averaged", "gradient", "a mean for a sum", ("dbeta",), {"dbeta": lambda v, now: v / now.n}),
    Fault("dbeta without the last row", "gradient", "the last row's gradient is lost", ("dbeta",), {"dbeta": lambda v, now: now.total(without_last_row(now.dy, now))}),
    Fault("inference dx as in training", "gradient", "inference's dx subtracts means too", ("dx",), {"dx": infer(lambda v, now: v - now.average(v))}),
    # Rounding, and the output itself
    Fault("one-pass variance", "rounding", "E[x²] - E[x]², where two passes are promised", OF_VARIANCE, {"variance": lambda v, now: np.maximum(now.average(np.square(now.x), now.weights) - np.square(now.average(now.x, now.weights)), 0)}),
    Fault("half-precision sum", "rounding", "the mean is summed in float16 or bfloat16", OF_MEAN, {"mean": half_sums}),
    Fault("float32 statistics", "rounding", "float64 statistics are rounded to float32", EVERYTHING_BUT_DBETA, {"mean": rounded(np.float32), "variance": rounded(np.float32)}),
    Fault("float16 statistics", "rounding", "batch statistics are rounded to float16", EVERYTHING_BUT_DBETA, {"mean": rounded(np.float16), "variance": rounded(np.float16)}),
    Fault("bfloat16 moving statistics", "rounding", "moving statistics are kept in bfloat16", (*NORMALIZED, *STATE), {"moving_mean": rounded(ml_dtypes.bfloat16), "moving_variance": rounded(ml_dtypes.bfloat16)}),
    Fault("r to 12 bits", "output", "a reciprocal root without its Newton step", NORMALIZED, {"r": lambda v, now: v * (1 + 2.0**-12)}),
    Fault("y in bfloat16", "rounding", "the output went through bfloat16", Y, {"y": rounded(ml_dtypes.bfloat16)}),
    Fault("y × (1 + 1e-5)", "output", "the output is 1e-5 too large", Y, {"y": lambda v, now: v * (1 + 1e-5)}),
    Fault("y × (1 + 1e-6)", "output", "the output is 1e-6 too large", Y, {"y": lambda v, now: v * (1 + 1e-6)}),
    Fault("dy in bfloat16", "rounding", "the gradient went through bfloat16", ("dx", "dgamma", "dbeta"), {"dy": rounded(ml_dtypes.bfloat16)}),
    Fault("last row not written", "output", "the last row of y is 0", Y, {"y": without_last_row}),
    Fault("y clipped", "output", "what is beyond ±6 is cut off", Y, {"y": lambda v, now: np.clip(v, -6, 6)}),
    # Masks
    Fault("mask ignored", "mask", "masked values count", EVERYTHING_BUT_DBETA, {"weights": lambda v, now: np.ones_like(v)}),
    Fault("masked mean over all", "mask", "the masked sum is divided by the number of all values", OF_MEAN, {"mean": lambda v, now: v if now.weights is None else now.average(now.weights * now.x)}),
    Fault("mask ignored in dx", "mask", "masked values share in the gradient through the statistics", ("dx",), {"dx": lambda v, now: v if not now.training else now.gamma * now.r * (now.dy - now.c1 - now.z * now.c2)}),
)  # fmt: skip
"""Every fault that the study applies."""
