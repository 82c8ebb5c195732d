"""`bnconf explain --upstream`: a failure as a script and an issue, run before it is printed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.cli.options import assignment, chosen
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs.recording import Recording
from conformance.studies.recall import Instead
from conformance.studies.upstream import telling
from conformance.studies.upstream.draft import Untold


@dataclass(frozen=True)
class Wanted:
    """What the options ask for; wanted: a bug report at all."""

    wanted: bool
    script_only: bool
    out: Path | None
    instead: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise where an option is given that only means something with `--upstream`."""
        given = {"--script-only": self.script_only, "--out": self.out, "--instead": self.instead}
        if not self.wanted and (stray := [name for name, value in given.items() if value]):
            raise InvalidInput(f"{stray[0]}: is for a bug report; add --upstream")


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that ask for a bug report, which the command gets as `report`."""

    @functools.wraps(command)
    def called(*, upstream: bool, script_only: bool, out: Path | None, instead: tuple[str, ...], **others: Any) -> None:
        command(report=Wanted(upstream, script_only, out, instead), **others)

    for option in (
        click.option("--upstream", is_flag=True, help="A bug report about the first of -i that fails: a script of at "
                     "most thirty lines that needs NumPy and the framework alone, run here, and an issue around it."),
        click.option("--script-only", is_flag=True, help="With --upstream: the script alone."),
        click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                     help="With --upstream: write it there."),
        click.option("--instead", multiple=True, metavar="FIELD=VALUE",
                     help="With --upstream: what you expected, in the words of a statement, where something else is "
                     "promised, such as stored_variance=biased. Repeatable."),
    ):  # fmt: skip
        called = option(called)
    return called


def tell(part: Recording, patterns: tuple[str, ...], common: dict[str, Any], report: Wanted, *, as_json: bool) -> None:
    """Print, or write, a bug report."""
    if not patterns:
        raise InvalidInput("--upstream: name the implementation that it is about with -i, and who may agree after it")
    who = chosen(patterns, **common)
    try:
        told = telling.tell(part, who, _expected(report.instead), who.limits.case)
    except Untold as error:
        raise InvalidInput(f"{part.name}: {error}; bnconf hunt -i {patterns[0]} finds smaller cases") from error
    text = told.script if report.script_only else told.issue
    text = msgspec.json.encode(told).decode() + "\n" if as_json else text
    if report.out:
        report.out.write_text(text)
    click.echo(f"{report.out}: {told.title}" if report.out else text, nl=bool(report.out))
    if told.ran is None:
        click.echo("Not run: what the script imports is not here.", err=True)
    elif not told.shows:
        raise Incomplete("the script does not show it here; what it printed is above")


def _expected(words: tuple[str, ...]) -> Instead | None:
    if not words:
        return None
    pairs = dict(assignment(word) for word in words)
    return Instead.of_words({name: _value(text) for name, text in pairs.items()})


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
