"""Prove that bugs at the edges of blocks are seen: `python tests/benchmarks/prove_blocks.py [--seed 0] [NAME…]`.

Every kernel of tests/calibration/blocks.py, of blocks of 64 to 32,768 values, answers what a default run asks of sizes;
with --large, what only a thorough run asks, but for the layers of real networks.
One line for each: in how many arrays it fails, and the worst. Exits 1 if a correct one fails, or a wrong one does not.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

CALIBRATION = Path(__file__).resolve().parents[1] / "calibration"
sys.path[:0] = [str(CALIBRATION)]

import blocks  # noqa: E402 - found by the path above, as what follows
from panel import Panel  # noqa: E402

from conformance.cases import cells, strategies  # noqa: E402
from conformance.cases.building import build  # noqa: E402
from conformance.cases.sizes import SIZES  # noqa: E402
from conformance.model.results import Result  # noqa: E402
from conformance.runs.run_case import RunCase  # noqa: E402


def asked(seed: int, names: list[str], chosen: dict[cells.Cell, int]) -> defaultdict[str, list[Result]]:
    """Return the results of every kernel's size cases; a line is printed for each case."""
    panel, found = Panel(str(CALIBRATION / "blocks.py"), names), defaultdict[str, list[Result]](list)
    for cell, number in chosen.items():
        for index, recipe in enumerate(strategies.recipes(cell, seed, number)):
            print(f"{cell}, {recipe.signature.variant}, {recipe.layout}", file=sys.stderr, flush=True)
            with np.errstate(all="ignore"):
                for result in panel.results(RunCase(index, recipe, build(recipe, seed))):
                    found[result.implementation.removeprefix("way.").removesuffix("@cpu")].append(result)
    return found


def main() -> int:
    """Ask, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="*", help="kernels; all if none is named")
    parser.add_argument("--large", action="store_true", help="sizes of a thorough run, up to 2^20 values per channel")
    options = parser.parse_args()
    sizes = {cell: 3 for cell in cells.CELLS if cell.feature in SIZES}
    large = {cell: n for cell, n in cells.LARGE.items() if cell.feature.endswith((" values", " channels"))}
    wrong, found = 0, asked(options.seed, options.names, large if options.large else sizes)
    for name, results in found.items():
        failed = [result for result in results if result.failed]
        faulty = name.endswith(blocks.BUGS)
        wrong += faulty != bool(failed)
        worst = max(failed, key=lambda result: result.size, default=None)
        told = f"worst {worst.output} of step {worst.step}, ρ {worst.size:.3g}" if worst else "none"
        print(
            f"{name:28}{len(failed):>6} of {len(results):>6} fail  {told}{'' if faulty == bool(failed) else '  WRONG'}"
        )
    print(f"{len(found)} kernels, {sum(map(len, found.values()))} results, {wrong} judged wrongly")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
