"""Ask releases of every family, and write the page of what changed: `make history`.

Each family is kept in reports/releases, and is asked again only where its file is gone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec

from conformance.studies.bisecting import history

KEPT = Path("reports/releases")
PAGE = Path("conformance/history.md")


def main() -> None:
    """Read the command line, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", help="default: all")
    parser.add_argument("--page-only", action="store_true", help="make the page of what is kept")
    given = parser.parse_args()
    plan = history.plan()
    KEPT.mkdir(parents=True, exist_ok=True)
    for family in plan.family:
        file = KEPT / f"{family.name}.json"
        if not given.page_only and not file.exists() and family.name in (given.families or [family.name]):
            started = time.monotonic()
            file.write_bytes(msgspec.json.encode(history.ask(family, plan.cases, print)))
            print(f"{family.name}: {time.monotonic() - started:,.0f} s", flush=True)
    kept = [KEPT / f"{family.name}.json" for family in plan.family]
    found = [msgspec.json.decode(file.read_bytes(), type=history.FamilyHistory) for file in kept if file.exists()]
    PAGE.write_text(history.page(found))
    print(f"{PAGE}: {sum(len(told.columns) for told in found)} releases")


if __name__ == "__main__":
    main()
