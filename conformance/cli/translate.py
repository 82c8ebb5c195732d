"""`bnconf translate`: one framework's batch normalization in another's words, with the weights, and the proof."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from conformance.cli.options import assignment
from conformance.cli.terminal import terminal
from conformance.gate import divergences
from conformance.hosts import roster
from conformance.hosts.environment import Limits
from conformance.hosts.participants import Participants
from conformance.model.errors import InvalidInput
from conformance.studies.translation import layers, natives, showing, translating
from conformance.studies.translation.translating import Half, Job, Translation

_File = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]…")
@click.option("--from", "source", required=True, metavar="ID", help="Whose arguments and weights they are.")
@click.option("--to", "target", required=True, metavar="ID", help="Whose they become.")
@click.option("--n", type=click.IntRange(1, 1_000_000), default=64, show_default=True, help="Values per channel.")
@click.option("--rank", type=click.IntRange(2, 5), help="Of the input. Default: 4, or what both take.")
@click.option("--weights", type=_File, metavar="NPZ", help="Weights under the source's own names.")
@click.option("--out", type=_File, metavar="NPZ", help="Write them under the target's own names.")
@click.option("--device", type=click.Choice(roster.DEVICES), default="cpu", show_default=True, help="As for run.")
@click.option("--env", "interpreters", multiple=True, metavar="NAME=PYTHON", help="As for run.")
@click.option("--in-process", is_flag=True, help="As for run.")
@click.option("--cache/--no-cache", default=True, help="As for run.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=120.0, show_default=True, help="As for run.")
@click.option("--memory", type=click.FloatRange(min=0.1), default=8.0, show_default=True, help="As for run.")
@click.option("--json", "as_json", is_flag=True, help="One object: arguments, weights, differences, verified, …")
def translate(
    arguments: tuple[str, ...],
    source: str,
    target: str,
    n: int,
    rank: int | None,
    weights: Path | None,
    out: Path | None,
    as_json: bool,
    **common: Any,
) -> None:
    """Say a layer of one framework in the words of another, and prove it by asking both.

    NAME=VALUE are the source's own arguments; its own defaults hold where they are not given. IDs are those of
    `bnconf implementations`, or torch, tf_keras, keras, flax, haiku, equinox, sonnet, tf.layers.

    What cannot be mapped is listed with its size by the reference, at --n values per channel. The answers of both must
    agree, or differ by what was predicted, within the sum of their bounds.

    Exits 1 where they differ otherwise, 3 where one of them is not available here.
    """
    if out and not weights:
        raise InvalidInput(f"--out {out}: there are no weights to write; give --weights NPZ too")
    pythons = dict(assignment(text) for text in common["interpreters"])
    where = common["device"], pythons.get("user", sys.executable)
    halves = _halves(source, target, arguments, rank, where)
    given = natives.values(halves[0].layer, source, arguments)
    job = Job(*halves, given, rank=_rank(halves, rank), n=n, weights=weights)
    limits = Limits(case=common["timeout"], memory=common["memory"])
    who = Participants([], True, common["in_process"], pythons, limits, common["cache"])
    found = translating.asked(job, who, divergences.read())
    if out:
        _write(out, job)
    _print(found, as_json=as_json)
    if found.surprises:
        raise click.exceptions.Exit(1)


def _halves(
    source: str, target: str, arguments: tuple[str, ...], rank: int | None, where: tuple[str, str]
) -> tuple[Half, Half]:
    first = natives.chosen("--from", source, rank, *where)
    layer = layers.of(first.id)
    other = natives.variant(layer, first, natives.values(layer, source, arguments), *where)
    entries = other or first, natives.chosen("--to", target, rank, *where)
    a, b = (translating.half(entry) for entry in entries)
    return a, b


def _rank(halves: tuple[Half, Half], rank: int | None) -> int:
    taken = [r for r in (4, 2, 3, 5) if all(half.entry.statement.takes("rank", r) for half in halves)]
    if rank in taken or (rank is None and taken):
        return rank or taken[0]
    names = " and ".join(half.entry.id for half in halves)
    fix = f"give --rank {taken[0]}" if taken else "choose variants of the same rank"
    raise InvalidInput(f"--rank {rank or 4}: {names} have no input of that rank in common; {fix}")


def _write(out: Path, job: Job) -> None:
    try:
        with out.open("wb") as file:
            np.savez(file, **job.arrays())  # pyright: ignore[reportArgumentType] - allow_pickle is no array's name
    except OSError as error:
        raise InvalidInput(f"--out {out}: cannot be written ({error.strerror}); name another file") from error


def _print(found: Translation, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        showing.show(found, terminal(wide=160))
