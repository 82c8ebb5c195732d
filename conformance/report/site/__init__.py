"""A static site of runs: a page and a badge for each implementation, an index, and the history that it keeps.

Links are relative, and there is no script, so that any server of files will do, or none.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from conformance.cases.cells import DEFAULT
from conformance.model.errors import InvalidInput
from conformance.model.reference_rules import RULES
from conformance.report import page_of, save, style
from conformance.report.material import Material
from conformance.report.site import badge, facts, kept
from conformance.report.site.facts import SitePage
from conformance.report.site.kept import SiteRun
from conformance.report.svg import sparkline
from conformance.runs import summary

PAGES, BADGES, REPORT, STYLE = "implementations", "badges", "report", "style.css"
_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"


def check(folder: Path, run: Path, *, serve: bool = False) -> None:
    """Raise InvalidInput where a site of a run must not be written into a folder; serve: the report is to be served."""
    if serve:
        raise InvalidInput(f"--site {folder}: is for another server, and --serve is one; leave one out")
    home = run if run.is_dir() else run.parent
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"--site {folder}: is a file; name a folder")
    if folder.resolve() == home.resolve():
        raise InvalidInput(f"--site {folder}: is the run's own folder, which the next run clears; name another")
    if (folder / "index.html").exists() and not (folder / kept.FILE).exists():
        raise InvalidInput(
            f"--site {folder}: holds an index.html and no {kept.FILE}, so that it is no site of ours; name another"
        )
    kept.read(folder)


def write(material: Material, folder: Path, report: list[Path]) -> Path:
    """Write the site of a run, with the runs that the folder keeps already, and return its index.

    report: the files of the run's report, which are put beside it.
    """
    if material.decision is None:
        raise InvalidInput(
            f"{material.folder}: the gate cannot decide on this run ({material.undecided}), and a site that took what "
            "is known for new would accuse; run again, or copy the whole folder"
        )
    pages = facts.pages(material)
    runs = kept.added(kept.read(folder), kept.of(material.run, pages, material.decision))
    kept.write(runs, folder)
    save(folder / STYLE, style("report.css", "site.css"))
    save(folder / ".nojekyll", "")
    for path in report:
        (folder / REPORT).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / REPORT / path.name)
    for page in pages:
        save(folder / BADGES / f"{page.slug}.svg", badge.svg(*badge.words(page, material.run)))
        save(folder / PAGES / f"{page.slug}.html", _page(page, material, runs))
    return save(folder / "index.html", _index(material, pages, runs, folder, report))


def _page(page: SitePage, material: Material, runs: list[SiteRun]) -> str:
    mine = [(run, run.implementations[page.id]) for run in runs if page.id in run.implementations]
    inside = [summary.as_number(row.inside) for _, row in mine]
    logs = [math.log10(v) if 0 < v < math.inf else math.nan for v in inside]
    line = sparkline(logs, f"worst ρ of {page.id}, run by run")
    shown = {"page": page, "material": material, "history": mine, "since": kept.since(runs, page.id)}
    said, _ = badge.words(page, material.run)
    return _template("site_page.html.j2", **shown, line=line, badge=said, enough=DEFAULT, rules=RULES)


def _index(material: Material, pages: list[SitePage], runs: list[SiteRun], folder: Path, report: list[Path]) -> str:
    last = kept.last(runs)
    order = dict.fromkeys([*(page.id for page in pages), *last])
    links = {name: f"{PAGES}/{facts.slug(name)}.html" for name in order}
    there = {name: link for name, link in links.items() if (folder / link).exists()}
    found = [(name, *last[name]) for name in order]
    return _template(
        "site_index.html.j2",
        material=material,
        found=found,
        links=there,
        runs=runs,
        report=f"{REPORT}/{report[0].name}",
    )


def _template(name: str, **values: Any) -> str:
    return page_of(name, policy=_POLICY, words=facts.WORDS, ended=facts.ENDED, **values)
