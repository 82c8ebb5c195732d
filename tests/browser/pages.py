"""The pages of a report, as its navigation has them."""

import re
from pathlib import Path

from conformance import report

TEMPLATE = Path(report.__file__).parent / "page" / "report.html.j2"
PAGES = re.findall(r'^<a href="#(\w+)"', TEMPLATE.read_text(encoding="utf-8"), re.MULTILINE)


def until(page, expression):
    """Wait until an expression is true: the page's own policy forbids Playwright to ask again from within."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)
