"""`bnconf run`: judge implementations on generated cases, once or seed after seed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.cases import cells
from conformance.cli import console, finished
from conformance.cli.options import chosen, implementations_and_limits
from conformance.cli.watching import watching
from conformance.gate.explanation import Explained
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.results import EndRecord, Record
from conformance.runs import estimating, run_file
from conformance.runs.campaign import Campaign, Options

OUT = Path("reports/latest")
PROFILES = {
    "smoke": cells.SMOKE,
    "default": cells.DEFAULT,
    "thorough": cells.THOROUGH,
    "soak": cells.SMOKE,  # of each seed, until the time is over
    **{name: sum(cells.OF_PROFILE[name].values()) for name in cells.ALONE},
}

_HANDS = 5
"""Of a smoke run: variants of a layer fail alike, and most layers have several."""


@click.command()
@implementations_and_limits
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides every case.")
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default="default",
    show_default=True,
    help="How many cases to generate; smoke: one of each cell, of which each implementation of the roster is asked a "
    "fifth, its neighbours other ones, and your own all; thorough: 20 of each "
    "cell, and large ones of up to 61,651,200 elements, with the layers of ResNet-50, EfficientNet-B0, a 3-D U-Net, "
    "PointNet and DCGAN; soak: small runs of one seed after the other, for --minutes; sizes: those alone at which "
    "kernels of GPUs change, of up to 2^24 values per channel; huge: one case of more than 2^31 elements.",
)
@click.option("--cases", type=click.IntRange(min=1), help="That many instead.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Of a soak, from now on.  [default: 60]")
@click.option("--corpus/--no-corpus", default=True, help="Ask the named cases of the corpus too. Default: yes.")
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    default=0,
    help="Workers to run at a time. Default: as many as there are cores, the longest first, where an earlier run in "
    "the folder or beside it tells what takes long; else one of each environment.",
)
@click.option(
    "--shard", default="1/1", metavar="K/N", help="Every N-th case from the K-th on, to spread a run over machines."
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="",
    metavar="[HOST:PORT]",
    help="Spread the run over the nodes of a Ray cluster, which the extra `ray` brings; a node that is lost costs time "
    "alone. Default address: RAY_ADDRESS, or a cluster on this machine.",
)
@click.option("--resume", is_flag=True, help="Go on with the interrupted run, or soak, in the folder.")
@click.option("--fail-fast", is_flag=True, help="Ask nothing more after the first failure, known or not.")
@click.option(
    "--changed-since",
    type=click.Path(path_type=Path, exists=True),
    metavar="RUN",
    help="Ask only whose versions, adapter or machine are not those of an earlier run, and what that was not asked; "
    "take over the rest.",
)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True, help="The run's folder.")
@click.option("--timings", is_flag=True, help="Print too what the seconds of CPU went to, in each environment.")
@click.option("--json", "as_json", is_flag=True, help="Print the final table as JSON.")
def run(
    seed: int,
    profile: str,
    cases: int | None,
    minutes: float | None,
    corpus: bool,
    jobs: int,
    shard: str,
    ray: str | None,
    resume: bool,
    fail_fast: bool,
    changed_since: Path | None,
    out: Path,
    timings: bool,
    as_json: bool,
    **common: Any,
) -> None:
    """Judge implementations on generated cases and write a run folder.

    Exits 0 when the run completed, whatever the verdicts, and 3 when it did not.
    """
    options = Options(
        chosen(**common, installs=ray is None),
        out,
        seed=seed,
        cases=cases or PROFILES[profile],
        corpus=corpus and profile not in cells.ALONE,
        hands=_HANDS if profile == "smoke" and cases is None else 1,
        profile=profile if profile in cells.ALONE else "",
        jobs=jobs,
        shard=_shard(shard),
        resume=resume,
        fail_fast=fail_fast,
        changed_since=changed_since,
        command=["bnconf", *sys.argv[1:]],
    )
    _check(options, profile, minutes, ray)
    if profile == "soak":
        _soak(options, minutes or 60.0, timings=timings, as_json=as_json)
    else:
        explained = Explained()
        end = _once(options, explained, quiet=as_json) if ray is None else _spread(options, ray, quiet=as_json)
        _show(end, options, explained, timings=timings, as_json=as_json)


def _check(options: Options, profile: str, minutes: float | None, ray: str | None) -> None:
    """Raise where options make no sense together."""
    since, out = options.changed_since, options.out
    if since and since.resolve() == out.resolve():
        raise InvalidInput(f"--changed-since {since}: is the folder that this run is written to; name another --out")
    if profile != "soak" and minutes is not None:
        raise InvalidInput(f"--minutes {minutes:g}: is of --profile soak alone; add it, or leave --minutes out")
    asked = {
        "--in-process": options.who.in_process,
        f"--changed-since {since}": since,
        f"--jobs {options.jobs}": options.jobs,
        "--shard {}/{}".format(*options.shard): options.shard != (1, 1),
        f"--profile {profile}": profile == "soak" or options.profile,
    }
    if ray is not None and (word := next((word for word, given in asked.items() if given), None)):
        raise InvalidInput(f"{word}: is of a run on one machine, and --ray spreads it by itself; leave one out")


def _spread(options: Options, address: str, *, quiet: bool) -> EndRecord:
    from conformance.cli import spreading

    return spreading.spread(options, address, quiet=quiet)


def _once(options: Options, explained: Explained, *, quiet: bool) -> EndRecord:
    before = estimating.earlier(options.out, options.cases, options.recorded_profile)
    with watching(before, explained, quiet=quiet) as progress:
        return Campaign(options, progress, costs=before and before.cpu | before.starts).run()


def _show(end: EndRecord, options: Options, before: Explained, *, timings: bool, as_json: bool) -> None:
    found = run_file.read(options.out, thinned=_thinned(options.out))
    if as_json:
        click.echo(console.as_json(found))
    else:
        finished.print_run(found, options.out, timings=timings, before=before)
    if not end.complete:
        raise Incomplete(
            "; ".join(end.reasons[:3]) + (f"; and {len(end.reasons) - 3} more" if len(end.reasons) > 3 else "")
        )


def _thinned(out: Path) -> Callable[[Record], None] | None:
    """Return what makes the records of a large run smaller, for whom only the worst is shown of."""
    if run_file.path_of(out).suffix != ".gz":
        return None
    from conformance.report.thinning import Thinning

    return Thinning()


def _soak(options: Options, minutes: float, *, timings: bool, as_json: bool) -> None:
    from conformance.studies import soaking

    if options.shard != (1, 1):
        raise InvalidInput("--profile soak: has no --shard; give each machine another --seed")
    if options.changed_since:
        raise InvalidInput(
            "--changed-since: is of one run's cases, and --profile soak asks others; leave one of them out"
        )
    if timings:
        raise InvalidInput("--timings: is of one run, and --profile soak makes many; leave one of them out")
    found: list[soaking.Round] = []
    try:
        with watching(quiet=as_json) as progress:
            found.extend(console.told(one, progress) for one in soaking.rounds(options, minutes, progress))
    finally:  # whatever ends it
        if found and as_json:
            click.echo(msgspec.json.encode(found).decode())
        elif found:
            console.print_rounds(found)
    if found[-1].reasons:
        raise Incomplete("; ".join(found[-1].reasons[:3]))


def _shard(text: str) -> tuple[int, int]:
    number, _, shards = text.partition("/")
    if not (number.isdecimal() and shards.isdecimal() and 1 <= int(number) <= int(shards)):
        raise InvalidInput(f"--shard {text}: must be K/N with K from 1 to N, for example 2/4")
    return int(number), int(shards)
