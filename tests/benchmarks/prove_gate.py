"""Gate runs of ten seeds, and one of them twice: `python tests/benchmarks/prove_gate.py [--help]`.

Every seed has other cases, so that what explains the failures of one and not of another is not explained. The same seed
twice must give the same run file, but for times and processes. Exits 1 where one is not green, or the two differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

TIMES = {"command", "started", "seconds", "cpu"}


def bnconf(*arguments: str) -> int:
    """Run the command, without its output, and return its exit status."""
    command = [sys.executable, "-m", "conformance", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if arguments[0] == "gate":
        print(done.stdout.splitlines()[-1] if done.stdout else done.stderr, flush=True)
    return done.returncode


def judged(out: Path, seed: int, options: argparse.Namespace) -> int:
    """Run a seed and gate it; return the gate's exit status."""
    chosen = [part for pattern in options.implementation for part in ("-i", pattern)]
    status = bnconf("run", "--seed", str(seed), "--cases", str(options.cases), "--out", str(out), *chosen)
    print(f"seed {seed}: run exited {status}; ", end="")
    return bnconf("gate", str(out))


def records(folder: Path) -> list[dict]:
    """Return the records of a run without times and processes."""
    found = map(json.loads, (folder / "run.jsonl").read_text().splitlines())
    return [{k: v for k, v in r.items() if k not in TIMES} for r in found if r["type"] != "worker"]


def main() -> int:
    """Print every exit status, and whether the same seed gives the same."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-i", "--implementation", action="append", default=[], help="as for bnconf run; default: all")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cases", type=int, default=95, help="one per mandatory cell")
    parser.add_argument("--out", type=Path, default=Path("reports/prove-gate"))
    options = parser.parse_args()
    statuses = [judged(options.out / f"seed-{seed}", seed, options) for seed in range(1, options.seeds + 1)]
    statuses.append(judged(options.out / "again", 1, options))
    same = records(options.out / "seed-1") == records(options.out / "again")
    print(f"exit statuses: {' '.join(map(str, statuses))}")
    print(f"seed 1 twice: {'equal' if same else 'NOT equal'}, but for times and processes")
    return int(any(statuses) or not same)


if __name__ == "__main__":
    sys.exit(main())
