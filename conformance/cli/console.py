"""What commands show in a terminal at their end: tables, and sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.table import Table

from conformance.cli.terminal import say
from conformance.model.results import ImplementationRecord, Run
from conformance.runs import commands, summary
from conformance.runs.progress import Progress

if TYPE_CHECKING:  # a command loads what it shows, and not what others do
    from conformance.hosts.doctor import Part
    from conformance.runs.explaining import Off, Place
    from conformance.studies.soaking import Round

_ROSTER = 120
"""Columns from which on the roster is a table."""


def as_json(run: Run) -> str:
    """Return the final table as JSON."""
    rows = [
        {
            "id": row.id,
            "available": row.available,
            "reason": row.reason,
            "verdicts": row.verdicts,
            "cases": row.cases,
            "rho": {column: worst.rho for column, worst in row.outputs.items()},
            "vacuous": {column: round(w.vacuous_share, 4) for column, w in row.outputs.items() if w.vacuous},
            "resolution": {column: w.resolution for column, w in row.outputs.items() if w.resolution is not None},
            "depth": {column: w.depth for column, w in row.outputs.items() if w.depth},
            "observed": row.observed,
            "values": row.values,
            "elements": row.elements,
        }
        for row in summary.rows(run)
    ]
    return msgspec.json.encode(
        {
            "complete": run.complete,
            "reasons": run.reasons if not run.complete else [],
            "skipped": run.skipped,
            "implementations": rows,
            "timetable": (run.end and run.end.timetable) or {},
        }
    ).decode()


def told(one: Round, progress: Progress) -> Round:
    """Print what a round of a soak found, and return it."""
    found = f"{one.judged} judged arrays, {len(one.unexplained)} unexplained findings"
    progress.note(f"seed {one.seed}: {found}{', incomplete' * bool(one.reasons)}")
    for says in one.unexplained:
        progress.note(f"  {says}")
    return one


def print_rounds(found: list[Round]) -> None:
    """Print what a soak found, and which runs to look at."""
    red = [one for one in found if one.unexplained]
    judged, first, last = sum(one.judged for one in found), found[0].seed, found[-1].seed
    which = f"{len(found)} runs, seeds {first} to {last}" if last > first else f"1 run, seed {first}"
    click.echo(f"{which}: {judged} judged arrays, {len(red)} with findings")
    for one in red:
        if one.folder:
            click.echo(f"  {commands.line('gate', commands.file(Path(one.folder)))}")
    if any(not one.folder for one in red):
        click.echo("What else was found is of kinds found before: soak.jsonl has a line of each whole run.")


def print_places(name: str, places: list[Place]) -> None:
    """Print what happened in a case, output by output; an output in which nothing fails gets one line."""
    click.echo(f"case {name}")
    for place in places:
        failing = [off for off in place.deviations if off.failed]
        click.echo(f"step {place.step} {place.mode} {place.output}: {_counted(place.deviations, len(failing))}")
        for off in place.deviations:
            if off.failed or off.not_finite:
                said = [_off(off) if off.failed else "", off.not_finite]
                click.echo(f"  {off.implementation}: {'; '.join(filter(None, said))}")
                _print_cause(off)
        if place.alone:
            click.echo(f"  THE REFERENCE STANDS ALONE: {_ALONE.format(len(place.camps[1]))}")
        if failing:
            for n, camp in enumerate(place.camps, 1):
                click.echo(f"  camp {n}: {', '.join(camp)}")


_ALONE = "all {} that answered agree with one another and not with it; suspect the reference, or the statements"


def _print_cause(off: Off) -> None:
    """Print what explains a failure, and which elements are wrong."""
    if off.cause:
        click.echo(f"    cause: {off.cause}")
    if off.place:
        click.echo(f"    wrong {off.place}")
    for line in off.picture:
        click.echo(f"      {line}")


def _counted(offs: list[Off], failing: int) -> str:
    """Return how many of the judged implementations fail, and why others were not judged."""
    without = [off for off in offs if off.verdict == "INCONCLUSIVE"]
    reasons = ", ".join(dict.fromkeys(off.reason for off in without))
    if without and len(without) == len(offs):
        return f"not judged: {reasons}"
    more = f"; {len(without)} not judged: {reasons}" if without else ""
    return f"{failing} of {len(offs) - len(without)} fail{more}"


def _off(off: Off) -> str:
    """Return, in words, how far off an implementation is."""
    if off.worst is None:
        return off.reason
    worst, channel = off.worst, off.channel
    said = (
        f"ρ = {summary.show(off.rho)} at {worst.index} ({worst.check}): expected {worst.expected}, got {worst.got}, "
        f"bound {worst.bound}" + (f", {worst.ulps:g} ulps of the terms' size" if worst.ulps else "")
    )
    if channel is None:
        return said
    conditioning = "constant" if channel.conditioning is None else f"mean/deviation {channel.conditioning:.4g}"
    return f"{said}; channel of {channel.n} values, mean {channel.mean:.6g}, {conditioning}"


def print_implementations(found: list[ImplementationRecord], console: Console) -> None:
    """Print the roster: in columns as wide as the console, or a paragraph for each where that is narrow."""
    lines = [(r.id, r.framework, r.device, "yes" if r.available else "no", r.reason or _runs_on(r)) for r in found]
    if console.width < _ROSTER:
        for identity, _, _, available, said in lines:
            console.print(f"{identity}: {available}", soft_wrap=True)
            if said:
                say(console, f"    {said}", indent="    ")
        return
    table = Table()
    for column in ("id", "framework", "device", "available", "reason or versions"):
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*line)
    console.print(table)


def _runs_on(record: ImplementationRecord) -> str:
    found = record.versions | record.about
    return ", ".join(f"{k} {v}" for k, v in found.items() if k not in ("python", "numpy"))


def print_parts(found: list[Part]) -> None:
    """Print what the doctor found, a line or two for each part."""
    for part in found:
        click.echo(f"{'ok     ' if part.there else 'MISSING' if part.needed else 'no     '}  {part.part}: {part.found}")
        for name in ("command", "without"):
            if said := getattr(part, name):
                click.echo(f"{'':9}{'add it' if name == 'command' else 'without it'}: {said}")
