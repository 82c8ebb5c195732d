"""`bnconf cache`: what is kept between runs, seen and cleared."""

from __future__ import annotations

import click
import msgspec

from conformance.hosts import compiled
from conformance.runs import kept_recipes, kept_verdicts

_WORDS = {
    "programs": ("program", "programs"),
    "recipes": ("list of recipes", "lists of recipes"),
    "answers": ("judged answer", "judged answers"),
}
"""What is kept, one of it and several."""


@click.command()
@click.option("--clear", is_flag=True, help="Remove it; the next run compiles, draws and judges anew.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A list of objects with folder, programs (or recipes, or answers) and size in bytes.",
)
def cache(clear: bool, as_json: bool) -> None:
    """Show what is kept in the user's cache: what frameworks compiled, recipes drawn, and verdicts.

    A run takes all three from there, and gives the same bits; --no-cache of a run leaves them alone. Of what JAX, XLA
    in TensorFlow and inductor compiled each processor has a folder of its own, and in it each build of a framework and
    its flags. What is damaged is compiled again. Where JAX_COMPILATION_CACHE_DIR or TORCHINDUCTOR_CACHE_DIR is set, it
    is kept there. 512 MiB at most are kept of JAX's programs, and of TensorFlow's and inductor's: what was not used for
    longest goes. Recipes are kept for the last 32 seeds and numbers of cases, and verdicts, by case and answer, for the
    last three states of what judges, up to 256 MiB of each.
    """
    found, recipes, (answers, size) = compiled.kept(), kept_recipes.kept(), kept_verdicts.kept()
    said: list[dict[str, str | int]] = [
        {"folder": str(one.folder), "programs": one.programs, "size": one.size} for one in found
    ]
    if recipes:
        said.append({"folder": str(kept_recipes.folder()), "recipes": len(recipes), "size": sum(recipes)})
    if size:
        said.append({"folder": str(kept_verdicts.folder()), "answers": answers, "size": size})
    if clear:
        compiled.clear()
        kept_recipes.clear()
        kept_verdicts.clear()
    if as_json:
        click.echo(msgspec.json.encode(said).decode())
        return
    for one in said:
        click.echo(f"{one['folder']}: {_told(one)}{'; removed' if clear else ''}")
    if not said:
        click.echo("nothing is kept")


def _told(one: dict[str, str | int]) -> str:
    """Return what is kept in a folder, and how much."""
    number = next(f"{one[name]:,} {words[one[name] != 1]}" for name, words in _WORDS.items() if name in one)
    return f"{number}, {int(one['size']) / 2**20:,.1f} MiB"
