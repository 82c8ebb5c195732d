"""Where the report must work: without script, in a sandboxed frame, under a strict policy, in both themes, printed."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from pages import PAGES

from conformance.report import gather, index, write
from conformance.report.server import Pages, server
from conformance.runs import run_file

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

OF_COLOURS = ["color-contrast", "link-in-text-block"]  # all that a theme changes
DARK = ("overview", "results", "accuracy", "case")  # that have every colour there is


def test_without_script_the_essential_is_readable(visit):
    """Verdict, table and failures are there, nothing that needs the script is."""
    page = visit(java_script_enabled=False, ready=False)
    for said in ("#overview .verdict", "#overview table", "#failures summary >> nth=0", "#accuracy .chart >> nth=0"):
        assert page.locator(said).first.is_visible()
    assert not page.locator(".scripted:visible").count()
    page.locator("#failures summary").first.click()
    assert "bnconf replay" in page.locator("#failures details[open] pre").inner_text()


def test_a_sandboxed_frame_is_enough(chromium, report, tmp_path):
    """In a frame without an origin, with no storage and no clipboard, filters and cases work."""
    frame = tmp_path / "frame.html"
    frame.write_text(f'<iframe sandbox="allow-scripts" width="1200" height="900" src="{report.as_uri()}"></iframe>')
    page = chromium.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(frame.as_uri())
    inside = page.frame_locator("iframe")
    inside.locator("html[data-ready]").wait_for(state="attached")
    inside.locator("nav a", has_text="Results").click()
    inside.locator('button.facet[data-value="verdict=FAIL"]').click()
    inside.locator("#query").fill("moving_mean")
    inside.locator("#results-table tbody a").first.click()
    assert "FAIL" in inside.locator("#case .verdict").inner_text()
    inside.locator("#theme").click()
    inside.locator("#case .command button").click()
    inside.locator("#case .command output", has_text="cop").wait_for()
    assert errors == []
    page.close()


def test_a_strict_policy_admits_the_separate_files(chromium, runs, tmp_path):
    """Served with a policy of the server's that allows 'self' and nothing inline, everything works."""
    write(gather(runs / "now"), tmp_path / "report.html", separate=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def end_headers(self):
            self.send_header("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'")
            super().end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        page = chromium.new_page()
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"http://127.0.0.1:{running.server_address[1]}/report.html#results")
        page.wait_for_selector("#results-table tbody tr")
        assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "flex"
        page.close()
        running.shutdown()
    assert [line for line in said if "favicon" not in line and "404" not in line] == []


@pytest.mark.parametrize(
    ("name", "theme"),
    [(name, "light") for name in (*PAGES, "case", "help")]
    + [(name, "dark") for name in DARK]
    + [pytest.param(name, "dark", marks=pytest.mark.proof) for name in (*PAGES, "help") if name not in DARK],
)
def test_axe_finds_no_violation(visit, name, theme):
    """WCAG A and AA, as far as a program can tell, on every page, and its colours in either theme."""
    few = "#results?verdict=FAIL&output=moving_mean"  # axe takes its time for each cell
    page = visit(few if name in ("results", "case", "help") else f"#{name}", color_scheme=theme)
    if name == "case":
        page.locator("#results-table tbody a").first.click()
        page.wait_for_selector("#case .verdict")
    if name == "help":
        page.keyboard.press("?")
    page.evaluate("for (const one of [...document.querySelectorAll('.page.here details')].slice(0, 5)) one.open = true")
    rules = {"light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], "dark": OF_COLOURS}
    found = axe.Axe().run(page, options={"runOnly": rules[theme]}).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found] == []


@pytest.mark.parametrize("width", [360, 2560])
def test_no_width_makes_the_page_scroll_sideways(visit, width):
    """Tables scroll inside themselves; the page does not."""
    page = visit(viewport={"width": width, "height": 800})
    for name in (*PAGES, "results?verdict=FAIL"):
        page.evaluate(f"location.hash = '{name}'")
        page.wait_for_selector(f"#{name.partition('?')[0]}.here")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_colours_can_be_chosen_and_are_remembered(visit):
    """The theme goes from the system's to light to dark, and stays when the page is loaded again."""
    page = visit(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.keyboard.press("t")
    light = page.evaluate(background)
    assert light == "rgb(255, 255, 255)" != dark
    page.reload()
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.evaluate(background) == light


def test_print_shows_every_static_page(visit):
    """On paper all pages follow one another, without what needs a screen."""
    page = visit("#history")
    page.emulate_media(media="print")
    assert page.locator("#overview table").is_visible()
    assert page.locator("#failures summary").first.is_visible()
    assert not page.locator("nav").is_visible()
    assert not page.locator("#results").is_visible()


def test_paper_shows_what_a_screen_opens(visit):
    """Printed, details are open, commands legible, and all columns of semantics there, in tables that a page holds."""
    page = visit("#semantics", viewport={"width": 1050, "height": 740})
    shown = "(all => all.filter(one => one.checkVisibility()).length)"
    assert page.locator("#failures pre").evaluate_all(shown) == 0
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#failures pre").evaluate_all(shown) == page.locator("#failures pre").count() > 0
    heads = page.locator("#printed th[data-field]").evaluate_all("all => all.map(one => one.dataset.field)")
    assert heads == page.locator(".promises:not(.copy) th[data-field]").evaluate_all(
        "all => all.map(one => one.dataset.field)"
    )
    wide = "all => all.filter(one => one.getBoundingClientRect().width > innerWidth).map(one => one.className)"
    assert page.locator("table").evaluate_all(wide) == []
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#failures details[open]").count() == 0


def test_a_wide_table_has_a_shadow_where_it_goes_on(visit):
    """What is cut at the right of a table is hinted at, and heads and the corner stay while it is scrolled."""
    page = visit(viewport={"width": 700, "height": 600})
    around = page.locator("#overview .scroll", has=page.locator(".gate"))
    assert around.evaluate("one => one.scrollWidth > one.clientWidth")
    assert "linear-gradient" in around.evaluate("one => getComputedStyle(one).backgroundImage")
    around.evaluate("one => one.scrollTo(100, 0)")
    corner = page.locator(".gate thead th").first
    inside = "(one) => [one.getBoundingClientRect().left, one.closest('.scroll').getBoundingClientRect().left]"
    left, edge = corner.evaluate(inside)
    assert abs(left - edge) <= 2


@pytest.mark.parametrize(
    ("name", "table"),
    [("overview", ".gate"), ("semantics", ".promises"), ("accuracy", "#ranking"), ("accuracy", "#heat")],
)
def test_a_telephone_shows_each_row_as_a_card(visit, name, table):
    """At 390 px no column is out of sight: each cell stands in its row's card, beside its column's name."""
    page = visit(f"#{name}", viewport={"width": 390, "height": 800})
    cells = page.locator(f"{table} tbody tr").nth(1).locator("td:visible")
    for cell in cells.all():
        left, right = cell.evaluate("one => [one.getBoundingClientRect().left, one.getBoundingClientRect().right]")
        assert 0 <= left < right <= 390
    heads = cells.evaluate_all("all => all.map(one => getComputedStyle(one, '::before').content)")
    assert heads
    assert all(len(head) > 2 for head in heads)


def test_nothing_moves_where_motion_is_unwanted(visit):
    """No transition and no animation, so that there is nothing to reduce."""
    page = visit(reduced_motion="reduce")
    moving = "[...document.querySelectorAll('*')].filter(one => { const s = getComputedStyle(one);"
    moving += " return s.animationName !== 'none' || s.transitionDuration !== '0s'; }).length"
    assert page.evaluate(moving) == 0


def test_serving_is_for_this_machine_and_follows_the_run(chromium, runs, tmp_path):
    """The page loads again when the run's file changes; another host's name is refused."""
    folder = tmp_path / "run"
    folder.mkdir()
    file = folder / run_file.FILE
    file.write_bytes((runs / "now" / run_file.FILE).read_bytes())
    with server(Pages(folder, lambda: gather(folder)), 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        assert running.server_address[0] == "127.0.0.1"
        address = f"http://127.0.0.1:{running.server_address[1]}/"
        page = chromium.new_page()
        page.goto(address)
        page.wait_for_selector("html[data-ready]", state="attached")
        assert "9 implementations" in page.locator("#overview").inner_text()
        page.wait_for_timeout(1500)  # the page has asked once
        file.write_bytes((runs / "before" / run_file.FILE).read_bytes())
        page.wait_for_selector("text=2 implementations", timeout=10_000)
        request = urllib.request.Request(address, headers={"Host": "evil.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
        page.close()
        running.shutdown()


def test_the_index_lists_the_runs_kept(chromium, runs):
    """One page over all runs of a folder, newest first, each with its numbers."""
    page = chromium.new_page()
    page.goto(index(runs).as_uri())
    names = page.locator("tbody th").all_inner_texts()
    assert sorted(names) == ["before", "now"]
    assert "of 9" in page.locator("tbody").inner_text()
    page.close()


def test_a_pdf_is_printed_where_there_is_a_browser(chromium, runs, tmp_path):
    """`--pdf` writes one; without a browser on PATH it says so and exits 3."""
    command = [sys.executable, "-m", "conformance", "report", str(runs / "now"), "--out", str(tmp_path / "r.html")]
    command += ["--pdf", str(tmp_path / "r.pdf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")
    bare = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)})
    assert bare.returncode == 3
    assert "no Chromium on PATH" in bare.stderr
