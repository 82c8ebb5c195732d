"""`bnconf export --vectors` and `bnconf judge`: questions as files for any language, and the answers beside them."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click
import msgspec

from conformance.cases import cells
from conformance.hosts import roster
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs import gathering, wording
from conformance.runs.kept_recipes import WantedRecipes
from conformance.workbench.vectors import judging, writing
from conformance.workbench.vectors.judging import JudgedVector


def write(vectors: Path, promises: str, count: int | None, seed: int) -> None:
    """Write vectors, and say how many."""
    entries = roster.select((promises,))
    if len(entries) != 1:
        raise InvalidInput(f"--promises {promises}: names {len(entries)} implementations; name one")
    drawn = gathering.drawn(WantedRecipes(seed, cells.SMOKE if count is None else count), with_corpus=True)
    index = writing.write(vectors, drawn, entries[0].statement)
    left = f"; {index.skipped} left out, which {promises} cannot be asked, or which are larger than 4 MiB"
    click.echo(f"{vectors.resolve()}: {len(index.cases)} cases{left if index.skipped else ''}")
    click.echo(f"What they are: {vectors / 'README.md'}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="A list of objects with case, results, missing.")
def judge(folder: Path, as_json: bool) -> None:
    """Judge the answers that lie beside the vectors of FOLDER, which `bnconf export --vectors` wrote.

    An answer is answer.txt and answer.bin in the folder of its case; the folder's README.md tells the format.

    Exits 1 where an answer is wrong, 3 where there is none.
    """
    found, without = judging.judged(folder)
    click.echo(msgspec.json.encode(found).decode()) if as_json else _print(found, without)
    if not found:
        raise Incomplete(f"{folder}: no case has an answer.txt; its README.md tells how to lay one beside case.txt")
    sys.exit(any(result.failed for one in found for result in one.results))


def _print(found: list[JudgedVector], without: list[str]) -> None:
    for one in found:
        for result in one.results:
            if result.failed:
                click.echo(f"{one.case}: {wording.describe(result)}")
    missing = sum(len(one.missing) for one in found)
    verdicts = Counter(result.verdict for one in found for result in one.results)
    counted = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
    click.echo(
        f"{len(found)} cases answered, {len(without)} not; {counted or 'nothing judged'}; {missing} outputs missing"
    )
