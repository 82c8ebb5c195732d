"""Scripts for `keras.ops.moments` and `keras.ops.batch_normalization`, on each backend."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream import taped
from conformance.studies.upstream.keras_scripts import autograd, backend, imports
from conformance.studies.upstream.literals import packed
from conformance.studies.upstream.program import Program
from conformance.studies.upstream.question import Question, Untold

_LEAVES = {"dgamma": "gamma_", "dbeta": "beta_"}
_MADE = "keras.ops.convert_to_tensor"


def render(question: Question) -> Program:
    """Return the part of a script that asks the functions."""
    program = imports(question)
    program.lines += packed(_tensors(question))
    if question.output in ("mean", "variance"):
        moments = f"keras.ops.moments({_MADE}({question.name('x', question.step)}), {_axes(question)})"
        program.lines.append(f"mean_, variance_ = {moments}")
        program.got = f"keras.ops.convert_to_numpy({question.output}_)"
        return program
    _steps(question, program)
    array = question.output if question.output in ("dx", "dgamma", "dbeta") else None
    program.got = f"keras.ops.convert_to_numpy({array or question.name(question.output, question.step)})"
    return program


def _axes(question: Question) -> list[int]:
    return list(question.view.native["axis"])


def _tensors(question: Question) -> list[tuple[str, str]]:
    """Return names and expressions of parameters and, where they are used, statistics."""
    spec, infers = question.spec, any(not step.training for step in question.steps)
    asked = {"gamma": spec.scale, "beta": spec.center, "mean": infers, "var": infers}
    pairs: list[tuple[str, str]] = []
    for name, there in asked.items():
        made = f"{_MADE}({name})" if name in question.arrays else _neutral(question, name)
        leaf = ".requires_grad_()" if backend(question) == "torch" and f"d{name}" in question.free else ""
        if there or name in ("gamma", "beta"):
            pairs.append((f"{name}_", made + leaf if there else "None"))
    return pairs


def _neutral(question: Question, name: str) -> str:
    filled = "ones" if name in ("gamma", "var") else "zeros"
    return f'keras.ops.{filled}({tuple(question.view.kept)}, "{question.shown.case.dtypes.parameters}")'


def _steps(question: Question, program: Program) -> None:
    def call(x: str, step: Any) -> str:
        used = f"*keras.ops.moments({x}, {_axes(question)})" if step.training else "mean_, var_"
        rest = f"{question.view.axis[0]}, beta_, gamma_, {question.epsilon}"
        return f"keras.ops.batch_normalization({x}, {used}, {rest})"

    if backend(question) == "torch":
        autograd(question, program, call, _LEAVES)
    elif backend(question) == "tensorflow":
        taped.calls(question, program, call, _LEAVES)
    elif question.differentiated:
        raise Untold(f"no script is written for gradients on {backend(question)}")
    else:
        for step in question.steps:
            x = f"{_MADE}({question.name('x', step.index)})"
            program.lines.append(f"{question.name('y', step.index)} = {call(x, step)}")
