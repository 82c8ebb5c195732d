"""Steps of TensorFlow 2 with the gradients that they are asked for, by tapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.literals import packed, targets
from conformance.studies.upstream.program import Program


def tensor(draft: Draft, name: str) -> str:
    """Return an expression for a tensor of an array, in its dtype."""
    half = draft.half(name)
    if half.startswith("float8"):
        return f'tf.cast({name}, "{half}")'
    return f"tf.constant({name}, tf.{half})" if half else f"tf.constant({name})"


def calls(draft: Draft, program: Program, call: Callable[[str, Any], str], leaves: dict[str, str]) -> None:
    """Add the steps; `call(x, step)` is the expression of one, leaves are what gamma and beta are called.

    What is differentiated is under a tape; the others are plain calls.
    """
    for step in draft.steps:
        x, y = draft.name("x", step.index), draft.name("y", step.index)
        program.lines += packed([(f"{x}_", tensor(draft, x))])
        made = f"{y} = {call(f'{x}_', step)}"
        program.lines += _under_tapes(draft, made, step, leaves) if draft.derived(step) else [made]


def _under_tapes(draft: Draft, made: str, step: Any, leaves: dict[str, str]) -> list[str]:
    t = step.index
    x, y, dy = (draft.name(kind, t) for kind in ("x", "y", "dy"))
    names = draft.free
    sources = {"dx": f"{x}_", **{name: leaves[name] for name in names if name in leaves}}
    watched = ", ".join(sources[name] for name in names)
    tape = ["with tf.GradientTape() as tape:", f"    tape.watch([{watched}])", f"    {made}"]
    take = [f"{targets(names)} = tape.gradient({y}, [{watched}], {tensor(draft, dy)})"]
    if step.forward or step.second == "forward_over_reverse":
        return _forward(draft, [*tape, *take], f"{x}_", y)
    if not step.second:
        return [*tape, *take]
    if step.second != "reverse" or step.third:
        raise Untold("no script is written for these derivatives")
    of = sources.get(draft.output.removesuffix("_tangent"), sources["dx"])
    inner = [f"    {line}" for line in [*tape, *take]]
    along = tensor(draft, draft.name("tangent", t))
    outer = ["with tf.GradientTape() as outer:", f"    outer.watch({of})", *inner]
    return [*outer, f"{draft.name('dx_tangent', t)} = outer.gradient(dx, {of}, {along})"]


def _forward(draft: Draft, inner: list[str], x: str, y: str) -> list[str]:
    along = tensor(draft, draft.name("tangent", draft.step))
    of = "dx" if draft.output == "dx_tangent" else y
    return [
        f"with tf.autodiff.ForwardAccumulator({x}, {along}) as accumulator:",
        *[f"    {line}" for line in inner],
        f"{draft.output} = accumulator.jvp({of})",
    ]
