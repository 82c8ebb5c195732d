"""Mutate the frameworks in their workers and count which mutants a default run kills: `framework_mutants.py [--help]`.

Each mutant (`framework_sites.py`) is put into the module as the worker imports it; the installation stays as it is. A
mutant is killed when the gate exits 1, with the divergences that come with the suite; the run ends there. The same run
without a mutant must be green first. The table says killed / total per category; a survivor that no `equivalent` of its
site argues makes the exit status 1.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

from framework_sites import Mutant, installed, read  # noqa: E402 - found by the path above
from framework_trial import DEFAULT, NotGreen, Trial, trial  # noqa: E402


def main() -> int:
    """Run what the command line asks for; return the exit status: 1 for a survivor, 2 where nothing can be told."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", metavar="ID", action="append", default=[], help="ids or patterns, default all")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="how many mutants at a time (default: 1)")
    parser.add_argument("--cases", metavar="N", type=int, default=DEFAULT, help=f"of a run (default: {DEFAULT})")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write results there, or renew those of --only")
    parser.add_argument("--resume", action="store_true", help="keep the results that FILE has, run the rest")
    chosen = parser.parse_args()
    mutants = [m for m in read() if not chosen.only or any(fnmatch.fnmatchcase(m.id, p) for p in chosen.only)]
    if not mutants:
        print(f"--only {' '.join(chosen.only)}: no mutant is called so; see tests/mutants/frameworks")
        return 2
    here = [m for m in mutants if installed(m.site.module)]
    if absent := sorted({m.framework for m in mutants if m not in here}):
        print(f"not installed, so that their mutants are left out: {', '.join(absent)}")
    before = _written(chosen.json)["mutants"] if chosen.resume else []
    known = [msgspec.convert(record, Trial) for record in before if record["id"] in {m.id for m in here}]
    try:
        rest = [m for m in here if m.id not in {done.id for done in known}]
        return report(known + judge(rest, chosen.cases, chosen.jobs, chosen.json))
    except NotGreen as error:
        print(f"{error}; mend that first")
        return 2


def judge(mutants: list[Mutant], cases: int, jobs: int, out: Path | None) -> list[Trial]:
    """Return what became of every mutant; with `out`, on disk as soon as it is known."""
    trials = list[Trial]()
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(trial, mutant, cases) for mutant in mutants]
        try:
            for future in as_completed(futures):
                done, versions = future.result()
                trials.append(done)
                print(f"{len(trials)}/{len(mutants)} {_line(done)}", flush=True)
                if out:
                    write(out, [done], versions)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return trials


def _line(done: Trial) -> str:
    if not done.killed or not done.killer:
        return f"{'equivalent' if done.equivalent else 'SURVIVED'} {done.id} ({done.cases} cases): {done.note}"
    killer = done.killer
    size = killer.outcome[:80] if killer.rho is msgspec.UNSET else f"ρ {killer.rho}"
    return f"killed {done.id} in {done.seconds} s, {done.cases} cases: {killer.case} {killer.output} {size}"


def write(path: Path, trials: Iterable[Trial], versions: dict[str, str]) -> None:
    """Put results into a file beside those of other mutants that are there; of mutants that are gone, none stays."""
    before = _written(path)
    found = {record["id"]: record for record in before["mutants"]}
    found |= {done.id: msgspec.to_builtins(done) for done in trials}
    kept = [found[identity] for identity in sorted(found.keys() & {mutant.id for mutant in read()})]
    after = {"mutants": kept, "versions": dict(sorted((before["versions"] | versions).items()))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(after, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def _written(path: Path | None) -> dict[str, Any]:
    return json.loads(path.read_text()) if path and path.exists() else {"mutants": [], "versions": {}}


def report(trials: list[Trial]) -> int:
    """Print the table and the survivors; return the exit status."""
    counted = [done for done in trials if not done.equivalent]
    total = Counter(done.category for done in counted)
    killed = Counter(done.category for done in counted if done.killed)
    for category in sorted(total):
        print(f"{category:18} {killed[category]:3} / {total[category]}")
    print(f"{'all':18} {killed.total():3} / {total.total()}, and {len(trials) - len(counted)} argued equivalent")
    survivors = [done for done in counted if not done.killed]
    for done in survivors:
        print(f"survived: {done.id} ({done.operator}; {done.implementation}): {done.note}")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
