"""Refusals: each names the value, the rule and the fix. Apart from the mathematics, which assumes valid input."""

from __future__ import annotations

import math

from reference.spec import Refusal, Spec, kept_shape


def validate(spec: Spec, shape: tuple[int, ...], kept: tuple[int, ...] | None = None) -> None:
    """Raise `Refusal` if an input of this shape cannot be normalized as `spec` asks.

    kept: the shape of the parameters and moving statistics at hand; None when they are yet to be made.

    >>> validate(Spec(axis=3), (8, 5))
    Traceback (most recent call last):
        ...
    reference.spec.Refusal: axis=3 names no axis of an input of shape (8, 5); use -2 to 1
    """
    _validate_numbers(spec)
    _validate_axis(spec, shape)
    needed = kept_shape(spec, shape)
    if kept is not None and kept != needed:
        raise Refusal(
            f"an input of shape {shape} with axis={spec.axis} needs parameters and moving statistics of shape "
            f"{needed}, but they have {kept}; axis names the axis that is KEPT, whose size must stay the same"
        )


def _validate_numbers(spec: Spec) -> None:
    if not (math.isfinite(spec.epsilon) and spec.epsilon >= 0):
        raise Refusal(f"epsilon={spec.epsilon} would put a negative number under the root; use a number ≥ 0")
    if spec.momentum is not None and not 0 <= spec.momentum <= 1:
        raise Refusal(f"momentum={spec.momentum} is a fraction that is kept; use a number from 0 to 1, or None")
    if spec.virtual_batch_size is not None:
        raise Refusal(f"virtual_batch_size={spec.virtual_batch_size} is not defined by this reference yet; use None")


def _validate_axis(spec: Spec, shape: tuple[int, ...]) -> None:
    rank = len(shape)
    axes = spec.axis if isinstance(spec.axis, tuple) else (spec.axis,)
    for axis in axes:
        if not -rank <= axis < rank:
            raise Refusal(f"axis={axis} names no axis of an input of shape {shape}; use {-rank} to {rank - 1}")
    if not axes or len({axis % rank for axis in axes}) < len(axes):
        raise Refusal(f"axis={spec.axis} must name at least one axis of {shape}, and each one once")
