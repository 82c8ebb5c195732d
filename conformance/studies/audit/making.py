"""The cases that probes ask: small, exact in half precision, the same for everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from conformance.model.case import Case, Derivative, Dtype, Dtypes, Step, numpy_dtype
from reference import Spec
from reference.spec import Array, broadcast, kept_shape


class InputLayout(NamedTuple):
    """How the input of a probe is laid out.

    name: in words.
    shape: of the input.
    axis: the kept one.
    dtype: of the input.
    """

    name: str
    shape: tuple[int, ...]
    axis: int
    dtype: Dtype = "float32"


_SHAPES = (
    InputLayout("rank 2, axis 1", (8, 3), 1),
    InputLayout("rank 3, axis 1", (4, 3, 2), 1),
    InputLayout("rank 3, axis -1", (4, 2, 3), -1),
    InputLayout("rank 4, axis 1", (4, 3, 2, 1), 1),
    InputLayout("rank 4, axis -1", (4, 2, 1, 3), -1),
    InputLayout("rank 5, axis 1", (4, 3, 1, 2, 1), 1),
    InputLayout("rank 5, axis -1", (4, 1, 2, 1, 3), -1),
)
_DTYPES: tuple[Dtype, ...] = ("float32", "float64", "float16", "bfloat16")
PLACES = tuple(place._replace(dtype=dtype) for dtype in _DTYPES for place in _SHAPES)


def _numbers(shape: tuple[int, ...], seed: int, low: float, high: float) -> Array:
    """Return multiples of 1/64, which half precision holds exactly up to 32."""
    drawn = np.random.default_rng(seed).integers(int(low * 64), int(high * 64), shape, endpoint=True)
    return drawn / 64.0


def plain(place: InputLayout, modes: str, seed: int = 0, own: bool = False, **spec: Any) -> Case:
    """Return a case with batches around 1.5 that deviate by about 1, and given statistics of other values."""
    fields: dict[str, Any] = {"axis": place.axis, "epsilon": 0.25, "momentum": 0.75, **spec}
    asked = Spec(**fields)
    kept, statistics = kept_shape(asked, place.shape), "float64" if place.dtype == "float64" else "float32"
    start = {"gamma": (0.5, 1.5), "beta": (-1, 1), "moving_mean": (-1, 1), "moving_variance": (2, 3)}
    tensors = {n: _numbers(kept, seed + i, *r).astype(statistics) for i, (n, r) in enumerate(start.items())}
    if own:
        del tensors["moving_mean"], tensors["moving_variance"]
    steps = tuple(Step(mode="train" if mode == "train" else "infer") for mode in modes.split())
    for t in range(len(steps)):
        tensors[f"{t}.x"] = _as(place.dtype, _numbers(place.shape, seed + 10 + t, -0.5, 3.5) + t)
    return Case(spec=asked, steps=steps, dtypes=Dtypes(place.dtype, statistics, statistics), tensors=tensors)


def _as(dtype: Dtype, array: Array) -> Array:
    return array.astype(numpy_dtype(dtype))


def _with(case: Case, tensors: dict[str, Array]) -> Case:
    return msgspec.structs.replace(case, tensors=case.tensors | tensors)


def asking(modes: str, own: bool = False, **spec: Any) -> Callable[[InputLayout], Case]:
    """Return a function that makes a plain case with these steps and fields of `Spec`."""
    return lambda place: plain(place, modes, own=own, **spec)


def tiny_epsilon(place: InputLayout) -> Case:
    """Return a case whose variance is near 1e-6, and whose epsilon is 1e-8."""
    case, factor = plain(place, "train infer", epsilon=1e-8), 2.0**-10
    names = [name for name in case.tensors if name.endswith(".x") or name == "moving_mean"]
    changed = {name: (case.tensors[name] * factor).astype(case.tensors[name].dtype) for name in names}
    variance = {"moving_variance": (case.tensors["moving_variance"] * factor**2).astype(case.dtypes.statistics)}
    return _with(case, changed | variance)


def no_rows(place: InputLayout) -> Case:
    """Return a case that trains on an empty batch."""
    return _rows(plain(place, "train infer"), 0)


def three_rows(place: InputLayout) -> Case:
    """Return a case that infers on three rows of a layer with virtual batches of two."""
    return _rows(plain(place, "infer", virtual_batch_size=2), 3)


def _rows(case: Case, number: int) -> Case:
    """Return the case with this many rows in its first step."""
    return _with(case, {"0.x": case.x(0)[:number]})


def one_value(place: InputLayout) -> Case:
    """Return a case that trains on one value per channel."""
    case = plain(place, "train infer")
    kept = [size if axis == place.axis % len(place.shape) else 1 for axis, size in enumerate(place.shape)]
    one = case.x(0)[tuple(slice(size) for size in kept)]
    return _with(case, {"0.x": one, "1.x": one + one.dtype.type(1)})


def masked(values: str, rank: str) -> Callable[[InputLayout], Case]:
    """Return what makes a case with masks. values: `bool`, `weights` of 0 to 4, or `none`: no value counts."""

    def make(place: InputLayout) -> Case:
        case, shape = plain(place, "train infer"), place.shape if rank == "full" else place.shape[:-1]
        let: Array = _numbers(shape, 50, 0, 1) < 0.7
        let.flat[0], let.flat[-1] = True, False
        if values == "none":
            let = np.zeros(shape, bool)
        mask = let * _numbers(shape, 51, 0.25, 4).astype(np.float32) if values == "weights" else let
        return _with(case, {f"{t}.mask": mask for t in range(2)})

    return make


def first(case: Case) -> Case:
    """Ask each step for its gradients."""
    steps = tuple(
        step if step.derivatives else msgspec.structs.replace(step, derivatives=(Derivative(),)) for step in case.steps
    )
    inputs = {t: case.x(t) for t in range(len(steps))}
    along = {f"{t}.dy": _numbers(x.shape, 60 + t, -1, 1).astype(x.dtype) for t, x in inputs.items()}
    return msgspec.structs.replace(case, steps=steps, tensors=along | case.tensors)


def without_gradients(case: Case) -> Case:
    """Return the case with nothing differentiated."""
    steps = tuple(msgspec.structs.replace(step, derivatives=()) for step in case.steps)
    tensors = {name: array for name, array in case.tensors.items() if not name.endswith(".dy")}
    return msgspec.structs.replace(case, steps=steps, tensors=tensors)


def second(case: Case) -> Case:
    """Ask each step for its gradients, and for the derivatives of dx."""
    steps = tuple(
        msgspec.structs.replace(step, derivatives=(Derivative(), Derivative(order=2, mode="reverse")))
        for step in case.steps
    )
    along: dict[str, Array] = {}
    for t, x in enumerate(case.x(t) for t in range(len(steps))):
        along |= {
            f"{t}.{n}": _numbers(x.shape, 60 + t + i, -1, 1).astype(x.dtype) for i, n in enumerate(("dy", "tangent"))
        }
    return msgspec.structs.replace(_with(case, along), steps=steps)


def without_updates(place: InputLayout) -> Case:
    """Return a case whose update ops do not run."""
    case = plain(place, "train infer")
    steps = tuple(msgspec.structs.replace(step, update=False) for step in case.steps)
    return msgspec.structs.replace(case, steps=steps)


def adjusted(place: InputLayout) -> Case:
    """Return a case with an adjustment."""
    case = plain(place, "train infer")
    shape = broadcast(np.ones(kept_shape(case.spec, place.shape)), case.spec, len(place.shape)).shape
    scale, bias = _numbers(shape, 70, 0.5, 1.5), _numbers(shape, 71, -1, 1)
    kind = case.dtypes.parameters
    return _with(case, {"0.adjustment_scale": scale.astype(kind), "0.adjustment_bias": bias.astype(kind)})


def second_derivative(place: InputLayout) -> Case:
    """Return a training step with the derivatives of its gradients."""
    return second(plain(place, "train"))


def of_new_state(place: InputLayout) -> Case:
    """Return a training step with the gradient of a loss that is made of y and of the new moving statistics."""
    case = plain(place, "train")
    steps = (
        msgspec.structs.replace(case.steps[0], derivatives=(Derivative(of=("y", "moving_mean", "moving_variance")),)),
    )
    kept, names = case.tensors["moving_mean"], ("dmoving_mean", "dmoving_variance")
    cotangents = {f"0.{n}": _numbers(kept.shape, 90 + i, 4, 8).astype(kept.dtype) for i, n in enumerate(names)}
    dy = _as(place.dtype, _numbers(place.shape, 60, -1, 1))
    return msgspec.structs.replace(_with(case, cotangents | {"0.dy": dy}), steps=steps)


def near_one(place: InputLayout) -> Case:
    """Return a case whose momentum is so near 1 that float32 loses four digits of 1 - momentum."""
    case = plain(place, "train train infer", momentum=0.9999)
    zero = np.zeros_like(case.tensors["moving_mean"])
    return _with(case, {"moving_mean": zero, "moving_variance": zero})


def sized(place: InputLayout, shape: tuple[int, ...]) -> Case:
    """Return a plain case whose input has this shape."""
    return plain(place._replace(shape=shape), "train train infer", seed=80)
