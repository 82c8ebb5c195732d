"""What a wrong answer looks like: the one change of what was asked, promised or returned under which it conforms.

A change explains an answer if every wrong output conforms under it. What is off by a hundred times may stay off by
four: a changed gamma, or a product by 1 / n, is rounded once more than the real thing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Case, numpy_dtype
from conformance.model.outcome import Outputs, Reply
from conformance.model.results import Rho
from conformance.model.rules import Rule
from conformance.workbench.given import GivenStep
from reference.spec import Array, reduced_axes

MOST = 1 << 24
"""Bytes of a case up to which causes are looked for: each costs as much as judging it."""
_NEAR, _FAR = 4.0, 100.0
_SOME = 8
"""Elements that are not numbers of half precision by chance."""
_MOVING = ("moving_mean", "moving_variance")

Change = tuple[str, Callable[[], GivenStep]]


def causes(given: GivenStep, wrong: Mapping[str, Rho]) -> list[str]:
    """Return every single change that explains all of these outputs, in words; wrong: with their ρ, by name."""
    if given.case.nbytes > MOST:
        return []
    found = [*_plain(given, wrong), *_explaining(_changes(given, wrong), wrong)]
    if not found and len(wrong) > 1:
        alone = {name: _explaining(_changes(given, [name]), {name: rho})[:1] for name, rho in wrong.items()}
        found = [f"{said} (of {name})" for name, those in alone.items() for said in those]
    return found or _explaining(_of_numerics(given), wrong)[:1]


def _explaining(changes: Iterator[Change], wrong: Mapping[str, Rho]) -> list[str]:
    return list(dict.fromkeys(said for said, change in changes if _explains(change, wrong)))


def _plain(given: GivenStep, wrong: Collection[str]) -> Iterator[str]:
    """Yield what is seen without computing anything."""
    for name in wrong:
        answer = given.outputs[name]
        array = answer.astype(np.float64)
        if array.size and not array.any():
            yield f"{name} had not been computed: it is 0 everywhere"
        elif array.size and np.isnan(array).all():
            yield f"{name} had not been computed: it is NaN everywhere"
        elif answer.dtype.itemsize > 2 and array.size >= _SOME and (short := _representable(answer)):
            yield f"{name} had been rounded to {short}: every element is one of its numbers"


def _representable(array: Array) -> str:
    """Return the half precision whose numbers all elements are; empty where there is none."""
    with np.errstate(over="ignore"):
        short = [
            n for n in ("bfloat16", "float16") if (array.astype(numpy_dtype(n)).astype(array.dtype) == array).all()
        ]
    return short[0] if short else ""


def _explains(change: Callable[[], GivenStep], wrong: Mapping[str, Rho]) -> bool:
    try:
        changed = change()
        with np.errstate(all="ignore"):
            said = msgspec.structs.replace(changed.statement, outputs=tuple(wrong))
            found = judge("", ExactCase(changed.case), said, Reply(0, said.id, (Outputs(changed.outputs),)))
    except Exception:  # noqa: BLE001 - what cannot be asked explains nothing
        return False
    near = {r.output for r in found if isinstance(r.rho, float | int) and r.rho <= _allowed(wrong[r.output])}
    return set(wrong) <= near


def _allowed(rho: Rho) -> float:
    return _NEAR if isinstance(rho, str) or (rho or 0) > _FAR else 1.0


def _changes(given: GivenStep, wrong: Collection[str]) -> Iterator[Change]:
    yield from of_question(given)
    yield from _of_answers(given, wrong)


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


def _of_answers(given: GivenStep, wrong: Collection[str]) -> Iterator[Change]:
    """Yield what one answer would have to be multiplied by."""
    n = given.exact_case.whole(0).count
    factors = {
        "had the other sign": -1.0,
        f"were a mean over n = {n}, not a sum": float(n),
        f"were a sum over n = {n}, not a mean": 1 / n,
        "were half of what is right": 2.0,
        "were twice what is right": 0.5,
    }
    if n > 1:
        factors |= {"were divided by n - 1, not by n": (n - 1) / n, "were divided by n, not by n - 1": n / (n - 1)}
    for name in wrong:
        for said, factor in factors.items():
            yield f"{name} {said}", lambda name=name, factor=factor: _multiplied(given, name, factor)


def _multiplied(given: GivenStep, name: str, factor: float) -> GivenStep:
    array = given.outputs[name]
    return given._replace(outputs=given.outputs | {name: (array.astype(np.float64) * factor).astype(array.dtype)})


def _of_numerics(given: GivenStep) -> Iterator[Change]:
    loose = {"variance": "fast", "affine": "folded", "sums": "serial"}
    fields: list[tuple[str, dict[str, Any]]] = [
        ("sums were in any order (sums: serial)", {"sums": "serial"}),
        ("the affine map were folded into x * scale + shift (affine: folded)", {"affine": "folded"}),
        ("the variance were E[x²] - E[x]² (variance: fast)", loose),
        ("it were computed in tf32 (accumulate: tf32)", loose | {"accumulate": "tf32"}),
        ("it were computed in float16 (accumulate: float16)", loose | {"accumulate": "float16"}),
        ("it were computed in bfloat16 (accumulate: bfloat16)", loose | {"accumulate": "bfloat16"}),
    ]
    for said, numerics in fields:
        rule = Rule("supposed", numerics=numerics)
        yield said, lambda rule=rule: _ruled(given, rule)
