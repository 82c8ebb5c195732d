"""What somebody's arrays answer: one step of one layer, as a case, and the promises that they are held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from conformance.judging.exact_case import ExactCase
from conformance.model.case import OF_LAYER, Case, Derivative, Dtypes, Step
from conformance.model.outputs import BY_NAME, GRADIENTS, NAMES
from conformance.model.spelling import nearest
from conformance.model.statement import Statement
from conformance.workbench import promised
from conformance.workbench.arrays import Unusable, read, read_mask
from conformance.workbench.words import UNSAID, Words
from reference import Refusal, Spec, validate
from reference.spec import Array, kept_shape

_MOVING = ("moving_mean", "moving_variance")


class GivenStep(NamedTuple):
    """A case of one step, what its answer is held to, and the answer."""

    case: Case
    statement: Statement
    outputs: dict[str, Array]

    @property
    def exact_case(self) -> ExactCase:
        """The case as it is judged."""
        return ExactCase(self.case)


def asked(words: Words, outputs: Mapping[str, Any] | None = None) -> GivenStep:
    """Return the given that words ask; outputs: None where all that can be expected is asked for."""
    tensors = {n: getattr(words, n) for n in OF_LAYER} | {"0.x": words.x, "0.dy": words.dy}
    found = {name: read(name.removeprefix("0."), value) for name, value in tensors.items() if value is not None}
    answers = {name: read(f"outputs[{name!r}]", value) for name, value in (outputs or {}).items()}
    gpu = any(one.gpu for one in (*found.values(), *answers.values()))
    arrays, got = ({name: one.array for name, one in those.items()} for those in (found, answers))
    if words.mask is not None:
        arrays["0.mask"] = read_mask(words.mask)
    _check(words, arrays, outputs)
    wanted = tuple(got) if outputs is not None else _expected(words, arrays)
    said = promised.statement(words.semantics, words.numerics, "cuda" if gpu else "cpu", wanted)
    case = Case(
        _spec(words, arrays),
        (_step(words),),
        _dtypes(arrays, got),
        "C" if arrays["0.x"].flags.c_contiguous else "strided",
        batches=words.batches,
        tensors=arrays,
    )
    _check_shapes(case, said)
    return GivenStep(case, said, got)


def _spec(words: Words, arrays: dict[str, Array]) -> Spec:
    momentum = 0.99 if words.momentum is UNSAID else words.momentum  # nothing that depends on it is asked for
    return Spec(words.axis, words.epsilon, momentum, center="beta" in arrays, scale="gamma" in arrays)


def _step(words: Words) -> Step:
    mode, derivatives = "train" if words.training else "infer", () if words.dy is None else (Derivative(),)
    return Step(mode, derivatives=derivatives)


def _expected(words: Words, arrays: dict[str, Array]) -> tuple[str, ...]:
    """Return the outputs that can be expected of a step."""
    found = ["y"]
    if words.dy is not None:
        found += [name for name in GRADIENTS if name == "dx" or name[1:] in arrays]
    if words.training:
        found += ["mean", "variance", *(_MOVING if words.momentum is not UNSAID else ())]
    return tuple(found)


def _dtypes(arrays: dict[str, Array], got: dict[str, Array]) -> Dtypes:
    """Return the dtypes of a case: of what was given, of what came back where nothing was, or of the input."""

    def first(*names: str) -> Any:
        there = (those[name].dtype.name for name in names for those in (arrays, got) if name in those)
        return next(there, arrays["0.x"].dtype.name)

    return Dtypes(first("0.x"), first("gamma", "beta", "dgamma", "dbeta"), first(*_MOVING, "mean", "variance"))


def _check(words: Words, arrays: dict[str, Array], outputs: Mapping[str, Any] | None) -> None:
    """Raise `Unusable` where words do not fit one another."""
    axes: tuple[Any, ...] = words.axis if isinstance(words.axis, tuple) else (words.axis,)
    if not all(isinstance(axis, int) for axis in axes):
        raise Unusable(
            f"axis={words.axis!r} is no integer, nor a tuple of them; it names what is kept, such as 1 or -1"
        )
    for name, value in {"epsilon": words.epsilon, "momentum": words.momentum}.items():
        if not (isinstance(value, int | float) or (name == "momentum" and (value is None or value is UNSAID))):
            raise Unusable(f"{name}={value!r} is no number; give a Python float")
    for name in outputs or ():
        if name not in NAMES:
            raise Unusable(f"outputs: {name!r} is no output; did you mean {nearest(name, NAMES)!r}? all: {NAMES}")
        _check_output(name, words, arrays)
    if outputs is not None and not outputs:
        raise Unusable("outputs is empty; give what the layer returned, such as {'y': y}")
    if not words.training and any(getattr(words, name) is None for name in _MOVING):
        raise Unusable("training=False normalizes by the moving statistics; give moving_mean and moving_variance")
    if any(name in arrays for name in _MOVING) and not all(name in arrays for name in _MOVING):
        raise Unusable("moving_mean and moving_variance belong together; give both, those before the step, or neither")
    if (dy := arrays.get("0.dy")) is not None and dy.shape != arrays["0.x"].shape:
        raise Unusable(
            f"dy has the shape {dy.shape}, and x {arrays['0.x'].shape}; dy is the gradient of y, of x's shape"
        )


def _check_output(name: str, words: Words, arrays: dict[str, Array]) -> None:
    """Raise `Unusable` for an output of which too little was said."""
    output = BY_NAME[name]
    needs = {
        "a derivative along a tangent, which cannot be given here; take bnconf replay": output.along > 0,
        "a state of renorm, which cannot be given here; take bnconf replay": bool(output.renorm),
        "a gradient; give dy, the gradient of y": bool(output.wrt) and words.dy is None,
        f"the gradient of {output.wrt}; give {output.wrt}": output.wrt in ("gamma", "beta")
        and output.wrt not in arrays,
        "moved by momentum; give momentum, the fraction that is kept (torch's 0.1 is 0.9 here)": name in _MOVING
        and words.momentum is UNSAID,
        "of a training step's batch; with training=False leave it out": output.kind == "batch_statistics"
        and not words.training,
    }
    for need, lacks in needs.items():
        if lacks:
            raise Unusable(f"outputs: {name} is {need}")


def _check_shapes(case: Case, said: Statement) -> None:
    """Raise `Unusable` where no layer could take these arrays."""
    exact_case = ExactCase(case)
    semantics, shape = said.semantics(exact_case.facts[0]), case.shape
    mask = case.tensor("0.mask")
    try:
        validate(
            case.spec,
            shape,
            None,
            semantics,
            training=case.steps[0].mode == "train",
            mask=None if mask is None else mask.shape,
        )
    except Refusal as refusal:
        raise Unusable(str(refusal)) from refusal
    kept = kept_shape(case.spec, shape)
    for name in OF_LAYER:
        array = case.tensor(name)
        if array is not None and array.shape != kept:
            raise Unusable(
                f"{name} has the shape {array.shape}; for x of shape {shape} and axis={case.spec.axis}, which names "
                f"what is kept, it must be {kept}"
            )
    dtypes = {case.tensors[n].dtype.name for n in ("gamma", "beta") if n in case.tensors}
    moving = {case.tensors[n].dtype.name for n in _MOVING if n in case.tensors}
    for names, those in (("gamma and beta", dtypes), ("moving_mean and moving_variance", moving)):
        if len(those) > 1:
            raise Unusable(f"{names} are of {' and '.join(sorted(those))}; give both in one dtype")
