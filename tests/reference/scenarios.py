"""One small configuration for every rule, with its data: what the tests of gradients, laws and exactness run over."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from reference import Adjustment, Clipping, Parameters, Semantics, Spec, State
from reference.spec import Array, kept_shape


@dataclass(frozen=True)
class Scenario:
    """A configuration; `draw` makes its arrays from its name, the same every time."""

    name: str
    spec: Spec = field(default_factory=Spec)
    semantics: Semantics = field(default_factory=Semantics)
    shape: tuple[int, ...] = (8, 3)
    mask: Literal["none", "weights", "boolean", "rows", "column"] = "none"
    adjusted: bool = False
    updating: bool = True

    def draw(self, dtype: Any = np.float64) -> Data:
        """Return the arrays of this scenario: two batches, parameters, initial state, cotangents and tangents."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        kept = kept_shape(self.spec, self.shape)

        def normal(*shape: int) -> Array:
            return np.round(rng.normal(0.3, 1.2, shape) * 64).astype(dtype) / 64

        def positive(*shape: int) -> Array:
            return np.round(rng.uniform(0.5, 2.0, shape) * 64).astype(dtype) / 64

        gamma, beta = positive(*kept), normal(*kept)
        adjustment = Adjustment(positive(*self.shape[:1], *self.shape[1:]), normal(*self.shape))
        return Data(
            xs=[normal(*self.shape) for _ in range(3)],
            parameters=Parameters(gamma if self.spec.scale else None, beta if self.spec.center else None),
            state=State(normal(*kept), positive(*kept)),
            mask=self._mask(rng, dtype),
            adjustment=adjustment if self.adjusted else None,
            dy=normal(*self.shape),
            dmean=normal(*kept),
            dvariance=normal(*kept),
            tangent=normal(*self.shape),
            tangent_gamma=normal(*kept),
            tangent_beta=normal(*kept),
        )

    def _mask(self, rng: np.random.Generator, dtype: Any) -> Array | None:
        if self.mask == "none":
            return None
        if self.mask == "weights":
            return rng.integers(0, 4, self.shape).astype(dtype) / 2
        if self.mask == "rows":
            return rng.integers(0, 2, self.shape[:-1]).astype(bool)
        mask = rng.integers(0, 2, self.shape).astype(bool)
        if self.mask == "column":
            mask[..., 0] = False
        return mask


@dataclass(frozen=True)
class Data:
    """The arrays of a scenario."""

    xs: list[Array]
    parameters: Parameters
    state: State
    mask: Array | None
    adjustment: Adjustment | None
    dy: Array
    dmean: Array
    dvariance: Array
    tangent: Array
    tangent_gamma: Array
    tangent_beta: Array


_RENORM = Spec(renorm=True, epsilon=0.01, momentum=0.75, renorm_momentum=0.5)
_LIMITS = Clipping(rmin=0.8, rmax=1.2, dmax=0.2)
_GHOST = Spec(virtual_batch_size=4, momentum=0.75)

SCENARIOS = [
    Scenario("plain"),
    Scenario("axis-1-of-4", Spec(axis=1), shape=(4, 3, 2, 2)),
    Scenario("axis-negative", Spec(axis=-2), shape=(8, 3, 2)),
    Scenario("axis-0", Spec(axis=0)),
    Scenario("axes-1-3", Spec(axis=(3, 1)), shape=(4, 3, 2, 2)),
    Scenario("all-axes", Spec(axis=(0, 1))),
    Scenario("epsilon-floor", Spec(epsilon=1e-8), Semantics(epsilon_floor=0.25)),
    Scenario("epsilon-rounded", Spec(epsilon=0.1), Semantics(epsilon_dtype="float32")),
    Scenario("epsilon-outside", Spec(epsilon=0.125), Semantics(epsilon_placement="outside")),
    Scenario("relu", Spec(momentum=0.5), Semantics(activation="relu")),
    Scenario("relu-frozen", Spec(trainable=False), Semantics(frozen="infer", activation="relu")),
    Scenario("no-scale", Spec(scale=False)),
    Scenario("no-center", Spec(center=False)),
    Scenario("momentum-0", Spec(momentum=0.0)),
    Scenario("momentum-1", Spec(momentum=1.0)),
    Scenario("cumulative", Spec(momentum=None)),
    Scenario("zero-debiased", Spec(momentum=0.75), Semantics(average="zero_debiased")),
    Scenario("first-batch", Spec(momentum=0.75), Semantics(average="first_batch")),
    Scenario("none-kept", Spec(), Semantics(average="none")),
    Scenario("float32-fraction", Spec(momentum=0.9), Semantics(fraction_dtype="float32")),
    Scenario("float32-momentum", Spec(momentum=0.9), Semantics(fraction_dtype="float32", fraction_rounded="momentum")),
    Scenario("unbiased", Spec(momentum=0.5), Semantics(stored_variance="unbiased")),
    Scenario("one-value-left", Spec(), Semantics(training_statistics="moving", single_value="identity"), shape=(1, 3)),
    Scenario(
        "one-value-frozen", Spec(trainable=False), Semantics(frozen="infer", single_value="identity"), shape=(1, 3)
    ),
    Scenario("moving-stddev", Spec(momentum=0.5), Semantics(moving_spread="stddev")),
    Scenario("frozen-batch", Spec(trainable=False)),
    Scenario("frozen-infer", Spec(trainable=False), Semantics(frozen="infer")),
    Scenario(
        "frozen-infer-virtual",
        replace(_GHOST, trainable=False),
        Semantics(frozen="infer", virtual_batches="contiguous"),
    ),
    Scenario("frozen-train", Spec(trainable=False, momentum=0.5), Semantics(frozen="train")),
    Scenario("not-asked", Spec(momentum=0.5), updating=False),
    Scenario("always", Spec(momentum=0.5), Semantics(updates="always"), updating=False),
    Scenario("moving", Spec(momentum=0.75), Semantics(training_statistics="moving", average="first_batch")),
    Scenario("moving-unbiased", Spec(momentum=0.75), Semantics("unbiased", training_statistics="moving")),
    Scenario("moving-debiased", Spec(momentum=0.75), Semantics("unbiased", "zero_debiased", "moving")),
    Scenario("moving-not-asked", Spec(momentum=0.75), Semantics(training_statistics="moving"), updating=False),
    Scenario("renorm", _RENORM),
    Scenario("renorm-clipped", replace(_RENORM, renorm_clipping=_LIMITS)),
    Scenario("renorm-dmax", replace(_RENORM, renorm_clipping=Clipping(dmax=0.1))),
    Scenario("renorm-reversed", replace(_RENORM, renorm_clipping=Clipping(rmin=1.5, rmax=0.5))),
    Scenario("renorm-unbiased", _RENORM, Semantics(stored_variance="unbiased")),
    Scenario("renorm-1.7", _RENORM, Semantics(renorm="tf_1_7")),
    Scenario("renorm-1.7-clipped", replace(_RENORM, renorm_clipping=_LIMITS), Semantics(renorm="tf_1_7")),
    Scenario("renorm-paper", _RENORM, Semantics(renorm="paper")),
    Scenario("renorm-paper-clipped", replace(_RENORM, renorm_clipping=Clipping(rmax=1.1)), Semantics(renorm="paper")),
    Scenario("renorm-paper-rmin", replace(_RENORM, renorm_clipping=_LIMITS), Semantics(renorm="paper")),
    Scenario("virtual", _GHOST, shape=(8, 3)),
    Scenario("virtual-contiguous", _GHOST, Semantics(virtual_batches="contiguous"), shape=(8, 3)),
    Scenario("virtual-ignored", _GHOST, Semantics(virtual_batches="ignored"), shape=(8, 3)),
    Scenario("virtual-axes", replace(_GHOST, axis=(1, -1), virtual_batch_size=2), shape=(4, 3, 2, 2)),
    Scenario("virtual-axis-1", replace(_GHOST, axis=1), shape=(8, 3, 2)),
    Scenario("virtual-pooled", _GHOST, Semantics(virtual_statistics="pooled")),
    Scenario("virtual-sequential", _GHOST, Semantics("unbiased", virtual_statistics="sequential")),
    Scenario("virtual-pooled-unbiased", _GHOST, Semantics("unbiased", virtual_statistics="pooled")),
    Scenario("virtual-renorm", replace(_RENORM, virtual_batch_size=2)),
    Scenario("adjusted", adjusted=True),
    Scenario("adjusted-renorm", _RENORM, adjusted=True),
    Scenario("mask-weights", mask="weights"),
    Scenario("mask-unbiased", Spec(momentum=0.5), Semantics(stored_variance="unbiased"), mask="weights"),
    Scenario("mask-boolean", Spec(), Semantics(mask="boolean"), mask="boolean"),
    Scenario("mask-weights-as-boolean", Spec(), Semantics(mask="boolean"), mask="weights"),
    Scenario("mask-rows", Spec(axis=-1), shape=(8, 3, 2), mask="rows"),
    Scenario("mask-ignored", Spec(), Semantics(mask="ignored"), mask="weights"),
    Scenario("mask-column", mask="column"),
    Scenario("mask-offset", Spec(), Semantics(mask="boolean", mask_offset=0.25), mask="column"),
    Scenario("stopped", Spec(), Semantics(variance_mean="stopped")),
    Scenario("stopped-virtual", _GHOST, Semantics(variance_mean="stopped")),
    Scenario("mask-virtual", _GHOST, mask="weights"),
    Scenario("mask-virtual-pooled", _GHOST, Semantics(virtual_statistics="pooled"), mask="weights"),
]

STATE_ONLY = frozenset(
    [
        "momentum-0",
        "momentum-1",
        "cumulative",
        "zero-debiased",
        "first-batch",
        "none-kept",
        "float32-fraction",
        "float32-momentum",
        "unbiased",
        "moving-stddev",
        "frozen-batch",
        "frozen-train",
        "not-asked",
        "always",
        "renorm-unbiased",
        "renorm-reversed",
        "virtual-pooled",
        "virtual-sequential",
        "virtual-pooled-unbiased",
        "mask-unbiased",
        "mask-ignored",
        "mask-virtual-pooled",
    ]
)
"""What differs from another scenario only in the state that follows: compiling its derivatives again proves nothing."""
