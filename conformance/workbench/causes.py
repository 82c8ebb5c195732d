"""Mistakes as changes of one question: what the right answer to another one would be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from conformance.model.case import Case, numpy_dtype
from conformance.model.rules import Rule
from conformance.workbench.given import GivenStep
from reference.spec import Array, reduced_axes

_MOVING = ("moving_mean", "moving_variance")

Change = tuple[str, Callable[[], GivenStep]]


def of_question(given: GivenStep) -> Iterator[Change]:
    """Yield every single change of what was asked or promised, in words that follow "as if"."""
    yield from _of_spec(given)
    yield from _of_tensors(given)
    yield from _of_semantics(given)


def _with(given: GivenStep, spec: dict[str, Any], tensors: dict[str, Array] | None = None, **case: Any) -> GivenStep:
    changed = dataclasses.replace(given.case.spec, **spec)
    told = given.case.tensors | (tensors or {})
    return given._replace(case=msgspec.structs.replace(given.case, spec=changed, tensors=told, **case))


def _of_spec(given: GivenStep) -> Iterator[Change]:
    spec, rank = given.case.spec, len(given.case.shape)
    if spec.momentum is not None and spec.momentum != 0.5:
        other = 1 - spec.momentum
        yield (
            "momentum were the fraction that enters, not the one that is kept",
            lambda: _with(given, {"momentum": other}),
        )
    yield "the moving statistics had not moved", lambda: _with(given, {"momentum": 1.0})
    for epsilon in (0.0, 1e-3, 1e-5, 1e-8, spec.epsilon**2):
        if epsilon != spec.epsilon:
            said = "epsilon were left out" if not epsilon else f"epsilon were {epsilon:g}"
            yield said, lambda epsilon=epsilon: _with(given, {"epsilon": epsilon})
    for axis in range(rank):
        if spec.axis not in (axis, axis - rank):
            yield f"the axis that is kept were {axis}", lambda axis=axis: _with(given, {"axis": axis})


def _of_tensors(given: GivenStep) -> Iterator[Change]:
    case, tensors = given.case, given.case.tensors
    for name, field, said in (("gamma", "scale", "gamma were left out"), ("beta", "center", "beta were left out")):
        if name in tensors:
            yield said, lambda name=name, field=field: given._replace(case=_lacking(case, name, field))
    if "gamma" in tensors:
        yield (
            "gamma were 1 + gamma",
            lambda: _with(given, {}, {"gamma": tensors["gamma"] + tensors["gamma"].dtype.type(1)}),
        )
    if "gamma" in tensors and "beta" in tensors:
        swapped = {"gamma": tensors["beta"], "beta": tensors["gamma"]}
        yield "gamma and beta were exchanged", lambda swapped=swapped: _with(given, {}, swapped)
    if all(name in tensors for name in _MOVING):
        swapped = {"moving_mean": tensors["moving_variance"], "moving_variance": tensors["moving_mean"]}
        yield "moving_mean and moving_variance were exchanged", lambda swapped=swapped: _with(given, {}, swapped)
        mode = "infer" if case.steps[0].mode == "train" else "train"
        whose = "the moving statistics" if mode == "infer" else "the batch's own statistics"
        other = (msgspec.structs.replace(case.steps[0], mode=mode),)
        yield f"it normalized by {whose}", lambda: _with(given, {}, steps=other)
    if case.steps[0].mode == "train":
        yield "the gradient took the batch's statistics for constants", lambda: _constant(given)
        yield "y were normalized by the variance of n - 1", lambda: _unbiased(given)


def _lacking(case: Case, name: str, field: str) -> Case:
    tensors = {other: array for other, array in case.tensors.items() if other != name}
    spec = dataclasses.replace(case.spec, **{field: False})
    return msgspec.structs.replace(case, spec=spec, tensors=tensors)


def _constant(given: GivenStep) -> GivenStep:
    """Return the same in inference, by the statistics of its own batch."""
    case, batch = given.case, given.exact_case.whole(0)
    step = msgspec.structs.replace(case.steps[0], mode="infer")
    kept = next((case.tensors[n].shape for n in ("gamma", "beta") if n in case.tensors), (batch.mean.size,))
    moving = {"moving_mean": batch.mean.reshape(kept), "moving_variance": batch.variance.reshape(kept)}
    dtypes = msgspec.structs.replace(case.dtypes, statistics="float64")
    return _with(given, {}, {n: np.asarray(a, np.float64) for n, a in moving.items()}, steps=(step,), dtypes=dtypes)


def _unbiased(given: GivenStep) -> GivenStep:
    """Return the same with gamma and epsilon such that y is as if the variance had been divided by n - 1."""
    case, n = given.case, given.exact_case.whole(0).count
    part = (n - 1) / n
    kept = next((case.tensors[name].shape for name in ("gamma", "beta") if name in case.tensors), None)
    axes = reduced_axes(case.spec, len(case.shape))
    shape = kept or tuple(size for axis, size in enumerate(case.shape) if axis not in axes)
    dtype = numpy_dtype(case.dtypes.parameters)
    gamma = np.asarray(case.tensors.get("gamma", np.ones(shape, dtype)), np.float64) * math.sqrt(part)
    spec = {"epsilon": case.spec.epsilon * part, "scale": True}
    return _with(given, spec, {"gamma": gamma.astype(dtype)})


def _of_semantics(given: GivenStep) -> Iterator[Change]:
    fields: list[tuple[str, dict[str, Any]]] = [
        ("epsilon were added outside the root", {"epsilon_placement": "outside"}),
        ("the moving variance were of the biased variance", {"stored_variance": "biased"}),
        ("the moving variance were of the unbiased variance, by n - 1", {"stored_variance": "unbiased"}),
        ("a batch were normalized by the moving statistics that it has just moved", {"training_statistics": "moving"}),
        ("the moving average were one of standard deviations", {"moving_spread": "stddev"}),
        ("the mask were ignored", {"mask": "ignored"}),
        ("the mask were boolean: what is not 0 counts as 1", {"mask": "boolean"}),
    ]
    for said, semantics in fields:
        rule = Rule("supposed", semantics=semantics)
        yield said, lambda rule=rule: _ruled(given, rule)


def _ruled(given: GivenStep, rule: Rule) -> GivenStep:
    rules = [*given.statement.rules, rule]
    return given._replace(statement=msgspec.structs.replace(given.statement, rules=rules))
