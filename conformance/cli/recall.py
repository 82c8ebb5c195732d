"""`bnconf recall`: whether the suite sees what is publicly known."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
from rich.table import Table

from conformance.cases import cells
from conformance.cli.options import chosen, implementations_and_limits
from conformance.cli.terminal import terminal
from conformance.cli.watching import watching
from conformance.runs import summary
from conformance.runs.campaign import Options
from conformance.studies import recall

GENERATED = 0.75
"""The share of what can be shown here that generated cases alone must show."""


@click.command("recall")
@implementations_and_limits
@click.option("--generated", is_flag=True, help="Ask generated cases only, none of the corpus.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides the generated cases.")
@click.option("--cases", type=click.IntRange(min=1), default=cells.DEFAULT, show_default=True, help="How many of them.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects with id, status, case, implementation, rho, …")
def command(generated: bool, seed: int, cases: int, as_json: bool, patterns: tuple[str, ...], **common: Any) -> None:
    """Say of everything on the recall list whether this suite shows it: found, not found, not applicable here.

    Each is shown by a case of the corpus; with --generated, by generated cases alone.

    Exits 1 where one that can be shown here is not found; with --generated, where more than a quarter are not.
    """
    entries = recall.read()
    wanted = patterns or tuple(dict.fromkeys(name for entry in entries for name in entry.implementations))
    with tempfile.TemporaryDirectory() as folder, watching(quiet=as_json) as progress:
        who = msgspec.structs.replace(chosen(wanted, **common), requested=bool(patterns))
        count, command_line = cases if generated else 0, ["bnconf", *sys.argv[1:]]
        options = Options(who, Path(folder), seed, count, corpus=not generated, command=command_line)
        found = recall.recalled(options, progress, entries)
    click.echo(msgspec.json.encode(found).decode()) if as_json else _print(found)
    applicable = [line for line in found if line.status != "not applicable"]
    shown = sum(line.status == "found" for line in applicable)
    if shown < len(applicable) * (GENERATED if generated else 1):
        raise click.exceptions.Exit(1)


def _print(found: list[recall.Recalled]) -> None:
    table = Table(title="what is publicly known, and the case that shows it")
    for column in ("id", "status", "what", "case", "implementation", "output", "ρ or outcome"):
        table.add_column(column, overflow="fold")
    for line in found:
        rho = summary.show(line.rho) if line.rho is not None else line.reason[:60]
        table.add_row(line.id, line.status, line.title, line.case, line.implementation, line.output, rho)
    terminal().print(table)
    counts = {status: sum(line.status == status for line in found) for status in get_args(recall.Status)}
    click.echo(", ".join(f"{n} {status}" for status, n in counts.items()))
