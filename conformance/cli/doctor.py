"""`bnconf doctor` and `bnconf implementations`: what is here, and who can run."""

from __future__ import annotations

import sys

import click
import msgspec

from conformance.cli import console
from conformance.cli.options import assignment
from conformance.cli.terminal import terminal
from conformance.hosts import availability, roster
from conformance.hosts import doctor as parts
from conformance.model.errors import Incomplete


@click.command()
@click.option("--device", type=click.Choice(roster.DEVICES), default="cpu", show_default=True)
@click.option("--env", "interpreters", multiple=True, metavar="NAME=PYTHON", help="As for run.")
@click.option(
    "--json", "as_json", is_flag=True, help="A list of objects with id, framework, device, available, reason."
)
def implementations(device: str, interpreters: tuple[str, ...], as_json: bool) -> None:
    """List the implementations under test, and whether they can run here."""
    pythons = dict(assignment(text) for text in interpreters)
    found = availability.check(roster.select((), device, pythons.get("user", sys.executable)), pythons)
    if as_json:
        fields = ("id", "framework", "device", "available", "reason")
        click.echo(msgspec.json.encode([{f: getattr(r, f) for f in fields} for r in found]).decode())
    else:
        console.print_implementations(found, terminal())


@click.command()
@click.option("--device", type=click.Choice(roster.DEVICES), default="cpu", help="With cuda, a missing GPU counts.")
@click.option("--env", "interpreters", multiple=True, metavar="NAME=PYTHON", help="As for run: what it lacks is said.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects with part, there, needed, found, command, …")
def doctor(device: str, interpreters: tuple[str, ...], as_json: bool) -> None:
    """Say what is missing here, the one command that adds it, and what works without it.

    Exits 0 when all is there, 3 when something is missing, or older than what is proven to work
    (conformance/versions.md). `bnconf implementations` starts each one as well.
    """
    found = parts.examine(device, dict(assignment(text) for text in interpreters))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        console.print_parts(found)
    if missing := [part.part for part in found if part.needed and not part.there]:
        raise Incomplete(f"missing: {'; '.join(missing)}")
