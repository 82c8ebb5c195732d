"""Prove that a run survives: `python tests/benchmarks/prove_resume.py [--kills 10] [--seed 0] [--packed] [PATTERN …]`.

One run is left alone. Others of the same seed are killed with SIGKILL, each at a random moment, gone on with by
`--resume` and, every other time, killed and gone on with once more: in the end each must hold what the one left alone
holds, record by record, but for times and process ids.

--packed: with run files in gzip, as large ones are, and with no file of a case that all pass.

Exits 1 where a record differs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from conformance.runs import run_file

COMMAND = [sys.executable, "-m", "conformance"]
PACKED = """
from conformance.cli.main import main
from conformance.runs import case_files, gzipped
gzipped.LARGE = case_files.ROOM = 0
main()
"""
EAGER = ("numpy.two_pass", "numpy.fast", "torch.F.batch_norm")


def main() -> int:
    """Kill, go on, compare; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="Of the moments. Default: the clock.")
    parser.add_argument("patterns", nargs="*", default=list(EAGER))
    parser.add_argument("--packed", action="store_true")
    asked = parser.parse_args()
    COMMAND[1:] = ["-c", PACKED] if asked.packed else COMMAND[1:]
    print(f"moments of seed {asked.seed}")
    with tempfile.TemporaryDirectory() as home:
        differ = killed(asked.patterns, asked.kills, random.Random(asked.seed), Path(home))
    print(f"{differ} of {asked.kills} differ")
    return bool(differ)


def killed(patterns: list[str], kills: int, moments: random.Random, home: Path) -> int:
    """Return how many runs that were killed and gone on with are not what the one left alone is."""
    began = time.monotonic()
    ended(run(patterns, home / "whole"))
    whole, seconds, differ = told(home / "whole"), time.monotonic() - began, 0
    for n in range(kills):
        out, at = home / f"killed-{n}", []
        for _ in range(1 + n % 2):
            after = moments.uniform(0.02, 0.95) * seconds
            at.append(f"{after:.1f} s with {kill(run(patterns, out, resume=out.exists()), after, out)} results")
        ended(run(patterns, out, resume=out.exists()))
        same = told(out) == whole
        differ += not same
        print(f"killed after {', then '.join(at)}: {'the same' if same else 'DIFFERS'}", flush=True)
        shutil.rmtree(out)
    return differ


def run(patterns: list[str], out: Path, *, resume: bool = False) -> subprocess.Popen[bytes]:
    """Start a run; resume: go on with what is in its folder."""
    words = [word for pattern in patterns for word in ("-i", pattern)]
    words += ["--profile", "smoke", "--out", str(out), *(("--resume",) if resume else ())]
    command, quiet = [*COMMAND, "run", *words], subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet)


def kill(process: subprocess.Popen[bytes], after: float, out: Path) -> int:
    """Kill a run's host after some seconds, and return how many results are on disk; its workers end by themselves."""
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return len(run_file.read(out).results) if run_file.is_run(out) else 0


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for a run that must complete."""
    if process.wait():
        raise SystemExit(f"{process.args}: exit status {process.returncode}")


def told(out: Path) -> tuple[Any, ...]:
    """Return what a run holds, but for times and process ids."""
    found = run_file.read(out)
    assert found.end
    return found.cases, found.results, found.implementations, found.end.verdicts, found.end.reasons


if __name__ == "__main__":
    sys.exit(main())
