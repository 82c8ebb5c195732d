"""Ask releases of every family, and write the page of what changed: `make history`.

Each release is kept in reports/releases as soon as it was asked, and is asked again only where its family's file is
gone. A family of which nothing is kept stands on the page as it stood.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import msgspec

from conformance.hosts import builds
from conformance.studies.bisecting import history, history_page
from conformance.studies.bisecting.history import FamilyHistory, HistoryFamily

KEPT = Path("reports/releases")
PAGE = Path("conformance/history.md")


def main() -> None:
    """Read the command line, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", help="default: all")
    parser.add_argument("--page-only", action="store_true", help="make the page of what is kept")
    parser.add_argument("--discard", action="store_true", help="remove each environment as soon as it was asked")
    given = parser.parse_args()
    plan = history.plan()
    KEPT.mkdir(parents=True, exist_ok=True)
    for family in plan.family:
        if not given.page_only and family.name in (given.families or [family.name]):
            _asked(family, plan.cases, given.discard)
    kept = [told for family in plan.family if (told := _kept(family)).columns]
    PAGE.write_text(history_page.page(kept, plan, PAGE.read_text() if PAGE.exists() else ""))
    print(f"{PAGE}: {sum(len(told.columns) for told in kept)} releases kept")


def _file(family: HistoryFamily) -> Path:
    return KEPT / f"{family.name}.json"


def _kept(family: HistoryFamily) -> FamilyHistory:
    """Return what is kept of a family, the releases that are planned still."""
    if not _file(family).exists():
        return FamilyHistory(family, [])
    found = msgspec.json.decode(_file(family).read_bytes(), type=FamilyHistory)
    by = {column.version: column for column in found.columns}
    return FamilyHistory(family, [by[version] for version in family.versions if version in by])


def _asked(family: HistoryFamily, names: list[str], discard: bool) -> None:
    """Ask the releases of a family that are not kept."""
    asked = history.HistoryQuestions(family, names, print)
    for version in family.versions:
        told = _kept(family)
        if version in (column.version for column in told.columns):
            continue
        started = time.monotonic()
        told = FamilyHistory(family, [*told.columns, asked.column(version)])
        _file(family).write_bytes(msgspec.json.encode(told))
        print(f"{family.name} {version}: {time.monotonic() - started:,.0f} s", flush=True)
        for made in builds.kept().glob(f"{family.package}-{version}-*") if discard else ():
            shutil.rmtree(made)


if __name__ == "__main__":
    main()
