"""`bnconf audit` and `bnconf identify`: what implementations mean by batch normalization, each word with its proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from conformance import divergences
from conformance.audit import comparison, documents, tables
from conformance.audit.auditing import Audit, Auditor
from conformance.audit.cells import Cell, Inapplicable
from conformance.audit.comparison import Change
from conformance.audit.documents import Contradiction
from conformance.cli_options import chosen, implementations_and_limits
from conformance.errors import Incomplete

_File = click.Path(path_type=Path, dir_okay=False)
OUT = Path("reports/latest/audit.json")


class _Written(msgspec.Struct, omit_defaults=True):
    """The file that an audit leaves."""

    schema: int
    cells: list[Cell]
    inapplicable: list[Inapplicable]
    documentation: list[Contradiction]
    versions: dict[str, dict[str, str]]
    missing: dict[str, str]
    changes: list[Change] = []


@click.command()
@implementations_and_limits
@click.option("--out", type=_File, default=OUT, show_default=True, help="The file; cases go to `cases` beside it.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="What is printed.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json: a list of cells.")
@click.option("--against", type=_File, metavar="FILE", help="Say what changed since the audit in this file.")
def audit(out: Path, style: str, as_json: bool, against: Path | None, **common: Any) -> None:
    """Prove each field of `Semantics` of each implementation by a case that no other value explains.

    A cell is `proven`; `undetermined`, with the reason; or `refuted`: the statement promises what the answer is not.
    Every witness is a case file that can be asked again: bnconf replay FILE -i ID.

    Exits 1 where a promised value is refuted, 3 where an implementation that was asked for is missing.
    """
    before, known = comparison.read(against) if against else None, divergences.read()
    options, quiet = chosen(out.parent, **common), as_json or style == "json"
    found = Auditor(options, known, lambda line: click.echo(line, err=True)).run()
    contradicted = documents.contradictions(found.cells, documents.read(), known)
    changed = comparison.changes(before, found.cells, found.versions) if before else []
    _write(out, found, contradicted, changed)
    if quiet:
        click.echo(msgspec.json.encode(found.cells).decode())
    elif style == "markdown":
        click.echo(tables.as_markdown(found, contradicted, changed), nl=False)
    else:
        tables.print_audit(found, contradicted, changed, _console())
    _finish(found)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=200)  # a table in a log must not be cut


def _write(out: Path, found: Audit, contradicted: list[Contradiction], changed: list[Change]) -> None:
    parts = found.schema, found.cells, found.inapplicable, contradicted, found.versions, found.missing, changed
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(_Written(*parts)), indent=1) + b"\n")


def _finish(found: Audit) -> None:
    if any(cell.status == "refuted" for cell in found.cells):
        raise click.exceptions.Exit(1)
    if found.missing:
        raise Incomplete("; ".join(f"{name} is not available: {why}" for name, why in found.missing.items()))
    if not found.cells:
        raise Incomplete("no implementation could be audited")
