"""Layers with two promises: which one an input gets is a matter of rank, axis and dtype (BN-27)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reference.spec import Refusal, Semantics, Spec, kept_axes


@dataclass(frozen=True)
class Paths:
    """A fused path and a plain one, and when the fused one is taken.

    fused, plain: what each promises.
    ranks: the ranks of the inputs that are fused.
    channels: where the kept axis of a fused input is: `last`, or `either`, first after the batch or last.
    float64: whether a float64 input is refused, or takes the plain path.
    integers: whether the fused path takes a momentum given as an integer.
    strict: asking for the fused path in vain is refused.
    """

    fused: Semantics
    plain: Semantics
    ranks: tuple[int, ...] = (4,)
    channels: Literal["either", "last"] = "either"
    float64: Literal["refused", "plain"] = "refused"
    integers: Literal["refused", "accepted"] = "refused"
    strict: bool = False

    def taken(
        self,
        spec: Spec,
        rank: int,
        dtype: str,
        *,
        asked: bool | None = None,
        adjusted: bool = False,
    ) -> Semantics:
        """Return the semantics of the path that an input takes.

        asked: the caller's `fused`; None leaves it to the layer. adjusted: whether there is an adjustment.

        >>> TF_1_15.taken(Spec(), 4, "float32").stored_variance, TF_1_15.taken(Spec(), 3, "float32").stored_variance
        ('unbiased', 'biased')
        """
        kept = kept_axes(spec, rank)
        channel = kept == (rank - 1,) or (self.channels == "either" and kept == (1,))
        special = spec.renorm or adjusted or spec.virtual_batch_size is not None
        fits = rank in self.ranks and channel and not special
        if asked and not fits and self.strict:
            raise Refusal(f"fused=True has no fused path for rank {rank} with axis={spec.axis}; use fused=None")
        if not fits or asked is False or (dtype == "float64" and self.float64 == "plain"):
            return self.plain
        if dtype == "float64":
            raise Refusal("fused takes no float64; use fused=False")
        if isinstance(spec.momentum, int) and self.integers == "refused":
            raise Refusal(f"momentum={spec.momentum} is an integer, which fused does not take; use {spec.momentum}.0")
        return self.fused


_TF = Semantics(fraction_dtype="float32")

TF_1_15 = Paths(
    Semantics(
        stored_variance="unbiased", epsilon_floor=1.001e-5, fraction_dtype="float32", fraction_rounded="momentum"
    ),
    _TF,
)
"""`tf.layers.batch_normalization` of TensorFlow 1.15, measured."""

TF_KERAS = Paths(
    Semantics(stored_variance="unbiased", frozen="infer", fraction_dtype="float32", fraction_rounded="momentum"),
    Semantics(frozen="infer", fraction_dtype="float32"),
    ranks=(4, 5),
    float64="plain",
    integers="accepted",
    strict=True,
)
"""`tf_keras.layers.BatchNormalization` 2.21, measured."""
