"""CTRF, the Common Test Report Format (https://ctrf.io): the same checks as in JUnit, as JSON."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from conformance.gate.decision import GateDecision
from conformance.gate.outputs.checks import Check, State, table
from conformance.model.results import Run

_STATUS: dict[State, str] = {"passed": "passed", "known": "skipped", "not judged": "skipped", "failed": "failed"}


def as_ctrf(decision: GateDecision, run: Run, folder: Path) -> str:
    """Return the decision as a CTRF report; what is missing or could not be judged has the status `other`."""
    tests = [_test(check) for check in table(decision, run, folder)]
    counts = Counter(test["status"] for test in tests)
    start = round(datetime.fromisoformat(run.header.started).timestamp() * 1000)
    summary = {status: counts[status] for status in ("passed", "failed", "pending", "skipped", "other")}
    stop = start + round(1000 * (run.end.seconds if run.end else 0))
    report = {
        "reportFormat": "CTRF",
        "specVersion": "0.1.0",
        "results": {
            "tool": {"name": "bnconf", "version": run.header.version},
            "summary": {"tests": len(tests), **summary, "start": start, "stop": stop},
            "tests": tests,
        },
    }
    return msgspec.json.format(msgspec.json.encode(report)).decode() + "\n"


def _test(check: Check) -> dict[str, Any]:
    test = {"name": check.group, "suite": [check.implementation], "rawStatus": check.state, "duration": 0}
    if check.says:
        test["message"] = "; ".join(check.says)
    if check.commands:
        test["trace"] = "\n".join(check.commands)
    return test | {"status": _STATUS.get(check.state, "other")}
