"""Rewrite the second half of `conformance/findings.md`: the suspected defects that are on no recall list.

    python tests/benchmarks/second_opinions.py reports/latest

FOLDER: a run of everything, corpus included. Each finding has its witness and a second opinion: an implementation of
another framework, or of the same where no other is asked, that gives the same output of the same step of the same case
within its bounds. Where none takes arrays that lie in memory as the witness's do, all are asked the same numbers in
contiguous memory. Exits 1 where a finding has none. The first half of the page is written by hand, and stays.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from conformance.cases import corpus
from conformance.gate import divergences
from conformance.gate.divergences import Divergence
from conformance.hosts import roster
from conformance.hosts.participants import Participants
from conformance.model.results import Result, Run
from conformance.runs import replaying, run_file
from conformance.studies import recall

PAGE = Path(__file__).parents[2] / "conformance" / "findings.md"
HEADING = "## Suspected defects that are on no recall list\n"
INTRODUCTION = """
One row for each [known divergence](gate/divergences/) that is on no list of `bnconf recall`. Ids of implementations are
those of `bnconf implementations`, all on CPU; `*` stands for anything. Each witness is as small as a person would write
it. "Agree" are implementations of other frameworks (of the same, where no other is asked) that give the same output of
the same step within their bounds of the reference, which is computed in higher precision with its own error certified;
derivatives are also held to finite differences and to automatic differentiation in `tests/reference`. Who agrees on the
same numbers in contiguous memory is marked so. Made by
`tests/benchmarks/second_opinions.py` from a default run.

| divergence | implementations | kind | what | witness | off by (error / allowed) | agree with the reference | public |
|---|---|---|---|---|---|---|---|"""
SILENT = """
Looked at, and silent: every output of every implementation of `bnconf implementations` in the cells of the run's
coverage table, on CPU. No departure beyond those above and those of the recall list was found there. Equinox,
haiku but for its start, dm-sonnet but for second derivatives, torch's modules and most compiled variants have no
finding of their own. GPUs were not looked at."""


class Opinion(NamedTuple):
    """A finding: how far off, and who of other frameworks has the same output right."""

    divergence: Divergence
    worst: Result
    agree: list[str]


def main() -> int:
    """Rewrite the table, and return the exit status."""
    run = run_file.read(Path(sys.argv[1]))
    listed = {entry.divergence for entry in recall.read()}
    found = list(opinions(run, [d for d in divergences.read() if d.id not in listed]))
    by_hand = PAGE.read_text().partition(HEADING)[0]
    PAGE.write_text("\n".join([by_hand + HEADING + INTRODUCTION, *map(row, found), SILENT, ""]))
    return 0 if all(opinion.agree for opinion in found) else 1


def row(opinion: Opinion) -> str:
    """Return a finding as a line of the table."""
    d, rho = opinion.divergence, opinion.worst.rho
    size = f"{rho:.3g}" if isinstance(rho, float) else opinion.worst.outcome or "shape, dtype or NaN"
    names = ", ".join(opinion.agree[:4]) + (f" and {len(opinion.agree) - 4} more" if len(opinion.agree) > 4 else "")
    link = d.link if d.link == "unreported" else f"[near]({d.link})"
    cells = (f"`{d.id}`", subjects(d), d.kind, d.reason, f"`{d.witness}`", size, names or "NOBODY", link)
    return f"| {' | '.join(cells)} |"


def subjects(divergence: Divergence) -> str:
    """Return whom a divergence speaks of, without the device, and of which versions."""
    patterns = ", ".join(f"`{pattern.removesuffix('@cpu')}`" for pattern in divergence.implementations)
    versions = ", ".join(f"`{package}{wanted}`" for package, wanted in divergence.versions.items())
    return f"{patterns}; {versions or 'any version'}"


def opinions(run: Run, new: list[Divergence]) -> Iterator[Opinion]:
    """Yield each divergence that the run shows on its witness."""
    cases = {record.name: record.case for record in run.cases.values() if record.name}
    by_place: dict[tuple[str, int, str], list[Result]] = {}
    for result in run.results:
        by_place.setdefault((result.case, result.step, result.output), []).append(result)
    records = {record.id: record for record in run.implementations}
    for d in new:
        failed = [
            r
            for (case, *_), found in by_place.items()
            for r in found
            if case == cases.get(d.witness) and r.failed and d.concerns(records[r.implementation])
        ]
        if failed:
            worst = max(failed, key=lambda r: r.size)
            framework = records[worst.implementation].framework
            yield Opinion(d, worst, agreeing(worst, by_place, framework) or in_contiguous_memory(d, worst, framework))


def agreeing(worst: Result, by_place: dict[tuple[str, int, str], list[Result]], framework: str) -> list[str]:
    """Return who of other frameworks passes the same output of the same step.

    Any output of the step, where it was refused; and where the process died, whoever answers.
    """
    wanted = [worst.output] if worst.output != "outcome" else ["outcome", "y", "dx"]
    right = {"PASS", "INCONCLUSIVE"} if worst.outcome == "Crashed" else {"PASS"}
    found = [r for output in wanted for r in by_place.get((worst.case, worst.step, output), ()) if r.verdict in right]
    names = {r.implementation.partition("@")[0] for r in found}
    return sorted(n for n in names if n.split(".")[0] != framework) or sorted(names)  # or of its own, if nobody else


def in_contiguous_memory(divergence: Divergence, worst: Result, framework: str) -> list[str]:
    """Return who of other frameworks is right about the witness's numbers where nothing else is odd about them."""
    witness = next(named.case for named in corpus.read() if named.name == divergence.witness)
    plain = structs.replace(witness, layout="C", dy_layout="C", layer_layout="C")
    who = Participants([entry for entry in roster.built_in() if entry.id.split(".")[0] not in (framework, "numpy")])
    results = [result for answer in replaying.ask([plain], who)[0].answers for result in answer.results]
    right = {r.implementation for r in results if (r.step, r.output, r.verdict) == (worst.step, worst.output, "PASS")}
    return [f"{identity.partition('@')[0]} (contiguous)" for identity in sorted(right)]


if __name__ == "__main__":
    sys.exit(main())
