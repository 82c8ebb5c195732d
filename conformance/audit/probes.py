"""Cases that tell the values of `Semantics` fields apart: small, exact in half precision, the same for everybody.

A probe is made for a place, where the kept axis is and which dtype the input has, as implementations choose their
path by it. It names the fields that it is for; another one may be settled by it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import msgspec
import numpy as np

from conformance.case import Case, Derivative, Dtype, Dtypes, Step
from conformance.statement import Statement, facts
from reference import Spec
from reference.spec import Array, Clipping, broadcast, kept_shape


class Place(NamedTuple):
    """Where the kept axis is, in an input of which shape, and the input's dtype."""

    name: str
    shape: tuple[int, ...]
    axis: int
    dtype: Dtype = "float32"


_SHAPES = (
    Place("rank 2, axis 1", (8, 3), 1),
    Place("rank 3, axis 1", (4, 3, 2), 1),
    Place("rank 3, axis -1", (4, 2, 3), -1),
    Place("rank 4, axis 1", (4, 3, 2, 1), 1),
    Place("rank 4, axis -1", (4, 2, 1, 3), -1),
    Place("rank 5, axis 1", (4, 3, 1, 2, 1), 1),
    Place("rank 5, axis -1", (4, 1, 2, 1, 3), -1),
)
_DTYPES: tuple[Dtype, ...] = ("float32", "float64", "float16", "bfloat16")
PLACES = tuple(place._replace(dtype=dtype) for dtype in _DTYPES for place in _SHAPES)


class Probe(NamedTuple):
    """A way to make a case for a place.

    fields: what it is for. dtypes: of the input. beyond_masks: it may ask for another shape of masks than a statement
    supports, as that is what it is there to find out.
    """

    name: str
    fields: tuple[str, ...]
    make: Callable[[Place], Case]
    dtypes: tuple[Dtype, ...] = ("float32",)
    beyond_masks: bool = False

    def case(self, place: Place, statement: Statement) -> Case | None:
        """Return the case for a place as this implementation can be asked it, None where it cannot be."""
        if place.dtype not in self.dtypes:
            return None
        return self.in_place(place, statement)

    def in_place(self, place: Place, statement: Statement) -> Case | None:
        """Return the same for a place with any dtype of the input."""
        case = _derived(self.make(place), statement)
        about = facts(case) | {"mask": False} if self.beyond_masks else facts(case)
        return None if statement.unsupported(about) else case


def _derived(case: Case, statement: Statement) -> Case:
    """Return the case, asking for second derivatives too where an implementation gives nothing else."""
    wanted = statement.supports.get("differentiation", ["none"])
    if "none" in wanted or case.steps[0].derivatives:
        return case
    return _second(case)


# --- what the cases are made of ---------------------------------------------------------------------------------


def _numbers(shape: tuple[int, ...], seed: int, low: float, high: float) -> Array:
    """Return multiples of 1/64, which half precision holds up to 32."""
    drawn = np.random.default_rng(seed).integers(int(low * 64), int(high * 64), shape, endpoint=True)
    return drawn / 64.0


def _case(place: Place, modes: str, seed: int = 0, own: bool = False, **spec: Any) -> Case:
    """Return a case with batches around 1.5 that deviate by about 1, and statistics that are not theirs."""
    asked = Spec(**{"axis": place.axis, "epsilon": 0.25, "momentum": 0.75, **spec})
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
    return array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def _with(case: Case, tensors: dict[str, Array]) -> Case:
    return msgspec.structs.replace(case, tensors=case.tensors | tensors)


def _scaled(case: Case, factor: float) -> Case:
    """Return the case with deviations, and the variance it starts with, of another size."""
    names = [name for name in case.tensors if name.endswith(".x") or name == "moving_mean"]
    changed = {name: (case.tensors[name] * factor).astype(case.tensors[name].dtype) for name in names}
    variance = {"moving_variance": (case.tensors["moving_variance"] * factor**2).astype(case.dtypes.statistics)}
    return _with(case, changed | variance)


def _rows(case: Case, t: int, rows: int) -> Case:
    """Return the case with another number of rows in one step."""
    x = case.x(t)
    repeated = np.concatenate([x] * (rows // len(x) + 1))[:rows]
    return _with(case, {f"{t}.x": repeated})


def _one_value(place: Place) -> Case:
    case = _case(place, "train infer")
    kept = [size if axis == place.axis % len(place.shape) else 1 for axis, size in enumerate(place.shape)]
    one = case.x(0)[tuple(slice(size) for size in kept)]
    return _with(case, {"0.x": one, "1.x": one + one.dtype.type(1)})


def _masked(values: str, rank: str) -> Callable[[Place], Case]:
    """Return what makes a case with masks. values: `bool`, `weights` of 0 to 4, or `none`, letting nothing through."""

    def make(place: Place) -> Case:
        case, shape = _case(place, "train infer"), place.shape if rank == "full" else place.shape[:-1]
        let = _numbers(shape, 50, 0, 1) < 0.7
        let.flat[0], let.flat[-1] = True, False
        if values == "none":
            let = np.zeros(shape, bool)
        mask = let * _numbers(shape, 51, 0.25, 4).astype(np.float32) if values == "weights" else let
        return _with(case, {f"{t}.mask": mask for t in range(2)})

    return make


def _second(case: Case) -> Case:
    """Ask each step for the gradients, and for those of dx."""
    steps = tuple(
        msgspec.structs.replace(step, derivatives=(Derivative(), Derivative(order=2, mode="reverse")))
        for step in case.steps
    )
    along: dict[str, Array] = {}
    for t in range(len(steps)):
        x = case.x(t)
        along |= {f"{t}.{n}": _numbers(x.shape, 60 + t + i, -1, 1).astype(x.dtype) for i, n in enumerate(("dy", "tangent"))}
    return msgspec.structs.replace(_with(case, along), steps=steps)


def _without_updates(place: Place) -> Case:
    case = _case(place, "train infer")
    steps = tuple(msgspec.structs.replace(step, update=False) for step in case.steps)
    return msgspec.structs.replace(case, steps=steps)


def _adjusted(place: Place) -> Case:
    case = _case(place, "train infer")
    shape = broadcast(np.ones(kept_shape(case.spec, place.shape)), case.spec, len(place.shape)).shape
    scale, bias = _numbers(shape, 70, 0.5, 1.5), _numbers(shape, 71, -1, 1)
    kind = case.dtypes.parameters
    return _with(case, {"0.adjustment_scale": scale.astype(kind), "0.adjustment_bias": bias.astype(kind)})


def _near_one(place: Place) -> Case:
    """Return a case whose momentum is so near 1 that float32 holds 1 - momentum to four digits less."""
    case = _case(place, "train train infer", momentum=0.9999)
    zero = np.zeros_like(case.tensors["moving_mean"])
    return _with(case, {"moving_mean": zero, "moving_variance": zero})


_ALL: tuple[Dtype, ...] = ("float32", "float64")
PROBES = (
    Probe(
        "plain",
        ("average", "training_statistics", "stored_variance", "moving_spread", "epsilon_placement"),
        lambda place: _case(place, "train train infer"),
    ),
    Probe(
        "tiny epsilon",
        ("epsilon_floor",),
        lambda place: _scaled(_case(place, "train infer", epsilon=1e-8), 2.0**-10),
    ),
    Probe("own start, train first", ("initial_mean", "initial_variance"), lambda p: _case(p, "train infer", own=True)),
    Probe("own start, infer first", ("initial_mean", "initial_variance"), lambda p: _case(p, "infer train", own=True)),
    Probe("momentum near 1", ("fraction_dtype", "fraction_rounded"), _near_one, _ALL),
    Probe("frozen", ("frozen",), lambda place: _case(place, "train infer", trainable=False)),
    Probe("update ops left out", ("updates",), _without_updates),
    Probe("one value", ("single_value",), _one_value),
    Probe("no rows", ("empty_batch",), lambda place: _rows(_case(place, "train infer"), 0, 0)),
    Probe("epsilon 0", ("zero_epsilon",), lambda place: _case(place, "train infer", epsilon=0.0)),
    Probe("renorm", ("renorm",), lambda place: _case(place, "train train infer", renorm=True, renorm_momentum=0.5)),
    Probe(
        "rmax below rmin",
        ("reversed_clipping",),
        lambda place: _case(
            place, "train infer", renorm=True, renorm_momentum=0.5, renorm_clipping=Clipping(rmin=0.5, rmax=0.25)
        ),
    ),
    Probe(
        "virtual batches",
        ("virtual_batches", "virtual_statistics"),
        lambda place: _case(place, "train train infer", virtual_batch_size=2),
    ),
    Probe(
        "inference on 3 rows of virtual batches of 2",
        ("indivisible_inference",),
        lambda place: _rows(_case(place, "infer", virtual_batch_size=2), 0, 3),
    ),
    Probe("adjustment", ("adjustment",), _adjusted),
    Probe("mask of weights", ("mask",), _masked("weights", "full")),
    Probe("mask", ("mask", "mask_rank", "mask_offset"), _masked("bool", "full"), _ALL, True),
    Probe("mask without the last axis", ("mask_rank", "mask_offset"), _masked("bool", "short"), _ALL, True),
    Probe("mask of weights without the last axis", ("mask",), _masked("weights", "short")),
    Probe("mask of nothing", ("all_masked",), _masked("none", "full")),
    Probe("mask of nothing without the last axis", ("all_masked",), _masked("none", "short")),
    Probe(
        "second derivative",
        ("variance_mean",),
        lambda place: _second(_case(place, "train")),
    ),
    Probe("dtypes", ("output_dtype",), lambda place: _case(place, "train infer"), ("float16", "bfloat16", "float64")),
)
