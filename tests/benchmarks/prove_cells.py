"""Gate every variant of every feature, asked of all: `python tests/benchmarks/prove_cells.py [--help]`.

A run asks who compiles for the programs that it can pay for, a few with each seed, so that some variants of a feature
are asked of an implementation once in a hundred seeds. Here every combination of feature, variant, cell and modes that
some seeds draw is asked of everyone, feature by feature, each in a run of its own that stays where something is found.
Exits 1 where a failure is not explained, and 3, at once, where not all could be asked.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from conformance.cases import building, strategies
from conformance.cases.cells import SMOKE
from conformance.cases.recipe import Recipe, Signature
from conformance.gate import decision, divergences
from conformance.hosts import roster
from conformance.hosts.participants import Participants
from conformance.model.errors import Incomplete
from conformance.model.facts import Facts
from conformance.model.statement import Statement
from conformance.runs import run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.dealing import Deal
from conformance.runs.progress import Progress
from conformance.runs.run_case import RunCase
from conformance.studies.soaking import WRONG

SEEDS = 40
INCOMPLETE = 3


def main() -> int:
    """Ask, print a line for each feature and what is found; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"How many are drawn from (default {SEEDS}).")
    parser.add_argument("--feature", action="append", default=[], help="Only this one; repeatable.")
    parser.add_argument("--out", type=Path, default=Path("reports/prove-cells"), help="Where runs go.")
    parser.add_argument("patterns", nargs="*", default=["*"], help="Of implementations.")
    asked = parser.parse_args()
    Deal.pooled = everything  # whatever it costs
    found = drawn(asked.seeds)
    if unknown := sorted(set(asked.feature) - set(found)):
        parser.error(f"--feature {unknown[0]}: no such feature; one of {', '.join(sorted(found))}")
    who = Participants(roster.select(tuple(asked.patterns)))
    status = 0
    for feature in asked.feature or found:
        status = max(status, gated(feature, found[feature], who, asked.out))
        if status == INCOMPLETE:
            break
    return status


def everything(_: Deal, _identity: str, statement: Statement, signatures: Iterable[tuple[Signature, list[Facts]]]):
    """Return all signatures that an implementation can be asked."""
    return list(dict.fromkeys(one for one, facts in signatures if not statement.unsupported(*facts)))


def drawn(seeds: int) -> dict[str, list[tuple[int, Recipe]]]:
    """Return by feature a recipe, with its seed, of each combination that is drawn."""
    found = defaultdict[str, dict[object, tuple[int, Recipe]]](dict)
    for seed in range(seeds):
        for recipe in strategies.chosen(seed, SMOKE):
            feature = recipe.signature.feature
            if recipe.pooled and feature:
                found[feature].setdefault((str(recipe.signature.variant), recipe.cell, recipe.modes), (seed, recipe))
    return {feature: list(ones.values()) for feature, ones in found.items()}


def gated(feature: str, recipes: list[tuple[int, Recipe]], who: Participants, home: Path) -> int:
    """Run the cases of a feature and gate them; return the exit status."""
    out = home / feature.replace(" ", "-")
    items = [RunCase(i, recipe, building.build(recipe, seed)) for i, (seed, recipe) in enumerate(recipes)]
    try:
        end = Campaign(Options(who, out, corpus=False, keeps=False), Progress(), items=items).run()
    except Incomplete as error:
        print(f"{feature}: {error}")
        return INCOMPLETE
    run = run_file.read(out)
    decided = decision.decide(out, run, divergences.read())
    wrong = [one for one in decided.findings if one.status in WRONG]
    failed = sum(result.failed for result in run.results)
    print(f"{feature}: {len(items)} cases, {decided.judged} arrays, {failed} failures", *end.reasons[:1], flush=True)
    for one in wrong:
        print(f"    {one.says} ({one.failures[0].case})", flush=True)
    if end.reasons and not end.nothing:  # nobody asked may support a feature
        return INCOMPLETE
    if wrong:
        return 1
    shutil.rmtree(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
