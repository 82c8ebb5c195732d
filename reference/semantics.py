"""What an implementation promises where implementations differ. Each field names its rule in `reference/README.md`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Storage = Literal["input", "float32", "at_least_float32"]


@dataclass(frozen=True)
class Semantics:
    """What an implementation promises. The default is `tf.layers.batch_normalization` of TensorFlow 1.15, unfused.

    average (BN-9): how the moving statistics move. `exponential` keeps `momentum`; `zero_debiased` also divides by
        1 - momentum**t when they are used; `first_batch` copies the first batch; `none` keeps nothing at all.
    fraction_dtype, fraction_rounded (BN-10): the update fraction 1 - momentum is rounded to this dtype: the
        `difference`, or the `momentum` that is then subtracted.
    stored_variance (BN-11): what enters the moving variance: the batch's biased variance, or N/(N-1) times it.
    moving_spread (BN-12): the average is one of variances, or of standard deviations sqrt(variance + epsilon).
    initial_mean, initial_variance (BN-13): the moving statistics before the first step.
    frozen (BN-14): what `trainable=False` does to a training step: `train` as if it were trainable, normalize by
        the `batch` but leave the state alone (TF 1), or `infer` (TF 2).
    updates (BN-14): the state moves only in steps that ask for it (TF 1's update ops), or `always`.
    training_statistics (BN-15): normalize a training batch by its own statistics, or by the moving ones just updated.
    epsilon_placement, epsilon_floor (BN-4): sqrt(variance + epsilon), or sqrt(variance) + epsilon; epsilon is at
        least the floor.
    epsilon_dtype (BN-4): epsilon is rounded to this dtype before it is used, whatever the input's.
    renorm (BN-16, BN-18, BN-19): which batch renormalization `Spec.renorm` means; the first is Keras 2 and 3's too.
    reversed_clipping (BN-17): with rmax < rmin, rmax wins or the layer refuses.
    virtual_batches (BN-20): row i of N rows is in group i mod N/size (strided), or i div size (contiguous), or all
        rows are one group (ignored).
    virtual_statistics (BN-21): the moving statistics get the average of the groups' ones, those of the whole batch
        (pooled), or each group's in turn (sequential).
    indivisible_inference (BN-20): inference on rows that the virtual batch size does not divide.
    adjustment (BN-22): whether the layer takes one.
    mask, mask_rank (BN-23): a mask's values are weights, or true where not 0, or ignored; it lacks the input's last
        axis, or has the input's rank, or either.
    mask_offset, all_masked (BN-23): added to the sum of weights that is divided by; the mean and variance of
        nothing: 0, or NaN.
    single_value (BN-24): one value to average: N/(N-1) is taken as 1, or is NaN, or training is refused, or leaves it
        as it is: y = x, and the state stays (`identity`).
    empty_batch (BN-25): no value to average: the state becomes NaN, or stays (`keep`), or moves towards 0 (`zero`),
        or training is refused.
    zero_epsilon (BN-4): whether training with epsilon = 0, or less, is refused.
    new_state (BN-28): what training makes of the moving statistics is differentiated with respect to the batch, or
        `stopped`: a constant.
    variance_mean (BN-29): the mean inside the variance is differentiated too, or `stopped` there: a constant.
    activation (BN-37): what is fused behind the layer: nothing, or `relu`, max(y, 0).
    parameter_dtype, statistics_dtype, output_dtype (BN-26): what gamma and beta, the moving statistics and the
        output are stored in.
    """

    stored_variance: Literal["biased", "unbiased"] = "biased"
    average: Literal["exponential", "zero_debiased", "first_batch", "none"] = "exponential"
    training_statistics: Literal["batch", "moving"] = "batch"
    frozen: Literal["train", "batch", "infer"] = "batch"
    initial_mean: float = 0.0
    initial_variance: float = 1.0
    fraction_dtype: Literal["float64", "float32"] = "float64"
    fraction_rounded: Literal["difference", "momentum"] = "difference"
    moving_spread: Literal["variance", "stddev"] = "variance"
    updates: Literal["asked", "always"] = "asked"
    epsilon_placement: Literal["inside", "outside"] = "inside"
    epsilon_floor: float = 0.0
    epsilon_dtype: Literal["float64", "float32"] = "float64"
    renorm: Literal["tf_1_15", "tf_1_7", "paper"] = "tf_1_15"
    reversed_clipping: Literal["rmax_wins", "refused"] = "rmax_wins"
    virtual_batches: Literal["strided", "contiguous", "ignored"] = "strided"
    virtual_statistics: Literal["averaged", "pooled", "sequential"] = "averaged"
    indivisible_inference: Literal["refused", "accepted"] = "refused"
    adjustment: Literal["accepted", "refused"] = "accepted"
    mask: Literal["weights", "boolean", "ignored"] = "weights"
    mask_rank: Literal["any", "without_last", "full"] = "any"
    mask_offset: float = 0.0
    all_masked: Literal["zero", "nan"] = "zero"
    single_value: Literal["factor_1", "nan", "refused", "identity"] = "factor_1"
    empty_batch: Literal["nan", "keep", "zero", "refused"] = "nan"
    zero_epsilon: Literal["accepted", "refused"] = "accepted"
    new_state: Literal["differentiated", "stopped"] = "differentiated"
    variance_mean: Literal["differentiated", "stopped"] = "differentiated"
    activation: Literal["none", "relu"] = "none"
    parameter_dtype: Storage = "at_least_float32"
    statistics_dtype: Storage = "at_least_float32"
    output_dtype: Storage = "input"
