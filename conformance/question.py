"""A case at the precision that the reference judges it in, and as one implementation has promised to answer it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from conformance.bounds import Batch, Bounds, Numerics, Units
from conformance.case import Case, parameters
from conformance.statement import Statement, facts
from reference.averages import moves
from reference.batch_norm import moments
from reference.precision import working_dtype
from reference.spec import Array, Parameters, Refusal, broadcast, floored_epsilon, reduced_axes

ALIAS = {"moving_variance": "moving_mean", "variance": "mean"}  # outputs that share a declaration
_DTYPES = {"input": "x", "parameters": "parameters", "statistics": "statistics"}


class Question:
    """A case, its batches measured once for all implementations; float64 is judged in long double, others in float64.

    unjudged: why there is no verdict on its arrays, empty where there is one.
    known: what was computed for a plan, by the plan's key; implementations that promise the same share it.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.spec = case, case.spec
        self.unjudged = _unjudged(case)
        self.dtype: Any = np.float64 if self.unjudged else working_dtype(msgspec.structs.astuple(case.dtypes))
        self.known: dict[Any, Any] = {}
        self._batches: dict[int, Batch] = {}

    def batch(self, t: int) -> Batch:
        """Return the exact statistics of step t's input."""
        if t not in self._batches:
            x = self.case.x(t).astype(self.dtype)
            axes = reduced_axes(self.spec, x.ndim)
            self._batches[t] = Batch.of(x, *moments(x, axes), axes)
        return self._batches[t]

    def dy(self, t: int) -> Array | None:
        """Return the cotangent of step t, None where no gradient is asked for."""
        dy = self.case.tensor(f"{t}.dy")
        return dy.astype(self.dtype) if dy is not None and self.case.steps[t].derivatives else None

    @cached_property
    def parameters(self) -> Parameters:
        """Gamma and beta."""
        return parameters(self.case, self.dtype)

    @cached_property
    def affine(self) -> tuple[Array, Array]:
        """Gamma and beta, 1 and 0 where the spec asks for none, broadcasting against the input."""
        rank, one = len(self.case.shape), np.ones((), self.dtype)
        gamma, beta = self.parameters.gamma, self.parameters.beta
        return (
            one if gamma is None else broadcast(gamma, self.spec, rank),
            0 * one if beta is None else broadcast(beta, self.spec, rank),
        )


def _unjudged(case: Case) -> str:
    """Return why a case cannot be judged, empty where it can: no precision to judge with, or no bound derived."""
    try:
        working_dtype(msgspec.structs.astuple(case.dtypes))
    except Refusal as refusal:
        return str(refusal)
    extras = {name.partition(".")[2] for name in case.tensors}
    asked = {
        "renorm": case.spec.renorm,
        "virtual batches": case.spec.virtual_batch_size is not None,
        "masks": "mask" in extras,
        "adjustments": "adjustment_scale" in extras,
    }
    names = [name for name, there in asked.items() if there]
    return f"no bound is derived yet for {', '.join(names)}" if names else ""


class Plan:
    """A question as one implementation has promised to answer it: its semantics, and its numerics per output."""

    def __init__(self, question: Question, statement: Statement) -> None:
        self.question, self.case, self.spec = question, question.case, question.spec
        about = facts(self.case)
        self.semantics = statement.semantics(about)
        self._numerics = {
            (mode, output): statement.numerics(about, mode, output)
            for mode in ("train", "infer")
            for output in ("y", "dx", "dgamma", "dbeta", "moving_mean", "mean")
        }

    @property
    def key(self) -> tuple[Any, ...]:
        """What the expectations depend on, beside the case."""
        return self.semantics, tuple(self._numerics.values())

    def mode(self, t: int) -> str:
        """Return the mode a step really runs in: a frozen layer may infer where training was asked for."""
        frozen = not self.spec.trainable and self.semantics.frozen == "infer"
        return "infer" if frozen else self.case.steps[t].mode

    def updates(self, t: int) -> bool:
        """Return whether a step moves the state."""
        asked = self.case.steps[t].update
        return self.mode(t) == "train" and moves(self.case.x(t), self.spec, self.semantics, asked)

    def label(self, t: int, output: str) -> str:
        """Return the class and grade promised for an output of a step, such as `A′·S`."""
        return self.numerics(self.mode(t), output).label

    def numerics(self, mode: str, output: str) -> Numerics:
        """Return how an output is promised to be computed."""
        return self._numerics[mode, ALIAS.get(output, output)]

    def bounds(self, mode: str, output: str, n: int) -> Bounds:
        """Return the formulas for an output, for means of n values."""
        numerics = self.numerics(mode, output)
        return Bounds(numerics, self._units(numerics), n, floored_epsilon(self.spec, self.semantics))

    def _units(self, numerics: Numerics) -> Units:
        x = self.case.dtypes.x
        wide = "float64" if x == "float64" else "float32"
        return Units.of(wide if numerics.accumulate == "wide" else x, self.dtype(numerics))

    def dtype(self, numerics: Numerics) -> str:
        """Return the dtype that an output is promised in."""
        return getattr(self.case.dtypes, _DTYPES[numerics.stored]) if numerics.stored in _DTYPES else numerics.stored

    def as_class_a(self) -> Plan | None:
        """Return the plan with training outputs held to class A, same grade; None where that is what is promised."""
        promised = self.numerics("train", "y")
        strict = msgspec.structs.replace(promised, variance="two_pass", affine="direct")
        if strict == promised or self.semantics.training_statistics != "batch":
            return None
        plan = object.__new__(Plan)
        plan.question, plan.case, plan.spec, plan.semantics = self.question, self.case, self.spec, self.semantics
        plan._numerics = self._numerics | {("train", "y"): strict}
        return plan
