"""A `Case` is what is asked: pure data that can be saved, mailed, replayed and judged again.

Tensors are named: `gamma`, `beta`, `moving_mean`, `moving_variance` for what the layer starts with, and `<t>.x`,
`<t>.dy`, `<t>.mask`, `<t>.adjustment_scale`, `<t>.adjustment_bias`, and `<t>.tangent`, of x, for step t, or
`<t>.gamma_tangent` and `<t>.beta_tangent`, `<t>.mean_tangent` and `<t>.variance_tangent`, of the moving statistics that
inference is given. Member m of an ensemble has `<m>.gamma` and `<m>.beta`, where these are not
the layer's.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection
from typing import Any, Literal, cast

import ml_dtypes
import msgspec
import numpy as np

from reference import Parameters, Semantics, Spec, State
from reference.precision import widened
from reference.spec import Array, kept_shape

SCHEMA = 1
OF_LAYER = ("gamma", "beta", "moving_mean", "moving_variance")
OF_STEP = (
    *("x", "dy", "mask", "adjustment_scale", "adjustment_bias", "tangent", "dmean", "dvariance"),
    *("gamma_tangent", "beta_tangent", "mean_tangent", "variance_tangent", "dmoving_mean", "dmoving_variance"),
)
OF_STATISTICS = ("dmean", "dvariance", "dmoving_mean", "dmoving_variance", "mean_tangent", "variance_tangent")
OF_MEMBER = ("gamma", "beta")
"""What tensors are called: those of the layer by these names, those of step t, or of a member, by `<t>.` and these."""

Dtype = Literal["float16", "bfloat16", "float32", "float64"]
Layout = Literal["C", "F", "strided", "channels_last", "offset", "reversed", "read_only"]

Along = Literal["x", "parameters", "all"]
Input = Literal["stored", "int32", "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e5m2"]
Scalars = Literal["number", "float64", "float32", "array"]
OF_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


class Dtypes(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Storage of the input, of gamma and beta, and of the moving statistics."""

    x: Dtype = "float32"
    parameters: Dtype = "float32"
    statistics: Dtype = "float32"

    def of(self, tensor: str) -> Dtype | None:
        """Return the dtype of a tensor by its name; None if it is not one of these."""
        if tensor.endswith((".x", ".dy", ".tangent")):
            return self.x
        named = tensor.rpartition(".")[2]
        if tensor in ("moving_mean", "moving_variance") or named in OF_STATISTICS:
            return self.statistics
        return self.parameters if named in ("gamma", "beta", "gamma_tangent", "beta_tangent") else None


class Derivative(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One derivative to take: of which output, with respect to what, how often, and in which mode.

    of: y, and beside it what training returns: the mean and variance of the batch, or the new moving statistics.
    along: what moves along the tangent: x; of an order above 1 gamma and beta, as a step of gradient descent does; or,
        of order 1, forward, `all`: x, gamma, beta and, in inference, the moving statistics given.
    """

    order: Literal[1, 2, 3] = 1
    mode: Literal["reverse", "forward", "forward_over_reverse"] = "reverse"
    of: tuple[Literal["y", "mean", "variance", "moving_mean", "moving_variance"], ...] = ("y",)
    wrt: tuple[Literal["x", "gamma", "beta"], ...] = ("x", "gamma", "beta")
    along: Along = "x"


class Step(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One call of the layer.

    update: whether a training step moves the state (TF 1's update ops; test_local_stats of haiku and Sonnet does not).
    site: which of the call sites that share the layer makes the call.
    trainable: False freezes a trainable layer for this call.
    """

    mode: Literal["train", "infer"]
    update: bool = True
    site: int = 0
    trainable: bool = True
    derivatives: tuple[Derivative, ...] = ()


class Actions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is done to the layer around its steps.

    init_mode: the mode in which it is first built.
    round_trip: it is rebuilt from its configuration or its state before step 0.
    sites: how many call sites share its variables.
    unknown_sizes: input axes whose size is unknown when it is built.
    flag: the type by which it is told the mode: a Python bool, an int, or a NumPy bool.
    input: the dtype that x is handed over in: as it is `stored`, or one of whole numbers, truth values or eight bits
        that has all its values. `dtypes.x` is then what it is promoted to. In `complex64` it is i x that is handed
        over, and what is answered about it is meant of x.
    scalars: the type that momentum and epsilon are handed over as: a Python `number`, a NumPy scalar of `float64` or
        `float32`, or an `array` of float32 and rank 0.
    backward: when gradients are taken: after `each` call, `after_all` calls, or `twice` after each, to give the second;
        `recomputed`: after each, and what they are made of is not kept, but the call is made once more (checkpointing);
        or one of all calls, which are made `together` in one graph: gamma's and beta's come with the last call, and so
        does the state.
    members: how many layers an ensemble has. Step t is of member t % members, and as many steps are one call.
    mapped: what differs between members in a call beside dy (see `ensembles`).
    replicas: of so many copies of the layer, with synchronized statistics, how many rows of each batch every one gets
        (see `replicas`); none: there is one layer, with the whole batch.
    """

    init_mode: Literal["train", "infer"] = "train"
    round_trip: Literal["none", "config", "state"] = "none"
    sites: int = 1
    unknown_sizes: tuple[int, ...] = ()
    flag: Literal["bool", "int", "numpy"] = "bool"
    backward: Literal["each", "after_all", "twice", "together", "recomputed"] = "each"
    input: Input = "stored"
    scalars: Scalars = "number"
    members: int = 1
    mapped: Literal["none", "dy", "x", "parameters", "both", "nested"] = "none"
    replicas: tuple[int, ...] = ()


class Case(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is asked, and the tensors that it is asked with.

    layout, dy_layout, layer_layout: the memory of the inputs, of their cotangents, and of the layer's own arrays given.
    batches: how many batches have entered the given moving statistics; an average that counts them needs to know.
    """

    spec: Spec
    steps: tuple[Step, ...]
    dtypes: Dtypes = Dtypes()
    layout: Layout = "C"
    dy_layout: Layout = "C"
    layer_layout: Layout = "C"
    actions: Actions = Actions()
    batches: int = 0
    tensors: dict[str, Any] = {}

    def tensor(self, name: str) -> Array | None:
        """Return a tensor by name; None if the case has none."""
        return self.tensors.get(name)

    def x(self, t: int) -> Array:
        """Return the input of step t."""
        return self.tensors[f"{t}.x"]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first step's input."""
        return tuple(self.x(0).shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its tensors have."""
        return sum(int(array.nbytes) for array in self.tensors.values())


def without(case: Case, steps: Collection[int]) -> Case:
    """Return the case without these steps; the others are numbered anew."""
    kept = [t for t in range(len(case.steps)) if t not in steps]
    tensors = {name: array for name, array in case.tensors.items() if not name.partition(".")[0].isdecimal()}
    for new, t in enumerate(kept):
        own = f"{t}."
        of_step = (name.removeprefix(own) for name in case.tensors if name.startswith(own))
        tensors |= {f"{new}.{name}": case.tensors[own + name] for name in of_step}
    return msgspec.structs.replace(case, steps=tuple(case.steps[t] for t in kept), tensors=tensors)


NEWER = ("along", "backward", "dy_layout", "input", "layer_layout", "mapped", "members", "replicas", "scalars", "track")
"""Fields that a worker may be too old for: spelled out only where they say something."""


def content(case: Case) -> dict[str, Any]:
    """Return everything but the tensors, defaults spelled out but those of `NEWER`: what is sent and saved."""
    fields = cast("dict[str, Any]", _spelled_out(msgspec.structs.replace(case, tensors={})))
    return {name: value for name, value in fields.items() if name != "tensors"}


def _spelled_out(value: object) -> Any:
    if isinstance(value, msgspec.Struct):
        fields = {f.name: getattr(value, f.name) for f in _fields(type(value)) if not _is_too_new(f, value)}
        return {name: _spelled_out(field) for name, field in fields.items()}
    if isinstance(value, Spec):
        fields = dataclasses.asdict(value)  # msgspec leaves out a dataclass's defaults
        return {n: v for n, v in fields.items() if n not in NEWER or v != getattr(Spec(), n)}
    if isinstance(value, tuple):
        return [_spelled_out(v) for v in cast("tuple[object, ...]", value)]
    return value


@functools.cache  # their annotations are read anew each time
def _fields(of: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(of)


def _is_too_new(field: msgspec.structs.FieldInfo, value: msgspec.Struct) -> bool:
    return field.name in NEWER and getattr(value, field.name) == _default(field)


def case_id(case: Case) -> str:
    """Return 16 hex digits of the SHA-256 of all fields, defaults omitted, and of the tensors.

    Omitting defaults keeps old ids when a new field arrives.
    """
    bare = _bare(msgspec.structs.replace(case, tensors={}))
    return digest(json.dumps(bare, sort_keys=True, separators=(",", ":")), case.tensors)[:16]


def digest(text: str, tensors: dict[str, Array]) -> str:
    """Return the SHA-256 of a text and of tensors, whatever their order, in hex."""
    found = hashlib.sha256(text.encode())
    for name, array in sorted(tensors.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # no copy, whatever its size
    return found.hexdigest()


def _bare(value: object) -> Any:
    """Return what differs from the defaults, at every level."""
    if isinstance(value, tuple):
        return [_bare(v) for v in cast("tuple[object, ...]", value)]
    if isinstance(value, Spec):
        given = dataclasses.asdict(value)
        return {f.name: given[f.name] for f in dataclasses.fields(value) if getattr(value, f.name) != f.default}
    if not isinstance(value, msgspec.Struct):
        return value
    pairs = ((f.name, getattr(value, f.name), _default(f)) for f in _fields(type(value)))
    return {name: _bare(v) for name, v, default in pairs if v != default}


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def parameters(case: Case, dtype: type[np.floating[Any]], member: int = 0) -> Parameters:
    """Return a member's gamma and beta at the reference's precision; None where the spec asks for none."""
    gamma, beta = (case.tensors.get(f"{member}.{name}", case.tensor(name)) for name in OF_MEMBER)
    return Parameters(_at(gamma, dtype) if case.spec.scale else None, _at(beta, dtype) if case.spec.center else None)


def initial_state(case: Case, semantics: Semantics, dtype: type[np.floating[Any]]) -> State:
    """Return the case's moving statistics; if it gives none, those that the implementation starts with."""
    kept = kept_shape(case.spec, case.shape)
    mean, variance = _at(case.tensor("moving_mean"), dtype), _at(case.tensor("moving_variance"), dtype)
    return State(
        np.full(kept, semantics.initial_mean, dtype) if mean is None else mean,
        np.full(kept, semantics.initial_variance, dtype) if variance is None else variance,
        case.batches,
    )


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return a dtype by its name; NumPy has neither bfloat16 nor eight bits of its own."""
    return np.dtype(getattr(ml_dtypes, name)) if name in OF_ML_DTYPES else np.dtype(name)


def _at(array: Array | None, dtype: type[np.floating[Any]]) -> Array | None:
    return None if array is None else widened(array, dtype)
