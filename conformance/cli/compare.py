"""`bnconf compare`: two runs, or two interpreters asked now, and what differs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.cases import cells
from conformance.cli.options import assignment, chosen, implementations_and_limits
from conformance.cli.watching import watching
from conformance.hosts import roster
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.results import Run
from conformance.runs import commands, run_file
from conformance.runs.campaign import Campaign, Options
from conformance.studies.comparing import Comparison, RunChange
from conformance.studies.comparing import compare as _compare

SHOWN = 40


@click.command()
@click.argument("before")
@click.argument("after")
@implementations_and_limits
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what an interpreter is asked."
)
@click.option(
    "--cases", type=click.IntRange(min=1), default=cells.SMOKE, show_default=True, help="How many it is asked."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where the runs of interpreters are kept.  [default: nowhere]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def compare(before: str, after: str, seed: int, cases: int, out: Path | None, as_json: bool, **common: Any) -> None:
    """Say what passes, fails, is refused or is less precise in AFTER than in BEFORE, of what both asked.

    Each is the folder of a run, or NAME=PYTHON: the interpreter of an environment, asked now, such as
    torch=/old/bin/python torch=/new/bin/python. Options are for those that are asked.

    Exits 1 where an implementation does less than before, 3 where nothing was asked in both.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept = out or Path(folder)
        runs = [_run(one, kept / side, seed, cases, common) for one, side in ((before, "before"), (after, "after"))]
        found = _compare(*runs)
    click.echo(msgspec.json.encode(found).decode()) if as_json else _print(found, before, after, Path(after))
    if not found.common:
        raise Incomplete(
            f"{before} and {after} have no case and implementation in common; run both with the same --seed"
        )
    sys.exit(found.worsened)


def _run(given: str, out: Path, seed: int, cases: int, common: dict[str, Any]) -> Run:
    """Return the run of a folder, or one that is made of the implementations that an interpreter hosts."""
    if Path(given).exists() or "=" not in given:
        return run_file.read(Path(given))
    name, _ = assignment(given)
    patterns = common["patterns"] or tuple(e.id for e in roster.select(()) if e.environment == name)
    if not patterns:
        raise InvalidInput(f"{given}: no environment is called {name}; bnconf env list names them, or add -i")
    told: dict[str, Any] = {**common, "patterns": patterns, "interpreters": (*common["interpreters"], given)}
    who = chosen(**told)
    with watching(quiet=False) as progress:
        Campaign(Options(who, out, seed=seed, cases=cases, command=["bnconf", *sys.argv[1:]]), progress).run()
    return run_file.read(out)


def _print(found: Comparison, before: str, after: str, folder: Path) -> None:
    whole = f"{found.common} pairs of a case and an implementation were asked in both"
    click.echo(f"{whole}, of {found.before} in {before} and {found.after} in {after}")
    for identity, (old, new) in found.versions.items():
        click.echo(f"{identity}: {old} → {new}")
    for label, names in (("only in " + before, found.gone), ("only in " + after, found.come)):
        if names:
            click.echo(f"{label}: {', '.join(names[:5])}" + (f" and {len(names) - 5} more" * (len(names) > 5)))
    for one in found.differences[:SHOWN]:
        click.echo(_line(one))
        if one.case and folder.is_dir():
            click.echo(f"    {commands.line('explain', one.case, '--run', commands.file(folder))}")
    if len(found.differences) > SHOWN:
        click.echo(f"… and {len(found.differences) - SHOWN} more; all of them: --json")
    click.echo(_verdict(found))


def _line(one: RunChange) -> str:
    mark = "✗" if one.worsened else "·"
    about = " ".join(word for word in (one.output, f"({one.fact})" if one.fact else "") if word)
    times = f", {one.arrays} results" if one.arrays > 1 else ""
    was = " → ".join(word for word in (one.before, one.after) if word)
    return f"{mark} {one.implementation} {about + ' ' if about else ''}{one.kind}{times}: {was}"


def _verdict(found: Comparison) -> str:
    worse = sum(one.worsened for one in found.differences)
    if not found.differences:
        return "nothing differs" if found.common else "nothing was asked in both"
    return f"{len(found.differences)} differences, {worse} for the worse"
