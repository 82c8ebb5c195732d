"""The pages of a report, as its navigation has them."""

import re
from pathlib import Path

from conformance import report

TEMPLATE = Path(report.__file__).parent / "page" / "report.html.j2"
PAGES = re.findall(r'^<a href="#(\w+)"', TEMPLATE.read_text(encoding="utf-8"), re.MULTILINE)
