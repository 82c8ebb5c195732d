"""What has changed since another run, over what both were asked; and since the accepted one, the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from conformance.gate import baseline
from conformance.gate.baseline import Baseline
from conformance.gate.divergences import Divergence
from conformance.gate.explanation import Explanation, explain
from conformance.model.errors import InvalidInput
from conformance.model.results import Result, Run
from conformance.report.entries import Change, Pair, asked, changes

NOTHING = "explained by nothing"
"""Instead of a divergence's id."""


class SinceRun(msgspec.Struct):
    """A run compared with another, over the cases and implementations that both asked.

    common: pairs of a case and an implementation; of: those of this run, and of the other.
    cases, implementations: how many of each are in some common pair.
    changes: results by what became of them; divergences: failures here and there by divergence, where these differ.
    alike: how many divergences have as many failures in both.
    """

    common: int
    of: tuple[int, int]
    cases: int
    implementations: int
    changes: dict[Change, int]
    divergences: dict[str, tuple[int, int]]
    alike: int


def since_run(run: Run, other: Run, explained: Iterable[Explanation], before: Iterable[Explanation]) -> SinceRun:
    """Return what has changed; explained, before: what is known of the failures of either run."""
    here, there = asked(run), asked(other)
    common = here & there
    counts = [_by_divergence(found, common) for found in (explained, before)]
    pairs = {name: (counts[0][name], counts[1][name]) for name in sorted(counts[0].keys() | counts[1].keys())}
    differ = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    cases, implementations = ({pair[n] for pair in common} for n in (0, 1))
    found = changes(run, other)
    return SinceRun(
        len(common),
        (len(here), len(there)),
        len(cases),
        len(implementations),
        found,
        differ,
        len(pairs) - len(differ),
    )


def _by_divergence(found: Iterable[Explanation], common: set[Pair]) -> Counter[str]:
    counted = Counter[str]()
    for one in found:
        if (one.result.case, one.result.implementation) in common:
            counted.update(one.divergences if one.kind == "explained" else (NOTHING,))
    return counted


def explained_there(folder: Path, run: Run, other: Run, known: list[Divergence]) -> list[Explanation]:
    """Return what is known of another run's failures in what both asked; nothing without its answers."""
    common = asked(run) & asked(other)
    results: list[Result] = [r for r in other.results if (r.case, r.implementation) in common]
    try:
        return explain(folder, msgspec.structs.replace(other, results=results), known)
    except InvalidInput:
        return []


class SinceBaseline(msgspec.Struct):
    """A run compared with the accepted one: what fails now or no longer, and other versions, with both."""

    fails: list[str]
    passes: list[str]
    versions: list[str]


def since_baseline(run: Run, base: Baseline) -> SinceBaseline:
    """Return what has changed; a baseline holds outputs, whatever cases they were seen in."""
    said = [(identity, words) for identity, words in baseline.behaviour_changed(run, base)]
    versions = [f"{identity}: {old} → {new}" for identity, old, new in baseline.versions_changed(run, base)]
    fails, passes = ([f"{i} {w}" for i, w in said if w.endswith(ending)] for ending in ("fails now", "no longer"))
    return SinceBaseline(fails, passes, versions)


def beside(folder: Path, run: Run) -> Path | None:
    """Return the accepted run's file that stands beside a run's folder, for the device most of it ran on; or None."""
    devices = Counter(record.device for record in run.implementations if record.available)
    path = folder.resolve().parent / "baseline" / f"{devices.most_common(1)[0][0]}.jsonl" if devices else None
    return path if path and path.exists() else None
