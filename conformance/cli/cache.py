"""`bnconf cache`: what is kept between runs, seen and cleared."""

from __future__ import annotations

import click
import msgspec

from conformance.hosts import compiled


@click.command()
@click.option("--clear", is_flag=True, help="Remove it; the next run compiles anew.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects with folder, programs and size in bytes.")
def cache(clear: bool, as_json: bool) -> None:
    """Show what JAX compiled in earlier runs, which keeps it in the user's cache.

    A run takes it from there, and gives the same bits; --no-cache of a run leaves it alone. JAX tells versions and
    flags apart; each processor has a folder of its own. Where JAX_COMPILATION_CACHE_DIR is set, it is kept there.
    """
    found = compiled.kept()
    if clear:
        compiled.clear()
    if as_json:
        said = [{"folder": str(one.folder), "programs": one.programs, "size": one.size} for one in found]
        click.echo(msgspec.json.encode(said).decode())
        return
    for one in found:
        click.echo(
            f"{one.folder}: {one.programs:,} programs, {one.size / 2**20:,.0f} MiB{'; removed' if clear else ''}"
        )
    if not found:
        click.echo("nothing is kept")
