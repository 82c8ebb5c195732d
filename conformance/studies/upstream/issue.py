"""The text of an issue around a script, in Markdown."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from conformance.gate.divergences import Divergence
from conformance.model.case_facts import every_step
from conformance.studies.upstream import running
from conformance.studies.upstream.running import Ran
from conformance.studies.upstream.shown import Shown

_UNUSUAL = {
    "layout": "C",
    "dy_layout": "C",
    "backward": "each",
    "round_trip": "none",
    "scalars": "number",
    "input": "stored",
    "mask": False,
    "renorm": False,
    "virtual": False,
    "replicas": False,
    "trainable": True,
}
"""What is said of a case only where it is otherwise, by fact."""


def text(
    shown: Shown, script: str, ran: Ran | None, agree: Sequence[str], known: Sequence[Divergence], instead: str = ""
) -> str:
    """Return an issue: what, script, expected, got, since when, who agrees.

    ran: what the script printed; None where it was not run.
    agree: the implementations that answer rightly. known: the divergences that explain the failure.
    instead: who would have expected what is expected, where the implementation promises otherwise.
    """
    parts = [f"# {title(shown)}", _what(shown, known), f"## To reproduce\n\n```python\n{script}```"]
    parts += [f"It prints:\n\n```\n{ran.output}\n```"] if ran else ["It was not run here."]
    parts += [f"## Expected\n\n{_expected(shown, instead)}", f"## Got\n\n{_got(shown, ran)}"]
    parts += [f"## Versions\n\n{_versions(shown, known)}"]
    parts += [f"## Who agrees\n\n{_agree(shown, agree)}"]
    parts += [f"## Known\n\n{_links(known)}"] if known else []
    return "\n\n".join(parts) + "\n"


def title(shown: Shown) -> str:
    """Return what is wrong, in a line."""
    name, mode = shown.record.id.partition("@")[0], _mode(shown)
    numbers = f": {_short(shown.got)} instead of {_short(shown.right)}"
    return {
        "value": f"{name}: wrong {shown.output} in {mode}{' of complex numbers' if shown.complex else numbers}",
        "shape": f"{name}: {shown.output} of shape {shown.told} in {mode}",
        "dtype": f"{name}: {shown.output} of {shown.told} instead of {shown.dtype} in {mode}",
        "refused": f"{name}: {shown.told or 'an exception'} in {mode}",
        "crashed": f"{name}: the process dies in {mode}",
        "answered": f"{name}: answers in {mode} what makes no sense",
    }[shown.kind]


def _short(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"


def _mode(shown: Shown) -> str:
    return "training" if shown.case.steps[shown.step].mode == "train" else "inference"


def _what(shown: Shown, known: Sequence[Divergence]) -> str:
    facts = every_step(shown.case)[shown.step]
    case = shown.case
    said = [f"a batch of shape {tuple(case.x(shown.step).shape)}", f"axis {case.spec.axis} kept", case.dtypes.x]
    said += [
        f"{fact} {getattr(facts, fact)}" for fact, usual in _UNUSUAL.items() if getattr(facts, fact, usual) != usual
    ]
    step = f"step {shown.step + 1} of {len(case.steps)}, " if len(case.steps) > 1 else ""
    why = "".join(f"\n\n{divergence.reason}" for divergence in known)
    return f"{shown.record.id.partition('@')[0]} on CPU: {step}{_mode(shown)}, {', '.join(dict.fromkeys(said))}.{why}"


def _expected(shown: Shown, instead: str) -> str:
    by = f" This is what {instead} expects; the documentation may promise otherwise." if instead else ""
    if shown.refusal:
        return f"An error: {shown.refusal}.{by}"
    if shown.kind in ("refused", "crashed"):
        return f"An answer: `{shown.output}` as the script prints it before the call.{by}"
    if shown.kind in ("shape", "dtype"):
        wanted = shown.dtype if shown.kind == "dtype" or shown.array is None else shown.array.shape
        return f"`{shown.output}` with {shown.kind} {wanted}.{by}"
    bound = shown.allowed
    allowed = ", exactly" if bound == 0 else "" if bound is None else f"; rounding alone may be off by {bound:.2g}"
    times = "i · " if shown.turned else ""
    return f"`{shown.element}` = {times}{shown.right}{allowed}.{by}"


def _got(shown: Shown, ran: Ran | None) -> str:
    """Return what was got; of complex numbers what was printed, as both parts are seen there alone."""
    if shown.kind == "value":
        printed = running.numbers(ran) if ran and shown.complex else None
        return f"`{shown.element}` = {printed[0] if printed else shown.got}"
    words = {"shape": "shape ", "dtype": "dtype ", "answered": "an answer, "}
    return f"{words.get(shown.kind, '')}{shown.told}" or "nothing"


def _versions(shown: Shown, known: Sequence[Divergence]) -> str:
    here = ", ".join(f"{name} {version}" for name, version in shown.record.versions.items())
    ranges = {f"{name}{wanted}" for one in known for name, wanted in one.versions.items()}
    seen = f"\n\nKnown of {', '.join(sorted(ranges))}; others were not asked." if ranges else ""
    return f"{here}; {platform.system()} {platform.machine()}. Since which version is not known.{seen}"


def _agree(shown: Shown, agree: Sequence[str]) -> str:
    if not agree:
        return "Nobody else was asked: name others with `-i` too, or a case of a run with `--run`."
    return f"With the right {shown.output}: {', '.join(name.partition('@')[0] for name in agree)}."


def _links(known: Sequence[Divergence]) -> str:
    lines = [f"- {d.link if d.link != 'unreported' else 'no public report was found'} ({d.id})" for d in known]
    return "\n".join(dict.fromkeys(lines))
