"""`bnconf replay`, `bnconf explain` and `bnconf export`: commands for single cases."""

from __future__ import annotations

import fnmatch
import itertools
import pkgutil
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec

from conformance.cli import console, upstream
from conformance.cli.options import chosen, implementations_and_limits, of_vectors
from conformance.hosts import roster
from conformance.hosts.machine import describe_host
from conformance.hosts.participants import Participants
from conformance.model import excluded, results
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs import commands, explaining, recording, replaying, run_file, wording
from conformance.runs.failures import groups
from conformance.runs.failures.evidence import InFolder
from conformance.runs.recording import RecordedAnswer, Recording

_Path = click.Path(path_type=Path)
_RUN = Path("reports/latest")


class _ReplayOutput(msgspec.Struct, omit_defaults=True):
    """What became of one answer, as `--json` prints it."""

    file: str
    case: str
    implementation: str
    status: str
    results: tuple[results.Result, ...] = ()
    reason: str = ""


@click.command()
@click.argument("files", nargs=-1, required=True, type=_Path, metavar="FILE…")
@implementations_and_limits
@click.option("--recorded", is_flag=True, help="Judge the recorded answers again; asks nobody and needs no framework.")
@click.option("--save", type=_Path, metavar="FOLDER", help="Write what was answered there, one recording a case.")
@click.option(
    "--json", "as_json", is_flag=True, help="A list of objects with file, case, implementation, status, results."
)
def replay(
    files: tuple[Path, ...], recorded: bool, save: Path | None, as_json: bool, patterns: tuple[str, ...], **common: Any
) -> None:
    """Ask saved cases again, and say FIXED, STILL FAILING, CHANGED or CANNOT RUN where an answer was recorded.

    INCONCLUSIVE: nothing fails, but some output could not be judged.

    FILE is a case, a name of the corpus, a recording, a run's folder (its failures are asked again), or a folder of
    case files and recordings. Without -i the implementations whose answers were recorded are asked, or all where none
    were.

    An implementation that does not support a case is not asked; UNSUPPORTED says why.

    Exits 1 where an implementation fails, 3 where one that was asked for is missing, or nothing was compared.
    """
    wanted = [part for path in files for part in recording.read(path)]
    if recorded:
        lines = [line for part in wanted for line in _judged_again(part, patterns)]
    else:
        lines = _asked_again(wanted, patterns, save, common)
    _show(lines, as_json=as_json)
    if missing := dict.fromkeys(line.reason for line in lines if line.status == "CANNOT RUN"):
        raise Incomplete("; ".join(missing))
    if any(result.failed for line in lines for result in line.results):
        raise click.exceptions.Exit(1)
    if all(line.status == "UNSUPPORTED" for line in lines):
        raise Incomplete(f"{results.NOTHING}: {_excluded(lines)}")


def _judged_again(part: Recording, patterns: tuple[str, ...]) -> list[_ReplayOutput]:
    if not any(answer.reply for answer in part.answers):
        raise InvalidInput(f"{part.name}: holds no recorded answer; leave out --recorded, or record one with --save")
    named = {entry.id for entry in roster.select(patterns)} if patterns else None
    before = {answer.record.id: answer.results for answer in part.answers}
    return [
        _line(part, answer, before)
        for answer in replaying.judged_again(part)
        if named is None or answer.record.id in named
    ]


def _asked_again(
    wanted: list[Recording], patterns: tuple[str, ...], save: Path | None, common: dict[str, Any]
) -> list[_ReplayOutput]:
    """Ask each case again: of the implementations named, or else of those whose answers were recorded.

    A case without recorded answers is asked of all implementations.
    """
    answered = [part for part in wanted if part.answers and not patterns]
    others = [part for part in wanted if not part.answers or patterns]
    lines = _asked(others, chosen(patterns, **common), {}, None, save) if others else []
    if answered:
        only = [{answer.record.id for answer in part.answers} for part in answered]
        lines += _asked(answered, *_recorded(answered, common), only, save)
    return lines


def _asked(
    parts: list[Recording], who: Participants, gone: dict[str, str], only: list[set[str]] | None, save: Path | None
) -> list[_ReplayOutput]:
    lines: list[_ReplayOutput] = []
    found = replaying.ask([part.case for part in parts], who, only, keep=save is not None)
    for part, asked in zip(parts, found, strict=True):
        lines += _lines(part, asked, gone)
        if save:
            kept = Recording(part.name, part.case, tuple(asked.answers), describe_host(), part.extra)
            recording.write(kept, save / f"{part.name}.safetensors")
    return lines


def _recorded(parts: list[Recording], common: dict[str, Any]) -> tuple[Participants, dict[str, str]]:
    """Return the implementations whose answers were recorded, and why some of them cannot be chosen."""
    records = {answer.record.id: answer.record for part in parts for answer in part.answers}
    who, gone = chosen((), **common), dict[str, str]()
    known = {entry.id: entry for entry in who.entries}
    entries, pythons = list[roster.RosterEntry](), dict(who.interpreters)
    for identity, record in records.items():
        try:
            here = identity in known and record.named in ("", identity)
            asked = common | _as_recorded(record, common["interpreters"])
            found = chosen((identity if here else commands.target(record)[1],), **asked)
            pythons |= found.interpreters
            entries += [known[identity]] if here else found.entries
        except (InvalidInput, Incomplete) as error:
            gone[identity] = f"{identity}: {error}"
    return msgspec.structs.replace(who, entries=entries, requested=True, interpreters=pythons), gone


def _as_recorded(record: results.ImplementationRecord, interpreters: tuple[str, ...]) -> dict[str, Any]:
    """Return the options that an answer was recorded with, as far as they apply here: interpreter and device.

    An interpreter that the caller names replaces the recorded one.
    """
    said = [text for option, text in itertools.pairwise(record.options) if option == "--env"]
    found = [text for text in said if shutil.which(python := text.partition("=")[2]) or roster.requirements(python)]
    there = {"device": record.device} if record.named not in ("", record.id) else {}
    return {"interpreters": (*found, *interpreters), **there}


def _lines(part: Recording, asked: replaying.ReplayedCase, gone: dict[str, str]) -> list[_ReplayOutput]:
    before = {answer.record.id: answer.results for answer in part.answers}
    missing = {identity: why for identity, why in gone.items() if identity in before} | asked.missing
    told = {answer.record.id for answer in asked.answers} | missing.keys()
    for name, why in asked.unsupported.items():
        if name in before and name not in told:
            missing[name] = f"{name} does not support case {part.id} any more: {why}"
    cannot = [_ReplayOutput(part.name, part.id, name, "CANNOT RUN", reason=reason) for name, reason in missing.items()]
    others = {name: why for name, why in asked.unsupported.items() if name not in missing}
    unasked = [_ReplayOutput(part.name, part.id, name, "UNSUPPORTED", reason=why) for name, why in others.items()]
    return [_line(part, answer, before) for answer in asked.answers] + cannot + unasked


def _line(part: Recording, answer: RecordedAnswer, before: dict[str, tuple[results.Result, ...]]) -> _ReplayOutput:
    status = replaying.word(answer.results, before.get(answer.record.id))
    return _ReplayOutput(part.name, part.id, answer.record.id, status, answer.results)


def _show(lines: list[_ReplayOutput], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(lines).decode())
        return
    many = len({line.case for line in lines}) > 1
    for line in lines:
        if line.status in ("CANNOT RUN", "UNSUPPORTED"):
            continue
        for result in line.results:
            if not many or result.failed:
                click.echo(wording.describe(result))
        why = f": never judged: {results.unjudged(line.results) or 'anything'}" if line.status == "INCONCLUSIVE" else ""
        click.echo(f"{line.status}: {line.implementation}, {line.file}{why}")
    for file in dict.fromkeys(line.file for line in lines):
        for why in excluded.lines((line.implementation, line.reason) for line in _unsupported(lines, file)):
            click.echo(f"UNSUPPORTED: {file}: {why}")
    counts = Counter(line.status for line in lines)
    click.echo(", ".join(f"{n} {status}" for status, n in counts.items()) or "nobody was asked")


def _unsupported(lines: list[_ReplayOutput], file: str = "") -> list[_ReplayOutput]:
    return [line for line in lines if line.status == "UNSUPPORTED" and file in ("", line.file)]


def _excluded(lines: list[_ReplayOutput]) -> str:
    return excluded.brief((line.implementation, line.reason) for line in _unsupported(lines)) or "nobody was asked"


@click.command()
@click.argument("case", metavar="[CASE-ID|FILE]", required=False)
@click.option("--run", "folder", type=_Path, default=_RUN, show_default=True, help="The run that has the case.")
@implementations_and_limits
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A list of objects with step, output, deviations, camps; without a case, of failures with one cause.",
)
@upstream.options
def explain(
    case: str | None, folder: Path, as_json: bool, patterns: tuple[str, ...], report: upstream.Wanted, **common: Any
) -> None:
    """Say which output, step and element of a case is off, by how much, why, and who agrees with whom.

    A CASE-ID is looked up in the run. A FILE is explained by the answers recorded in it; with -i, or where it has none,
    the implementations are asked now. Without a case the failures of the run are explained, those with one cause once:
    which stage is wrong, which change explains them, where they fail over all results, and where in the arrays.

    With --upstream a bug report instead: a script, run here, and an issue around it. Exits 2 where none is short.

    Exits 3 where nobody could be asked.
    """
    if case is None and report.wanted:
        raise InvalidInput("--upstream: is of one case; name it, by its id in the run or by its file")
    if case is None:
        _explain_run(folder, patterns, as_json=as_json)
        return
    part = _one(case, folder)
    if report.wanted:
        tell = pkgutil.resolve_name("conformance.cli.bug_report:tell")  # which draws cases
        tell(part, patterns, common, report, as_json=as_json)
        return
    if patterns or not part.answers:
        asked = replaying.ask([part.case], chosen(patterns, **common))[0]
        part = msgspec.structs.replace(part, answers=tuple(asked.answers))
        if not asked.answers:
            why = [*asked.missing.values(), excluded.brief(asked.unsupported.items())]
            raise Incomplete(f"{results.NOTHING}: " + "; ".join(filter(None, why)))
    places = explaining.explain(part)
    if as_json:
        click.echo(msgspec.json.encode(places).decode())
        return
    console.print_places(part.name, places)
    if not Path(case).exists():
        run = run_file.read(folder)
        for implementation, told in groups.where_of_case(run.results, case, InFolder(run, folder)):
            click.echo(f"{implementation} fails {told.sentence}")


def _explain_run(folder: Path, patterns: tuple[str, ...], *, as_json: bool) -> None:
    run = run_file.read(folder)
    records = [r for r in run.implementations if not patterns or any(fnmatch.fnmatchcase(r.id, p) for p in patterns)]
    found = groups.of_run(run.results, records, InFolder(run, folder))
    if as_json:
        click.echo(msgspec.json.encode(list(found)).decode())
        return
    number = 0
    for number, group in enumerate(found, 1):  # noqa: B007 - how many there were
        click.echo(wording.group(group, run, folder))
    click.echo(f"{number} failures with a cause or reason of their own" if number else "nothing fails")


def _one(case: str, folder: Path) -> Recording:
    path = Path(case)
    if path.is_dir():
        raise InvalidInput(f"{case}: is a folder; name one file of it, or a case with --run {case}")
    return next(recording.read(path) if path.exists() else recording.of_run(folder, case))


@click.command()
@click.argument("folder", type=_Path, default=_RUN)
@click.argument("cases", nargs=-1, metavar="[CASE-ID]…")
@click.option("--out", type=_Path, metavar="FOLDER", help="Where to write, one recording a case.")
@of_vectors
def export(folder: Path, cases: tuple[str, ...], out: Path | None, **given: Any) -> None:
    """Write cases of a run as recordings: the case, the answers that fail, every verdict, the environment.

    Without a CASE-ID, every case that some implementation fails. A folder of recordings is a regression suite:
    `bnconf replay` takes it.

    With --vectors, write questions and right answers for implementations that do not run under Python: the corpus and
    --count cases drawn afresh. `bnconf judge` judges the answers that are laid beside them.
    """
    if (out is None) == (given["vectors"] is None):
        raise InvalidInput("export writes recordings or vectors; give --out FOLDER or --vectors FOLDER, one of them")
    if out is None:
        pkgutil.resolve_name("conformance.cli.vectors:write")(**given)  # which draws cases
        return
    parts = [p for case in cases for p in recording.of_run(folder, case)] if cases else recording.of_run(folder)
    written = [recording.write(part, out / f"{part.name}.safetensors") for part in parts]
    click.echo(f"{out.resolve()}: {len(written)} recordings")
