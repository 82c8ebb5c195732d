"""`bnconf explain --upstream`: a failure as a script and an issue, run before it is printed."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from conformance.cli.options import assignment, chosen
from conformance.cli.upstream import Wanted
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs.recording import Recording
from conformance.studies.recall import Instead
from conformance.studies.upstream import telling
from conformance.studies.upstream.draft import Untold


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
