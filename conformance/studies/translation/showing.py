"""A translation as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from conformance.studies.translation.sizes import Difference, Size
from conformance.studies.translation.translating import Translation
from conformance.studies.translation.verifying import Compared


def show(found: Translation, console: Console) -> None:
    """Print a translation: the call, the weights, what cannot be mapped, and whether the answers are as predicted."""
    for line in _call(found):
        console.print(line, highlight=False, markup=False)
    console.print(_weights(found))
    for line in _unmapped(found):
        console.print(line, highlight=False, markup=False)
    console.print(_proof(found))
    for one in found.verified:
        if one.verdict in ("NOT as predicted", "known divergence", "not compared"):
            console.print(line_of(one), highlight=False, markup=False)


def _call(found: Translation) -> Iterator[str]:
    yield f"{found.source}: {spelled(found.source_arguments)}"
    yield f"{found.target}: {spelled(found.target_arguments)}"
    if found.transpose:
        yield f"input: x.transpose({', '.join(map(str, found.transpose))}), as the channels are elsewhere"
    for name, value in found.assumed.items():
        yield f"assumed: {name}={value}, which has no default that could be taken"
    for name, (was, now) in found.not_asked.items():
        yield f"the source is asked with {name}={now} here, as nothing here asks it with {name}={was}"
    if found.layers:
        yield f"weights of {len(found.layers)} layers: {', '.join(name or '(no prefix)' for name in found.layers)}"
    if found.others:
        yield f"left out, as they are of no batch normalization: {', '.join(found.others)}"


def spelled(arguments: dict[str, Any]) -> str:
    """Return arguments as a call has them.

    >>> spelled({"eps": 0.001, "affine": True})
    'eps=0.001, affine=True'
    """
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _weights(found: Translation) -> Table:
    table = Table(title="weights", title_justify="left")
    for column in ("", found.source, "shape", found.target, "shape"):
        table.add_column(column, overflow="fold")
    for one in found.weights:
        table.add_row(one.meaning, one.source, one.source_shape, one.target, one.target_shape)
    return table


def _unmapped(found: Translation) -> Iterator[str]:
    for name, value in found.not_mapped.items():
        yield f"not mapped: {name}={value!r}, which is neither translated nor verified"
    if found.batches is not None:
        yield f"the target counts batches: with {found.batches} behind it, it goes on from the statistics of the source"
    seen = [one for one in found.differences if one.seen]
    yield (
        f"cannot be mapped, at N = {found.n} values per channel:"
        if seen
        else "nothing beyond rounding is left unmapped"
    )
    for one in seen:
        yield f"  {one.field} ({one.rule}): {one.source} -> {one.target}"
        for size in one.sizes[:3]:
            yield f"      {_size(size)}"
    for one in found.differences:
        if one.field in ("scale", "center"):
            made = "a gamma of 1" if one.field == "scale" else "a beta of 0"
            yield f"  the target has to have {made}, which trains where it is not held"
    rest = [one.field for one in found.differences if not one.seen and one.sizes]
    if rest:
        yield f"  within rounding: {', '.join(rest)}"


def _size(size: Size) -> str:
    where = f"({size.scenario}, step {size.step}, {size.mode})"
    if size.refused:
        return f"one of the two refuses {where}"
    return f"{size.output}: up to {size.absolute:.3g}, {size.relative:.2g} of the largest value {where}"


def _proof(found: Translation) -> Table:
    table = Table(title="answers of both, against what the reference predicts", title_justify="left")
    for column in ("scenario", "outputs", "agree", "differ as predicted", "other", "largest predicted", "worst ρ"):
        table.add_column(column)
    for name in dict.fromkeys((one.scenario, one.layer) for one in found.verified):
        rows = [one for one in found.verified if (one.scenario, one.layer) == name]
        compared = [one for one in rows if one.verdict in ("agree", "differ as predicted", "NOT as predicted")]
        count = {v: sum(one.verdict == v for one in rows) for v in ("agree", "differ as predicted")}
        differ = [one for one in rows if one.verdict == "differ as predicted"]
        worst = max(differ, key=lambda one: one.predicted, default=None)
        table.add_row(
            " ".join(part for part in name if part),
            str(len(rows)),
            *(str(count[v]) for v in ("agree", "differ as predicted")),
            str(len(rows) - sum(count.values())),
            f"{worst.output} {worst.predicted:.3g}" if worst else "",
            f"{max((one.rho for one in compared), default=0):.2g}",
        )
    return table


def line_of(one: Compared) -> str:
    """Return one comparison in a line."""
    where = f"{one.verdict}: {one.scenario}{' of ' + one.layer if one.layer else ''}"
    if one.step >= 0:
        where += f", step {one.step} {one.mode}, {one.output}"
    if one.verdict == "not compared" or one.output == "outcome":
        return f"{where}: {one.reason}"
    known = f" ({', '.join(one.known)})" if one.known else ""
    return f"{where}: predicted {one.predicted:.3g}, measured {one.measured:.3g}, ρ = {one.rho:.3g}{known}"


def largest(differences: list[Difference]) -> str:
    """Return the field with the largest effect that is seen, and its size, in a few words; nothing: an empty string."""
    sizes = [(size, one.field) for one in differences for size in one.sizes if size.seen and not size.refused]
    if not sizes:
        return ""
    size, field = max(sizes, key=lambda pair: pair[0].relative)
    return f"{field}: {size.output} {size.relative:.2g}"
