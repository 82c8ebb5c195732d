"""`bnconf bisect`: which release of a package changed the answer to a case."""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.cases import corpus
from conformance.cli.options import chosen, implementations_and_limits
from conformance.hosts import releases
from conformance.model.case import Case, case_id
from conformance.model.case_facts import every_step
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs import recording
from conformance.studies.bisecting import halving, showing, trying
from conformance.studies.bisecting.halving import Bisection
from conformance.studies.bisecting.trying import Experiment

_RUN = Path("reports/latest")


@click.command()
@click.argument("case", metavar="CASE-ID|NAME|FILE")
@click.option("--package", required=True, metavar="NAME", help="Whose releases are asked, by its name on the index.")
@click.option("--versions", metavar="WHICH", help="'>=3.8,<4', or 3.8,3.9,3.10.  [default: all that are final]")
@click.option("--good", metavar="V", help="A version that answers otherwise than --bad.  [default: looked for]")
@click.option("--bad", metavar="V", help="Likewise.  [default: the newest that answers]")
@click.option("--matrix", is_flag=True, help="Ask every version, and not by halving.")
@click.option("--run", "folder", type=click.Path(path_type=Path), default=_RUN, show_default=True,
              help="The run that has the case.")  # fmt: skip
@implementations_and_limits
@click.option("--json", "as_json", is_flag=True, help="One object: implementation, case, package, trials, last, first.")
def bisect(
    case: str,
    package: str,
    versions: str | None,
    good: str | None,
    bad: str | None,
    matrix: bool,
    folder: Path,
    as_json: bool,
    **common: Any,
) -> None:
    """Find the release of a package that changed what an implementation answers to a case.

    An environment is made for each release that is asked, with uv or else pip and the interpreter that it needs: with
    all else as it is here where that fits, or else as it was on the release's day. They are kept in the user's cache.

    Of two that answer otherwise the releases between are halved; without --good and --bad, from the newest backwards.
    A release that cannot be built, or lacks what the adapter calls, is passed over.

    Exits 1 where all that answer do the same, 3 where none answers.
    """
    started = time.monotonic()
    file, asked = _case(case, folder)
    experiment = _experiment(asked, package, common)
    known = releases.of(package, experiment.where)
    ends = [releases.named(known, o, v) if v else None for o, v in (("--good", good), ("--bad", bad))]
    within = sorted({*releases.chosen(known, versions), *filter(None, ends)}, key=lambda r: r.version)
    ask = functools.partial(trying.ask, experiment, say=lambda line: click.echo(line, err=True))
    found = halving.whole(within, ask) if matrix else halving.search(within, ask, *ends)
    told = showing.told(found, experiment, time.monotonic() - started)
    click.echo(msgspec.json.encode(told).decode() if as_json else showing.text(told, found, experiment, file))
    _end(found)


def _end(found: Bisection) -> None:
    if not found.answered:
        why = f", the newest because {found.trials[-1].only}" if found.trials else ""
        raise Incomplete(f"none of the {len(found.trials)} releases asked can answer{why}")
    sys.exit(found.first is None)


def _experiment(case: Case, package: str, common: dict[str, Any]) -> Experiment:
    if common["in_process"] or common["interpreters"]:
        raise InvalidInput("--in-process, --env: each release has an interpreter of its own; leave them out")
    who = chosen(**common)
    if len(who.entries) != 1 or not common["patterns"]:
        names = ", ".join(entry.id for entry in who.entries[:3])
        raise InvalidInput(f"-i: names {len(who.entries)} implementations ({names}, …); name the one to ask")
    if why := who.entries[0].statement.unsupported(*every_step(case)):
        raise InvalidInput(f"-i {who.entries[0].id}: does not support case {case_id(case)}: {why}")
    return Experiment(package, [case], who, releases.index())


def _case(named: str, folder: Path) -> tuple[Path, Case]:
    """Return a case and the file that holds it: of a path, of the corpus by name, or of a run by id."""
    path = Path(named)
    if path.is_file():
        return path, next(recording.read(path)).case
    if (inside := corpus.FOLDER / f"{named}.json").exists():
        return inside, next(recording.read(inside)).case
    if not folder.exists():
        raise InvalidInput(f"{named}: is no file and no name of the corpus; for the id of a case name its run by --run")
    found = next(recording.of_run(folder, named)).case
    return folder / "cases" / f"{named}.safetensors", found
