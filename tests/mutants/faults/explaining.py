"""Faults put into a correct layer, asked what a run asks, and explained: `python tests/mutants/faults/explaining.py`.

One line for each fault: whether stage, change, facts and place are as `explained_faults` says, and what was said.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE)]

import msgspec  # noqa: E402 - found by the path above, as what follows
import numpy as np  # noqa: E402 - found by the path above, as what follows
from explained_faults import EXPLAINED, Explained, Told  # noqa: E402
from layer import Subject  # noqa: E402
from trial import Trial  # noqa: E402

from conformance.cases import cells, strategies  # noqa: E402
from conformance.cases.building import build  # noqa: E402
from conformance.judging.judgment import judge  # noqa: E402
from conformance.model.outcome import Outputs, Reply  # noqa: E402
from conformance.model.results import ImplementationRecord, Result  # noqa: E402
from conformance.runs.failures.conditions import ConditionTable  # noqa: E402
from conformance.runs.failures.evidence import InMemory  # noqa: E402
from conformance.runs.failures.groups import FailureGroup, groups  # noqa: E402
from conformance.runs.run_case import RunCase  # noqa: E402

SUBJECT = Subject()
SIZES = ("1,025 values", "4,099 values", "129 channels")
LARGER = ("32,771 values", "65,536 values", "131,077 values", "1,025 channels")


class Panel:
    """Cases of a run, and the right answers to them."""

    def __init__(self, seed: int = 0, each: int = 1, sizes: Sequence[str] = SIZES) -> None:
        cases = [(cell, each) for cell in cells.CELLS if not cell.feature]
        cases += [(cell, 3) for cell in cells.CELLS if cell.feature in sizes]
        drawn = [recipe for cell, count in cases for recipe in strategies.recipes(cell, seed, count)]
        items = [RunCase(n, recipe, build(recipe, seed)) for n, recipe in enumerate(dict.fromkeys(drawn))]
        self.trials = [Trial(item, SUBJECT, item.case.dtypes.x, "easy") for item in items if len(item.case.shape) > 1]
        self.answers = {trial.item.id: trial.answer() for trial in self.trials}
        self.results = {trial.item.id: self.judged(trial, self.answers[trial.item.id]) for trial in self.trials}
        self.table = ConditionTable((trial.item.id, trial.item.case) for trial in self.trials)

    def judged(self, trial: Trial, answer: list[dict[str, Any]]) -> list[Result]:
        """Return the results of an answer."""
        reply = Reply(0, SUBJECT.statement.id, tuple(map(Outputs, answer)))
        return judge(trial.item.id, trial.item.exact_case, SUBJECT.statement, reply)

    def groups(self, at: dict[str, Any]) -> list[FailureGroup]:
        """Return what is said of a fault."""
        results, replies = list[Result](), dict[tuple[str, str], Reply]()
        record = ImplementationRecord(SUBJECT.statement.id, "numpy", "cpu", True, statement=_plain(SUBJECT.statement))
        for trial in self.trials:
            with np.errstate(all="ignore"):
                answer = list(Told(SUBJECT, at).run(trial.asked()))
            right = self.answers[trial.item.id]
            same = all(
                np.array_equal(a[n], b[n], equal_nan=True) for a, b in zip(answer, right, strict=True) for n in b
            )
            results += self.results[trial.item.id] if same else self.judged(trial, answer)
            replies[trial.item.id, record.id] = Reply(0, record.id, tuple(map(Outputs, answer)))
        exact_cases = {trial.item.id: trial.item.exact_case for trial in self.trials}
        return groups(results, record, InMemory(exact_cases, replies), self.table)


def _plain(statement: Any) -> dict[str, Any]:
    return msgspec.to_builtins(statement)


class Verdict(NamedTuple):
    """Whether each part of an explanation is as it must be."""

    stage: bool
    says: bool
    where: bool
    group: FailureGroup | None


def verdict(one: Explained, found: Iterable[FailureGroup]) -> Verdict:
    """Return whether the largest group says what it must."""
    group = max(found, key=lambda g: g.cases, default=None)
    if group is None:
        return Verdict(stage=False, says=False, where=False, group=None)
    stage, says = (group.cause.stage, group.cause.says) if group.cause else ("", "")
    told = group.where.says if group.where else ""
    return Verdict(
        stage in one.stage.split("|"),
        bool(re.search(one.says, says)) if one.says else not says,
        bool(re.search(one.where, told)) and bool(re.search(one.place, group.place)),
        group,
    )


def main() -> int:
    """Explain every fault; exit 1 if a part is right of fewer than 36."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="faults, all where none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=1, help="cases of each plain cell")
    parser.add_argument("--larger", action="store_true", help="sizes of up to 131,077 values too")
    options = parser.parse_args()
    panel = Panel(options.seed, options.each, (*SIZES, *LARGER) if options.larger else SIZES)
    print(f"{len(panel.trials)} cases, {time.process_time():.0f} s")
    found = list[Verdict]()
    for one in EXPLAINED:
        if options.names and one.fault.name not in options.names:
            continue
        began = time.process_time()
        groups_ = panel.groups(one.fault.at)
        v = verdict(one, groups_)
        found.append(v)
        marks = "".join(("✓" if part else "✗") for part in v[:3])
        print(f"{marks} {one.fault.name} ({time.process_time() - began:.1f} s, {len(groups_)} groups)")
        for group in groups_[:3]:
            print(f"      {group.says}  [{group.explains}/{group.tried}]")
    sums = [sum(v[part] for v in found) for part in range(3)]
    print(f"of {len(found)}: stage {sums[0]}, change {sums[1]}, where {sums[2]}; {time.process_time():.0f} s of CPU")
    return int(not options.names and min(sums) < 36)


if __name__ == "__main__":
    sys.exit(main())
