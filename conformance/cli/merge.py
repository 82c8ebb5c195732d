"""`bnconf merge`: the shards of a run, put together."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from conformance.model.errors import Incomplete
from conformance.runs.merging import merge as _merge


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The merged run's folder.")
def merge(runs: tuple[Path, ...], out: Path) -> None:
    """Put the run folders of `bnconf run --shard K/N` together to the run that was not sharded.

    Exits 2 where they are not different shards of one run, 3 where a shard is missing or incomplete.
    """
    end = _merge(list(runs), out, ["bnconf", *sys.argv[1:]])
    click.echo(str(out.resolve()))
    if not end.complete:
        raise Incomplete("; ".join(end.reasons))
