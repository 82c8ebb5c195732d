"""The command line: `bnconf`, or `python -m conformance`."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from conformance.cases import cells
from conformance.cli import ask, audit, case, env, gate, hunt, merge, recall, report, translate
from conformance.cli.options import assignment, chosen, implementations_and_limits
from conformance.hosts import roster
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs import run_file
from conformance.runs.campaign import Campaign, Options

OUT = Path("reports/latest")
PROFILES = {
    "smoke": cells.SMOKE,
    "default": cells.DEFAULT,
    "thorough": cells.THOROUGH,
    "soak": cells.SMOKE,  # of each seed, until the time is over
}


class _Group(click.Group):
    """Turns our errors into one clear line and an exit code: 2 invalid input, 3 incomplete, 5 a fault of ours."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except InvalidInput as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(2)
        except Incomplete as error:
            click.echo(f"Incomplete: {error}", err=True)
            ctx.exit(3)
        except (click.exceptions.Exit, click.ClickException):
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output has seen enough
                raise
            place = f"{error.filename}: " if error.filename else ""
            fix = "make room there" if error.errno == errno.ENOSPC else "name one that can be read or written"
            click.echo(f"Error: {place}{error.strerror or error}; {fix}, and run the command again", err=True)
            ctx.exit(2)
        except (click.Abort, KeyboardInterrupt):
            click.echo("Incomplete: interrupted", err=True)
            ctx.exit(3)
        except Exception as error:
            click.echo(f"Internal error: {type(error).__name__}: {error}", err=True)
            if "--debug" in sys.argv:
                raise
            click.echo("This is a fault of bnconf, not of an implementation; --debug shows where.", err=True)
            ctx.exit(5)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="batchnorm-conformance")
@click.option("--debug", is_flag=True, help="Show where a fault of bnconf itself happened.")
def main(debug: bool) -> None:
    """Hold batch normalization implementations to a reference, and prove every difference by a case.

    Exit codes: 0 done; 2 invalid input; 3 incomplete; 5 a fault of bnconf.
    """


@main.command()
@implementations_and_limits
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides every case.")
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default="default",
    show_default=True,
    help="How many cases to generate; soak: small runs of one seed after the other, for --minutes.",
)
@click.option("--cases", type=click.IntRange(min=1), help="That many instead.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Of a soak.  [default: 60]")
@click.option("--corpus/--no-corpus", default=True, help="Ask the named cases of the corpus too. Default: yes.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Environments to run at a time. Default: all.")
@click.option(
    "--shard", default="1/1", metavar="K/N", help="Every N-th case from the K-th on, to spread a run over machines."
)
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in the folder.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True, help="The run's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the final table as JSON.")
def run(
    seed: int,
    profile: str,
    cases: int | None,
    minutes: float | None,
    corpus: bool,
    jobs: int,
    shard: str,
    resume: bool,
    out: Path,
    as_json: bool,
    **common: Any,
) -> None:
    """Judge implementations on generated cases and write a run folder.

    Exits 0 when the run completed, whatever the verdicts, and 3 when it did not.
    """
    from conformance.cli import console

    options = Options(
        chosen(**common),
        out,
        seed=seed,
        cases=cases or PROFILES[profile],
        corpus=corpus,
        jobs=jobs,
        shard=_shard(shard),
        resume=resume,
        command=["bnconf", *sys.argv[1:]],
    )
    if profile == "soak":
        _soak(options, minutes or 60.0, as_json=as_json)
        return
    if minutes is not None:
        raise InvalidInput(f"--minutes {minutes:g}: is of --profile soak alone; add it, or leave --minutes out")
    with console.watching(quiet=as_json) as progress:
        end = Campaign(options, progress).run()
    finished = run_file.read(out)
    click.echo(console.as_json(finished)) if as_json else console.print_run(finished, out)
    if not end.complete:
        raise Incomplete(
            "; ".join(end.reasons[:3]) + (f"; and {len(end.reasons) - 3} more" if len(end.reasons) > 3 else "")
        )


def _soak(options: Options, minutes: float, *, as_json: bool) -> None:
    from conformance.cli import console
    from conformance.studies import soaking

    if options.resume or options.shard != (1, 1):
        raise InvalidInput("--profile soak: has neither --resume nor --shard; give each machine another --seed")
    with console.watching(quiet=as_json) as progress:
        found = [console.told(one, progress) for one in soaking.rounds(options, minutes, progress)]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        console.print_rounds(found)
    if found[-1].reasons:
        raise Incomplete("; ".join(found[-1].reasons[:3]))


def _shard(text: str) -> tuple[int, int]:
    number, _, shards = text.partition("/")
    if not (number.isdecimal() and shards.isdecimal() and 1 <= int(number) <= int(shards)):
        raise InvalidInput(f"--shard {text}: must be K/N with K from 1 to N, for example 2/4")
    return int(number), int(shards)


@main.command()
@click.option("--device", type=click.Choice(roster.DEVICES), default="cpu", show_default=True)
@click.option("--env", "interpreters", multiple=True, metavar="NAME=PYTHON", help="As for run.")
@click.option(
    "--json", "as_json", is_flag=True, help="A list of objects with id, framework, device, available, reason."
)
def implementations(device: str, interpreters: tuple[str, ...], as_json: bool) -> None:
    """List the implementations under test, and whether they can run here."""
    from conformance.cli import console
    from conformance.hosts import availability

    pythons = dict(assignment(text) for text in interpreters)
    found = availability.check(roster.select((), device, pythons.get("user", sys.executable)), pythons)
    if as_json:
        fields = ("id", "framework", "device", "available", "reason")
        click.echo(msgspec.json.encode([{f: getattr(r, f) for f in fields} for r in found]).decode())
    else:
        console.print_implementations(found, Console())


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default=OUT)
@click.option("--out", type=click.Path(path_type=Path), help="Write the page there instead of printing it.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects with the counts, and why a column is empty.")
def matrix(folder: Path, out: Path | None, as_json: bool) -> None:
    """Count what each implementation was asked in a run: the table of conformance/implementations/README.md.

    Exits 3 where a cell is empty and no statement says why.
    """
    from conformance.runs import matrix as table

    run = run_file.read(folder)
    found = table.lines(run)
    page = msgspec.json.encode(found).decode() if as_json else table.as_markdown(found, run).rstrip()
    if out:
        out.write_text(page + "\n")
    click.echo(str(out.resolve()) if out else page)
    if gaps := table.gaps(found):
        raise Incomplete("; ".join(gaps[:3]) + (f"; and {len(gaps) - 3} more" if len(gaps) > 3 else ""))


@main.command()
@click.option("--device", type=click.Choice(roster.DEVICES), default="cpu", help="With cuda, a missing GPU counts.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects with part, there, needed, found, command, …")
def doctor(device: str, as_json: bool) -> None:
    """Say what is missing here, the one command that adds it, and what works without it.

    Exits 0 when all is there, 3 when something is missing. `bnconf implementations` starts each one as well.
    """
    from conformance.cli import console
    from conformance.hosts import doctor as parts

    found = parts.examine(device)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        console.print_parts(found)
    if missing := [part.part for part in found if part.needed and not part.there]:
        raise Incomplete(f"missing: {'; '.join(missing)}")


main.add_command(audit.audit)
main.add_command(audit.identify)
main.add_command(case.explain)
main.add_command(case.export)
main.add_command(case.replay)
main.add_command(env.env)
main.add_command(gate.gate)
main.add_command(report.report)
main.add_command(merge.merge)
main.add_command(recall.command)
main.add_command(hunt.command)
main.add_command(ask.command)
main.add_command(translate.translate)
