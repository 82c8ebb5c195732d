"""`bnconf hunt`: look for cases that an implementation fails, for as long as you give it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.cli.options import chosen, implementations_and_limits
from conformance.gate import divergences
from conformance.model import excluded
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.results import NOTHING, ImplementationRecord
from conformance.runs import asking, commands
from conformance.studies.hunt.hunting import Caught, Hunt


class _Found(msgspec.Struct, frozen=True):
    """What `--json` prints for each implementation."""

    implementation: str
    asked: int
    judged: int
    caught: list[Caught]


@click.command("hunt")
@implementations_and_limits
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, help="For each."
)
@click.option("--cases", type=click.IntRange(min=1), help="At most so many for each; no clock then decides.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides the cases that are drawn."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports/hunt"),
    show_default=True,
    help="Keeps what is caught, and Hypothesis's database; a search goes on from there.",
)
@click.option("--known", is_flag=True, help="Look for known divergences too.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects with implementation, asked, judged, caught.")
def command(minutes: float, cases: int | None, seed: int, out: Path, known: bool, as_json: bool, **common: Any) -> None:
    """Look for cases that an implementation fails, one kind of failure at a time, guided by the largest ρ.

    Each failure is made small, first by what it was drawn from, then element by element, and written as a case file:
    give it a rule and a source, and it is one for conformance/cases/corpus/scenarios.

    Exits 1 where something was caught, now or in an earlier search of the same folder, 3 where somebody was asked
    nothing.
    """
    if not common["patterns"]:
        raise InvalidInput("hunt searches what -i names; give -i ID, -i PATH.py:Class or -i exec:PROGRAM")
    found, unasked, about = list[_Found](), list[str](), [] if known else divergences.read()
    for entry, record, ask in asking.each(chosen(**common)):
        folder = out / entry.id.replace("/", "_")
        hunt = Hunt(record, ask, about, folder, lambda line: click.echo(line, err=True))
        caught = hunt.run(60 * minutes if cases is None else math.inf, cases or math.inf, seed)
        found.append(_Found(entry.id, hunt.asked, hunt.judged, caught))
        if not hunt.asked:
            unasked.append(excluded.brief((entry.id, why) for why in hunt.excluded) or f"{entry.id}: no time was left")
        if not as_json:
            _print(found[-1], folder, record)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    if any(one.caught for one in found):
        raise click.exceptions.Exit(1)
    if unasked:
        raise Incomplete(f"{NOTHING}: {'; '.join(unasked)}")


def _print(found: _Found, folder: Path, record: ImplementationRecord) -> None:
    counts = f"{found.asked} cases asked, {found.judged} judged, {len(found.caught)} kinds of failure"
    click.echo(f"{found.implementation}: {counts}")
    for caught in found.caught:
        rho = f"ρ = {caught.rho:.4g}" if caught.rho is not None else caught.reason or "not finite"
        click.echo(f"  {caught.kind}: {rho}, {caught.elements} elements")
        click.echo(f"    {commands.with_file('explain', folder / caught.file, record)}")
