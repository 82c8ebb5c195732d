"""The history of families, release by release, as a page of Markdown."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from conformance.studies.bisecting.effects import Effect, State
from conformance.studies.bisecting.history import FamilyHistory, HistoryPlan, HistoryRow, rows

_MARKS: dict[State, str] = {
    "passes": "✓",
    "fails": "✗",
    "refuses": "refuses",
    "crashes": "crashes",
    "not compared": "·",
    "cannot run here": "–",
    "cannot be built": "not built",
    "not supported": "·",
}
_HEAD = """# What changed from release to release

Made by `make history`: {columns} releases of {families} families on a CPU, each in an environment of its own, asked the
corpus, or thirty cases of it, and judged by what is promised of the newest. A row is shown where a release answers
otherwise than the last before it that answered: ✓ as promised today; ✗ not so, with ρ of the worst output; – the
release lacks what is called; · not compared. Ask further with `bnconf bisect CASE -i ID --package NAME`.
"""
_NEWS = "## News\n\nWhat nobody had published, as far as a search finds.\n\n"


def page(found: list[FamilyHistory], plan: HistoryPlan, before: str = "") -> str:
    """Return the history of all families as Markdown; before: the page that has those of which nothing is given."""
    old = sections(before)
    new = {told.family.name: "\n".join(_of_family(told)) for told in found}
    told = {name: new.get(name) or old.get(name, "") for name in (family.name for family in plan.family)}
    shown = [f"## {name}\n\n{text.strip()}\n" for name, text in told.items() if text]
    head = _HEAD.format(columns=sum(map(_columns, shown)), families=len(shown))
    return "\n".join([head, *([_NEWS + "".join(f"- {one}\n" for one in plan.news)] if plan.news else []), *shown])


def sections(text: str) -> dict[str, str]:
    """Return what a page says below each of its headings."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _columns(section: str) -> int:
    return next(line for line in section.splitlines() if line.startswith("| |")).count("<br>")


def _of_family(told: FamilyHistory) -> Iterator[str]:
    asked = rows(told)
    found = [row for row in asked if any(map(_answered, row.answers))]
    changing = [row for row in found if any(row.changes)]
    yield from ([told.family.said, ""] if told.family.said else [])
    yield "| | " + " | ".join(f"{c.version}<br>{c.date}" for c in told.columns) + " |"
    yield "|---" * (len(told.columns) + 1) + "|"
    absent = list(_absent(told, asked))
    yield from (row for row, _ in absent)
    for row in changing:
        yield f"| `{row.implementation}` `{row.case}` | {' | '.join(map(_mark, row.answers))} |"
    yield ""
    yield from _unchanged([row for row in found if row not in changing])
    yield ""
    yield from (sentence for _, sentence in absent)
    for row in changing:
        yield from (f"- {_sentence(told, row, old, new)}" for old, new in row.changes)


def _absent(told: FamilyHistory, found: list[HistoryRow]) -> Iterator[tuple[str, str]]:
    """Yield a row for each implementation that some release cannot be asked at all, and why, with a case of it."""
    for who in dict.fromkeys(row.implementation for row in found):
        of_one = [row for row in found if row.implementation == who]
        silent = [n for n in range(len(told.columns)) if not any(map(_answered, (row.answers[n] for row in of_one)))]
        if silent:
            marks = ("–" if n in silent else "" for n in range(len(told.columns)))
            yield f"| `{who}` | {' | '.join(marks)} |", f"- `{who}`: {_why(told, of_one, silent)}"


def _answered(answer: Effect | None) -> bool:
    return answer is not None and answer.decisive


def _why(told: FamilyHistory, found: list[HistoryRow], silent: list[int]) -> str:
    """Return why releases cannot be asked, each reason with its releases and the first case that gives it."""
    said = dict[str, list[str]]()
    for n in silent:
        row = next((row for row in found if row.answers[n] is not None), None)
        answer = row.answers[n] if row else None
        version = told.columns[n].version
        why = f"{answer}, `{row.case}`".replace(f" {version}", "") if row and answer else "not asked"
        said.setdefault(why, []).append(version)
    return "; ".join(f"{told.family.package} {', '.join(versions)} {why}" for why, versions in said.items())


def _mark(answer: Effect | None) -> str:
    if answer is None:
        return ""
    rho = answer.failing.partition("(ρ ")[2].partition(")")[0]
    return f"{_MARKS[answer.state]} {rho}".strip() if answer.state == "fails" else _MARKS[answer.state]


def _unchanged(found: list[HistoryRow]) -> Iterator[str]:
    """Yield how many rows are the same wherever they were answered, and which of them are not as promised."""
    failing = [row for row in found if not all(a is None or not a.decisive or a.state == "passes" for a in row.answers)]
    counts = f"{len(found) - len(failing)} as promised, {len(failing)} not"
    yield f"{len(found)} further rows are the same in all releases that answer: {counts}."
    if failing:
        yield ""
        yield "Not as promised in any: " + "; ".join(_by_implementation(failing)) + "."


def _by_implementation(found: Iterable[HistoryRow]) -> Iterator[str]:
    for who, of_one in itertools.groupby(sorted(found), key=lambda row: row.implementation):
        yield f"`{who}` {', '.join(f'`{row.case}`' for row in of_one)}"


def _sentence(told: FamilyHistory, row: HistoryRow, old: int, new: int) -> str:
    before, after = told.columns[old], told.columns[new]
    said = f"{told.family.package} {before.version} {row.answers[old]}; {after.version} {row.answers[new]}"
    return f"`{row.implementation}`, `{row.case}`: {said}"
