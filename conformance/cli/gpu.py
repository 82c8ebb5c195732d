"""`bnconf gpu`: everything there is to know of a machine's GPU, in one command and one archive."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from conformance.cases.cells import SMOKE
from conformance.hosts import availability, doctor, roster, targets
from conformance.hosts.machine import describe_host
from conformance.hosts.participants import Participants
from conformance.hosts.roster import RosterEntry
from conformance.model.case import Case
from conformance.model.codec import read_case
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.results import ImplementationRecord, Run
from conformance.runs import run_file
from conformance.runs.merging import merge
from conformance.studies import devices

DEVICE = "cuda"
_RESERVE = 0.35  # of the minutes: to ask again, merge, gate and report
_CORES = 4  # for each shard: its workers take turns with its judge
_TIMES = 10
_NAMED = 3
_AGAIN = 4  # cases that are asked again, those with the most values per channel; the first alone of who compiles


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/gpu"), show_default=True)
@click.option("--minutes", type=click.FloatRange(min=1), default=8.0, show_default=True, help="It takes no longer.")
@click.option("--cases", type=click.IntRange(min=1), default=SMOKE, show_default=True, help="Generated cases.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--shards", type=click.IntRange(min=1), help="Runs at a time. Default: one for every 4 cores.")
@click.option("-i", "--implementation", "patterns", multiple=True, metavar="ID", help="Default: all. Repeatable.")
@click.option("--rehearse", is_flag=True, help="Without a GPU: do all of it on the CPU alone.")
def gpu(
    out: Path, minutes: float, cases: int, seed: int, shards: int | None, patterns: tuple[str, ...], rehearse: bool
) -> None:
    """Judge what runs on this machine's GPU, and the same on its CPU; write and name one archive of it all.

    A run of both devices, its gate and report, a baseline of what runs on the GPU, devices.md (the devices side by
    side, and what differs from call to call), and environment.json (GPU, driver, CUDA, cuDNN, flags, versions).
    Exits as the gate does, 3 without a GPU.
    """
    began = time.monotonic()
    _check_own(out)
    chosen = _chosen(patterns, rehearse=rehearse)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    number = shards or max((os.cpu_count() or 1) // _CORES, 1)
    until = began + 60 * minutes * (1 - _RESERVE)
    words = ["--cases", str(cases), "--seed", str(seed), *_named(chosen)]
    click.echo(f"{len(chosen)} implementations, {cases} cases, {number} shards, at most {minutes:g} minutes")
    folders = _run(out, words, number, until)
    run = _merged(folders, out / "run")
    _write_environment(out / "environment.json", run)
    _write_devices(out / "devices.md", run, out / "run", chosen, began + 60 * minutes * (1 - _RESERVE / 2))
    status = _gated(out)
    archive = shutil.make_archive(str(out), "gztar", out.parent, out.name)
    click.echo(f"{(time.monotonic() - began) / 60:.1f} minutes; {Path(archive).resolve()}")
    sys.exit(status)


def _check_own(out: Path) -> None:
    """Raise where a folder holds what this command did not write, since it is written anew."""
    if out.exists() and any(out.iterdir()) and not (out / "shard-1.log").exists():
        raise InvalidInput(f"--out {out}: holds what bnconf gpu did not write, and would be replaced; name another one")


def _chosen(patterns: tuple[str, ...], *, rehearse: bool) -> list[RosterEntry]:
    """Return whom to ask, on both devices, and say who is left out; raise where no GPU is found."""
    there = _there(patterns, DEVICE)
    names = {entry.statement.id for entry in there}
    if there:
        return [*(entry for entry in _there(patterns, "cpu") if entry.statement.id in names), *there]
    if not rehearse:
        raise Incomplete(
            f"nothing here finds a GPU ({doctor.gpu() or 'nvidia-smi finds none'}); --rehearse does without"
        )
    return _there(patterns, "cpu")


def _there(patterns: tuple[str, ...], device: str) -> list[RosterEntry]:
    """Return who can run on a device, and say why the others cannot."""
    entries = [entry for pattern in patterns or ("*",) for entry in _entries(pattern, device)]
    found = availability.check(entries, {})
    for reason, ids in _why_not(found):
        more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        click.echo(f"left out on {device}: {', '.join(ids[:_NAMED])}{more}: {reason}")
    ready = {record.id for record in found if record.available}
    return [entry for entry in entries if entry.id in ready]


def _entries(pattern: str, device: str) -> list[RosterEntry]:
    """Return what a pattern names on a device, and say so if that is nothing."""
    try:
        return roster.select((pattern,), device)
    except InvalidInput:
        roster.select((pattern,))  # which raises where it is nothing anywhere
        click.echo(f"left out on {device}: {pattern} runs on the CPU alone")
        return []


def _named(entries: list[RosterEntry]) -> list[str]:
    """Return the options that name implementations, each with its device."""
    names = [f"{e.named}@{e.device}" if targets.is_target(e.named) else e.id for e in entries]
    return [word for name in dict.fromkeys(names) for word in ("-i", name)]


def _why_not(records: list[ImplementationRecord]) -> Iterator[tuple[str, list[str]]]:
    """Yield each reason for which implementations are not there, with their ids."""
    for reason in dict.fromkeys(record.reason for record in records if not record.available):
        yield reason, [record.id for record in records if record.reason == reason]


def _run(out: Path, words: list[str], shards: int, until: float) -> list[Path]:
    """Run all shards at a time; those that are not done in time are interrupted, and keep what they have."""
    started: dict[Path, subprocess.Popen[bytes]] = {}
    for number in range(1, shards + 1):
        folder = out / f"shard-{number}"
        command = [sys.executable, "-m", "conformance", "run", *words, "--shard", f"{number}/{shards}"]
        with (out / f"shard-{number}.log").open("wb") as log:
            started[folder] = subprocess.Popen([*command, "--out", str(folder)], stdout=log, stderr=log)
    for folder, process in started.items():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(until - time.monotonic(), 0.1))
        if process.poll() is None:
            click.echo(f"{folder.name} is not done in time, and is cut short")
            process.send_signal(signal.SIGINT)
            process.wait()
    return list(started)


def _merged(folders: list[Path], out: Path) -> Run:
    """Merge what shards there are; raise where none has begun."""
    began = [folder for folder in folders if (folder / run_file.FILE).exists()]
    if not began:
        raise Incomplete(f"no shard has judged anything: see {folders[0]}.log; give it more --minutes")
    merge(began, out, ["bnconf", *sys.argv[1:]])
    for folder in folders:
        shutil.rmtree(folder)
    return run_file.read(out)


def _write_environment(path: Path, run: Run) -> None:
    installed = {one.name: one.version for one in importlib.metadata.distributions()}
    about = {record.id: record.about for record in run.implementations if record.about}
    said = {"host": describe_host(), "gpu": doctor.gpu(), "about": about, "installed": dict(sorted(installed.items()))}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(said), indent=1) + b"\n")


def _write_devices(path: Path, run: Run, folder: Path, chosen: list[RosterEntry], until: float) -> None:
    """Write the devices side by side, and what differs where a case is asked again."""
    device = chosen[-1].device
    entries = [entry for entry in chosen if entry.device == device]
    largest = sorted(run.cases.values(), key=lambda record: -record.values)[:_AGAIN]
    cases: list[Case] = [read_case(folder / record.file)[0] for record in largest]
    found = list(devices.again(cases, Participants(entries), _TIMES, until))
    vary = [f"- `{v.implementation}`, case {largest[v.case].case}: {v.answers} different ones of {v.asked}"
            for v in found if v.answers > 1]  # fmt: skip
    said = "\n".join(vary) or "Each time the same bits."
    pairs = devices.side_by_side(run, DEVICE)
    table = devices.as_markdown(pairs, DEVICE) if pairs else "No array was judged on both."
    asked = (
        f"{sum(v.asked for v in found)} answers of {len({v.implementation for v in found})} on {device}: "
        f"{len(cases)} cases, at most {_TIMES} times each, as long as there was time; of who compiles one."
    )
    path.write_text(f"# The CPU and the GPU side by side\n\n{table}\n\n# Asked again\n\n{asked}\n\n{said}\n")


def _gated(out: Path) -> int:
    """Gate the run, write its baseline and report; return the gate's exit status."""
    command = [sys.executable, "-m", "conformance"]
    gating = [*command, "gate", str(out / "run"), "--write-baseline", str(out / "baseline.jsonl")]
    gate = subprocess.run(gating, capture_output=True, text=True, check=False)
    (out / "gate.txt").write_text(gate.stdout + gate.stderr)
    subprocess.run([*command, "report", str(out / "run"), "--out", str(out / "report.html")], check=False)
    click.echo(gate.stdout.strip().rpartition("\n")[2] or gate.stderr.strip())
    return gate.returncode
