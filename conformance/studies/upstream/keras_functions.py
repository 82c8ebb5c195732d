"""Scripts for `keras.ops.moments` and `keras.ops.batch_normalization`, on each backend."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream import jax_derivatives, taped
from conformance.studies.upstream.draft import Draft
from conformance.studies.upstream.jax_derivatives import Pure
from conformance.studies.upstream.keras_scripts import autograd, backend, imports
from conformance.studies.upstream.literals import packed
from conformance.studies.upstream.program import Program

_LEAVES = {"dgamma": "gamma_", "dbeta": "beta_"}
_MADE = "keras.ops.convert_to_tensor"


def render(draft: Draft) -> Program:
    """Return the part of a script that asks the functions."""
    program = imports(draft)
    program.lines += packed(_tensors(draft))
    if draft.output in ("mean", "variance"):
        moments = f"keras.ops.moments({_MADE}({draft.name('x', draft.step)}), {_axes(draft)})"
        program.lines.append(f"mean_, variance_ = {moments}")
        program.got = f"keras.ops.convert_to_numpy({draft.output}_)"
        return program
    _steps(draft, program)
    array = draft.output if draft.output in ("dx", "dgamma", "dbeta") else None
    program.got = program.got or f"keras.ops.convert_to_numpy({array or draft.name(draft.output, draft.step)})"
    return program


def _axes(draft: Draft) -> list[int]:
    return list(draft.view.native["axis"])


def _tensors(draft: Draft) -> list[tuple[str, str]]:
    """Return names and expressions of parameters and, where they are used, statistics."""
    spec, infers = draft.spec, any(not step.training for step in draft.steps)
    asked = {"gamma": spec.scale, "beta": spec.center, "mean": infers, "var": infers}
    pairs: list[tuple[str, str]] = []
    for name, there in asked.items():
        made = f"{_MADE}({name})" if name in draft.arrays else _neutral(draft, name)
        leaf = ".requires_grad_()" if backend(draft) == "torch" and f"d{name}" in draft.free else ""
        if there or name in ("gamma", "beta"):
            pairs.append((f"{name}_", made + leaf if there else "None"))
    return pairs


def _neutral(draft: Draft, name: str) -> str:
    filled = "ones" if name in ("gamma", "var") else "zeros"
    return f'keras.ops.{filled}({tuple(draft.view.kept)}, "{draft.shown.case.dtypes.parameters}")'


def _steps(draft: Draft, program: Program) -> None:
    def call(x: str, step: Any) -> str:
        used = f"*keras.ops.moments({x}, {_axes(draft)})" if step.training else "mean_, var_"
        rest = f"{draft.view.axis[0]}, beta_, gamma_, {draft.epsilon}"
        return f"keras.ops.batch_normalization({x}, {used}, {rest})"

    if backend(draft) == "torch":
        autograd(draft, program, call, _LEAVES)
    elif backend(draft) == "tensorflow":
        taped.calls(draft, program, call, _LEAVES)
    else:
        for step in draft.steps:
            if draft.derived(step):
                _pure(draft, program, step)
                continue
            x, y = draft.name("x", step.index), draft.name("y", step.index)
            program.lines += [f"{x}_ = {_MADE}({x})", f"{y} = {call(f'{x}_', step)}"]


def _pure(draft: Draft, program: Program, step: Any) -> None:
    """Add the derivative of a call on JAX."""
    given = {"dgamma": "gamma_", "dbeta": "beta_"}
    at = {name: f"[{i}]" for i, name in enumerate(draft.learned)}
    beta, gamma = (f"p{at[name]}" if name in at else "None" for name in ("dbeta", "dgamma"))
    used = f"*keras.ops.moments(x, {_axes(draft)})" if step.training else "mean_, var_"
    rest = f"{draft.view.axis[0]}, {beta}, {gamma}, {draft.epsilon}"
    y = f"keras.ops.batch_normalization(x, {used}, {rest})"
    jax_derivatives.take(draft, program, step, Pure(y, f"[{', '.join(given[name] for name in at)}]", at))
