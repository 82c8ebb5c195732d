# ruff: noqa: ARG005 - every suspect is called alike
"""Mistakes that somebody might make, each as what it puts in the place of a stage's value (`stages`), and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from conformance.judging.causes.failed_step import FailedStep
from conformance.judging.causes.stages import Replace
from reference.averages import bessel

MEAN, VARIANCE, INVERSE, AFFINE, UPDATE = "mean", "variance", "inverse deviation", "affine map", "update"
DX_MEAN, DX_PRODUCT, DX_SCALE = "dx: mean(dy)", "dx: x̂·mean(dy·x̂)", "dx: scale"
DGAMMA, DBETA, Y, DX = "dgamma", "dbeta", "y", "dx"


class Suspect(NamedTuple):
    """A mistake: the stage that it is in, what it is in words, and what stands for which values."""

    stage: str
    says: str
    at: Mapping[str, Replace]


def _suspect(stage: str, says: str, **at: Replace) -> Suspect:
    return Suspect(stage, says, at)


def _given(value: Any) -> Replace:
    return lambda v, now: 0 * v + value


def _unbiased(v: Any, now: Any) -> Any:
    return v * bessel(now.n)


def _neighbour(by: int) -> Replace:
    return lambda v, now: np.roll(v, by, now.step.kept[-1]) if v.ndim else v


def _all_channels(which: int) -> Replace:
    """Return the mean, or the variance, over all values of the batch."""
    return lambda v, now: 0 * v + (now.counted.mean(), now.counted.var())[which]


def _old(which: int) -> Replace:
    return lambda v, now: (now.old_mean, now.old_variance)[which]


_ZERO, _ONE = _given(0), _given(1)

INVERSES = (
    _suspect(INVERSE, "epsilon is left out", epsilon=_ZERO),
    _suspect(INVERSE, "epsilon is added outside the root", r=lambda v, now: 1 / (np.sqrt(now.spread) + now.epsilon)),
    _suspect(INVERSE, "epsilon is added inside the root", r=lambda v, now: 1 / np.sqrt(now.spread + now.epsilon)),
    _suspect(INVERSE, "epsilon is added twice", epsilon=lambda v, now: 2 * v),
    _suspect(INVERSE, "epsilon is squared", epsilon=lambda v, now: v * v),
    _suspect(
        INVERSE,
        "epsilon is added outside the root too",
        r=lambda v, now: 1 / (np.sqrt(now.spread + now.epsilon) + now.epsilon),
    ),
    *(
        _suspect(INVERSE, f"epsilon is {e:g}, whatever is asked for", epsilon=_given(e))
        for e in (1e-3, 1e-5, 1e-8, 1e-6, 1e-2, 1e-4, 1e-12)
    ),
    _suspect(
        INVERSE,
        "the root is left out: it divides by the variance",
        r=lambda v, now: 1 / (now.spread + now.epsilon),
    ),
    _suspect(INVERSE, "it normalizes by the variance of N - 1", spread=_unbiased),
    _suspect(INVERSE, "it normalizes by each neighbour's variance", spread=_neighbour(1)),
)
STATISTICS = (
    _suspect(VARIANCE, "the variance is that of N - 1", variance=_unbiased),
    _suspect(
        VARIANCE,
        "the mean is not subtracted in the variance",
        variance=lambda v, now: now.average(np.square(now.counted)),
    ),
    _suspect(
        VARIANCE,
        "the variance is taken about the moving mean",
        variance=lambda v, now: now.average(np.square(now.counted - now.old_mean)),
    ),
    _suspect(
        VARIANCE,
        "the mean deviation stands for the standard deviation",
        variance=lambda v, now: np.square(now.average(np.abs(now.counted - now.mean))),
    ),
    _suspect(VARIANCE, "the variance is over all channels", variance=_all_channels(1)),
    _suspect(MEAN, "the mean is over all channels", mean=_all_channels(0)),
    _suspect(MEAN, "mean and variance are over all channels", mean=_all_channels(0), variance=_all_channels(1)),
    _suspect(
        MEAN,
        "the mean is 0: it is not subtracted at all",
        mean=_ZERO,
        variance=lambda v, now: now.average(np.square(now.counted)),
    ),
    _suspect(MEAN, "the mean is not subtracted", center=_ZERO),
    _suspect(
        MEAN,
        "training normalizes by the moving statistics",
        center=lambda v, now: now.old_mean if now.training else v,
        spread=lambda v, now: now.old_variance if now.training else v,
    ),
    _suspect(
        MEAN,
        "training normalizes by the moving statistics that it has just moved",
        center=lambda v, now: now.moving_mean if now.training else v,
        spread=lambda v, now: now.moving_variance if now.training else v,
    ),
    _suspect(
        MEAN,
        "inference normalizes by the batch's own statistics",
        center=lambda v, now: v if now.training else now.mean,
        spread=lambda v, now: v if now.training else now.variance,
    ),
    _suspect(
        MEAN,
        "channels are normalized by their neighbours' statistics",
        center=_neighbour(1),
        spread=_neighbour(1),
    ),
    _suspect(
        MEAN,
        "channels are normalized by their neighbours' statistics",
        center=_neighbour(-1),
        spread=_neighbour(-1),
    ),
)
AFFINES = (
    _suspect(AFFINE, "gamma is left out", gamma=_ONE),
    _suspect(AFFINE, "beta is left out", beta=_ZERO),
    _suspect(AFFINE, "gamma and beta are left out", gamma=_ONE, beta=_ZERO),
    _suspect(AFFINE, "gamma is taken for 1 + gamma", gamma=lambda v, now: 1 + v),
    _suspect(AFFINE, "the sign of gamma is lost", gamma=lambda v, now: np.abs(v)),
    _suspect(AFFINE, "gamma has the other sign", gamma=lambda v, now: -v),
    _suspect(
        AFFINE,
        "gamma and beta are exchanged",
        gamma=lambda v, now: now.given_beta,
        beta=lambda v, now: now.given_gamma,
    ),
    _suspect(AFFINE, "gamma is that of the next channel", gamma=_neighbour(-1)),
    _suspect(AFFINE, "gamma is that of the channel before", gamma=_neighbour(1)),
    _suspect(AFFINE, "beta is that of the next channel", beta=_neighbour(-1)),
    _suspect(AFFINE, "beta is that of the channel before", beta=_neighbour(1)),
    _suspect(AFFINE, "beta is subtracted", beta=lambda v, now: -v),
    _suspect(
        AFFINE,
        "beta is added before gamma multiplies",
        y=lambda v, now: now.gamma * ((now.x - now.center) * now.r + now.beta),
    ),
)


def _fixed(kept: float) -> Suspect:
    return _suspect(UPDATE, f"momentum is {kept:g}, whatever is asked for", fraction=_given(1 - kept))


_BOTH = ("moving_mean", "moving_variance")
UPDATES = (
    _suspect(UPDATE, "momentum is inverted: what should be kept enters", fraction=lambda v, now: 1 - v),
    _suspect(UPDATE, "the moving statistics are not moved", fraction=_ZERO),
    _suspect(UPDATE, "the moving mean is not moved", moving_mean=_old(0)),
    _suspect(UPDATE, "the moving variance is not moved", moving_variance=_old(1)),
    _suspect(
        UPDATE,
        "the moving variance stores the unbiased variance, of N - 1",
        stored=lambda v, now: now.variance * bessel(now.n),
    ),
    _suspect(UPDATE, "the moving variance stores the biased variance", stored=lambda v, now: now.variance),
    _suspect(UPDATE, "the batch's statistics are copied, not averaged", fraction=_ONE),
    _suspect(UPDATE, "the batch's mean is copied, not averaged", moving_mean=lambda v, now: now.mean),
    _suspect(UPDATE, "the batch's variance is copied, not averaged", moving_variance=lambda v, now: now.stored),
    _suspect(UPDATE, "momentum is squared: the batch enters twice", fraction=lambda v, now: 1 - (1 - v) ** 2),
    _suspect(UPDATE, "the moving mean is moved twice", moving_mean=lambda v, now: v + now.fraction * (now.mean - v)),
    _suspect(
        UPDATE,
        "the moving variance is moved twice",
        moving_variance=lambda v, now: v + now.fraction * (now.stored - v),
    ),
    *map(_fixed, (0.99, 0.9, 0.999)),
    _suspect(UPDATE, "the moving variance stores the standard deviation", stored=lambda v, now: np.sqrt(v)),
    _suspect(UPDATE, "the moving variance stores the variance with epsilon", stored=lambda v, now: v + now.epsilon),
    _suspect(
        UPDATE,
        "the moving statistics are exchanged",
        moving_mean=lambda v, now: now.old_variance + now.fraction * (now.stored - now.old_variance),
        moving_variance=lambda v, now: now.old_mean + now.fraction * (now.mean - now.old_mean),
    ),
    _suspect(
        UPDATE,
        "the batch is added whole to what is kept",
        moving_mean=lambda v, now: (1 - now.fraction) * now.old_mean + now.mean,
        moving_variance=lambda v, now: (1 - now.fraction) * now.old_variance + now.stored,
    ),
    _suspect(
        UPDATE,
        "inference moves the moving statistics",
        fraction=lambda v, now: v if now.training else 0 * v + 1 - (now.step.spec.momentum or 0),
    ),
    _suspect(
        UPDATE,
        "inference moves the moving mean",
        moving_mean=lambda v, now: v if now.training else v + (1 - (now.step.spec.momentum or 0)) * (now.mean - v),
    ),
    _suspect(
        UPDATE,
        "the zero-debiased average is used as it is",
        center=lambda v, now: v if now.training else now.old_mean,
        spread=lambda v, now: v if now.training else now.old_variance,
    ),
)


GRADIENTS = (
    _suspect(DX_MEAN, "the mean is stopped: no gradient goes through it", c1=_ZERO),
    _suspect(DX_PRODUCT, "the variance is stopped: no gradient goes through it", c2=_ZERO),
    _suspect(DX_MEAN, "mean and variance are stopped: the gradient takes them for constants", c1=_ZERO, c2=_ZERO),
    _suspect(DX_MEAN, "dx divides by N - 1", c1=_unbiased, c2=_unbiased),
    _suspect(DX_PRODUCT, "the gradient through the variance counts twice", c2=lambda v, now: 2 * v),
    _suspect(DX_PRODUCT, "the gradient through the variance counts half", c2=lambda v, now: v / 2),
    _suspect(DX_PRODUCT, "the gradient through the variance has the other sign", c2=lambda v, now: -v),
    _suspect(DX_MEAN, "the gradient through the mean counts twice", c1=lambda v, now: 2 * v),
    _suspect(DX_MEAN, "the gradient through the mean has the other sign", c1=lambda v, now: -v),
    _suspect(DX_MEAN, "the sum of dy is not divided by N", c1=lambda v, now: v * now.n),
    _suspect(DX_PRODUCT, "the sum of dy·x̂ is not divided by N", c2=lambda v, now: v * now.n),
    _suspect(DX_SCALE, "dx lacks gamma", scale=lambda v, now: now.r + 0 * v),
    _suspect(DX_SCALE, "dx lacks the inverse deviation", scale=lambda v, now: now.gamma + 0 * v),
    _suspect(DX_SCALE, "gamma multiplies dx twice", scale=lambda v, now: v * now.gamma),
    _suspect(DX_SCALE, "dx lacks gamma, and its normalized x too", dx=lambda v, now: now.dy),
    _suspect(
        DX_MEAN,
        "inference subtracts the mean of dy in dx, as training does",
        dx=lambda v, now: v if now.training else v - now.average(v),
    ),
    _suspect(
        DX_PRODUCT,
        "inference takes dx as training does",
        dx=lambda v, now: v if now.training else v - now.average(v) - now.z * now.average(v * now.z),
    ),
    _suspect(DGAMMA, "dgamma is that of beta: x̂ is left out", dgamma=lambda v, now: now.total(now.dy)),
    _suspect(DGAMMA, "x is not centered in dgamma", dgamma=lambda v, now: now.total(now.dy * now.x) * now.r),
    _suspect(DGAMMA, "x is not divided by its deviation in dgamma", dgamma=lambda v, now: v / now.r),
    _suspect(DGAMMA, "dgamma has gamma in it", dgamma=lambda v, now: v * now.gamma),
    _suspect(DGAMMA, "dgamma sums dy·y", dgamma=lambda v, now: now.total(now.dy * now.y)),
    _suspect(DGAMMA, "epsilon is left out of dgamma", dgamma=lambda v, now: v / (now.r * np.sqrt(now.spread))),
    _suspect(
        DGAMMA,
        "dgamma and dbeta are exchanged",
        dgamma=lambda v, now: now.total(now.dy),
        dbeta=lambda v, now: now.total(now.dy * now.z),
    ),
    _suspect(DBETA, "dbeta has gamma in it", dbeta=lambda v, now: v * now.gamma),
)

_GROUPS: tuple[tuple[tuple[Suspect, ...], frozenset[str]], ...] = (
    (STATISTICS, frozenset({"y", "dx", "dgamma", "mean", "variance", *_BOTH})),
    (INVERSES, frozenset({"y", "dx", "dgamma"})),
    (AFFINES, frozenset({"y", "dx"})),
    (UPDATES, frozenset({"y", "dx", "dgamma", *_BOTH})),
    (GRADIENTS, frozenset({"dx", "dgamma", "dbeta"})),
)
EXCHANGED = (
    _suspect(
        MEAN,
        "inference takes the moving mean for the variance, and the reverse",
        center=lambda v, now: v if now.training else now.old_variance,
        spread=lambda v, now: v if now.training else now.old_mean,
    ),
    _suspect(
        UPDATE,
        "each moving statistic is moved from where the other one was",
        moving_mean=lambda v, now: v + (1 - now.fraction) * (now.old_variance - now.old_mean),
        moving_variance=lambda v, now: v + (1 - now.fraction) * (now.old_mean - now.old_variance),
    ),
)
"""Mistakes that a caller makes, who hands the two moving statistics over in the wrong order."""
EVERY = (*(suspect for group, _ in _GROUPS for suspect in group), *EXCHANGED)


def plausible(step: FailedStep) -> Iterator[Suspect]:
    """Yield the suspects that touch no other outputs than those that may be wrong here."""
    wrong = set(step.wrong)
    for suspects, touched in _GROUPS:
        if wrong <= touched:
            yield from suspects
