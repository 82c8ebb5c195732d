"""Pictures of a report, light and dark, wide and narrow, for people to look at.

    python tests/browser/screenshots.py [RUN] [--out FOLDER]

Opens RUN/report.html, by default of reports/latest, and writes a picture of every page and of a case, and
screenshot.png, which is the overview as the README shows it. Exits 2 where there is no report.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pages import PAGES
from playwright.sync_api import sync_playwright

from conformance.report.pdf import browser

WIDTHS = {"wide": (1440, 900), "narrow": (360, 780)}
README = (1440, 860)


def pictures(chromium, file, out):
    """Yield the files written."""
    for theme in ("light", "dark"):
        for name, (width, height) in WIDTHS.items():
            page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
            for place in PAGES:
                shown(page, file, f"#{place}")
                yield saved(page, out / f"{place}-{name}-{theme}.png")
            shown(page, file, "#results?verdict=FAIL")
            if page.locator("#results-table tbody a").count():
                page.locator("#results-table tbody a").first.click()
                yield saved(page, out / f"case-{name}-{theme}.png")
            page.close()


def shown(page, file, place):
    """Open a place of the report."""
    page.goto(file.as_uri() + place)
    page.wait_for_selector("html[data-ready]", state="attached")


def saved(page, path):
    """Take a picture and return its path."""
    page.screenshot(path=path)
    return path


def main():
    """Take the pictures and print where they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=Path("reports/latest"))
    parser.add_argument("--out", type=Path, help="Default: screenshots in the run's folder.")
    arguments = parser.parse_args()
    file, out = (arguments.run / "report.html").resolve(), arguments.out or arguments.run / "screenshots"
    if not file.exists():
        sys.stderr.write(f"{file}: is not there; write it with bnconf report {arguments.run}\n")
        sys.exit(2)
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=browser(), args=root)
        for path in pictures(chromium, file, out):
            sys.stdout.write(f"{path}\n")
        page = chromium.new_page(viewport=dict(zip(("width", "height"), README, strict=True)), color_scheme="light")
        shown(page, file, "")
        sys.stdout.write(f"{saved(page, out / 'screenshot.png')}\n")
        chromium.close()


if __name__ == "__main__":
    main()
