# ruff: noqa: E501 - a fault is one line, to be read across
"""Mistakes that only certain values show, each with the feature whose cases have them; made as those of `named_faults`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from layer import Replace, Subject


class ValueFault(NamedTuple):
    """A mistake: its name, the feature that shows it, what it is in a sentence, how it is made, and in which subject."""

    name: str
    feature: str
    about: str
    at: dict[str, Replace]
    subject: Subject = Subject()


def _of(dtype: str, replace: Replace) -> Replace:
    """Make the mistake for inputs of one dtype."""
    return lambda value, now: replace(value, now) if now.case.dtypes["x"] == dtype else value


def _within_float16(value: Any, _now: Any = None) -> Any:
    return np.clip(value, -65504, 65504)


def _same_everywhere(now: Any) -> Any:
    """Return where a channel has several values, and its cotangent is one number that is not 0."""
    least, most = now.dy.min(now.axes, keepdims=True), now.dy.max(now.axes, keepdims=True)
    return (least == most) & (most != 0) & (now.n > 1)


def _last_swallowed(value: Any, now: Any) -> Any:
    """Take 0 where the last value of a channel is NaN."""
    last = tuple(slice(-1, None) if axis in now.axes else slice(None) for axis in range(value.ndim))
    value = value.copy()
    value[last] = np.nan_to_num(value[last], nan=0.0, posinf=np.inf, neginf=-np.inf)
    return value


def _of_columns(function: str) -> Replace:
    """Return statistics of the columns of a square, where those of its rows are asked for."""

    def replace(value: Any, now: Any) -> Any:
        wrong = now.x.ndim == 2 and now.x.shape[0] == now.x.shape[1] and now.case.axis == (0,)
        return getattr(now.x, function)(0, keepdims=True).T if wrong else value

    return replace


def _next_to_each_other(values: Any) -> Any:
    """Return what is in memory from the first value on."""
    return values if values.base is None else np.ndarray(values.size, values.dtype, values.base)


def _transposed(value: Any, now: Any) -> Any:
    return value.swapaxes(1, 3) if now.case.spec["axis"] == [3, 1] else value


def _counting(wrong: Any) -> Replace:
    """Change the weights of channels; wrong: of how much counts in each, whether all values of it are to."""
    return lambda value, now: None if value is None else np.where(wrong(now.total(value)), 1, value)


VALUE_FAULTS = [
    ValueFault("no gradient of zeros", "cotangents", "what is left in memory is returned where all of dy is 0", {"dx": lambda v, now: v if now.dy.any() else np.ones_like(v)}),
    ValueFault("one number is its own mean", "cotangents", "mean(dy) is not subtracted where dy is one number everywhere, as if it were a scalar", {"c1": lambda v, now: np.where(_same_everywhere(now), 0, v)}),
    ValueFault("tiny cotangents are none", "cotangents", "dy below 1e-20 is flushed to 0", {"dy": lambda v, now: np.where(abs(v) < 1e-20, 0, v) if now.case.dtypes["x"] != "float16" else v}),
    ValueFault("dbeta saturates", "cotangents", "the sum of dy is kept within float16", {"dbeta": _of("float16", _within_float16)}),
    ValueFault("products saturate", "magnitudes", "dy (x - mean) is kept within float16", {"dgamma": _of("float16", lambda v, now: now.total(_within_float16(now.dy * (now.x - now.center))) * now.r)}),
    ValueFault("squares before the mean is known", "magnitudes", "the variance is infinite where the mean's square is", {"variance": lambda v, now: np.where(np.isinf(np.square(now.mean)), np.inf, v)}),
    ValueFault("bfloat16 within float16", "magnitudes", "a bfloat16 above 1e12 is taken for infinite, clipped", {"x": _of("bfloat16", lambda v, _: np.clip(v, -1e12, 1e12))}),
    ValueFault("epsilon below float32's", "constants", "an epsilon below 1e-10 is 0.00001", {"epsilon": lambda v, _: 1e-5 if 0 < v < 1e-10 else v}),
    ValueFault("momentum of three digits", "constants", "momentum is rounded to three digits", {"kept": lambda v, _: np.round(v, 3)}),
    ValueFault("gamma's exponent", "constants", "|gamma| is kept above 1e-6 where it is not 0", {"gamma": lambda v, _: np.where(v != 0, np.copysign(np.maximum(abs(v), 1e-6), v), v)}),
    ValueFault("the last NaN is swallowed", "not finite parts", "NaN in the last place of a training batch's channel is taken for 0", {"x": lambda v, now: _last_swallowed(v, now) if now.training else v}),
    ValueFault("dy in the order of its memory", "memory", "dy is read as if it were contiguous", {"dy": lambda v, now: v if now.case.dy_layout == "C" else v.ravel(order="K").reshape(v.shape)}),
    ValueFault("gamma without its strides", "memory", "gamma is read from where it begins, value after value", {"gamma": lambda v, now: _next_to_each_other(now.case.gamma).reshape(v.shape)}),
    ValueFault("axes by their sizes", "two by two", "a square is normalized along the wrong axis", {"mean": _of_columns("mean"), "variance": _of_columns("var")}),
    ValueFault("gamma in the order of the axes", "several axes", "gamma of equal sizes is transposed where the axes are named in another order", {"gamma": _transposed}),
    ValueFault("one row counts as all", "little left", "a mask that leaves one value of a channel is disregarded", {"weights": _counting(lambda n: n == 1)}),
    ValueFault("nothing counts as all", "little left", "a mask that leaves nothing of a channel is disregarded", {"weights": _counting(lambda n: n == 0)}),
    ValueFault("what is hidden is not looked at", "little left without last", "NaN under a weight of 0 does not enter the mean, as if the mask were boolean", {"mean": lambda v, now: v if now.weights is None else np.nan_to_num(v)}),
    ValueFault("weights are flags", "weights", "a weight counts as 1 where it is not 0", {"weights": lambda v, _: None if v is None else v != 0}),
    ValueFault("the first batch is always the first", "begun", "a zero-debiased average forgets the batches that entered it before", {"weight": lambda v, now: 1 - now.kept ** (now.updates - now.case.batches) if now.updates > now.case.batches else v}, Subject(average="zero_debiased")),
]  # fmt: skip
"""What no other case of the first seed shows."""
