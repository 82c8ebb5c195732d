"""The static site in a real browser: in both themes and every width, accessible, and asking for nothing but itself."""

from __future__ import annotations

import pytest

from conformance.report import gather, site, write

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WRONG, RIGHT = "wrong.momentum_swapped@cpu", "numpy.two_pass@cpu"


@pytest.fixture(scope="module")
def folder(runs, tmp_path_factory):
    """Return a site of two runs, in the earlier of which there were two implementations."""
    home = tmp_path_factory.mktemp("site")
    for name in ("before", "now"):
        material = gather(runs / name)
        site.write(material, home, write(material, runs / name / "report.html"))
    return home


@pytest.fixture
def open_site(chromium, folder):
    """Open a page of the site; it must not complain, nor ask for anything outside the site."""
    contexts, complaints = [], []

    def go(path="index.html", **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked(request.url))
        page.on("requestfailed", lambda request: complaints.append(f"not there: {request.url}"))
        page.goto((folder / path).as_uri())
        return page

    def asked(url):
        if not url.startswith(folder.as_uri()):
            complaints.append(f"asked for {url}")

    yield go
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["index.html", f"implementations/{WRONG}.html", f"implementations/{RIGHT}.html"])
def test_a_page_is_accessible_at_every_width(open_site, theme, path):
    """axe has no complaint, the theme is the system's, and only tables scroll sideways, from 390 to 2,560 px."""
    page = open_site(path, color_scheme=theme)
    found = axe.Axe().run(page, options={"runOnly": RULES, "preload": False}).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found] == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[theme]
    for width in (390, 1280, 2560):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width


def test_the_site_needs_no_script(open_site):
    """Without JavaScript the index leads to a page, that to its badge, its history and back, and on to the report."""
    page = open_site(java_script_enabled=False)
    page.get_by_role("link", name=WRONG).click()
    assert page.get_by_role("heading", level=1).inner_text() == WRONG
    page.get_by_role("navigation").get_by_role("link", name="History").click()
    rows = page.get_by_role("region", name="Run by run").locator("tbody tr")
    assert rows.count() == 2
    assert all("✗ departs" in text for text in rows.all_inner_texts())
    badge = page.get_by_role("img", name="batch norm:")
    assert badge.bounding_box()["width"] > 100  # an image that did not load is as wide as its icon
    page.get_by_role("link", name="All implementations").click()
    page.get_by_role("link", name="Its whole report").click()
    assert "Overview" in page.locator("h2").first.inner_text()
