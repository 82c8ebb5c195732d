"""Whether `explain --upstream` tells everything that is known to go wrong: each script is run, and must show it.

Of every known divergence, every entry of the recall list, and the findings that are none of either: the failure that is
meant, of the first implementation that shows it (of every one with --all). What was told is kept in
reports/prove-upstream, and told again only where its file is gone or --again names it. Writes a page, and exits 1
where a script does not print what is wrong beside what is right.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import re
import textwrap
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
from conformance.runs import replaying
from conformance.runs.recording import RecordedAnswer
from conformance.studies import recall
from conformance.studies.recall import Instead
from conformance.studies.upstream import telling
from conformance.studies.upstream.shown import failures
from conformance.studies.upstream.telling import BugReport, Wrong

KEPT = Path("reports/prove-upstream")
PAGE = Path("conformance/upstream.md")
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
        entry = Entry(one.id, [p.partition("@")[0] for p in one.implementations], one.witness, None, one)
        if any(_named(entry, listed.id) for listed in roster.built_in()):  # and not of the second roster
            yield entry
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


class Told(msgspec.Struct, frozen=True):
    """What became of something known: the implementation that it is told of, and the script's title and length.

    shows: whether the script printed wrong beside right; None where it is not told, for the reason `why`.
    """

    what: str
    case: str
    implementation: str = ""
    title: str = ""
    lines: int = 0
    shows: bool | None = None
    why: str = ""

    @property
    def row(self) -> str:
        """The row of the page's table."""
        state = self.why if self.shows is None else f"{self.lines} lines" if self.shows else "**does not show it**"
        who = f"`{self.implementation}`" if self.implementation else ""
        return f"| {self.what} | `{self.case}` | {who} | {_cell(self.title)} | {_cell(state)} |"


def _cell(text: str) -> str:
    """Return text as a cell: without paths of this machine, and with nothing that Markdown takes for markup."""
    plain = re.sub(r"\x1b\[[\d;]*m|(?<![\w.])/(?:[\w.+-]+/)+", "", " ".join(text.split()))
    plain = textwrap.shorten(plain, 160, placeholder=" …")
    return re.sub(r"([|<>*_`])", r"\\\1", plain)


def tell(entry: Entry, given: list[RecordedAnswer], who: Participants, *, every: bool) -> Iterator[Told]:
    """Yield an entry, told of the first implementation that shows it or of every one, or why it is not."""
    case = next(one.case for one in corpus.read() if one.name == entry.case)
    asked = [answer for answer in given if _named(entry, answer.record.id)]
    shows = [(answer, wrong) for answer in asked if (wrong := entry.wrong(case, answer))]
    if not shows:
        yield Told(entry.name, entry.case, why=_why_not(asked))
    for answer, wrong in shows if every else shows[:1]:
        others, name = [other for other in given if other is not answer], answer.record.id.partition("@")[0]
        try:
            report = telling.told(case, wrong, others, who, SECONDS)
        except InvalidInput as error:
            yield Told(entry.name, entry.case, name, why=str(error))
        else:
            _keep(entry, report)
            size, shown = len(report.script.splitlines()), None if report.ran is None else report.shows
            why = "" if report.ran else "the script was not run: what it imports is not here"
            yield Told(entry.name, entry.case, name, report.title, size, shown, why)


def _why_not(asked: list[RecordedAnswer]) -> str:
    """Return why nobody of those asked shows an entry."""
    names = ", ".join(answer.record.id.partition("@")[0] for answer in asked[:3]) + ", …" * (len(asked) > 3)
    if not asked:
        return "whom it is about is not here"
    if any(failures(answer) for answer in asked):
        return f"of other ranks or dtypes than its case, which fails as another entry says: {names}"
    return f"not shown by the installed versions: as expected from {names}"


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def _keep(entry: Entry, report: BugReport) -> None:
    file = KEPT / f"{_slug(entry.name)}-{report.implementation.partition('@')[0]}"
    file.with_name(f"{file.name}.md").write_text(report.issue)
    file.with_name(f"{file.name}.py").write_text(report.script)


def main() -> None:
    """Tell everything that is not told yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="of every implementation that shows it")
    parser.add_argument("--again", nargs="*", default=[], metavar="NAME", help="what to tell again")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    known = {entry.name: KEPT / f"{_slug(entry.name)}.json" for entry in entries()}
    wanted = [e for e in entries() if not known[e.name].exists() or e.name in options.again]
    who = Participants(roster.select(()))
    given = answers(wanted, who)

    def told(entry: Entry) -> None:
        found = list(tell(entry, given[entry.case], who, every=options.all))
        known[entry.name].write_bytes(msgspec.json.encode(found))
        print(*(one.row for one in found), sep="\n", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(told, wanted))
    _end([one for file in known.values() for one in msgspec.json.decode(file.read_bytes(), type=list[Told])])


_HEAD = """# What is known to go wrong, each as a script

Made by `make prove-upstream`: every entry of the [recall list](studies/recall.toml), every
[known divergence](gate/divergences/), and the lines of [the findings](findings.md) that are neither, told as
`bnconf explain CASE -i ID --upstream` tells it, and run: a script of at most thirty lines that needs NumPy and the
framework alone, and prints what is wrong beside what is right. Each is told of the first implementation that shows it,
in the versions of `constraints.txt`, on a CPU. {shown} of {ran} scripts show it; {left} entries are not told.

| what | case | implementation | the issue's title | script |
|---|---|---|---|---|
"""


def _end(found: list[Told]) -> None:
    """Write the page; exit 1 where a script does not show what it is to show."""
    ran = [one for one in found if one.shows is not None]
    good = sum(bool(one.shows) for one in ran)
    head = _HEAD.format(shown=good, ran=len(ran), left=len(found) - len(ran))
    PAGE.write_text(head + "".join(one.row + "\n" for one in found))
    print(f"{PAGE}: {good} of {len(ran)} scripts show it; {len(found) - len(ran)} entries are not told")
    if good < len(ran):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
