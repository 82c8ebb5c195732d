"""Gate runs of ten seeds that nobody has used: `python tests/benchmarks/prove_gate.py [--help]`.

Every seed has other cases, so that what explains the failures of one and not of another is not explained. Seeds are
drawn afresh each time, and printed before the first run, with the command that repeats them. The first is also run
again, and in shards: that must give the same run file, but for times and processes. Exits 1 where one is not green, or
one of the three differs.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from conformance.cases.cells import SMOKE
from conformance.runs import gzipped, run_file

TIMES = {"command", "started", "seconds", "cpu"}  # a command names its folder and its shard
RANGE = 10**6  # of the seeds that are drawn


def bnconf(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, and return what it printed with its exit status."""
    command = [sys.executable, "-m", "conformance", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def drawn(count: int) -> list[int]:
    """Return as many seeds that differ, drawn by the operating system."""
    found: dict[int, None] = {}
    while len(found) < count:
        found[secrets.randbelow(RANGE)] = None
    return list(found)


def run(out: Path, seed: int, options: argparse.Namespace, *shard: str) -> int:
    """Run a seed, or a shard of it; return the exit status."""
    chosen = [part for pattern in options.implementation for part in ("-i", pattern)]
    asked = ("--seed", str(seed), "--cases", str(options.cases), "--out", str(out))
    return bnconf("run", *asked, *chosen, *shard).returncode


def gated(says: str, folder: Path) -> bool:
    """Gate a run, print green or red with its counts and what is red in it, and return whether it is green."""
    done = bnconf("gate", str(folder))
    *found, verdict = done.stdout.splitlines() or [done.stderr.strip()]
    print(f"{says}: {verdict}", flush=True)
    if done.returncode:
        print(*(f"    {line}" for line in found if not line.startswith("explained: ")), sep="\n", flush=True)
    return done.returncode == 0


def judged(out: Path, seed: int, options: argparse.Namespace) -> bool:
    """Run a seed and gate it; return whether it is green."""
    status = run(out, seed, options)
    return gated(f"seed {seed}: run exited {status}", out)


def merged(out: Path, seed: int, options: argparse.Namespace) -> bool:
    """Run a seed in shards, merge them and gate the whole; return whether it is green."""
    parts = [out / f"shard-{k}" for k in range(1, options.shards + 1)]
    for k, part in enumerate(parts, 1):
        run(part, seed, options, "--shard", f"{k}/{options.shards}")
    status = bnconf("merge", *map(str, parts), "--out", str(out / "merged")).returncode
    return gated(f"seed {seed} in {options.shards} shards: merge exited {status}", out / "merged")


def records(folder: Path) -> list[str]:
    """Return the lines of a run file without times and processes."""
    found: list[dict[str, Any]] = list(map(json.loads, gzipped.read(run_file.path_of(folder))))
    return [json.dumps({k: v for k, v in r.items() if k not in TIMES}) for r in found if r["type"] != "worker"]


def main(arguments: list[str] | None = None) -> int:
    """Print the seeds, green or red of each with its counts, and whether the same seed gives the same."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-i", "--implementation", action="append", default=[], help="as for bnconf run; default: all")
    parser.add_argument("--seeds", type=int, nargs="+", help="these, to repeat what was drawn; default: drawn afresh")
    parser.add_argument("--count", type=int, default=10, help="how many to draw")
    parser.add_argument("--cases", type=int, default=SMOKE, help="default: one per mandatory cell")
    parser.add_argument("--shards", type=int, default=4, help="0: neither again nor in shards")
    parser.add_argument("--out", type=Path, default=Path("reports/prove-gate"))
    options = parser.parse_args(arguments)
    seeds, out = options.seeds or drawn(options.count), options.out
    print(
        f"{len(seeds)} seeds, {options.cases} cases each; to repeat them: --seeds {' '.join(map(str, seeds))}",
        flush=True,
    )
    green = {f"seed {seed}": judged(out / f"seed-{seed}", seed, options) for seed in seeds}
    same = True
    if options.shards:
        again, first = "again", seeds[0]
        green |= {again: judged(out / again, first, options), "in shards": merged(out, first, options)}
        equal = {name: records(out / name) == records(out / f"seed-{first}") for name in (again, "merged")}
        for name, it_is in equal.items():
            print(f"seed {first}, {name}: {'equal' if it_is else 'NOT equal'}, but for times and processes")
        same = all(equal.values())
    red = [name for name, it_is in green.items() if not it_is]
    print(f"{len(green) - len(red)} green, {len(red)} red" + (f": {', '.join(red)}" if red else ""))
    return int(bool(red) or not same)


if __name__ == "__main__":
    sys.exit(main())
