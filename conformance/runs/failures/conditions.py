"""What is true of each step of each case of a run, as columns that a sentence may be made of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from conformance.model.case import Case
from conformance.model.case_facts import every_step
from conformance.model.facts import Facts
from reference.precision import widened
from reference.spec import Array, kept_axes

Asked = tuple[str, int]
"""A case by its id, and one of its steps."""


class Condition(NamedTuple):
    """Something that is true of some steps: in words, how simple it is in bits, and of which steps."""

    says: str
    bits: float
    holds: Array


class ConditionTable:
    """What is true of the steps of cases: `facts` by name, and `numbers` by name, one for each of `rows`."""

    def __init__(self, cases: Iterable[tuple[str, Case]], features: Mapping[str, str] | None = None) -> None:
        """Read the cases; features: what each asks beyond the plain layer, by its id."""
        self.rows: dict[Asked, int] = {}
        facts, numbers = list[dict[str, Any]](), list[dict[str, float]]()
        for name, case in cases:
            for t, about in enumerate(every_step(case)):
                self.rows[name, t] = len(self.rows)
                facts.append(_facts(case, t, about) | {"feature": (features or {}).get(name, "")})
                numbers.append(_numbers(case, t))
        self._facts = {fact: np.array([repr(row[fact]) for row in facts]) for fact in (facts[0] if facts else ())}
        self._numbers = {name: np.array([row[name] for row in numbers]) for name in (numbers[0] if numbers else ())}

    def conditions(self, rows: Sequence[int], fails: Array) -> Iterator[Condition]:
        """Yield what holds of every failing step and not of all; rows: of the steps that were judged."""
        for fact, column in self._facts.items():
            yield from _of_fact(fact, column[rows], fails)
        for name, column in self._numbers.items():
            yield from _of_number(name, column[rows], fails)
        yield from _of_multiples(self._numbers["n"][rows], fails)


def _of_fact(fact: str, values: Array, fails: Array) -> Iterator[Condition]:
    """Yield that a fact has the one value of all failures, or one of two, or not one that none has."""
    failing, every = set(values[fails].tolist()), set(values.tolist())
    if failing == every:
        return
    words, bits = _WORDS.get(fact, lambda value: f"where {fact} is {value}"), _BITS.get(fact, 9.0)
    told = sorted(failing)
    if len(told) <= 2 and len(every) > len(told):
        says = _either_of([words(_read(value)) for value in told])
        yield Condition(says, bits + 2 * (len(told) - 1), np.isin(values, told))
    elif len(every) - len(told) == 1:
        (other,) = every - failing
        yield Condition(f"not {words(_read(other))}", bits + 2, values != other)


def _either_of(told: list[str]) -> str:
    """Return what is told as one, without the words that the second shares with the first.

    >>> _either_of(["in rank 3", "in rank 4"]), _either_of(["in training"])
    ('in rank 3 or 4', 'in training')
    """
    first, *more = (one.split() for one in told)
    rest = [itertools.dropwhile(lambda pair: pair[0] == pair[1], zip(other, first, strict=False)) for other in more]
    return " or ".join([" ".join(first), *(" ".join(word for word, _ in one) for one in rest)])


def _read(text: str) -> str:
    return text.strip("'")


def _of_number(name: str, values: Array, fails: Array) -> Iterator[Condition]:
    """Yield that a number is above what no failure is below, or the reverse, or the one number of all failures."""
    least, most, words = values[fails].min(), values[fails].max(), _NUMBERS[name]
    if math.isnan(least) or math.isnan(most):
        return
    below, above = values[values < least], values[values > most]
    for limit, bits in _limits(float(below.max()), float(least)) if below.size else ():
        if name == "far" and limit < 1:
            continue  # every mean is some way from 0
        yield Condition(words.format(f"> {_shown(limit)}"), _NUMBER_BITS[name] + bits, values > limit)
    if above.size:
        limit = float(above.min())
        yield Condition(words.format(f"< {_shown(limit)}"), _NUMBER_BITS[name] + 3, values < limit)
    if least == most and (below.size or above.size) and name != "far":  # no kernel tells one such ratio from another
        yield Condition(words.format(f"= {_shown(float(least))}"), _NUMBER_BITS[name] + 1, values == least)


def _limits(below: float, least: float) -> Iterator[tuple[float, float]]:
    """Yield limits below the least number that fails, with the bits that they take.

    The largest power of two or ten below it is one, as blocks and thresholds have such sizes, whether all below it
    pass or more; the most that passes is another.

    >>> list(_limits(960, 1025)), list(_limits(1025, 4099)), list(_limits(84.0, 173.5))
    ([(1024, 0.0)], [(4096, 0.0)], [(100, 0.0), (84.0, 5.0)])
    """
    whole = float(least).is_integer() and float(below).is_integer()
    round_ = _power(2, least) if whole and least > 16 else _power(10, least)
    if least > 0:
        yield round_, 0.0
    if not below <= round_ < least or not whole:
        yield below, 5.0


def _power(base: int, above: float) -> float:
    """Return the largest power of a base below a number; 0 where that is not positive.

    >>> _power(2, 1025), _power(2, 1024), _power(10, 173.5), _power(10, 0.02)
    (1024, 512, 100, 0.01)
    """
    if above <= 0:
        return 0
    exponent = math.ceil(math.log(above, base) - 1e-12) - 1
    return base**exponent if exponent >= 0 else float(f"{float(base) ** exponent:.12g}")


def _of_multiples(n: Array, fails: Array) -> Iterator[Condition]:
    """Yield that N is a multiple of a power of two, or is none, in every failure."""
    for exponent in range(1, 16):
        block = 1 << exponent
        whole = n % block == 0
        if not whole[fails].any() and whole.any():
            yield Condition(f"where N is no multiple of {block:,}", 6.0 + exponent / 32, ~whole)
        if whole[fails].all() and not whole.all():
            yield Condition(f"where N is a multiple of {block:,}", 6.0 - exponent / 32, whole)


def _shown(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.3g}"


def _facts(case: Case, t: int, about: Facts) -> dict[str, Any]:
    """Return the facts about a step, with what came before it and whether its memory is contiguous."""
    plain = msgspec.structs.asdict(about)
    for name in ("device", "output", "axis", "cumulative", "n"):
        plain.pop(name)
    return plain | {
        "inferred": any(step.mode == "infer" for step in case.steps[:t]),
        "first": t == 0,
        "contiguous": _contiguous(case.layout, case.x(t).shape),
        "half": case.dtypes.x in ("float16", "bfloat16"),
        "contiguous_dy": _contiguous(case.dy_layout, case.x(t).shape),
    }


def _contiguous(layout: str, shape: tuple[int, ...]) -> bool:
    """Return whether memory of this layout is contiguous, as an array of this shape has it."""
    several = sum(size > 1 for size in shape)
    if layout == "F":
        return several < 2
    if layout == "channels_last":
        return len(shape) < 3 or shape[1] == 1 or math.prod(shape[2:]) == 1
    return layout not in ("strided", "reversed") or not shape or shape[-1] == 1


def _numbers(case: Case, t: int) -> dict[str, float]:
    x = case.x(t)
    kept = [axis for axis in kept_axes(case.spec, x.ndim) if 0 <= axis < x.ndim]
    channels = math.prod(x.shape[axis] for axis in kept)
    return {
        "n": x.size / channels if channels else 0.0,
        "channels": float(channels),
        "rows": float(x.shape[0]) if x.ndim else 1.0,
        "last": float(x.shape[-1]) if x.ndim else 1.0,
        "size": float(x.size),
        "far": _far(x, tuple(axis for axis in range(x.ndim) if axis not in kept)),
        "epsilon": case.spec.epsilon,
        "momentum": float("nan") if case.spec.momentum is None else case.spec.momentum,
    }


def _far(x: Array, axes: tuple[int, ...]) -> float:
    """Return the largest |mean| / σ of a channel that is not constant; 0 where there is none."""
    if not x.size:
        return 0.0
    with np.errstate(all="ignore"):
        wide = widened(x, np.float64)
        ratio = np.abs(wide.mean(axes)) / wide.std(axes)
        ratio = ratio[np.isfinite(ratio)]
    return float(ratio.max()) if ratio.size else 0.0


_Words = Callable[[str], str]


def _either(right: str, wrong: str) -> _Words:
    return lambda value: right if value == "True" else wrong


_WORDS: dict[str, _Words] = {
    "mode": {"train": "in training", "infer": "in inference"}.__getitem__,
    "dtype": "in {}".format,
    "parameters": "with parameters in {}".format,
    "statistics": "with statistics in {}".format,
    "half": _either("in half precision", "in float32 or float64"),
    "rank": "in rank {}".format,
    "layout": "in memory that is {}".format,
    "dy_layout": "with dy in memory that is {}".format,
    "layer_layout": "with parameters in memory that is {}".format,
    "contiguous": _either("in memory that is contiguous", "in memory that is not contiguous"),
    "contiguous_dy": _either("with dy in memory that is contiguous", "with dy in memory that is not contiguous"),
    "trained": _either("after training", "up to the first training step"),
    "inferred": _either("after inference", "up to the first inference"),
    "first": _either("in the first step", "after the first step"),
    "channel": {
        "second": "with channels second",
        "last": "with channels last",
        "several": "with several axes kept",
        "other": "with channels neither second nor last",
    }.__getitem__,
    "mask": lambda value: "without a mask" if value == "False" else f"with a mask ({value})",
    "affine": {
        "both": "with gamma and beta",
        "center": "with beta alone",
        "scale": "with gamma alone",
        "none": "without gamma and beta",
    }.__getitem__,
    "scale": _either("with gamma", "without gamma"),
    "center": _either("with beta", "without beta"),
    "trainable": _either("in a layer that trains", "in a frozen layer"),
    "spatial": _either("with spatial axes", "without spatial axes"),
    "tracked": _either("with moving statistics", "without moving statistics"),
    "renorm": _either("with renorm", "without renorm"),
    "virtual": _either("with virtual batches", "without virtual batches"),
    "finite": _either("with finite values", "with values that are not finite"),
    "feature": lambda value: f"in cases of {value}" if value else "in plain cases",
    "no_rows": _either("in cases with an empty batch", "without empty batches"),
    "one_channel": _either("with one channel", "with several channels"),
    "odd": lambda value: "with ordinary values" if value == "False" else f"with an odd {value}",
    "zero_epsilon": _either("with an epsilon of 0", "with an epsilon other than 0"),
    "cumulative": _either("with a cumulative mean", "with a momentum"),
    "backward": "with gradients taken {}".format,
    "differentiation": "with differentiation {}".format,
}
_BITS = {
    **dict.fromkeys(("mode", "dtype", "contiguous", "rank", "half"), 4.0),
    **dict.fromkeys(("layout", "inferred", "trained", "mask", "scale", "center", "differentiation"), 6.0),
    **dict.fromkeys(("first", "channel", "affine", "contiguous_dy", "finite", "renorm", "virtual", "tracked"), 6.5),
    "feature": 8.0,
}
"""How simple a fact is; what is not here takes 9 bits."""
_NUMBERS = {
    "n": "where N {}",
    "channels": "where the number of channels is {}",
    "rows": "where the first axis is {}",
    "last": "where the last axis is {}",
    "size": "where the number of elements is {}",
    "far": "where |mean|/σ {}",
    "epsilon": "where epsilon {}",
    "momentum": "where momentum {}",
}
_NUMBER_BITS = {
    "n": 4.0,
    "channels": 6.0,
    "rows": 8.0,
    "last": 8.0,
    "size": 8.0,
    "far": 6.0,
    "epsilon": 7.0,
    "momentum": 7.0,
}
