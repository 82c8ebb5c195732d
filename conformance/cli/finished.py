"""What a finished run shows in a terminal: a table that fits, what fails and is not known, and the verdict."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from conformance.cases.cells import DEFAULT
from conformance.cli.terminal import in_lines, say, terminal
from conformance.gate import divergences
from conformance.gate.explanation import Explained, Explanation, explain
from conformance.model.errors import InvalidInput
from conformance.model.outputs import EVERY
from conformance.model.results import Result, Run
from conformance.runs import commands, summary, timetable, wording
from conformance.runs.timetable import Timetable

_SHORT = {output.name: output.short for output in EVERY if output.short}
_TITLE = "worst ρ = error / bound (1 or less conforms)"
_MOST = 5
"""Lines of a kind that are printed."""
_NARROW = 72
"""Columns that a table needs for saying of which output the worst ρ is."""


def print_run(
    run: Run, folder: Path, console: Console | None = None, *, timings: bool = False, before: Explained | None = None
) -> None:
    """Print the final table, the failures that nothing known explains, the verdict and, if asked, the timetable.

    before: failures that were explained while the run went on.
    """
    console, rows = console or terminal(), summary.rows(run)
    explained = _explained(run, folder, before)
    known = Counter(one.result.implementation for one in explained)
    console.print(_table(rows, known, console))
    _print_first(console, [*_looser(rows), *_unjudged(rows)], commands.line("report", commands.file(folder)))
    _print_known(console, explained, folder)
    _print_failures(console, run, explained, folder)
    if run.header.cases < DEFAULT:
        enough = f"{run.header.cases} cases are not sufficient to call anything conformant; the default is {DEFAULT}"
        say(console, enough)
    for line in wording.sizes(rows):
        say(console, line)
    say(console, wording.headline(run))
    if timings and run.end and run.end.timetable:
        _print_timetable(console, run.end.timetable)
    _line(console, f"as a page: {commands.line('report', commands.file(folder))}")


def _print_timetable(console: Console, spent: Timetable) -> None:
    """Print seconds of CPU by environment and part; where they do not fit beside each other, part below part."""
    heads, rows = timetable.rows(spent)
    table = Table(title="seconds of CPU", box=box.SIMPLE_HEAD)
    table.add_column("environment", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name, values in rows:
        table.add_row(name, *(f"{value:.1f}" if value else "" for value in values))
    if console.measure(table, options=console.options.update_width(10_000)).maximum <= console.width:
        console.print(table)
        return
    for name, values in rows:
        parts = (f"{head} {value:.1f}" for head, value in zip(heads, values, strict=True) if value)
        say(console, f"{name}: {', '.join(parts)} seconds of CPU")


def _explained(run: Run, folder: Path, before: Explained | None) -> list[Explanation]:
    """Return the failures that known divergences explain; none where answers are gone, so that nothing can be held."""
    try:
        return [one for one in explain(folder, run, divergences.read(), before) if one.kind == "explained"]
    except InvalidInput:
        return []


def _print_known(console: Console, explained: list[Explanation], folder: Path) -> None:
    number = Counter(name for one in explained for name in one.divergences)
    who: dict[str, set[str]] = {}
    for one in explained:
        for name in one.divergences:
            who.setdefault(name, set()).add(one.result.implementation)
    for name, failures in number.most_common(_MOST):
        by = sorted(who[name])
        say(
            console, f"known {name}: {failures:,} failures of {by[0] if len(by) == 1 else f'{len(by)} implementations'}"
        )
    if len(number) > _MOST:
        gate = commands.line("gate", commands.file(folder))
        _line(console, f"… and {len(number) - _MOST} more that are known; all of them: {gate}")


def _print_failures(console: Console, run: Run, explained: list[Explanation], folder: Path) -> None:
    """Print what fails and is not explained, those with one cause once, and the commands that ask it again."""
    gone = {_place(one.result) for one in explained}
    left = [result for result in run.results if not result.failed or _place(result) not in gone]
    lines, more = wording.failures(msgspec.structs.replace(run, results=left), folder)
    for line in lines:
        said, _, command = line.partition("\n")
        say(console, said)
        _line(console, command)
    if more:
        every = commands.line("explain", "--run", commands.file(folder))
        _line(console, f"… and {more} more implementations that fail; all of them: {every}")


def _place(result: Result) -> tuple[str, str, int, str]:
    return result.case, result.implementation, result.step, result.output


def _line(console: Console, text: str) -> None:
    """Print a line that is never wrapped: a command would no longer be one."""
    console.print(text, soft_wrap=True)


def _print_first(console: Console, lines: list[str], all_of_them: str) -> None:
    for line in lines[:_MOST]:
        say(console, line)
    if len(lines) > _MOST:
        _line(console, f"… and {len(lines) - _MOST} more; all of them: {all_of_them}")


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


def _table(rows: list[summary.Row], known: Counter[str], console: Console) -> Table:
    """Return the table with a column for each output or, where that is too wide, with the worst of them alone."""
    whole = _whole(rows, known)
    needed = console.measure(whole, options=console.options.update_width(10_000)).maximum
    return whole if needed <= console.width else _brief(rows, known, console.width)


def _whole(rows: list[summary.Row], known: Counter[str]) -> Table:
    table = Table(title=_TITLE)
    table.add_column("implementation", no_wrap=True)
    for column in summary.MAIN:
        table.add_column(_SHORT.get(column, column), justify="right")
    for verdict in ("PASS", "FAIL", "known", "other"):
        table.add_column(verdict, justify="right")
    for row in rows:
        cells = [summary.show(row.outputs[c].rho) if c in row.outputs else "" for c in summary.MAIN]
        table.add_row(row.id, *cells, *_numbers(row, known), style=_style(row, known))
    return table


def _brief(rows: list[summary.Row], known: Counter[str], width: int) -> Table:
    """Return a table with the worst ρ of each implementation and, where there is room, of which output it is."""
    wide = width >= _NARROW
    table = Table(title=_TITLE, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("implementation", no_wrap=True)
    table.add_column("worst", justify="right", no_wrap=True)
    for name in ("of",) if wide else ():
        table.add_column(name, no_wrap=True)
    for verdict in ("PASS", "FAIL", "known"):
        table.add_column(verdict, justify="right", no_wrap=True)
    found = [_worst(row) for row in rows]
    numbers = [_numbers(row, known)[:3] for row in rows]
    shown = [(rho, of, *n) if wide else (rho, *n) for (rho, of), n in zip(found, numbers, strict=True)]
    heads = ("worst", "of", "PASS", "FAIL", "known") if wide else ("worst", "PASS", "FAIL", "known")
    taken = sum(max(len(text) for text in (head, *(line[n] for line in shown))) for n, head in enumerate(heads))
    left = max(12, width - taken - 3 * len(heads) - 2)
    for row, cells in zip(rows, shown, strict=True):
        table.add_row(in_lines(row.id, left), *cells, style=_style(row, known))
    return table


def _worst(row: summary.Row) -> tuple[str, str]:
    """Return the largest ρ of an implementation, and the column of which it is; nothing where there is none."""
    of = max(row.outputs, key=lambda column: summary.as_number(row.outputs[column].rho), default="")
    return (summary.show(row.outputs[of].rho), _SHORT.get(of, of)) if of else ("", "")


def _numbers(row: summary.Row, known: Counter[str]) -> tuple[str, str, str, str]:
    """Return how many results pass, fail, fail as is known, and are neither."""
    passed, failed = row.verdicts.get("PASS", 0), row.verdicts.get("FAIL", 0)
    other = sum(row.verdicts.values()) - passed - failed
    return str(passed), str(failed), str(known[row.id] or ""), str(other)


def _style(row: summary.Row, known: Counter[str]) -> str | None:
    failed = row.verdicts.get("FAIL", 0) + row.verdicts.get("ERROR", 0)
    if failed:
        return "yellow" if failed <= known[row.id] else "red"
    return None if row.available else "dim"
