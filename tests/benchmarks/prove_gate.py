"""Gate runs of ten seeds, one of them twice and in shards: `python tests/benchmarks/prove_gate.py [--help]`.

Every seed has other cases, so that what explains the failures of one and not of another is not explained. The same seed
twice must give the same run file, but for times and processes, and so must its shards, merged. Exits 1 where one is not
green, or one of the three differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from conformance.strategies import SMOKE

TIMES = {"command", "started", "seconds", "cpu"}  # a command names its folder and its shard


def bnconf(*arguments: str) -> int:
    """Run the command, without its output, and return its exit status."""
    command = [sys.executable, "-m", "conformance", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if arguments[0] == "gate":
        print(done.stdout.splitlines()[-1] if done.stdout else done.stderr, flush=True)
    return done.returncode


def run(out: Path, seed: int, options: argparse.Namespace, *shard: str) -> int:
    """Run a seed, or a shard of it; return the exit status."""
    chosen = [part for pattern in options.implementation for part in ("-i", pattern)]
    return bnconf("run", "--seed", str(seed), "--cases", str(options.cases), "--out", str(out), *chosen, *shard)


def judged(out: Path, seed: int, options: argparse.Namespace) -> int:
    """Run a seed and gate it; return the gate's exit status."""
    print(f"seed {seed}: run exited {run(out, seed, options)}; ", end="", flush=True)
    return bnconf("gate", str(out))


def merged(out: Path, options: argparse.Namespace) -> int:
    """Run seed 1 in shards, merge them and gate the whole; return the gate's exit status."""
    parts = [out / f"shard-{k}" for k in range(1, options.shards + 1)]
    for k, part in enumerate(parts, 1):
        run(part, 1, options, "--shard", f"{k}/{options.shards}")
    status = bnconf("merge", *map(str, parts), "--out", str(out / "merged"))
    print(f"seed 1 in {options.shards} shards: merge exited {status}; ", end="", flush=True)
    return bnconf("gate", str(out / "merged"))


def records(folder: Path) -> list[str]:
    """Return the lines of a run file without times and processes."""
    found = map(json.loads, (folder / "run.jsonl").read_text().splitlines())
    return [json.dumps({k: v for k, v in r.items() if k not in TIMES}) for r in found if r["type"] != "worker"]


def main() -> int:
    """Print every exit status, and whether the same seed gives the same."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-i", "--implementation", action="append", default=[], help="as for bnconf run; default: all")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cases", type=int, default=SMOKE, help="one per mandatory cell")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("reports/prove-gate"))
    options = parser.parse_args()
    out = options.out
    statuses = [judged(out / f"seed-{seed}", seed, options) for seed in range(1, options.seeds + 1)]
    statuses += [judged(out / "again", 1, options), merged(out, options)]
    print(f"exit statuses: {' '.join(map(str, statuses))}")
    same = {name: records(out / name) == records(out / "seed-1") for name in ("again", "merged")}
    for name, equal in same.items():
        print(f"seed 1, {name}: {'equal' if equal else 'NOT equal'}, but for times and processes")
    return int(any(statuses) or not all(same.values()))


if __name__ == "__main__":
    sys.exit(main())
