"""What the page counts, held to what is counted anew from the run's file."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from conformance.runs import run_file, summary

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed").expect


@pytest.fixture(scope="module")
def run(runs):
    """Return the run, read again."""
    return run_file.read(runs / "now")


def counters(page, field):
    """Return what the counters of a field say, by value."""
    read = "all => all.map(one => [one.dataset.value, one.querySelector('b').textContent])"
    found = dict(page.locator(f'button.facet[data-field="{field}"]').evaluate_all(read))
    return {name.partition("=")[2]: number for name, number in found.items() if number != "0"}


def by(results, field):
    """Return results counted by a field, as the page writes numbers."""
    return {name: f"{n:,}" for name, n in Counter(getattr(r, field) for r in results).items()}


def test_every_number_of_failures_is_the_same(visit, run):
    """The headline, the page of failures, the groups, the counters and the history count the run's failures alike."""
    failed = [r for r in run.results if r.failed]
    page = visit()
    said = page.locator("#overview .verdict").first.inner_text()
    assert f"({len(failed):,} failures)" in said
    rows = page.locator("table.gate tbody tr").evaluate_all(
        "rows => rows.map(row => [row.cells[0].querySelector('a').textContent, "
        "[...row.querySelectorAll('a[title]')].map(a => Number(a.title.split(' ')[0]))])"
    )
    assert {name: sum(n) for name, n in rows if n} == dict(Counter(r.implementation for r in failed))
    page.locator("nav a", has_text="Failures").click()
    groups = page.locator("#failures .group summary").all_inner_texts()
    assert sum(int(re.search(r"(\d+) failure", text)[1]) for text in groups if "✗" in text) == len(failed)
    expect(page.locator("#failures-said")).to_contain_text(f"{len(failed):,} failures in the filter")
    page.locator("nav a", has_text="History").click()
    last = page.locator("#history table").first.locator("tbody tr").last.locator("td").all_inner_texts()
    assert int(last[4].replace(",", "")) == len(failed)


def test_counters_follow_the_query(visit, run):
    """With a query of fields each counter says how many results answer it, over the whole run."""
    page = visit("#results?q=output%3Amoving")
    wanted = [r for r in run.results if "moving" in summary.key(r)]
    assert counters(page, "verdict") == by(wanted, "verdict")
    expect(page.locator("#results-said")).to_contain_text(f"{len(wanted):,} results that answer the query")


def test_counters_of_failures_are_exact_for_any_query(visit, run):
    """Words of a case's own are counted exactly where every failure is kept; the number is that of the run's file."""
    page = visit("#failures?q=step%3D1")
    wanted = [r for r in run.results if r.failed and r.step == 1]
    expect(page.locator("#failures-said")).to_contain_text(f" {len(wanted):,} failures in the filter")
    dtypes = Counter(run.cases[r.case].dtype for r in wanted)
    assert counters(page, "dtype") == {name: f"{n:,}" for name, n in dtypes.items()}


def test_what_is_not_kept_whole_is_counted_as_at_least(visit):
    """Of results that conform only some are kept, so that a word of their cases finds at least so many."""
    page = visit("#results?q=float16%20cell%3Arank")
    said = page.locator("#results-said").inner_text()
    assert said.startswith("≥ ")
    assert counters(page, "verdict")["PASS"].startswith("≥ ")


def test_groups_that_match_in_part_say_so(visit, run):
    """A group with failures outside the query says how many are left, and lists no other."""
    page = visit("#failures?q=step%3D0")
    partly = page.locator("#failures .group:visible", has=page.locator(".partly:not(:empty)"))
    assert partly.count()
    for group in partly.all()[:4]:
        text = group.locator("summary").text_content()
        left, name = int(re.search(r"\((\d+) of them here\)", text)[1]), group.get_attribute("id")
        mine = [r for r in run.results if r.failed and f"{r.implementation}:" in name and r.step == 0]
        assert left <= len(mine)
        read = "rows => rows.filter(row => !row.hidden).map(row => row.querySelector('a').dataset.step)"
        assert set(group.locator("tbody tr").evaluate_all(read)) <= {"0"}
