"""What a run shows in a terminal: bars and tables, or plain lines where the output is no terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from conformance.cases.cells import DEFAULT
from conformance.model.outputs import EVERY
from conformance.model.results import ImplementationRecord, Run
from conformance.runs import commands, summary, wording
from conformance.runs.progress import Progress

if TYPE_CHECKING:  # a command loads what it shows, and not what others do
    from conformance.hosts.doctor import Part
    from conformance.model.results import Result
    from conformance.runs.explaining import Off, Place
    from conformance.studies.soaking import Round

_SHORT = {output.name: output.short for output in EVERY if output.short}


class _Bars(Progress):
    """A bar per environment."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def started(self, environment: str, questions: int) -> None:
        self._tasks[environment] = self._bars.add_task(environment, total=questions)

    def advanced(self, environment: str) -> None:
        self._bars.advance(self._tasks[environment])

    def failed(self, result: Result) -> None:
        self._bars.console.print(_first_failure(result), highlight=False, markup=False, soft_wrap=True)

    def note(self, message: str) -> None:
        self._bars.console.print(f"note: {message}", highlight=False, markup=False)


class _Lines(Progress):
    """A line for each environment, at its start and after each quarter."""

    def __init__(self) -> None:
        self._total: dict[str, int] = {}
        self._done: dict[str, int] = {}

    def started(self, environment: str, questions: int) -> None:
        self._total[environment], self._done[environment] = questions, 0
        click.echo(f"{environment}: {questions} questions", err=True)

    def advanced(self, environment: str) -> None:
        self._done[environment] += 1
        done, total = self._done[environment], self._total[environment]
        if done * 4 // total > (done - 1) * 4 // total:
            click.echo(f"{environment}: {done} of {total}", err=True)

    def failed(self, result: Result) -> None:
        click.echo(_first_failure(result), err=True)

    def note(self, message: str) -> None:
        click.echo(f"note: {message}", err=True)


def _first_failure(result: Result) -> str:
    return f"first failure: {wording.describe(result)}"


@contextlib.contextmanager
def watching(*, quiet: bool) -> Generator[Progress]:
    """Yield the progress that a run reports to."""
    console = Console(stderr=True)
    if quiet:
        yield Progress()
    elif console.is_terminal:
        columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bars(*columns, console=console) as bars:
            yield _Bars(bars)
    else:
        yield _Lines()


def print_run(run: Run, folder: Path) -> None:
    """Print the final table, the failures in brief, and the verdict."""
    console, rows = Console(width=None if Console().is_terminal else 200), summary.rows(run)
    console.print(_table(rows))
    _print_first([*_looser(rows), *_unjudged(rows)], commands.line("report", commands.file(folder)))
    failures, more = wording.failures(run, folder)
    for line in failures:
        click.echo(line)
    if more:
        said = commands.line("explain", "--run", commands.file(folder))
        click.echo(f"… and {more} more implementations that fail; all of them: {said}")
    if run.header.cases < DEFAULT:
        console.print(
            f"{run.header.cases} cases are not sufficient to call anything conformant; the default is {DEFAULT}"
        )
    for line in wording.sizes(rows):
        click.echo(line)
    console.print(wording.headline(run), highlight=False, markup=False)


def _print_first(lines: list[str], all_of_them: str) -> None:
    for line in lines[:5]:
        click.echo(line)  # never wrapped: a command would no longer be one
    if len(lines) > 5:
        click.echo(f"… and {len(lines) - 5} more; all of them: {all_of_them}")


def _looser(rows: list[summary.Row]) -> list[str]:
    """Return a line for each implementation that declares less of y than this run observed, everywhere or somewhere."""
    return [
        f"{row.id}: y declared {o.declared}, observed {o.observed} in {o.arrays} arrays"
        f"{f' ({o.where})' if o.where else ''}: looser than observed"
        for row in rows
        for o in row.observed
        if o.looser
    ]


def _unjudged(rows: list[summary.Row]) -> list[str]:
    """Return a line for each implementation with an output that was asked for and never judged."""
    return [f"{row.id}: never judged: {', '.join(row.unjudged)}" for row in rows if row.unjudged]


def _table(rows: list[summary.Row]) -> Table:
    table = Table(title="worst ρ = error / bound (1 or less conforms)")
    table.add_column("implementation", no_wrap=True)
    for column in summary.MAIN:
        table.add_column(_SHORT.get(column, column), justify="right")
    for verdict in ("PASS", "FAIL", "other"):
        table.add_column(verdict, justify="right")
    for row in rows:
        cells = [summary.show(row.outputs[c].rho) if c in row.outputs else "" for c in summary.MAIN]
        passed, failed = row.verdicts.get("PASS", 0), row.verdicts.get("FAIL", 0)
        other = sum(row.verdicts.values()) - passed - failed
        style = "red" if failed else ("dim" if not row.available else None)
        table.add_row(row.id, *cells, str(passed), str(failed), str(other), style=style)
    return table


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
        }
    ).decode()


def told(one: Round, progress: Progress) -> Round:
    """Print what a round of a soak found, and return it."""
    progress.note(f"seed {one.seed}: {one.judged} judged arrays, {len(one.unexplained)} unexplained findings")
    for says in one.unexplained:
        progress.note(f"  {says}")
    return one


def print_rounds(found: list[Round]) -> None:
    """Print what a soak found, and which runs to look at."""
    red = [one for one in found if one.unexplained]
    judged, last = sum(one.judged for one in found), found[-1].seed
    click.echo(f"{len(found)} runs, seeds {found[0].seed} to {last}: {judged} judged arrays, {len(red)} with findings")
    for one in red:
        click.echo(f"  {commands.line('gate', commands.file(Path(one.folder)))}")


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
    """Print the roster."""
    table = Table()
    for column in ("id", "framework", "device", "available", "reason or versions"):
        table.add_column(column, overflow="fold")
    for r in found:
        runs_on = r.versions | r.about
        versions = ", ".join(f"{k} {v}" for k, v in runs_on.items() if k not in ("python", "numpy"))
        table.add_row(r.id, r.framework, r.device, "yes" if r.available else "no", r.reason or versions)
    console.print(table)


def print_parts(found: list[Part]) -> None:
    """Print what the doctor found, a line or two for each part."""
    for part in found:
        click.echo(f"{'ok     ' if part.there else 'MISSING' if part.needed else 'no     '}  {part.part}: {part.found}")
        for name in ("command", "without"):
            if said := getattr(part, name):
                click.echo(f"{'':9}{'add it' if name == 'command' else 'without it'}: {said}")
