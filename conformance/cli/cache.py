"""`bnconf cache`: what is kept between runs, seen and cleared."""

from __future__ import annotations

import click
import msgspec

from conformance.hosts import compiled
from conformance.runs import kept_recipes


@click.command()
@click.option("--clear", is_flag=True, help="Remove it; the next run compiles and draws anew.")
@click.option(
    "--json", "as_json", is_flag=True, help="A list of objects with folder, programs (or recipes) and size in bytes."
)
def cache(clear: bool, as_json: bool) -> None:
    """Show what is kept in the user's cache: what JAX, XLA in TensorFlow and inductor compiled, and recipes drawn.

    A run takes both from there, and gives the same bits; --no-cache of a run leaves it alone. Each processor has a
    folder of its own, and in it each build of a framework and its flags. What is damaged is compiled again. Where
    JAX_COMPILATION_CACHE_DIR or TORCHINDUCTOR_CACHE_DIR is set, it is kept there; 512 MiB at most of TensorFlow's and
    inductor's. Recipes are kept for the last 32 seeds and numbers of cases, until a source or a version changes.
    """
    found, recipes = compiled.kept(), kept_recipes.kept()
    if clear:
        compiled.clear()
        kept_recipes.clear()
    if as_json:
        said = [{"folder": str(one.folder), "programs": one.programs, "size": one.size} for one in found]
        if recipes:
            said.append({"folder": str(kept_recipes.folder()), "recipes": len(recipes), "size": sum(recipes)})
        click.echo(msgspec.json.encode(said).decode())
        return
    for one in found:
        click.echo(
            f"{one.folder}: {one.programs:,} programs, {one.size / 2**20:,.0f} MiB{'; removed' if clear else ''}"
        )
    if recipes:
        size = f"{len(recipes)} lists of recipes, {sum(recipes) / 2**20:.1f} MiB"
        click.echo(f"{kept_recipes.folder()}: {size}{'; removed' if clear else ''}")
    if not found and not recipes:
        click.echo("nothing is kept")
