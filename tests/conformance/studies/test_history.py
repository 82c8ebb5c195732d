"""The page of what changed from release to release: what it shows of answers, and that the committed one is whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conformance.cases import corpus
from conformance.hosts import roster
from conformance.studies.bisecting import history, history_page
from conformance.studies.bisecting.effects import Effect
from conformance.studies.bisecting.history import (
    FamilyHistory,
    HistoryCell,
    HistoryColumn,
    HistoryFamily,
    HistoryPlan,
)

COMMITTED = Path(history.__file__).parents[2] / "history.md"
LETTERS = {
    "p": Effect("passes"),
    "f": Effect("fails", "y (ρ 30)"),
    "r": Effect("refuses", "ValueError: no"),
    "-": Effect("cannot run here", why="No module named 'mine'", asked=False),
}


def family(name, **answers):
    """Return a history: of each implementation and case (`one__case`) what it answers, a letter for each release."""
    releases = range(len(next(iter(answers.values()))))
    columns = [
        HistoryColumn(f"1.{n}", "2024-01-01", "3.11", {}, [
            HistoryCell(*key.split("__"), LETTERS[word[n]]) for key, word in answers.items()
        ])
        for n in releases
    ]  # fmt: skip
    return FamilyHistory(HistoryFamily(name, f"{name}-package", [], []), columns)


def page(*found, before="", news=()):
    """Return the page of these families."""
    names = dict.fromkeys([*re.findall("^## (.*)$", before, re.MULTILINE), *(told.family.name for told in found)])
    plan = HistoryPlan([], list(news), [HistoryFamily(name, name, [], []) for name in names])
    return history_page.page(list(found), plan, before)


def test_what_changes_is_a_row_and_a_sentence():
    """A row shows each release, a sentence the two of each change; what fails in all is named."""
    text = page(family("tiny", a__changed="ppfr", a__same="pppp", b__wrong="ffff", b__refused="rrrr"))
    assert "| `a` `changed` | ✓ | ✓ | ✗ 30 | refuses |\n" in text
    assert "- `a`, `changed`: tiny-package 1.1 passes; 1.2 fails: y (ρ 30)\n" in text
    assert "- `a`, `changed`: tiny-package 1.2 fails: y (ρ 30); 1.3 refuses: ValueError: no\n" in text
    assert "3 further rows are the same in all releases that answer: 1 as promised, 2 not." in text
    assert "Not as promised in any: `b` `refused`, `wrong`." in text


def test_a_release_that_cannot_be_asked_says_why():
    """An implementation that a release lacks is a dash, with the reason and the case that was asked."""
    text = page(family("tiny", a__first="--pp", a__second="--pf", b__first="pppp"))
    assert "| `a` | – | – |  |  |\n" in text
    assert "- `a`: tiny-package 1.0, 1.1 cannot run here: No module named 'mine', `first`\n" in text
    assert "`b` |" not in text


def test_a_family_that_was_not_asked_stands_as_it_stood():
    """Who asks one family keeps the others' sections and the news, and counts all releases and families."""
    before = page(family("tiny", a__changed="pf"), family("other", b__changed="pppf"), news=["It changed."])
    after = page(family("other", b__changed="fffff"), before=before.replace("## News\n\n", ""), news=["It changed."])
    assert "7 releases of 2 families" in after
    assert "| `a` `changed` | ✓ | ✗ 30 |" in after
    assert "`b`, `changed`" not in after
    assert after.count("- It changed.") == 1


def test_every_change_of_the_committed_page_names_a_case():
    """Each row and each sentence has a case of the corpus and an implementation of the roster."""
    names = {case.name for case in corpus.read()}
    ids = {entry.id for entry in roster.select(())}
    told = re.findall(r"^(?:\| `(\S+)` `(\S+)` \||- `(\S+)`, `(\S+)`: )", COMMITTED.read_text(), re.MULTILINE)
    assert len(told) > 20
    for groups in told:
        who, case = filter(None, groups)
        assert who in ids, who
        assert case in names, case


@pytest.mark.parametrize("planned", history.plan().family, ids=lambda planned: planned.name)
def test_the_committed_page_has_every_family(planned):
    """Each planned family has its section, with no release that is not planned."""
    section = history_page.sections(COMMITTED.read_text())[planned.name]
    shown = re.findall(r"(\S+)<br>", section)
    assert shown
    assert set(shown) <= set(planned.versions)
