"""Cases and outcomes as safetensors buffers: the same bytes on the wire and on disk.

The metadata holds the `case` as JSON, its schema inside; a request adds a key of its own, which is no part of the case.
A file may hold answers too, tensors named `reply.…`, and is sealed with a checksum of all that is in it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from conformance.model import buffers, case_json, ensembles, replicas
from conformance.model.buffers import Body, Parts, decode
from conformance.model.case import (
    OF_LAYER,
    OF_MEMBER,
    OF_STATISTICS,
    OF_STEP,
    SCHEMA,
    Case,
    Derivative,
    content,
    digest,
    numpy_dtype,
)
from conformance.model.errors import InvalidInput
from reference import validate
from reference.spec import Array, kept_shape

REPLY = "reply."
_SEAL = "sha256"
_KEPT = (*OF_STATISTICS, *OF_MEMBER, "gamma_tangent", "beta_tangent")
"""Tensors of a step or of a member that are of the kept shape."""


def encode_case(
    case: Case, extra: dict[str, str] | None = None, replies: dict[str, Array] | None = None, *, sealed: bool = False
) -> bytes:
    """Return a case as bytes, always the same; `extra` metadata and `replies` are carried along.

    sealed: with a checksum, so that a file that was altered is noticed.
    """
    return b"".join(case_in_parts(case, extra, replies, sealed=sealed))


def case_in_parts(
    case: Case, extra: dict[str, str] | None = None, replies: dict[str, Array] | None = None, *, sealed: bool = False
) -> Parts:
    """Return the bytes of `encode_case` in parts, to be written or sent."""
    text = json.dumps({"schema": SCHEMA} | content(case), sort_keys=True)
    metadata, tensors = {"case": text} | (extra or {}), case.tensors | (replies or {})
    return buffers.in_parts(metadata | ({_SEAL: _digest(metadata, tensors)} if sealed else {}), tensors)


Recorded = tuple[Case, dict[str, str], dict[str, Array]]
"""A case, and what is no part of it: metadata, and the tensors of replies without the `reply.` of their names."""


def decode_case(body: bytes) -> tuple[Case, dict[str, str]]:
    """Return a case and its other metadata; raise ValueError if the buffer holds none, or was altered."""
    return decode_recorded(body)[:2]


def decode_recorded(body: Body) -> Recorded:
    """Return a case with everything recorded with it; raise ValueError if the buffer holds none, or was altered."""
    metadata, tensors = decode(body)
    seal = metadata.pop(_SEAL, None)
    if seal not in (None, _digest(metadata, tensors)):
        raise ValueError("its contents do not match its checksum: it was altered or damaged")
    own = {name: array for name, array in tensors.items() if not name.startswith(REPLY)}
    replies = {name.removeprefix(REPLY): array for name, array in tensors.items() if name.startswith(REPLY)}
    return case_from_json(metadata.pop("case", "{}"), own), metadata, replies


def _digest(metadata: dict[str, str], tensors: dict[str, Array]) -> str:
    return digest(json.dumps(metadata, sort_keys=True), tensors)


def case_from_json(text: str, tensors: dict[str, Array] | None = None) -> Case:
    """Return a case written as JSON, its tensors given apart or, when written by hand, inline.

    An inline tensor is `{"dtype": "float32", "data": [[1, 2], [3, 4]]}`; with `"shape": [0, 3]` where it holds nothing.
    """
    fields = case_json.fields(text)
    inline: object = fields.pop("tensors", {})
    if not isinstance(inline, dict):
        raise case_json.NotACase('tensors must be an object, {"0.x": {"dtype": …, "data": …}}')
    arrays = {name: case_json.tensor(name, given) for name, given in cast("dict[str, Any]", inline).items()}
    try:
        case = msgspec.convert(fields, Case)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a case: {error}") from error
    return msgspec.structs.replace(case, tensors=arrays if tensors is None else tensors)


def case_to_json(case: Case, about: dict[str, str] | None = None) -> str:
    """Return a case as JSON that people read and edit, its tensors inline; about: what a corpus file says of itself.

    >>> from reference import Spec
    >>> from conformance.model.case import Step
    >>> case = Case(Spec(axis=-1), (Step("train"),), tensors={"0.x": np.ones((2, 1), np.float32)})
    >>> case_from_json(case_to_json(case)).tensors["0.x"].tolist()
    [[1.0], [1.0]]
    """
    fields = msgspec.to_builtins(msgspec.structs.replace(case, tensors={}))
    tensors = {name: _written(array) for name, array in case.tensors.items()}
    return json.dumps({"about": about or {}, **fields, "tensors": tensors}, indent=1) + "\n"


def _written(array: Array) -> dict[str, Any]:
    data = array.astype(np.float64).tolist() if array.dtype != bool else array.tolist()
    return {"dtype": array.dtype.name, "data": data} | ({} if array.size else {"shape": list(array.shape)})


def check(case: Case) -> None:
    """Raise ValueError where the tensors do not fit the case: missing, of another dtype, or of a wrong shape."""
    if not case.steps:
        raise ValueError('it has no steps; give at least one, such as {"mode": "train"}')
    for t in range(len(case.steps)):
        if f"{t}.x" not in case.tensors:
            raise ValueError(f"step {t} has no input; add a tensor named {t}.x")
    _check_numbers(case)
    _check_names(case)
    _check_together(case)
    _check_input(case)
    plain = dataclasses.replace(case.spec, virtual_batch_size=None)  # whether a batch divides is for the judge to say
    wanted: dict[str, tuple[int, ...]] = {}
    if set(OF_LAYER) & case.tensors.keys():
        validate(plain, case.shape)  # where none is given, the axis too is for the judge
        wanted = dict.fromkeys(("moving_mean", "moving_variance"), kept_shape(case.spec, case.shape))
    wanted |= {f"{t}.{name}": case.x(t).shape for t in range(len(case.steps)) for name in ("dy", "tangent")}
    own = [name for name in case.tensors if "." in name and name.rpartition(".")[2] in _KEPT]
    wanted |= {name: kept_shape(case.spec, case.x(int(name.partition(".")[0])).shape) for name in own}
    for name, array in sorted(case.tensors.items()):
        if array.shape != wanted.get(name, array.shape):
            raise ValueError(f"{name} has shape {array.shape}, but axis={case.spec.axis} needs {wanted[name]}")
        dtype = case.dtypes.of(name)
        if dtype and array.dtype.name != dtype:
            raise ValueError(f"{name} is {array.dtype.name}, but dtypes says {dtype}; change one of them")
    if said := ensembles.wrong(case) or replicas.wrong(case):
        raise ValueError(said)


def _check_numbers(case: Case) -> None:
    """Raise ValueError for an impossible number of batches, of sites, or of an axis."""
    if case.batches < 0:
        raise ValueError(f"batches is {case.batches}; no fewer than 0 can have entered")
    if case.actions.sites < 1:
        raise ValueError(f"actions.sites is {case.actions.sites}; at least 1 makes the calls")
    for t, step in enumerate(case.steps):
        if not 0 <= step.site < case.actions.sites:
            raise ValueError(
                f"steps[{t}].site is {step.site}, but actions.sites is {case.actions.sites}; sites count from 0"
            )
    for axis in case.actions.unknown_sizes:
        if not 0 <= axis < len(case.shape):
            raise ValueError(f"actions.unknown_sizes names axis {axis}, but the input has shape {case.shape}")


def _check_input(case: Case) -> None:
    """Raise ValueError for a batch with values that the dtype has not in which it is handed over."""
    dtype = case.actions.input
    for t in range(len(case.steps)) if dtype != "stored" else ():
        with np.errstate(invalid="ignore"):
            cast: Array = np.real(case.x(t).astype(numpy_dtype(dtype))).astype(np.float64)
        if not np.array_equal(cast, case.x(t).astype(np.float64)):
            raise ValueError(f"{t}.x has values that {dtype} has not, as actions.input is; change one of them")
    if dtype == "complex64" and (said := _not_turned(case)):
        raise ValueError(f"actions.input is complex64, and {said}: what is answered about i x is not i times that of x")


def _not_turned(case: Case) -> str:
    """Return why batch normalization of i x is not i times that of x; empty if it is."""
    given = [n for n in ("beta", "moving_mean") if (a := case.tensor(n)) is not None and a.any()]
    if given:
        return f"{given[0]} is not 0"
    if case.spec.renorm or any(name.endswith(".adjustment_bias") for name in case.tensors):
        return "there is renorm, or an adjustment"
    return "gradients are asked for" if any(step.derivatives for step in case.steps) else ""


def _check_names(case: Case) -> None:
    """Raise ValueError for a tensor that nothing reads, and for one that a derivative needs and lacks."""
    steps = range(len(case.steps))
    known = [*OF_LAYER, *(f"{t}.{name}" for t in steps for name in OF_STEP)]
    known += [f"{member}.{name}" for member in range(1, case.actions.members) for name in OF_MEMBER]
    for name in sorted(case.tensors):
        number, _, rest = name.partition(".")
        if number.isdecimal() and rest in OF_STEP and int(number) not in steps:
            raise ValueError(f"{name} is of step {number}, and there are {len(steps)} steps, the first of them 0")
        if name not in known:
            raise ValueError(case_json.unknown(name, known))
    for t in steps:
        for derivative in case.steps[t].derivatives:
            _check_statistics(case, t, derivative)
            if case.actions.backward != "each" and (derivative.order, derivative.mode) != (1, "reverse"):
                asked = f"a derivative of order {derivative.order} in mode {derivative.mode}"
                raise ValueError(
                    f"step {t} asks for {asked}; actions.backward must be each, or ask for gradients alone"
                )
            if not derivative.wrt:
                raise ValueError(f"step {t} asks for a derivative with respect to nothing; name x, gamma or beta")
            _check_along(case, t, derivative)
            needs = {
                "dy": derivative.mode != "forward",
                "tangent": derivative.along != "parameters" and (derivative.mode == "forward" or derivative.order > 1),
                "gamma_tangent": derivative.along != "x" and case.spec.scale,
                "beta_tangent": derivative.along != "x" and case.spec.center,
            }
            given = derivative.along == "all" and case.steps[t].mode == "infer"
            needs |= dict.fromkeys(("mean_tangent", "variance_tangent"), given)
            if gone := [f"{t}.{n}" for n, needed in needs.items() if needed and f"{t}.{n}" not in case.tensors]:
                asked = f"order {derivative.order} in mode {derivative.mode}"
                raise ValueError(f"step {t} asks for a derivative of {asked}; add a tensor named {gone[0]}")


def _check_together(case: Case) -> None:
    """Raise ValueError where calls of one graph are asked for different gradients, or the layer is another in each."""
    if case.actions.backward != "together":
        return
    asked = {step.derivatives for step in case.steps if step.derivatives}
    unlike = {
        "asks for other gradients in some steps": len(asked) > 1,
        "freezes the layer in some steps": not all(step.trainable for step in case.steps),
        "adjusts the layer": any(name.endswith(".adjustment_scale") for name in case.tensors),
    }
    for what in (what for what, there in unlike.items() if there):
        raise ValueError(f"actions.backward is together, and the case {what}; leave that out")


def _check_along(case: Case, t: int, derivative: Derivative) -> None:
    """Raise ValueError for a tangent of gamma and beta where there is no rule: gradients move along it, or y does."""
    alone = all(d in (Derivative(wrt=d.wrt), derivative) for d in case.steps[t].derivatives)
    along = derivative.order == 2 and derivative.mode != "forward" and (case.spec.scale or case.spec.center)
    if derivative.along == "parameters" and not (alone and along):
        raise ValueError(f"step {t} asks for more along gamma and beta than a derivative of gradients; leave it out")
    forward = (derivative.order, derivative.mode) == (1, "forward") and _is_plain(case, t) and case.spec.track
    if derivative.along == "all" and not (alone and forward):
        raise ValueError(f"step {t} asks for more along all inputs than a forward derivative of y; leave it out")


def _is_plain(case: Case, t: int) -> bool:
    return not case.spec.renorm and case.spec.virtual_batch_size is None and f"{t}.mask" not in case.tensors


def _check_statistics(case: Case, t: int, derivative: Derivative) -> None:
    """Raise ValueError where a derivative of returned statistics is asked for without y, or not of plain training."""
    others = [name for name in derivative.of if name != "y"]
    if "y" not in derivative.of:
        raise ValueError(f"step {t} asks for a derivative of {', '.join(others) or 'nothing'}; name y too: of=[y]")
    forward = derivative.along == "all"
    if gone := [f"{t}.d{name}" for name in others if not forward and f"{t}.d{name}" not in case.tensors]:
        raise ValueError(f"step {t} asks for a derivative of {', '.join(others)}; add a tensor named {gone[0]}")
    mode = "forward" if forward else "reverse"
    asked = derivative.order, derivative.mode, case.steps[t].mode, case.actions.backward
    if others and not (asked == (1, mode, "train", "each") and _is_plain(case, t)):
        raise ValueError(
            f"step {t} asks for a derivative of {', '.join(others)}: of plain training alone, once and in reverse; "
            "leave it out"
        )


def read_case(path: Path) -> tuple[Case, dict[str, str]]:
    """Return the case in a file, safetensors or hand-written JSON, and its other metadata."""
    return read_recorded(path)[:2]


def read_recorded(path: Path) -> Recorded:
    """Return the case in a file with what is recorded with it."""
    try:
        if path.suffix == ".json":
            found: Recorded = (case_from_json(path.read_bytes().decode()), {}, {})
        else:
            found = decode_recorded(buffers.read(path))
        check(found[0])
        return found
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read as a case ({error.strerror}); give a case file that can") from error
    except ValueError as error:
        raise InvalidInput(f"{path}: cannot be read as a case: {_said(error)}; {_fix(path)}") from error


def _said(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} ({error.object[error.start]:#04x}) is no UTF-8"
    return str(error)


def _fix(path: Path) -> str:
    if path.suffix == ".json":
        return "conformance/cases/CASES.md says how a case is written"
    return "give a .safetensors case file that this version wrote, or one written by hand whose name ends in .json"
