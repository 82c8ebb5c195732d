"""The report in a real browser: what people see, click and press; the `visit` fixture fails on errors and requests."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from pages import PAGES

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed").expect


def text(page, selector):
    """Return the text of what is visible there."""
    return page.locator(selector).inner_text()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_renders(visit, name):
    """Each page is shown alone, under its heading, and its link is marked."""
    page = visit(f"#{name}")
    assert page.locator(".page:visible").evaluate_all("all => all.map(one => one.id)") == [name]
    assert page.locator(f"#{name} h2").is_visible()
    assert page.locator("nav a[aria-current=page]").get_attribute("href") == f"#{name}"


def test_the_headline_says_what_nothing_explains(visit):
    """The first thing to read is how many conform and how many do not, with the changes against the other run."""
    said = " ".join(visit().locator("#overview .verdict").all_inner_texts())
    assert re.search(r"7 of 9 implementations conform", said)
    assert "2 of 9 implementations depart in a way that nothing explains" in said
    assert "Against before" in said
    assert re.search(r"\d+ still failing", said)


def test_counters_are_filters(visit):
    """A counter shows how many results it stands for; pressed, exactly those are left, and the address says so."""
    page = visit("#results")
    button = page.locator('button.facet[data-value="verdict=FAIL"]')
    number = button.locator("b").inner_text()
    button.click()
    assert page.locator('button.facet[data-value="verdict=FAIL"]').get_attribute("aria-pressed") == "true"
    expect(page).to_have_url(re.compile("verdict=FAIL"))
    expect(page.locator("#results-said")).to_have_text(re.compile(f"^{number} results"))
    assert set(page.locator("#results-table tbody td:nth-child(6)").all_inner_texts()) == {"✗ FAIL"}


def test_back_and_forward_restore_the_filter(visit):
    """Each filter is an entry of the browser's history."""
    page = visit("#results")
    page.locator('button.facet[data-value="verdict=FAIL"]').click()
    page.locator('button.facet[data-value="check=moving statistics"]').click()
    both = text(page, "#results-said")
    page.go_back()
    expect(page).not_to_have_url(re.compile("check="))
    expect(page.locator("button.facet[aria-pressed=true]")).to_have_count(1)
    assert text(page, "#results-said") != both
    page.go_forward()
    expect(page.locator("#results-said")).to_have_text(both)


def test_an_address_restores_filter_query_and_order(visit):
    """A link that somebody sent opens what they saw."""
    page = visit("#results?verdict=FAIL&q=rho%3E5+-output%3Ay&sort=rho")
    assert page.locator("#query").input_value() == "rho>5 -output:y"
    sizes = page.locator("#results-table tbody td:nth-child(8)").all_inner_texts()
    values = [float("inf") if size == "∞" else float(size) for size in sizes]
    assert values == sorted(values)
    assert values[0] > 5
    assert page.locator("#results-table th[aria-sort=ascending]").inner_text().startswith("ρ")


def test_a_deep_link_opens_a_case_again(visit):
    """The address of a case, opened in another window, shows the same number and the same arrays."""
    page = visit("#results?verdict=FAIL&output=moving_mean")
    page.locator("#results-table tbody a").first.click()
    page.wait_for_selector("#case.here .maps")
    other = visit("#" + page.url.partition("#")[2])
    assert text(other, "#case .verdict") == text(page, "#case .verdict")
    expect(other.locator("#case .map")).to_have_count(6)
    expect(other.locator("#case rect.worst")).to_have_count(5)


def test_a_cell_opens_the_number_that_it_shows(visit):
    """Each cell with a ρ leads to the group whose worst it is; one of refusals and the like says how many they are."""
    page = visit()
    cells = page.locator("table.gate td a").evaluate_all("all => all.map(a => [a.textContent.trim(), a.hash.slice(1)])")
    assert len(cells) >= 4
    for said, anchor in cells:
        shown = said.split(" ", 1)[1]
        summary = page.evaluate(
            "anchor => document.getElementById(anchor).querySelector('summary').textContent", anchor
        )
        number = shown.split()[0] if shown[0].isdigit() and " " in shown else ""
        assert f"{number} failure" in summary if number else f"worst ρ = {shown}" in summary, (said, summary)


def test_three_clicks_from_a_red_cell_to_its_reason(visit):
    """Cell, case: two clicks from the table to expected, got, allowed error, the arrays and the command."""
    page = visit()
    page.locator("td.departs a", has_text="✗").first.click()
    expect(page.locator("#failures details[open]")).to_have_count(1)
    page.locator("#failures details[open] tbody a").first.click()
    said = text(page, "#case .verdict")
    assert "FAIL, unexplained" in said
    expect(page.locator("#case .command")).to_contain_text("/cases/")
    assert page.locator("#case .timeline li").count() >= 2


def test_next_and_previous_stay_in_the_filter(visit):
    """On a case, j and k go through what the filter leaves, in its order, and u goes back to the list."""
    page = visit("#results?verdict=FAIL&output=moving_variance")
    whole = int(re.match(r"([\d,]+)", text(page, "#results-said"))[1].replace(",", ""))
    page.locator("#results-table tbody a").first.click()
    expect(page.locator("#case .steps")).to_contain_text(f"1 of {whole} in the filter")
    page.keyboard.press("j")
    expect(page.locator("#case .steps")).to_contain_text(f"2 of {whole} in the filter")
    page.keyboard.press("k")
    expect(page.locator("#case .steps")).to_contain_text(f"1 of {whole} in the filter")
    page.keyboard.press("u")
    expect(page.locator("#results.here")).to_have_count(1)  # a change of the address is heard of later
    assert "output=moving_variance" in unquote(page.url)


def test_the_list_works_by_keyboard(visit):
    """j and k choose a result, Enter opens it; / goes to the search, ? to the help, digits to pages, Escape closes."""
    page = visit("#overview")
    page.keyboard.press("3")
    expect(page.locator("#results.here")).to_have_count(1)  # a change of the address is heard of later
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.locator("#case.here")).to_have_count(1)  # a change of the address is heard of later
    page.keyboard.press("/")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.type("dtype:float64")
    expect(page).to_have_url(re.compile("dtype%3Afloat64"))
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#help-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help-dialog")).not_to_be_visible()
    page.keyboard.press("c")
    expect(page.locator("#query")).to_have_value("")


def test_what_a_query_means_is_said_where_it_means_nothing(visit):
    """A field that does not exist is named, with those that do; nothing is filtered by it."""
    page = visit("#results?q=colour%3Ared")
    expect(page.locator("#query-said")).to_contain_text(
        "no field is called colour; there are implementation, framework"
    )


@pytest.mark.parametrize(
    ("words", "column", "fits"),
    [
        ("implementation:numpy*cpu", 1, r"numpy\..*@cpu"),
        ("output:moving_mean,moving_variance", 2, r"moving_(mean|variance)"),
        ("-numpy", 1, r"(?!numpy).*"),
        ("step=1 verdict:pass", 4, "1"),
        ('"moving statistics"', 2, r"(moving|renorm)_\w+"),
        ("rho<=0.01", 8, r"0|0\.0\d+|\d(\.\d+)?e-\d+"),
    ],
)
def test_the_query_language(visit, words, column, fits):
    """Words, fields, numbers, alternatives, patterns and their denial find what they say."""
    page = visit("#results")
    page.locator("#query").fill(words)
    found = page.locator(f"#results-table tbody tr > :nth-child({column})").all_inner_texts()
    assert found
    assert [cell for cell in found if not re.fullmatch(fits, cell)] == []


def test_messages_of_implementations_are_text(visit):
    """A message with markup is shown as text in the list and on the case's page, and runs nothing."""
    page = visit("#results?q=alert")
    said = page.locator("#results-table tbody td.wrap").first.inner_text()
    assert "<script>alert('no')</script>" in said
    page.locator("#results-table tbody a").first.click()
    expect(page.locator("#case .verdict")).to_contain_text("<script>alert('no')</script>")


def test_groups_of_failures_follow_the_filter(visit):
    """On the page of failures, filter and query hide the groups that do not match."""
    page = visit("#failures")
    whole = page.locator("#failures .group:visible").count()
    page.locator('button.facet[data-value="check=outcomes"]').click()
    expect(page.locator("#failures .group:visible")).not_to_have_count(whole)
    few = page.locator("#failures .group:visible").count()
    assert 0 < few < whole
    page.locator("#clear").click()
    page.locator("#query").fill("moving_mean")
    names = page.locator("#failures .group:visible summary").all_inner_texts()
    assert names
    assert all("moving_mean" in name for name in names)
