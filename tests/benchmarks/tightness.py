"""Measure how tight the bounds are: `python tests/benchmarks/tightness.py [CASES [SEEDS]]`.

The calibration subjects answer CASES cases of each of the seeds 0 to SEEDS - 1. For each way to compute that they
promise: the worst ρ of every output, of how many arrays; for y and the statistics it must be 0.3. For derivatives, the
term that makes most of the bound: by how much it shrinks, at the median, where that term is left out. Exits 1 where
something is looser than it must be.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from conformance.cases import cells, strategies
from conformance.hosts import roster
from conformance.hosts.environment import Request
from conformance.hosts.in_process import LocalWorker
from conformance.judging.bounds.bounds import Bounds, NormalizingStatistics
from conformance.judging.bounds.gradients import GradientBounds
from conformance.judging.bounds.tangents import TangentBounds
from conformance.judging.judgment import judge
from conformance.judging.promise import Promise
from conformance.judging.step import ExpectedStep
from conformance.model.codec import encode_case
from conformance.model.outputs import EVERY
from conformance.model.results import Result
from conformance.runs.run_case import RunCase
from conformance.runs.summary import as_number, key

NEEDED = 0.3
HELD = {"y train", "y infer", "mean", "variance", *(o.name for o in EVERY if o.declared_as == "moving_mean")}
SUBJECTS = ("numpy.*", str(roster.ADAPTERS.parents[1] / "tests" / "conformance" / "adapters" / "reference_subject.py"))


class Exact(Bounds):
    """Formulas in which means are exact."""

    def e_mean(self, batch: Any) -> Any:
        """No error."""
        return np.zeros_like(batch.mean_abs)


def answered(items: list[RunCase], entries: list[roster.RosterEntry]) -> Iterator[tuple[roster.RosterEntry, Result]]:
    """Ask and judge, in this process."""
    for host in roster.environments(entries, {}):
        by_id = {entry.id: entry for entry in entries if entry.host == host.name}
        asked = (
            Request(n, functools.partial(encode_case, item.case), ids)
            for n, item in enumerate(items)
            if (ids := [i for i, entry in by_id.items() if not entry.statement.unsupported(*item.facts)])
        )
        for reply in LocalWorker(host).ask(asked):
            item, entry = items[reply.request], by_id[reply.implementation]
            yield from ((entry, r) for r in judge(item.id, item.exact_case, entry.statement, reply))


def promise(entry: roster.RosterEntry, result: Result) -> str:
    """Return which formulas an output is held to: its class and grade, and how the variance is summed."""
    numerics = {name: value for rule in entry.statement.rules for name, value in rule.numerics.items()}
    return f"{result.numerics} {numerics.get('variance', 'two_pass')}"


# --- of what a bound is made -------------------------------------------------------------------------------------

Formula = Callable[[ExpectedStep, Bounds, NormalizingStatistics], Any]


def _dx(step: ExpectedStep, b: Bounds, used: NormalizingStatistics) -> Any:
    return GradientBounds(b, step.batch, used, step.exact_case.dy(step.t), np.zeros(())).e_dx_train(step.gamma, 1.0)


def _dgamma(step: ExpectedStep, b: Bounds, used: NormalizingStatistics) -> Any:
    return GradientBounds(b, step.batch, used, step.exact_case.dy(step.t), np.zeros(())).e_mean_dyz


def _tangents(step: ExpectedStep, b: Bounds, used: NormalizingStatistics) -> TangentBounds:
    dy, tangent = (step.exact_case.array(step.t, name) for name in ("dy", "tangent"))
    return TangentBounds(b, step.batch, used, dy, tangent)


FORMULAS: dict[str, Formula] = {
    "dx": _dx,
    "dgamma": _dgamma,
    "y_tangent": lambda step, b, used: _tangents(step, b, used).e_y(step.gamma, np.zeros(())),
    "dx_tangent": lambda step, b, used: _tangents(step, b, used).e_dx(step.gamma, np.zeros(())),
    "dgamma_tangent": lambda step, b, used: _tangents(step, b, used).e_mean_dgamma(),
}


def without(step: ExpectedStep, output: str) -> dict[str, float]:
    """Return which part of a bound each term is worth: what it shrinks by where the term is left out."""
    b = step.bounds(output)
    used = b.used_of(step.batch)
    flat, exact = (kind(b.numerics, b.units, b.n, b.epsilon) for kind in (Bounds, Exact))
    flat.depth = 0
    ways = {
        "the error of r": (b, replace(used, e_r=0 * used.e_r)),
        "the error of the mean": (exact, replace(used, e_mean=0 * used.e_mean)),
        "the depth of its sums": (flat, used),
    }
    formula = FORMULAS[output]
    whole = formula(step, b, used)
    shares = {name: 1 - formula(step, *way) / whole for name, way in ways.items()}
    return {name: float(np.nanmedian(share)) for name, share in shares.items()}


def loosest(items: list[RunCase], statement: Any) -> dict[str, str]:
    """Return the term that each derivative's bound is mostly made of, and which part of it, at the median of cases."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for item in items:
        promise = Promise.of(item.exact_case, statement)
        plain = not (item.case.spec.renorm or item.case.spec.virtual_batch_size or item.exact_case.mask(0) is not None)
        if plain and not promise.unjudged and promise.mode(0) == "train" and not item.exact_case.adjustment(0):
            step = ExpectedStep(promise, 0)
            has_tangent = item.exact_case.array(0, "tangent") is not None
            for output in FORMULAS if has_tangent else ("dx", "dgamma"):
                found[output].append(without(step, output))
    out: dict[str, str] = {}
    for output, shares in found.items():
        medians = {name: float(np.nanmedian([s[name] for s in shares])) for name in shares[0]}
        name = max(medians, key=lambda n: medians[n])
        out[output] = f"{name}, {medians[name]:.0%} of it"
    return out


def show(name: str, row: dict[str, tuple[float, int]]) -> int:
    """Print a table of one promise; return how many outputs are looser than they must be."""
    print(name)
    loose = {column for column, (rho, _) in row.items() if column in HELD and rho < NEEDED}
    for column, (rho, arrays) in sorted(row.items()):
        print(f"  {column:16} {rho:.3f} in {arrays} arrays{'  looser than it must be' if column in loose else ''}")
    return len(loose)


@np.errstate(all="ignore")
def main() -> int:
    """Print the table."""
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else cells.DEFAULT
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    entries = roster.select(SUBJECTS)
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - where a worker logs each question
    worst: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    for seed in range(seeds):
        items = [RunCase(n, origin, case) for n, (origin, case) in enumerate(strategies.cases(seed, cases))]
        for entry, result in answered(items, entries):
            row, column, rho = worst[promise(entry, result)], key(result), as_number(result.rho)
            if rho >= 0:
                before, arrays = row.get(column, (0.0, 0))
                row[column] = max(before, rho), arrays + 1
    loose = sum(show(name, row) for name, row in worst.items())
    print("derivatives are mostly bounded by")
    for output, term in loosest(items, entries[0].statement).items():
        print(f"  {output:16} {term}")
    return int(loose > 0)


if __name__ == "__main__":
    sys.exit(main())
