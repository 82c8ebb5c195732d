"""Whether `explain --upstream` tells everything that is known to go wrong: each script is run, and must show it.

Of every known divergence, every entry of the recall list, and the findings that are none of either: the failure that is
meant, of the first implementation that shows it (of every one with --all). Writes a table, and exits 1 where a script
does not print what is wrong beside what is right.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from conformance.cases import corpus
from conformance.gate import divergences
from conformance.hosts import roster
from conformance.hosts.participants import Participants
from conformance.model.case import Case
from conformance.model.case_facts import every_step
from conformance.model.errors import InvalidInput
from conformance.runs import recording, replaying
from conformance.runs.recording import RecordedAnswer
from conformance.studies import recall
from conformance.studies.recall import Instead
from conformance.studies.upstream import telling
from conformance.studies.upstream.shown import failures
from conformance.studies.upstream.telling import BugReport, Wrong

OUT = Path("reports/prove-upstream")
SECONDS = 600.0
"""For one script, on a machine that does other things too."""
FINDINGS = (
    ("equinox divides by what its variance was not", "equinox.BatchNorm+batch", {"average": "exponential"},
     "inference-after-one-step-from-the-own-start"),
    ("equinox stores the biased variance", "equinox.BatchNorm+ema", {"stored_variance": "unbiased"}, "r05-two-rows"),
    ("haiku's fast variance at large means", "haiku.BatchNorm", {"variance": "two_pass"}, "r01-mean-of-10000"),
    ("tf_keras rounds 1 - momentum to float32", "tf_keras.BatchNormalization", {"fraction_dtype": "float64"},
     "float64-from-the-own-start"),
)  # fmt: skip
"""Lines of findings.md that are neither: what, who, what somebody would have expected, the case that shows it."""


class Entry(NamedTuple):
    """Something known: who may show it, by what case, and what was expected where it is promised otherwise."""

    name: str
    patterns: list[str]
    case: str
    instead: Instead | None = None
    divergence: divergences.Divergence | None = None
    outputs: tuple[str, ...] = ()

    def wrong(self, case: Case, answer: RecordedAnswer) -> Wrong | None:
        """Return what is meant of an answer; None if it does not show it."""
        if self.instead:
            return telling.of_expected(case, answer, self.instead, self.name, self.outputs)
        known, facts = self.divergence, every_step(case)
        found = failures(answer, lambda r: known is None or known.covers(facts[r.step], r.output))
        return telling.of_promise(case, answer, found) if found else None


def entries() -> Iterator[Entry]:
    """Yield everything that is known."""
    known = {one.id: one for one in divergences.read()}
    for one in recall.read():
        if not one.unshown:
            about = known.get(one.divergence)
            yield Entry(one.id, one.implementations, one.case, one.instead, about, one.outputs)
    for one in known.values():
        yield Entry(one.id, [p.partition("@")[0] for p in one.implementations], one.witness, None, one)
    for name, who, words, case in FINDINGS:
        yield Entry(name, [who], case, Instead.of_words(words))


def answers(wanted: list[Entry], who: Participants) -> dict[str, list[RecordedAnswer]]:
    """Return the answers to the cases of all entries, of whoever may show them."""
    cases = {one.name: one.case for one in corpus.read()}
    names = list(dict.fromkeys(entry.case for entry in wanted))
    ids: dict[str, set[str]] = collections.defaultdict(set)
    for entry in wanted:
        ids[entry.case] |= {one.id for one in who.entries if _named(entry, one.id)}
    found = replaying.ask([cases[name] for name in names], who, [ids[name] for name in names])
    return {name: one.answers for name, one in zip(names, found, strict=True)}


def _named(entry: Entry, identity: str) -> bool:
    return any(fnmatch.fnmatchcase(identity.partition("@")[0], pattern) for pattern in entry.patterns)


def tell(entry: Entry, given: list[RecordedAnswer], who: Participants, *, every: bool) -> Iterator[BugReport | str]:
    """Yield an entry, told of the first implementation that shows it or of every one, or why it is not."""
    case = next(one.case for one in corpus.read() if one.name == entry.case)
    shows = [(a, w) for a in given if _named(entry, a.record.id) and (w := entry.wrong(case, a))]
    if not shows:
        yield "nobody here shows it"
    for answer, wrong in shows if every else shows[:1]:
        others = [other for other in given if other is not answer]
        try:
            yield telling.told(case, wrong, others, who, SECONDS)
        except InvalidInput as error:
            yield f"{answer.record.id}: {error}"


def _line(entry: Entry, told: BugReport | str) -> str:
    if isinstance(told, str):
        return f"| {entry.name} | `{entry.case}` | | {told} |"
    lines = len(told.script.splitlines())
    state = "not run" if told.ran is None else "shows it" if told.shows else "DOES NOT SHOW IT"
    return f"| {entry.name} | `{entry.case}` | `{told.implementation.partition('@')[0]}` | {state}, {lines} lines |"


def main() -> None:
    """Tell everything, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--answers", type=Path, help="a folder of recordings of the cases, rather than asking anew")
    parser.add_argument("--all", action="store_true", help="of every implementation that shows it")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-i", dest="patterns", action="append", default=[])
    options = parser.parse_args()
    wanted, who = list(entries()), Participants(roster.select(tuple(options.patterns)))
    if options.answers:
        given: dict[str, list[RecordedAnswer]] = collections.defaultdict(list)
        for part in recording.read(options.answers):
            given[part.name] += part.answers
    else:
        given = answers(wanted, who)

    def told(entry: Entry) -> list[BugReport | str]:
        return list(tell(entry, given[entry.case], who, every=options.all))

    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(told, wanted))
    pairs = [(entry, one) for entry, of_entry in zip(wanted, found, strict=True) for one in of_entry]
    _write(options.out, pairs)


def _write(out: Path, pairs: list[tuple[Entry, BugReport | str]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    told = [one for _, one in pairs if isinstance(one, BugReport)]
    for number, (entry, one) in enumerate(pairs):
        if isinstance(one, BugReport):
            name = f"{number:03d}-{entry.name.replace(' ', '-')}-{one.implementation.partition('@')[0]}"
            (out / f"{name}.md").write_text(one.issue)
            (out / f"{name}.py").write_text(one.script)
    good = sum(one.shows for one in told)
    table = ["| what | case | implementation | script |", "|---|---|---|---|", *(_line(*pair) for pair in pairs)]
    summary = f"{good} of {len(told)} scripts show it; {len(pairs) - len(told)} were not told."
    (out / "table.md").write_text("\n".join([summary, "", *table]) + "\n")
    (out / "told.json").write_bytes(msgspec.json.encode(told))
    print(summary)
    if good < len(told):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
