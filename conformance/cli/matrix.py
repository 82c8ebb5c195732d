"""`bnconf matrix`: what each implementation was asked in a run, counted."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from conformance.model.errors import Incomplete
from conformance.runs import matrix as table
from conformance.runs import run_file

OUT = Path("reports/latest")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=OUT)
@click.option("--out", type=click.Path(path_type=Path), help="Write the page there instead of printing it.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects with the counts, and why a column is empty.")
def matrix(folder: Path, out: Path | None, as_json: bool) -> None:
    """Count what each implementation was asked in a run: the table of conformance/implementations/README.md.

    Exits 3 where a cell is empty and no statement says why.
    """
    run = run_file.read(folder)
    found = table.lines(run)
    page = msgspec.json.encode(found).decode() if as_json else table.as_markdown(found, run).rstrip()
    if out:
        out.write_text(page + "\n")
    click.echo(str(out.resolve()) if out else page)
    if gaps := table.gaps(found):
        raise Incomplete("; ".join(gaps[:3]) + (f"; and {len(gaps) - 3} more" if len(gaps) > 3 else ""))
