"""Prove the semantics audit over the whole roster: what it settles, that witnesses replay, that identify finds it too.

    python tests/benchmarks/prove_audit.py [-i PATTERN]… [--without-identify] [--json FILE]

Exits 1 where less than 95 % of the cells are proven, a witness does not replay as it was recorded, the true semantics
are not among those identified, or less than 90 % of the implementations are identified as one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from conformance.gate import divergences
from conformance.hosts import roster
from conformance.hosts.participants import Participants
from conformance.model.case import case_id
from conformance.model.case_facts import step_facts
from conformance.model.codec import read_case
from conformance.model.results import ImplementationRecord
from conformance.runs import asking
from conformance.studies.audit import fields, identifying, making, probes
from conformance.studies.audit.auditing import Audit, Auditor
from conformance.studies.audit.cells import FieldFinding
from conformance.studies.audit.identifying import Found, meant
from reference import Semantics


def main() -> int:
    """Run the audit and the searches, print what was found, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-i", dest="patterns", action="append", default=[])
    parser.add_argument("--without-identify", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    entries = roster.select(tuple(arguments.patterns))
    with tempfile.TemporaryDirectory() as folder:
        who = Participants(entries, requested=True)
        began = time.monotonic()
        audit = Auditor(who, Path(folder), divergences.read(), _say).run()
        seconds = time.monotonic() - began
        bad = [*audited(audit, seconds), *kept(audit, Path(folder))]
        searched = [] if arguments.without_identify else list(identified(audit, who))
    bad += judged(searched)
    if arguments.json:
        arguments.json.write_text(json.dumps(searched, indent=1, default=str) + "\n")
    print("\n".join(bad) or "All of it holds.")
    return 1 if bad else 0


def audited(audit: Audit, seconds: float) -> list[str]:
    """Say how many cells are proven, and return what is wrong with that."""
    proven = [cell for cell in audit.cells if cell.status == "proven"]
    share = len(proven) / max(len(audit.cells), 1)
    print(f"{len(proven)} of {len(audit.cells)} cells proven, {share:.1%}, in {seconds:.0f} s")
    for cell in (cell for cell in audit.cells if cell.status != "proven"):
        print(f"  {cell.status}: {cell.implementation} {cell.field} {cell.value}: {cell.why}")
    silent = [c for c in audit.cells if c.status != "proven" and not c.why]
    return ["less than 95 % of the cells are proven"] * (share < 0.95) + [f"no reason: {c}" for c in silent]


def kept(audit: Audit, folder: Path) -> list[str]:
    """Return the witnesses whose file is missing, or holds another case."""
    witnesses = {w.case: w for c in audit.cells for w in (c.witness, *c.others.values()) if w}
    wrong = [w.case for w in witnesses.values() if case_id(read_case(folder / w.file)[0]) != w.case]
    print(f"{len(witnesses)} different cases are witnesses")
    return [f"the file of witness {case} holds another case" for case in wrong]


def identified(audit: Audit, who: Participants) -> Any:
    """Yield what identify finds of each implementation, and whether the audit's values are among it."""
    for entry, record, ask in asking.each(who):
        began, all_of_it = time.monotonic(), identifying.identify(entry.statement, ask)
        found = all_of_it.found
        cells = [cell for cell in audit.cells if cell.implementation == entry.id]
        line: dict[str, Any] = {
            "implementation": entry.id,
            "seconds": round(time.monotonic() - began, 1),
            "cases": sum(len(one.asked) for one in found),
            "paths": len(found),
            "single": bool(found) and all(len(one.semantics) == 1 for one in found),
            "contains": bool(found) and all(contains(one, cells, entry) for one in found),
            "open": [one.open for one in found if one.open],
            "unexplained": [name for one in found for name in one.unexplained],
            "outside": [f"{one.place.name} {one.place.dtype}" for one in all_of_it.outside],
        }
        if not found and known_wrong(entry, record):
            line["contains"] = "nothing: no semantics are what a known divergence makes of its plain answers"
        print(f"  {line}", flush=True)
        yield line


def known_wrong(entry: roster.RosterEntry, record: ImplementationRecord) -> bool:
    """Return whether y of a plain inference step is known to be wrong, by no formula."""
    case = probes.PROBES[0].make(making.PLACES[0])
    about = step_facts(case, len(case.steps) - 1)
    return any(d.predicts.wrong and d.concerns(record) and d.covers(about, "y") for d in divergences.read())


def contains(found: Found, cells: list[FieldFinding], entry: roster.RosterEntry) -> bool:
    """Return whether some semantics found have every value that the audit proved in the first place of the path."""
    place = next((place for place in found.places if place.dtype == "float32"), None)
    if place is None:
        return True  # the audit's cells say nothing of a path of float64 alone
    cells = [cell for cell in cells if cell.field in fields.NAMES]
    here = {c.field: c.value for c in cells if c.status != "refuted" and (not c.where or place.name in c.where)}
    truth = meant(entry.statement, msgspec.convert(here, Semantics), found.taken)
    known = [n for n in fields.NAMES if not any(c.field == n and c.status == "refuted" for c in cells)]
    return any(all(getattr(s, n) == getattr(truth, n) for n in known) for s in found.semantics)


def judged(searched: list[dict[str, Any]]) -> list[str]:
    """Say how many are identified, and return what is wrong with that."""
    if not searched:
        return []
    single = sum(line["single"] for line in searched)
    lost = [line["implementation"] for line in searched if not line["contains"]]
    slow = max(searched, key=lambda line: line["seconds"])
    print(f"{single} of {len(searched)} identified as one; slowest {slow['implementation']}, {slow['seconds']} s")
    few = [f"only {single} of {len(searched)} are identified as one"] * (single < 0.9 * len(searched))
    return [f"identify loses the semantics of {name}" for name in lost] + few


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
