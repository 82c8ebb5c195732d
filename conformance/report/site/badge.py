"""A badge: two words on two colours, as an image that needs nothing else."""

from __future__ import annotations

from markupsafe import Markup

from conformance.cases.cells import DEFAULT
from conformance.model.results import Run
from conformance.report.site.facts import SitePage

LABEL = "batch norm"
COLOURS = {"conforms": "#0b6b3a", "explained": "#7a4b00", "departs": "#a3161b"}
_OTHERS, _LEFT = "#55595f", "#33373c"
_EACH, _MARGIN, _HEIGHT = 6.3, 7, 20
"""Pixels: a letter's width on the average, the room beside a word, the height."""


def words(page: SitePage, run: Run) -> tuple[str, str]:
    """Return what a badge says, and its colour; a run of fewer cases than are sufficient says of how many it speaks."""
    known = len(page.departures)
    said = {
        "conforms": "conforms",
        "explained": f"{known} known departure{'s' if known != 1 else ''}",
        "departs": f"{page.failed - page.known} failure{'s' if page.failed - page.known != 1 else ''}",
    }.get(page.state, "not judged")
    few = run.header.cases < DEFAULT and page.state in COLOURS
    return f"{said} in {page.cases} cases" if few else said, COLOURS.get(page.state, _OTHERS)


def svg(said: str, colour: str) -> str:
    """Return a badge of these words in this colour."""
    first, second = (round(_EACH * len(text)) + 2 * _MARGIN for text in (LABEL, said))
    title = f"{LABEL}: {said}"
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" role="img" aria-label="{title}">'
        '<title>{title}</title><rect width="{w}" height="{h}" rx="3" fill="{colour}"/>'
        '<path d="M3 0H{first}V{h}H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z" fill="{left}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11" text-anchor="middle">'
        '<text x="{x}" y="14" textLength="{a}" lengthAdjust="spacingAndGlyphs">{label}</text>'
        '<text x="{z}" y="14" textLength="{b}" lengthAdjust="spacingAndGlyphs">{said}</text></g></svg>\n'
    ).format(
        w=first + second,
        h=_HEIGHT,
        title=title,
        colour=colour,
        left=_LEFT,
        first=first,
        x=first / 2,
        z=first + second / 2,
        a=first - 2 * _MARGIN,
        b=second - 2 * _MARGIN,
        label=LABEL,
        said=said,
    )
