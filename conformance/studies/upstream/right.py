"""The right value in plain NumPy: batch normalization written out for one case, in float64.

What is written is run before it is shown: it must give what the reference gives, or else the value stands there as a
number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.studies.upstream import literals
from conformance.studies.upstream.draft import Draft
from reference.semantics import Semantics
from reference.spec import floored_epsilon

_SLIGHT = 0.01
"""How far off a formula may be, of what is to be shown: finite differences are not exact."""
_H = "1e-4"


def lines(draft: Draft) -> list[str]:
    """Return lines that leave the right value in `right`: the array, or the one number where no formula gives it."""
    if draft.shown.refusal:
        return []
    written = [] if _special(draft) else list(_written(draft))
    return written if written and _holds(draft, written) else number(draft)


def number(draft: Draft) -> list[str]:
    """Return the right value as it stands, and where it is from."""
    shown = draft.shown
    where = "that its answer follows from what it returned before" if shown.from_itself else "a certified reference"
    return [f"# The right value is of {where} (bnconf), in more than float64.", *_literal(draft)]


def indexed(draft: Draft, written: list[str]) -> str:
    """Return the expression of the one element that is shown."""
    index = draft.shown.index
    whole = not written or not written[-1].startswith(("right = np.float64(", "right = 1j * np.float64("))
    return f"right[{', '.join(map(str, index))}]" if index and whole else "right"


def _literal(draft: Draft) -> list[str]:
    shown, times = draft.shown, "1j * " if draft.shown.turned else ""
    if shown.right is not None:
        return [f"right = {times}np.float64({literals.number(shown.right)})"]
    array = np.zeros(0) if shown.array is None else shown.array
    return literals.wrapped(f"right = {times}{literals.literal(array)}")


def _special(draft: Draft) -> bool:
    spec, semantics = draft.spec, draft.shown.promise.semantics
    odd = spec.renorm or (spec.virtual_batch_size is not None and semantics.virtual_batches != "ignored")
    return odd or draft.shown.from_itself or draft.shown.array is None


def _holds(draft: Draft, written: list[str]) -> bool:
    """Return whether the lines give what the reference gives, but for what is slight beside the failure."""
    shown, named = draft.shown, dict[str, Any](np=np)
    source = "\n".join([f"{name} = {draft.literal(name)}" for name in draft.arrays] + written)
    try:
        with np.errstate(all="ignore"):
            exec(source, named)  # noqa: S102 - lines of ours
    except (ValueError, TypeError, IndexError, ZeroDivisionError):
        return False
    found, right = np.asarray(draft.view.turned(shown.output, named["right"]), float), shown.array
    if right is None or found.shape != right.shape:
        return False
    if shown.right is None or shown.got is None:
        return bool(np.allclose(found, right, rtol=1e-3, atol=1e-6, equal_nan=True))
    return _near(float(found[shown.index]), shown.right, shown.got, shown.allowed or 0.0)


def _near(found: float, right: float, got: float, allowed: float) -> bool:
    if np.isnan(right):
        return bool(np.isnan(found))
    off = abs(got - right)
    return abs(found - right) <= max(allowed, _SLIGHT * off if np.isfinite(off) else 1e-6 * abs(right))


def _written(draft: Draft) -> Iterator[str]:
    t, output = draft.step, draft.output
    yield "# The right value, by the definition in float64."
    batches = [s.index for s in draft.steps if s.index <= t or draft.actions.backward == "together"]
    summed = draft.actions.backward == "together" and output in ("dgamma", "dbeta")
    asked = [s.index for s in draft.view.differentiated] if summed else [t]
    last = max(asked) if summed else t
    yield from _start(draft, last, output)
    for s in (s for s in batches if s <= last):
        yield from _step(draft, s, output if s in asked else "", first=s == asked[0])
    if output in ("moving_mean", "moving_variance"):
        yield f"right = np.ravel({'M' if output == 'moving_mean' else 'V'})"


def _start(draft: Draft, last: int, output: str) -> Iterator[str]:
    """Yield the state before the first step, where it matters."""
    promise = draft.shown.promise
    infers = any(promise.mode(t) == "infer" for t in range(last + 1))
    if not (infers or output.startswith("moving_")):
        return
    shape, semantics = _kept(draft, 0), promise.at(0).semantics
    own = {"mean": semantics.initial_mean, "var": semantics.initial_variance}
    begins = [_like(name, shape) if draft.has(name) else f"np.full({shape}, {value})" for name, value in own.items()]
    yield f"M, V = {', '.join(begins)}"


def _like(name: str, shape: tuple[int, ...]) -> str:
    return f"{name}.astype(float).reshape{shape}" if len(shape) > 1 else f"{name}.astype(float).reshape({shape})"


def _kept(draft: Draft, t: int) -> tuple[int, ...]:
    step = draft.view.steps[t]
    return tuple(n if i in step.axis else 1 for i, n in enumerate(step.x.shape))


def _step(draft: Draft, t: int, output: str, *, first: bool) -> Iterator[str]:
    promise, step = draft.shown.promise, draft.view.steps[t]
    trains = promise.mode(t) == "train"
    moves = promise.at(t).semantics.average != "none" and promise.updates(t) and _moved_later(draft, t)
    tangent = output.endswith(("_tangent", "_tangent2"))
    if not (output or moves):
        return
    if trains and not tangent and (moves or output != "dbeta"):
        yield from _statistics(draft, step, promise.at(t).semantics)
    if output and not output.startswith("moving_"):
        m, v = ("m", "v") if trains else ("M", "V")
        yield from _tangent(draft, t, output) if tangent else _output(draft, t, output, m, v, first=first)
    if moves:
        yield from _moves(draft, t, promise.at(t).semantics)


def _moved_later(draft: Draft, t: int) -> bool:
    """Return whether what a step leaves is seen by what is shown."""
    later = range(t + 1, draft.step + 1)
    modes = [draft.shown.promise.mode(s) for s in later]
    return draft.output.startswith("moving_") or "infer" in modes


def _statistics(draft: Draft, step: Any, semantics: Semantics) -> Iterator[str]:
    axes, mask, x = step.reduced, draft.name("mask", step.index), draft.name("x", step.index)
    if step.mask is None or semantics.mask == "ignored":
        yield _mean_and_variance(draft, x, axes)
        return
    whole = "" if step.mask.ndim == step.x.ndim else "[..., None]"
    yield f"w = np.broadcast_to({mask}{whole}, {x}.shape).astype(float)"
    yield f"m = np.average({x}, {axes}, w, keepdims=True)"
    yield f"v = np.average(({x} - m) ** 2, {axes}, w, keepdims=True)"


def _mean_and_variance(draft: Draft, x: str, axes: tuple[int, ...]) -> str:
    dtype = "complex" if draft.shown.complex else "float"
    return f"m, v = {x}.mean({axes}, {dtype}, keepdims=True), {x}.var({axes}, {dtype}, keepdims=True)"


def _moves(draft: Draft, t: int, semantics: Semantics) -> Iterator[str]:
    step, kept = draft.view.steps[t], repr(draft.spec.momentum)
    n = int(np.prod([step.x.shape[i] for i in step.reduced]))
    stored = f"v * {n} / {n - 1}" if semantics.stored_variance == "unbiased" and n > 1 else "v"
    yield f"M, V = {kept} * M + (1 - {kept}) * m, {kept} * V + (1 - {kept}) * {stored}"


def _output(draft: Draft, t: int, output: str, m: str, v: str, *, first: bool) -> Iterator[str]:
    """Yield the lines for an output of the batch: h is the normalized batch, r the inverse deviation."""
    x, dy = (draft.name(kind, t) for kind in ("x", "dy"))
    axes = draft.view.steps[t].reduced
    epsilon = literals.number(floored_epsilon(draft.spec, draft.shown.promise.at(t).semantics))
    if output in ("mean", "variance", "inverse_deviation"):
        made = {"mean": m, "variance": v}.get(output, f"1 / np.sqrt({v} + {epsilon})")
        yield f"right = np.ravel({made})"
        return
    if output == "y":
        normal = f"({x} - {m}) / np.sqrt({v} + {epsilon})"
        yield f"right = {_times_gamma(draft, t)}{normal}{_plus_beta(draft, t)}"
        return
    if output != "dbeta":
        yield f"r = 1 / np.sqrt({v} + {epsilon})"
    if output == "dgamma" or (output == "dx" and m == "m"):
        yield f"h = ({x} - {m}) * r"
    add = "right =" if first else "right = right +"
    sums = {"dgamma": f"np.ravel(({dy} * h).sum({axes}))", "dbeta": f"np.ravel({dy}.sum({axes}, float))"}
    if output in sums:
        yield f"{add} {sums[output]}"
    elif m == "M":
        yield f"right = {_times_gamma(draft, t)}r * {dy}"
    else:
        yield f"d = {dy} - {dy}.mean({axes}, float, keepdims=True) - h * ({dy} * h).mean({axes}, keepdims=True)"
        yield f"right = {_times_gamma(draft, t)}r * d"


def _times_gamma(draft: Draft, t: int) -> str:
    return f"{_parameter(draft, 'gamma', t)} * " if draft.has("gamma") and draft.spec.scale else ""


def _plus_beta(draft: Draft, t: int) -> str:
    return f" + {_parameter(draft, 'beta', t)}" if draft.has("beta") and draft.spec.center else ""


def _parameter(draft: Draft, name: str, t: int) -> str:
    shape = _kept(draft, t)
    last = shape[-1] == int(np.prod(shape))
    return name if last and draft.arrays[name].ndim == 1 else f"{name}.reshape{shape}"


def _tangent(draft: Draft, t: int, output: str) -> Iterator[str]:
    """Yield central differences along the tangent, of y, dx or dgamma as a function of the batch."""
    of, _, order = output.partition("_tangent")
    trains, axes, x = draft.shown.promise.mode(t) == "train", draft.view.steps[t].reduced, draft.name("x", t)
    yield f"def {of}({x}):"
    if trains:
        yield f"    {_mean_and_variance(draft, x, axes)}"
    inner = list(_output(draft, t, of, *(("m", "v") if trains else ("M", "V")), first=True))
    yield from (f"    {line}" for line in inner[:-1])
    yield f"    return {inner[-1].partition(' = ')[2]}"
    yield f"H = {_H} * {draft.name('tangent', t)}.astype(float)  # for central differences"
    if order == "2":
        yield f"right = ({of}({x} + H) - 2 * {of}({x}) + {of}({x} - H)) / {_H}**2"
    else:
        yield f"right = ({of}({x} + H) - {of}({x} - H)) / (2 * {_H})"
