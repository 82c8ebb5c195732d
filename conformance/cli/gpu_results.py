"""What becomes of the runs of `bnconf gpu`: gates and a report while there is time, and one archive."""

from __future__ import annotations

import subprocess
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path

import click

from conformance.cases.cells import ALONE
from conformance.runs import run_file
from conformance.studies.deadlines import BNCONF

SIZES, HUGE = ALONE
"""The profiles that are asked beside the run, and what their folders are called."""
_KEPT = 16 << 20  # bytes of a file in the archive at most


def begun(folders: Iterable[Path]) -> list[Path]:
    """Return the folders in which a run has begun."""
    return [folder for folder in folders if run_file.is_run(folder)]


def gated(out: Path, end: float) -> int:
    """Gate the runs, write a baseline and the report while there is time; return the worst exit status of the gates."""
    worst = _gate(out / "run", out / "gate.txt", end, "--write-baseline", str(out / "baseline.jsonl"))
    _in_time(["report", str(out / "run"), "--out", str(out / "report.html")], end)
    for folder in begun((out / SIZES, out / HUGE)):
        worst = max(worst, _gate(folder, out / f"gate-{folder.name}.txt", end))
    return worst


def _gate(folder: Path, out: Path, end: float, *words: str) -> int:
    """Gate one run; return the exit status, 3 where there is no time."""
    found = _in_time(["gate", str(folder), *words], end)
    if found is None:
        return 3
    out.write_text(found.stdout + found.stderr)
    click.echo(f"{folder.name}: {found.stdout.strip().rpartition(chr(10))[2] or found.stderr.strip()}")
    return found.returncode


def _in_time(words: list[str], end: float) -> subprocess.CompletedProcess[str] | None:
    """Run a command of bnconf, if it ends in time; say so if it does not."""
    try:
        return subprocess.run(
            [*BNCONF, *words], capture_output=True, text=True, check=False, timeout=end - time.monotonic()
        )
    except subprocess.TimeoutExpired:
        click.echo(f"{words[0]} of {Path(words[1]).name} is left out: there is no time")
        return None


def archived(out: Path) -> Path:
    """Write the archive, without the arrays of large cases, and say which are not in it."""
    large = [file for file in out.rglob("*.safetensors") if file.stat().st_size > _KEPT]
    with tarfile.open(f"{out}.tar.gz", "w:gz", compresslevel=3) as archive:
        for file in sorted(out.rglob("*")):
            if file.is_file() and file not in large:
                archive.add(file, Path(out.name) / file.relative_to(out))
    if large:
        size = sum(file.stat().st_size for file in large) / (1 << 30)
        click.echo(f"{len(large)} files of {size:.1f} GiB stay in {out}: bnconf run --profile {SIZES} draws them again")
    return Path(f"{out}.tar.gz")
