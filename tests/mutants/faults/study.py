"""What the bounds detect, and what other rules do: `python tests/mutants/faults/study.py [--help]`.

Named faults are put into correct implementations, on cases drawn by seed; README.md says what the tables mean.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE)]

import numpy as np  # noqa: E402 - found by the path above, as what follows
from curve import DELTAS, OUTPUTS, Point, curve, marks  # noqa: E402
from layer import CLASSES  # noqa: E402
from named_faults import FAULTS, Fault  # noqa: E402
from rules import DTYPES  # noqa: E402
from trial import BOUNDS, EVERY_RULE, Trial, trials  # noqa: E402

DATA = ("easy", "hard")


class Row(NamedTuple):
    """A fault on a case where it shows: whether it stands out of rounding, and the rules that tell it from right."""

    fault: str
    dtype: str
    data: str
    numerical_class: str
    visible: bool
    detected: set[str]


class Alarm(NamedTuple):
    """A case, and the rules that the right answer to it fails."""

    dtype: str
    data: str
    numerical_class: str
    rules: set[str]


def apply(trial: Trial, faults: Iterable[Fault] = FAULTS) -> list[Row]:
    """Return a row for each fault that shows on a case."""
    rows = []
    for fault in faults:
        answer = trial.answer(fault.at)
        if trial.changed(answer, fault):
            detected = trial.failed(answer) - trial.alarms
            where = fault.name, trial.dtype, trial.data, trial.subject.numerical_class
            rows.append(Row(*where, trial.visible(answer), detected))
    return rows


def study(seed: int, draws: int) -> tuple[list[Row], list[Alarm]]:
    """Return every row, and the alarms of every case."""
    rows, alarms, began = list[Row](), list[Alarm](), time.process_time()
    for dtype in DTYPES:
        for data in DATA:
            for trial in trials(seed, dtype, data, draws):
                rows += apply(trial)
                alarms.append(Alarm(dtype, data, trial.subject.numerical_class, trial.alarms))
            print(f"{dtype}, {data} data: {draws} cases, {time.process_time() - began:.0f} s", flush=True)
    return rows, alarms


# --- what is reported ---------------------------------------------------------------------------------------------


def detection(rows: Sequence[Row], rule: str = BOUNDS) -> dict[str, int]:
    """Return in how many of these rows a rule tells the fault from the right answer."""
    seen = [row for row in rows if row.visible]
    return {
        "of": len(rows),
        "detected": sum(rule in row.detected for row in rows),
        "of_visible": len(seen),
        "detected_visible": sum(rule in row.detected for row in seen),
    }


def by_rule(rows: Sequence[Row], alarms: Sequence[Alarm]) -> list[dict[str, Any]]:
    """Return detection and false alarms of every rule."""
    found = []
    for rule in EVERY_RULE:
        entry: dict[str, Any] = {"rule": rule}
        for data in DATA:
            cases = [alarm for alarm in alarms if alarm.data == data]
            wrong = {"alarms": sum(rule in case.rules for case in cases), "of_alarms": len(cases)}
            entry[data] = detection([row for row in rows if row.data == data], rule) | wrong
        found.append(entry)
    return found


def by_fault(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return detection by the bounds of every fault in every dtype."""
    found = []
    for fault in FAULTS:
        for dtype in DTYPES:
            entry: dict[str, Any] = {"name": fault.name, "category": fault.category, "dtype": dtype}
            for data in DATA:
                some = [row for row in rows if row[:3] == (fault.name, dtype, data)]
                entry[data] = {"applied" if k == "of" else k: v for k, v in detection(some).items()}
            found.append(entry)
    return found


def by(rows: Sequence[Row], field: Literal["numerical_class", "dtype"], names: Iterable[str]) -> list[dict[str, Any]]:
    """Return detection by the bounds for every numerical class, or every dtype."""
    return [
        {"name": name}
        | {data: detection([r for r in rows if r.data == data and getattr(r, field) == name]) for data in DATA}
        for name in names
    ]


def report(rows: Sequence[Row], alarms: Sequence[Alarm], points: list[Point], marked: list[Point]) -> dict[str, Any]:
    """Return the study's results, as `--json` writes them; README.md documents the fields."""
    return {
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__},
        "faults": by_fault(rows),
        "rules": by_rule(rows, alarms),
        "classes": by(rows, "numerical_class", CLASSES),
        "dtypes": by(rows, "dtype", DTYPES),
        "curve": [point._asdict() for point in points],
        "marks": [point._asdict() for point in marked],
    }


# --- what is printed ----------------------------------------------------------------------------------------------


def share(part: int, of: int) -> str:
    """Return a share in percent.

    >>> share(1, 3), share(0, 0)
    ('33.3 %', '-')
    """
    return f"{100 * part / of:.1f} %" if of else "-"


def print_rules(results: dict[str, Any]) -> None:
    """Print detection of every rule, and of the bounds for every numerical class and dtype."""
    print(f"\n{'':34}{'easy data':^33}{'hard data':^33}")
    print(f"{'rule':34}" + f"{'detected':>11}{'visible':>11}{'alarms':>11}" * 2)
    for entry in [*results["rules"], *results["classes"], *results["dtypes"]]:
        line = f"{entry.get('rule') or entry['name']:34}"
        for data in DATA:
            d = entry[data]
            line += f"{share(d['detected'], d['of']):>11}{share(d['detected_visible'], d['of_visible']):>11}"
            line += f"{share(d['alarms'], d['of_alarms']) if 'alarms' in d else '':>11}"
        print(line)


def print_faults(rows: Sequence[Row]) -> None:
    """Print every fault: where it shows, where it stands out, what the bounds detect, and why the rest is missed."""
    print(
        f"\n{'fault':34}{'category':10}" + f"{'detected':>12}{'visible':>12}" * 2 + "  missed: below rounding, visible"
    )
    for fault in FAULTS:
        mine = [row for row in rows if row.fault == fault.name]
        line = f"{fault.name:34}{fault.category:10}"
        for data in DATA:
            d = detection([row for row in mine if row.data == data])
            line += f"{d['detected']:>7}/{d['of']:<4}{d['detected_visible']:>7}/{d['of_visible']:<4}"
        missed = [row for row in mine if BOUNDS not in row.detected]
        seen = sum(row.visible for row in missed)
        print(line + (f"  {len(missed) - seen}, {seen}" if missed else ""))
    never = [fault.name for fault in FAULTS if not any(r.fault == fault.name and BOUNDS in r.detected for r in rows)]
    print(f"\n{len(FAULTS) - len(never)} of {len(FAULTS)} faults are detected on some case")
    print("".join(f"never detected: {name}\n" for name in never), end="")


def print_curve(points: list[Point], marked: list[Point]) -> None:
    """Print the share of cases in which each change is detected, and the changes that should be, with their ρ."""
    print(f"\n{'relative change of':26}" + "".join(f"{delta:>9.0e}" for delta in DELTAS))
    for dtype in DTYPES:
        for output in OUTPUTS:
            some = [p for p in points if (p.dtype, p.output) == (dtype, output)]
            print(f"{dtype:10}{output:16}" + "".join(f"{share(p.detected, p.of):>9}" for p in some))
    for p in marked:
        lean = ", leaning dy" if p.dy == "leaning" else ""
        print(f"float32 {p.output} ± {p.delta:.0e}{lean}: in {p.detected} of {p.of} cases, smallest ρ {p.rho:.2f}")


def main() -> int:
    """Print the study, and write it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="what cases and changes are drawn by (default 1)")
    parser.add_argument("--draws", type=int, default=30, help="cases per dtype, easy and hard (default 30)")
    parser.add_argument("--json", type=Path, help="a file for the results")
    options = parser.parse_args()
    if options.draws < 1 or options.seed < 0:
        parser.error(f"--draws {options.draws} --seed {options.seed}: at least one case, and a seed of 0 or more")
    rows, alarms = study(options.seed, options.draws)
    points = [point for dtype in DTYPES for point in curve(options.seed, dtype, options.draws)]
    marked = marks(options.seed, options.draws)
    results = report(rows, alarms, points, marked) | {"seed": options.seed, "draws": options.draws}
    print_rules(results)
    print_faults(rows)
    print_curve(points, marked)
    print(f"{time.process_time():.0f} s of CPU")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
