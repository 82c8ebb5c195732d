"""`bnconf env`: environments of another Python or another library, made by one command."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.hosts import builds, venvs
from conformance.model.errors import Incomplete
from conformance.runs import commands


@click.group()
def env() -> None:
    """Make, list and remove environments: of an older Python, of another library, of single releases."""


@env.command()
@click.argument("name", type=click.Choice(list(venvs.MADE)))
@click.option("--python", metavar="PATH", help="The interpreter to make it with. Default: found on PATH or in pyenv.")
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), help="Its folder. Default: in the cache.")
def create(name: str, python: str | None, into: Path | None) -> None:
    """Make an environment, or complete one, and start its worker once.

    Exits 2 where --python or --into cannot be used, 3 where there is no interpreter or something cannot be installed.
    """
    made = venvs.create(name, python, into, click.echo)
    click.echo("Starting its worker")
    for record in _check(name, str(made)):
        if not record.available:
            raise Incomplete(f"{record.id} cannot run in {made.parent.parent}: {record.reason}")
        click.echo(f"{record.id}: {', '.join(f'{name} {of}' for name, of in sorted(record.versions.items()))}")
    elsewhere = into is not None and str(made) != venvs.python(name)
    uses = commands.line("implementations", "--env", f"{name}={made}")
    asked = commands.line("run", "-i", f"{name}.*") if name in venvs.OTHERS else "every run"
    click.echo(f"Name it wherever it is to be used: {uses}" if elsewhere else f"Found by: {asked}")


@env.command("list")
@click.option("--json", "as_json", is_flag=True, help="A list of objects with name, created, python, needs.")
def list_(as_json: bool) -> None:
    """List the environments, and which of them are there."""
    found = [_state(recipe) for recipe in venvs.MADE.values()]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    for state in found:
        missing = f"not created (Python {state['needs']}); bnconf env create {state['name']}"
        click.echo(f"{state['name']}: {state['python'] or missing}")


@env.command()
def clear() -> None:
    """Remove the environments that `bnconf bisect` made, of one release each."""
    kept = sorted(builds.kept().glob("*/"))
    shutil.rmtree(builds.kept(), ignore_errors=True)
    click.echo(f"{builds.kept()}: {len(kept)} environments removed")


def _state(recipe: venvs.EnvironmentSpec) -> dict[str, Any]:
    python = venvs.python(recipe.name)
    return {"name": recipe.name, "created": bool(python), "python": python, "needs": recipe.version}


def _check(name: str, python: str) -> Any:
    """Return what the environment's worker says of each implementation in it."""
    from conformance.hosts import availability, roster

    entries = [entry for entry in (*roster.built_in(), *roster.others()) if entry.environment == name]
    return availability.check(entries, {name: python})
