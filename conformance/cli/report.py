"""`bnconf report`: a run as a page."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from conformance.cli.options import what_the_gate_reads
from conformance.model.errors import InvalidInput

_Path = click.Path(path_type=Path)
_File = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("folder", type=_Path, default=Path("reports/latest"))
@click.option("--out", type=_File, help="The HTML file. Default: report.html in the run's folder.")
@click.option(
    "--against", type=_Path, metavar="RUN", help="Another run: what regressed or is fixed, of what both asked."
)
@what_the_gate_reads
@click.option("--csp", "separate", is_flag=True, help="Write style and script as files beside it: for a strict policy.")
@click.option("--index", is_flag=True, help="Write index.html over all runs into the folder that holds the run's.")
@click.option(
    "--site",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a static site there too: a page and a badge for each implementation, an index, and the history of the "
    "runs that it was written from.",
)
@click.option("--pdf", type=_File, help="Print it there too, by the system's Chromium.")
@click.option("--serve", is_flag=True, help="Serve it on this machine, and load it again when the run is new.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="For --serve. Default: any that is free.")
def report(
    folder: Path,
    out: Path | None,
    against: Path | None,
    manifests: Path,
    baseline: Path | None,
    today: datetime | None,
    separate: bool,
    index: bool,
    site: Path | None,
    pdf: Path | None,
    serve: bool,
    port: int,
) -> None:
    """Write the HTML report of a run and print its path.

    Exits 2 for invalid input, 3 where --pdf finds no Chromium.
    """
    from conformance import report as pages
    from conformance.report import pdf as printing
    from conformance.report import server
    from conformance.report import site as sites

    def gathered() -> pages.Material:
        day = today.date() if today else None
        return pages.gather(folder, against=against, manifests=manifests, base=baseline, today=day)

    if separate and (serve or pdf):
        raise InvalidInput("--csp writes files for another server, so --serve and --pdf do without it; leave one out")
    if site:
        sites.check(site, folder, serve=serve)
    if serve:
        server.serve(folder, gathered, port)
        return
    home, material = folder if folder.is_dir() else folder.parent, gathered()
    written = pages.write(material, out or home / "report.html", separate=separate)
    _note_if_large(written, pages.LARGE)
    if site:
        written.append(sites.write(material, site, list(written)))
    if pdf:
        written.append(printing.write(written[0], pdf))
    if index:
        written.append(pages.index(home.resolve().parent))
    for path in written:
        click.echo(str(path.resolve()))


def _note_if_large(written: list[Path], large: int) -> None:
    if (size := sum(path.stat().st_size for path in written)) > large:
        click.echo(f"note: the report has {size / 1e6:.1f} MB; run fewer cases to mail it", err=True)
