"""Derivatives on JAX: what a script takes of a pure function of the parameters and the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.literals import wrapped
from conformance.studies.upstream.program import Program

_ALONG = "along = lambda f: lambda p, x: jax.jvp(lambda x: f(p, x), (x,), (tangent,))[1]"
_AGAIN = "again = lambda g: jax.grad(lambda p, x: (g(p, x)[1] * tangent).sum(), (0, 1))  # of <dx, tangent>"


@dataclass(frozen=True)
class Pure:
    """A step as a function of p and x.

    y: its expression. parameters: that of p. at: where in p the parameters are, by the names of their gradients.
    """

    y: str
    parameters: str
    at: dict[str, str]


def array(draft: Draft, name: str) -> str:
    """Return an expression for an array of JAX, in its dtype; of NumPy where that is the same."""
    half = draft.half(name)
    return f'jax.numpy.asarray({name}, "{half}")' if half else name


def take(draft: Draft, program: Program, step: Any, pure: Pure) -> None:
    """Add the lines that take the derivative that is shown, and say what is got."""
    if set(step.cotangents) - {"y"}:
        raise Untold("no script is written for gradients of more than y on JAX")
    chain, of = _chain(draft, step), draft.output.partition("_tangent")[0]
    if of not in ("y", "dx", *pure.at):
        raise Untold(f"no script is written that shows {draft.output} of {draft.entry}")
    x, dy, along = (array(draft, draft.name(kind, step.index)) for kind in ("x", "dy", "tangent"))
    program.lines += wrapped(f"f = lambda p, x: {pure.y}")
    reverse = "g" in chain.replace("along", "").replace("again", "")
    if reverse:
        cast = f"{dy}.astype(f(p, x).dtype)" if draft.half(draft.name("dy", step.index)) else dy
        program.lines.append(f"g = lambda p, x: jax.vjp(f, p, x)[1]({cast})")
    program.lines += [_ALONG] * ("along" in chain) + [_AGAIN] * ("again" in chain)
    program.lines += [f"tangent = {along}"] if "a" in chain and along != "tangent" else []
    made = f"jax.jit({chain})" if "jit" in draft.variants else chain
    where = f"[0]{pure.at[of]}" if of in pure.at else "[1]" * reverse
    program.lines += wrapped(f"out = {made}({pure.parameters}, {x}){where}")
    program.got = "np.ravel(out)" if of in pure.at else "np.asarray(out)"


def _chain(draft: Draft, step: Any) -> str:
    """Return the function that gives what is shown, of f, which gives y, and g, which gives gradients."""
    of, tangent, order = draft.output.partition("_tangent")
    if not tangent:
        return "f" if of == "y" and draft.shown.kind not in ("refused", "crashed") else "g"
    if of == "y":
        return "along(along(f))" if order else "along(f)"
    if order:
        return "again(again(g))"
    return "along(g)" if step.second == "forward_over_reverse" else "again(g)"
