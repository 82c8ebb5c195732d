"""The whole script: data, the right value, the framework, and what is printed of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from conformance.studies.upstream import (
    graph_scripts,
    jax_scripts,
    keras_functions,
    keras_scripts,
    literals,
    onnx_scripts,
    right,
    tensorflow_scripts,
    torch_scripts,
)
from conformance.studies.upstream.draft import Draft, TooLong, Untold
from conformance.studies.upstream.program import Program
from conformance.studies.upstream.shown import Shown

MOST = 30
"""Lines of a script."""

_RENDERERS: dict[str, Callable[[Draft], Program]] = {
    "torch.": torch_scripts.render,
    "keras.ops.": keras_functions.render,
    "keras.": keras_scripts.render,
    "tf_keras.": keras_scripts.render,
    "tf.layers.": graph_scripts.render,
    "tf.compat.v1.layers.": graph_scripts.render,
    "tf.": tensorflow_scripts.render,
    "sonnet.": tensorflow_scripts.render,
    "flax.": jax_scripts.render,
    "haiku.": jax_scripts.render,
    "equinox.": jax_scripts.render,
    "jax.": jax_scripts.render,
    "onnx": onnx_scripts.render,
}


def script(shown: Shown, formulas: Mapping[str, str] | None = None) -> str:
    """Return a script that prints what the framework gives beside what is right; raise `Untold` where none does.

    formulas: expressions for tensors that are too long to be written out, by the tensor's name.
    """
    draft = Draft(shown, formulas)
    render = next((made for start, made in _RENDERERS.items() if shown.record.id.startswith(start)), None)
    if render is None:
        raise Untold(f"no script is written for {shown.record.id}")
    program, written = render(draft), right.lines(draft)
    lines = _put_together(draft, program, written)
    if len(lines) > MOST and "_tangent" in shown.output:  # whose formula is differences, and tells little
        lines = _put_together(draft, program, right.number(draft))
    if len(lines) > MOST:
        raise TooLong(f"the script would have {len(lines)} lines, of which {MOST} are a reader's patience")
    return "\n".join(lines) + "\n"


def _put_together(draft: Draft, program: Program, written: list[str]) -> list[str]:
    lines = [*_header(program), *_data(draft, [*program.lines, *written, program.got])]
    return [*lines, *written, *_said_before(draft), *program.lines, *_said(draft, program, written)]


def _header(program: Program) -> list[str]:
    variables = [f'os.environ["{name}"] = "{value}"' for name, value in program.environment.items()]
    first = ["import os", *variables] if variables else []
    versions = ", ".join(f'"{name}", {version}' for name, version in program.versions.items())
    return [*first, "import numpy as np", *program.imports, f'print("numpy", np.__version__, {versions})']


def _data(draft: Draft, lines: list[str]) -> list[str]:
    used = _words("\n".join(lines))
    return literals.packed([(name, draft.literal(name)) for name in draft.arrays if name in used])


def _words(text: str) -> set[str]:
    return set("".join(c if c.isidentifier() or c.isdecimal() else " " for c in text).split())


def _said_before(draft: Draft) -> list[str]:
    """Return what is printed before the framework is asked, which raises."""
    if draft.shown.kind not in ("refused", "crashed"):
        return []
    return [f'print("{draft.shown.output}: right", right.tolist(), flush=True)']


def _said(draft: Draft, program: Program, written: list[str]) -> list[str]:
    shown, got = draft.shown, [] if program.got == "got" else [f"got = {program.got}"]
    if shown.kind == "answered":
        return [*got, f'print("{shown.output}: got", got.tolist(), "right an error")']
    if shown.kind in ("refused", "crashed"):
        return [f'print("{shown.output}: got", {program.got})']
    if shown.kind in ("shape", "dtype"):
        wanted = f'"{shown.dtype}"' if shown.kind == "dtype" else "right.shape"
        return [f'print("{shown.output}: got", {program.got}.{shown.kind}, "right", {wanted})']
    index = f"[{', '.join(map(str, shown.index))}]" if shown.index else ""
    allowed = f', "allowed error", {literals.number(shown.allowed)}' if shown.allowed is not None else ""
    number = "complex" if draft.shown.complex else "float"
    found = f'"{shown.element}: got", {number}(got{index}), "right", {number}({right.indexed(draft, written)})'
    return [*got, f"print({found}{allowed})"]
