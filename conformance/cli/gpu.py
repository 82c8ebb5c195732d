"""`bnconf gpu`: everything there is to know of a machine's GPU, in one command and one archive."""

from __future__ import annotations

import importlib.metadata
import itertools
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import msgspec

from conformance.cases.cells import SMOKE
from conformance.cases.gpu_sizes import HUGE_BYTES
from conformance.cli.gpu_results import HUGE, SIZES, archived, begun, gated
from conformance.hosts import availability, doctor, machine, roster, targets
from conformance.hosts.environment import Limits
from conformance.hosts.machine import describe_host
from conformance.hosts.participants import Participants
from conformance.hosts.roster import RosterEntry
from conformance.model.case import Case
from conformance.model.codec import read_case
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.results import ImplementationRecord, Run
from conformance.runs import fitting, run_file
from conformance.runs.merging import merge
from conformance.studies import devices
from conformance.studies.deadlines import Deadline

_GIB = 1 << 30
DEVICE = "cuda"
_ASKED, _STOPPED, _AGAIN = 0.55, 0.6, 0.72
"""Parts of the time: until then cases are asked; then nothing answers any more; until then some are asked again. What
is left is for the gates, the report and the archive."""
_CORES = 4  # for each shard: its workers take turns with its judge
_TIMES = 10
_NAMED = 3
_AT_A_TIME = min(os.cpu_count() or 1, 8)  # environments that are asked whether they can run: each imports a framework
_REPEATED = 4  # cases that are asked again, those with the most values per channel; the first alone of who compiles
_MOST = 1_000_000  # elements of what is asked again
_QUICK = Limits(start=30, case=15)
_BESIDE = 1.5  # of what the huge case needs: memory that is free where all else runs beside it


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/gpu"), show_default=True)
@click.option("--minutes", type=click.FloatRange(min=1), default=8.0, show_default=True, help="It takes no longer.")
@click.option("--cases", type=click.IntRange(min=1), default=SMOKE, show_default=True, help="Generated cases.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--shards", type=click.IntRange(min=1), help="Runs at a time. Default: one for every 4 cores.")
@click.option("--sizes/--no-sizes", default=True, help="Ask the sizes at which kernels of GPUs change. Default: yes.")
@click.option("-i", "--implementation", "patterns", multiple=True, metavar="ID", help="Default: all. Repeatable.")
@click.option("--rehearse", is_flag=True, help="Without a GPU: do all of it on the CPU alone.")
def gpu(
    out: Path,
    minutes: float,
    cases: int,
    seed: int,
    shards: int | None,
    sizes: bool,
    patterns: tuple[str, ...],
    rehearse: bool,
) -> None:
    """Judge what runs on this machine's GPU, and the same on its CPU; write and name one archive of it all.

    A run of both devices, its gate and report, a baseline of what runs on the GPU, devices.md (the devices side by
    side, the sizes at which kernels of GPUs change, and what differs from call to call), and environment.json (GPU,
    driver, CUDA, cuDNN, flags, versions). Exits as the gates do, 3 without a GPU.
    """
    began = time.monotonic()
    _check_own(out)
    chosen = _chosen(patterns, rehearse=rehearse)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    number = shards or max((os.cpu_count() or 1) // _CORES, 1)
    asked = f"{cases} cases" + (" and the sizes" if sizes else "")
    click.echo(f"{len(chosen)} implementations, {asked}, {number} shards, at most {minutes:g} minutes")
    asked, stopped, again, end = (began + 60 * minutes * part for part in (_ASKED, _STOPPED, _AGAIN, 1))
    everybody = not patterns and chosen[-1].device == "cpu"  # who is not there makes no such run incomplete
    words = ["--seed", str(seed), *([] if everybody else _named(chosen))]
    _run(out, Deadline(asked, stopped, click.echo), chosen, words, cases, number, sizes=sizes)
    run = _merged([out / f"shard-{n}" for n in range(1, number + 1)], out / "run")
    _write_environment(out / "environment.json", run)
    _write_devices(out, run, _ready(chosen, run.implementations), again)
    status = gated(out, end)
    archive = archived(out)
    click.echo(f"{(time.monotonic() - began) / 60:.1f} minutes; {archive.resolve()}")
    sys.exit(status)


def _check_own(out: Path) -> None:
    """Raise where a folder holds what this command did not write, since it is written anew."""
    if out.exists() and any(out.iterdir()) and not (out / "shard-1.log").exists():
        raise InvalidInput(f"--out {out}: holds what bnconf gpu did not write, and would be replaced; name another one")


def _chosen(patterns: tuple[str, ...], *, rehearse: bool) -> list[RosterEntry]:
    """Return whom to ask, on both devices, and say who is left out; raise where no GPU is found."""
    if rehearse and not doctor.gpu():
        click.echo("left out on cuda: everything, since nvidia-smi finds no GPU")
        return [entry for pattern in patterns or ("*",) for entry in _entries(pattern, "cpu")]
    there = _there(patterns)
    names = {entry.statement.id for entry in there}
    if there:  # what is there for a GPU is there for the CPU
        same = (entry for pattern in patterns or ("*",) for entry in _entries(pattern, "cpu"))
        return [*(entry for entry in same if entry.statement.id in names), *there]
    said = doctor.gpu() or "nvidia-smi finds none"
    raise Incomplete(f"nothing here finds a GPU ({said}); --rehearse does without, where nvidia-smi finds none")


def _there(patterns: tuple[str, ...]) -> list[RosterEntry]:
    """Return who can run on the GPU, and say why the others cannot."""
    entries = [entry for pattern in patterns or ("*",) for entry in _entries(pattern, DEVICE)]
    hosts = {entry.host: [e for e in entries if e.host == entry.host] for entry in entries}
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        checked = list(pool.map(availability.check, hosts.values(), itertools.repeat({})))
    return _ready(entries, [record for records in checked for record in records])


def _ready(entries: list[RosterEntry], records: list[ImplementationRecord]) -> list[RosterEntry]:
    """Return those that can run, as their records say, and say why the others cannot."""
    for reason, ids in _why_not(records):
        more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        click.echo(f"left out: {', '.join(ids[:_NAMED])}{more}: {reason}")
    ready = {record.id for record in records if record.available}
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


def _run(
    out: Path, deadline: Deadline, chosen: list[RosterEntry], words: list[str], cases: int, shards: int, *, sizes: bool
) -> None:
    """Run all shards, the sizes and what is huge at a time; what is not done in time keeps what it has."""
    for number in range(1, shards + 1):
        generated = ["--cases", str(cases), "--shard", f"{number}/{shards}"]
        deadline.start(out / f"shard-{number}", [*words, *generated])
    if sizes:
        deadline.start(out / SIZES, [*words, "--profile", SIZES])
        device = [entry for entry in chosen if entry.device == chosen[-1].device]
        if why := _no_room(device[-1].device):
            click.echo(f"{HUGE} is left out: {why}")
        else:
            memory = ["--memory", str(math.ceil(_needed() / _GIB)), "--jobs", "1"]
            deadline.start(out / HUGE, [*words[:2], "--profile", HUGE, *memory, *_named(device)])
    deadline.end()


def _needed() -> int:
    """Return how many bytes asking the huge case takes at most."""
    return fitting.TIMES * HUGE_BYTES


def _no_room(device: str) -> str:
    """Return why the huge case cannot be asked on a device; empty if there is room."""
    needed, free = math.ceil(_needed() * _BESIDE), machine.available_memory()
    if free < needed:
        return f"it needs {needed / _GIB:.0f} GiB of memory beside all else, and {free / _GIB:.0f} are free"
    if device == DEVICE and doctor.gpu_memory() < _needed():
        return f"it needs {_needed() / _GIB:.0f} GiB of the GPU, and {doctor.gpu_memory() / _GIB:.0f} are free"
    return ""


def _merged(folders: list[Path], out: Path) -> Run:
    """Merge what shards there are; raise where none has begun."""
    began = begun(folders)
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


def _write_devices(out: Path, run: Run, chosen: list[RosterEntry], until: float) -> None:
    """Write the devices side by side, the sizes, and what differs where a case is asked again."""
    device = chosen[-1].device if chosen else "cpu"
    entries = [entry for entry in chosen if entry.device == device]
    sizes = {folder: run_file.read(folder) for folder in begun((out / SIZES, out / HUGE))}
    runs = {out / "run": run, **sizes}
    files = [(record, folder / record.file) for folder, one in runs.items() for record in one.cases.values()]
    small = [(record, file) for record, file in files if record.elements <= _MOST and file.exists()]
    repeated = sorted(small, key=lambda one: -one[0].values)[:_REPEATED]
    cases: list[Case] = [read_case(file)[0] for _, file in repeated]
    found = list(devices.again(cases, Participants(entries, limits=_QUICK), _TIMES, until))
    vary = [f"- `{v.implementation}`, case {repeated[v.case][0].case}: {v.answers} different ones of {v.asked}"
            for v in found if v.answers > 1]  # fmt: skip
    said = "\n".join(vary) or "Each time the same bits."
    asked = (
        f"{sum(v.asked for v in found)} answers of {len({v.implementation for v in found})} on {device}: "
        f"{len(cases)} cases, at most {_TIMES} times each, as long as there was time; of who compiles one."
    )
    parts = [
        "# The CPU and the GPU side by side",
        _side_by_side(runs, until),
        "# Sizes",
        devices.of_sizes(sizes.values()),
    ]
    (out / "devices.md").write_text("\n\n".join([*parts, "# Asked again", asked, said]) + "\n")
    click.echo(f"asked again: {asked}")
    for line in vary:
        click.echo(line)


def _side_by_side(runs: Mapping[Path, Run], until: float) -> str:
    """Return the table of both devices over all that was asked, and whether they fail alike."""
    pairs = devices.side_by_side(list(runs.values()), DEVICE)
    camps = devices.camps(runs, DEVICE, _MOST, until)
    click.echo(f"side by side: {sum(pair.arrays for pair in pairs)} arrays were judged on both devices; {camps}")
    return f"{devices.as_markdown(pairs, DEVICE)}\n\n{camps}" if pairs else "No array was judged on both."
