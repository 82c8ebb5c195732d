"""Known ways to be wrong that no field of `Semantics` stands for, tried where nothing else explains an answer.

Each is a plain layer in float64 with something changed. It is named if an answer is within rounding of it. Without
bounds it proves nothing, but tells a person what to look for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from conformance.model.case import Case
from conformance.model.outcome import Outputs, Reply
from reference.precision import widened
from reference.spec import Array, broadcast, kept_axes


class How(NamedTuple):
    """How a layer computes.

    fraction: that of the update, if it is not 1 - momentum.
    epsilon: another one than asked for.
    over: what is averaged over: `sample`, each sample's own values of a channel; `row`, all values of a sample.
    """

    trains: Literal["biased", "unbiased"] = "biased"
    stores: Literal["biased", "unbiased", "deviation", "second_moment"] = "biased"
    fraction: float | None = None
    swapped: bool = False
    epsilon: float | None = None
    root: Literal["inside", "outside", "both", "squared", "largest"] = "inside"
    infers: Literal["moving", "batch", "first"] = "moving"
    trains_by: Literal["batch", "before", "after"] = "batch"
    updates: int = 1
    gamma: Literal["gamma", "none", "one_more"] = "gamma"
    beta: bool = True
    centred: bool = True
    over: Literal["batch", "sample", "row"] = "batch"


_FRACTIONS = (0.1, 0.01, 0.001, 0.05, 0.5, 0.03, 0.003)
_EPSILONS = (0.0, 1e-3, 1e-5, 1e-6, 1e-8, 1e-12)
WAYS: dict[str, dict[str, Any]] = {
    "it stores the variance times N/(N-1)": {"stores": "unbiased"},
    "training normalizes by the variance times N/(N-1)": {"trains": "unbiased"},
    "momentum is taken for the fraction that is updated": {"swapped": True},
    "the moving variance holds standard deviations": {"stores": "deviation"},
    "the moving variance holds means of squares": {"stores": "second_moment"},
    "epsilon is added to the deviation": {"root": "outside"},
    "epsilon is added to the variance and to the deviation": {"root": "both"},
    "epsilon is squared": {"root": "squared"},
    "the variance is at least epsilon, which is added to nothing": {"root": "largest"},
    "inference normalizes by the batch's own statistics": {"infers": "batch"},
    "inference normalizes by the statistics it began with": {"infers": "first"},
    "training normalizes by the moving statistics as they were": {"trains_by": "before"},
    "training normalizes by the moving statistics just updated": {"trains_by": "after"},
    "a training step moves the statistics twice": {"updates": 2},
    "a training step does not move the statistics": {"updates": 0},
    "gamma is left out": {"gamma": "none"},
    "the scale is 1 + gamma": {"gamma": "one_more"},
    "beta is left out": {"beta": False},
    "the mean is not subtracted": {"centred": False},
    "each sample is normalized by itself, channel by channel": {"over": "sample"},
    "each sample is normalized by itself, all channels together": {"over": "row"},
    **{f"the fraction that is updated is {value:g}, whatever momentum is": {"fraction": value} for value in _FRACTIONS},
    **{f"epsilon is {value:g}, whatever is asked": {"epsilon": value} for value in _EPSILONS},
}
_CLOSE = {2: 1e-2, 4: 1e-5, 8: 1e-5}
"""How near an answer must be, of the largest value, by the bytes of its dtype; statistics beside float64 may round."""


def nearest(case: Case, reply: Reply) -> str:
    """Return the way, or the two ways, that an answer is within rounding of, in words; empty if there is none."""
    if not _is_plain(case):
        return ""
    for number in (1, 2):
        off = {
            " and ".join(names): _off(case, reply, How(**{k: v for name in names for k, v in WAYS[name].items()}))
            for names in itertools.combinations(WAYS, number)
            if len({k for name in names for k in WAYS[name]}) == number
        }
        best = min(off, key=lambda words: off[words])
        if off[best] <= 1:
            return best
    return ""


def _is_plain(case: Case) -> bool:
    special = case.spec.virtual_batch_size is not None or case.spec.renorm or case.spec.momentum is None
    special |= not case.spec.trainable or not all(step.update and step.trainable for step in case.steps)
    extra = any(name.endswith((".mask", "_scale", "_bias")) for name in case.tensors)
    given = {"moving_mean", "moving_variance"} <= set(case.tensors)
    return given and not (special or extra) and all(case.x(t).size for t in range(len(case.steps)))


def _off(case: Case, reply: Reply, how: How) -> float:
    """Return how far an answer is from a way, in units of what rounding may do; infinite for a step without arrays."""
    worst, seen = 0.0, False
    for outcome, wanted in zip(reply.outcomes, _answers(case, how), strict=False):
        if not isinstance(outcome, Outputs):
            return float("inf")
        for name in (name for name in wanted if name in outcome.tensors):
            got = outcome.tensors[name]
            if got.shape != wanted[name].shape or got.dtype.itemsize not in _CLOSE:
                return float("inf")
            scale = _CLOSE[got.dtype.itemsize] * np.abs(wanted[name]).max(initial=1)
            off = float(np.abs(widened(got, np.float64) - wanted[name]).max(initial=0) / scale)
            worst, seen = max(worst, off if np.isfinite(off) else np.inf), True
    return worst if seen else float("inf")


def _answers(case: Case, how: How) -> Iterator[dict[str, Array]]:
    """Yield y and the moving statistics of each step of a plain layer that computes this way."""
    spec, rank = case.spec, len(case.shape)

    def spread(array: Array) -> Array:
        return broadcast(array, spec, rank)

    given: dict[str, Array] = {n: widened(a, np.float64) for n, a in case.tensors.items() if "." not in n}
    mean, variance = given["moving_mean"], given["moving_variance"]
    kept = mean.shape
    gamma, beta = spread(given.get("gamma", np.ones(kept))), spread(given.get("beta", np.zeros(kept)))
    gamma = {"gamma": gamma, "none": np.ones_like(gamma), "one_more": 1 + gamma}[how.gamma]
    momentum = 0.0 if spec.momentum is None else spec.momentum
    began, fraction = (mean, variance), momentum if how.swapped else 1 - momentum
    fraction = fraction if how.fraction is None else how.fraction
    epsilon = spec.epsilon if how.epsilon is None else how.epsilon
    for t, step in enumerate(case.steps):
        x, trains = widened(case.x(t), np.float64), step.mode == "train"
        m, v, n = _moments(x, kept_axes(spec, rank), how)
        before, bessel = (mean, variance), n / max(n - 1, 1)
        for _ in range(how.updates if trains else 0):
            m_in, v_in = _entering(x, kept_axes(spec, rank), how, bessel)
            mean = (1 - fraction) * mean + fraction * m_in.reshape(kept)
            variance = (1 - fraction) * variance + fraction * v_in.reshape(kept)
        used: dict[str, tuple[Array, Array]] = {"first": began, "before": before}
        which = how.trains_by if trains else how.infers
        if which == "batch":
            centre, spreading = m, v * (bessel if how.trains == "unbiased" and trains else 1)
        else:
            centre, spreading = (spread(array) for array in used.get(which, (mean, variance)))
            spreading = spreading**2 if how.stores == "deviation" else spreading
        with np.errstate(all="ignore"):
            y = gamma * ((x - centre * how.centred) / _root(spreading, epsilon, how)) + beta * how.beta
        yield {"y": y, "moving_mean": mean, "moving_variance": variance}


def _moments(x: Array, kept: tuple[int, ...], how: How) -> tuple[Array, Array, int]:
    """Return mean, variance and N of what is averaged over, to broadcast against the input."""
    axes = tuple(axis for axis in range(x.ndim) if axis not in kept)
    if how.over != "batch":
        axes = tuple(axis for axis in (range(1, x.ndim) if how.over == "row" else axes) if axis)
    return x.mean(axes, keepdims=True), x.var(axes, keepdims=True), int(np.prod([x.shape[a] for a in axes]))


def _entering(x: Array, kept: tuple[int, ...], how: How, bessel: float) -> tuple[Array, Array]:
    """Return what enters the moving statistics: the statistics of the whole batch, whatever normalizes."""
    mean, variance, _ = _moments(x, kept, how._replace(over="batch"))
    stored = {"biased": variance, "unbiased": bessel * variance, "deviation": np.sqrt(variance)}
    return mean, stored.get(how.stores, variance + mean**2)


def _root(variance: Array, epsilon: float, how: How) -> Array:
    """Return what the deviation from the mean is divided by."""
    roots = {
        "inside": lambda: np.sqrt(variance + epsilon),
        "outside": lambda: np.sqrt(variance) + epsilon,
        "both": lambda: np.sqrt(variance + epsilon) + epsilon,
        "squared": lambda: np.sqrt(variance + epsilon**2),
    }
    return roots.get(how.root, lambda: np.sqrt(np.maximum(variance, epsilon)))()
