"""Refusals: each names the value, the rule and the fix. Apart from the mathematics, which assumes valid input."""

from __future__ import annotations

import math
from collections.abc import Mapping

from reference.spec import Clipping, Refusal, Semantics, Spec, kept_axes, kept_shape, reduced_axes

Shape = tuple[int, ...]


def validate(
    spec: Spec,
    shape: Shape,
    kept: Shape | None = None,
    semantics: Semantics | None = None,
    *,
    training: bool = True,
    mask: Shape | None = None,
    adjustment: tuple[Shape, Shape] | None = None,
) -> None:
    """Raise `Refusal` if an input of this shape cannot be normalized as `spec` asks (BN-32).

    kept: the shape of the parameters and moving statistics at hand; None when they are yet to be made.
    semantics: whose rules to add; None adds none. training: False asks for inference.
    mask, adjustment: the shapes of the mask, and of the adjustment's scale and bias, where there are any.

    >>> validate(Spec(axis=3), (8, 5))
    Traceback (most recent call last):
        ...
    reference.spec.Refusal: axis=3 names no axis of an input of shape (8, 5); use -2 to 1
    """
    _validate_numbers(spec)
    _validate_axis(spec, shape)
    _validate_virtual(spec, shape, semantics, training)
    needed = kept_shape(spec, shape)
    if kept is not None and kept != needed:
        raise Refusal(
            f"an input of shape {shape} with axis={spec.axis} needs parameters and moving statistics of shape "
            f"{needed}, but they have {kept}; axis names the axis that is KEPT, whose size must stay the same"
        )
    if mask is not None:
        _validate_mask(mask, shape, semantics or Semantics())
    if adjustment is not None:
        _validate_adjustment(adjustment, shape, spec, semantics)
    if semantics is not None:
        validate_semantics(spec, semantics)
        if training:
            _validate_training(spec, shape, semantics)


def validate_semantics(spec: Spec, semantics: Semantics) -> None:
    """Raise `Refusal` if these semantics say nothing of what `spec` asks: combinations that nobody defined (BN-32).

    >>> validate_semantics(Spec(renorm=True), Semantics(average="zero_debiased"))
    Traceback (most recent call last):
        ...
    reference.spec.Refusal: average='zero_debiased' is not defined with renorm=True; use average='exponential'
    """
    moving, outside = semantics.training_statistics == "moving", semantics.epsilon_placement == "outside"
    debiased, earlier = semantics.average == "zero_debiased", semantics.renorm == "tf_1_7"
    stddev, virtual = semantics.moving_spread == "stddev", spec.virtual_batch_size is not None
    size, left = f"virtual_batch_size={spec.virtual_batch_size}", semantics.single_value == "identity"
    undefined = [
        (moving and spec.renorm, "training_statistics='moving'", "renorm=True", "training_statistics='batch'"),
        (moving and virtual, "training_statistics='moving'", size, "training_statistics='batch'"),
        (moving and stddev, "training_statistics='moving'", "moving_spread='stddev'", "training_statistics='batch'"),
        (debiased and spec.renorm, "average='zero_debiased'", "renorm=True", "average='exponential'"),
        (outside and spec.renorm, "epsilon_placement='outside'", "renorm=True", "epsilon_placement='inside'"),
        (outside and stddev, "epsilon_placement='outside'", "moving_spread='stddev'", "epsilon_placement='inside'"),
        (earlier and spec.renorm and virtual, "renorm='tf_1_7'", size, "renorm='tf_1_15'"),
        (not spec.track and moving, "track=False", "training_statistics='moving'", "track=True"),
        (not spec.track and spec.renorm, "track=False", "renorm=True", "track=True"),
        (not spec.track and virtual, "track=False", size, "track=True"),
        (not spec.track and left, "track=False", "single_value='identity'", "track=True"),
    ]
    for found, value, other, fix in undefined:
        if found:
            raise Refusal(f"{value} is not defined with {other}; use {fix}")


def clipping(limits: Mapping[str, float]) -> Clipping:
    """Return the clipping that a dictionary asks for, as Keras takes it (BN-17).

    >>> clipping({"rmax": 3.0})
    Clipping(rmin=None, rmax=3.0, dmax=None)
    >>> clipping({"max": 3.0})
    Traceback (most recent call last):
        ...
    reference.spec.Refusal: renorm_clipping has the key 'max'; use only 'rmin', 'rmax' and 'dmax'
    """
    for key in limits:
        if key not in ("rmin", "rmax", "dmax"):
            raise Refusal(f"renorm_clipping has the key {key!r}; use only 'rmin', 'rmax' and 'dmax'")
    return Clipping(**limits)


def _validate_numbers(spec: Spec) -> None:
    if math.isinf(spec.epsilon):
        raise Refusal(f"epsilon={spec.epsilon} leaves nothing of any difference; use a number ≥ 0")
    if spec.momentum is not None and not math.isfinite(spec.momentum):
        raise Refusal(f"momentum={spec.momentum} is a fraction that is kept; use a number from 0 to 1, or None")
    if not 0 <= spec.renorm_momentum <= 1:
        raise Refusal(f"renorm_momentum={spec.renorm_momentum} is a fraction that is kept; use a number from 0 to 1")
    limits = spec.renorm_clipping or Clipping()
    for name, value in {"rmin": limits.rmin, "rmax": limits.rmax, "dmax": limits.dmax}.items():
        if value is not None and not value >= 0:
            raise Refusal(f"renorm_clipping {name}={value} bounds a magnitude; use a number ≥ 0, or leave it out")


def _validate_axis(spec: Spec, shape: Shape) -> None:
    rank = len(shape)
    axes = spec.axis if isinstance(spec.axis, tuple) else (spec.axis,)
    for axis in axes:
        if not -rank <= axis < rank:
            raise Refusal(f"axis={axis} names no axis of an input of shape {shape}; use {-rank} to {rank - 1}")
    if not axes or len({axis % rank for axis in axes}) < len(axes):
        raise Refusal(f"axis={spec.axis} must name at least one axis of {shape}, and each one once")


def _validate_virtual(spec: Spec, shape: Shape, semantics: Semantics | None, training: bool) -> None:
    size = spec.virtual_batch_size
    if size is None:
        return
    if size <= 0:
        raise Refusal(f"virtual_batch_size={size} is a number of rows; use a number ≥ 1, or None")
    if 0 in kept_axes(spec, len(shape)):
        raise Refusal(f"virtual_batch_size={size} splits axis 0, which axis={spec.axis} keeps; keep another axis")
    if semantics is not None and semantics.virtual_batches == "ignored":
        return
    if shape[0] % size and (training or semantics is None or semantics.indivisible_inference == "refused"):
        raise Refusal(f"virtual_batch_size={size} does not divide the {shape[0]} rows of {shape}; use a divisor")


def _validate_mask(mask: Shape, shape: Shape, semantics: Semantics) -> None:
    allowed = {"any": (shape, shape[:-1]), "full": (shape,), "without_last": (shape[:-1],)}[semantics.mask_rank]
    if not any(len(mask) == len(to) and all(m in (1, n) for m, n in zip(mask, to, strict=True)) for to in allowed):
        fits = " or ".join(str(to) for to in allowed)
        raise Refusal(f"a mask of shape {mask} does not say which values of {shape} count; give one of shape {fits}")
    if semantics.mask_offset and semantics.variance_mean == "stopped":
        value = f"mask_offset={semantics.mask_offset}"
        raise Refusal(f"{value} is not defined with variance_mean='stopped'; use mask_offset=0")


def _validate_adjustment(shapes: tuple[Shape, Shape], shape: Shape, spec: Spec, semantics: Semantics | None) -> None:
    if semantics is not None and semantics.adjustment == "refused":
        raise Refusal(f"an adjustment of shapes {shapes} is something this layer does not take; leave it out")
    if spec.virtual_batch_size is not None:
        raise Refusal(f"virtual_batch_size={spec.virtual_batch_size} excludes an adjustment; leave one of them out")
    for one in shapes:
        if len(one) > len(shape) or any(a not in (1, n) for a, n in zip(one[::-1], shape[::-1], strict=False)):
            raise Refusal(f"an adjustment of shape {one} does not fit {shape}; give sizes of 1 or the input's")


def _validate_training(spec: Spec, shape: Shape, semantics: Semantics) -> None:
    limits = spec.renorm_clipping or Clipping()
    rmin, rmax = limits.rmin or 0, limits.rmax if limits.rmax is not None else math.inf
    if rmax < rmin and semantics.reversed_clipping == "refused":
        raise Refusal(f"renorm_clipping rmax={rmax} is below rmin={rmin}; swap them")
    if spec.epsilon <= 0 and semantics.zero_epsilon == "refused":
        raise Refusal(f"epsilon={spec.epsilon:g} is refused in training; use a number > 0")
    whole = spec.virtual_batch_size is None or semantics.virtual_batches == "ignored"
    rows = shape[0] if whole else min(spec.virtual_batch_size or 0, shape[0])
    n = math.prod((rows, *shape[1:])[axis] for axis in reduced_axes(spec, len(shape)))
    if n == 0 and semantics.empty_batch == "refused":
        raise Refusal(f"an input of shape {shape} has no value to average over; use at least one row")
    if n == 1 and semantics.single_value == "refused":
        raise Refusal(f"an input of shape {shape} has one value to average over; use more than 1 value per channel")
