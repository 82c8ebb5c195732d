"""SARIF 2.1.0 (OASIS): findings as results; known divergences as suppressed ones, with their justification."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from conformance.gate.decision import GateDecision
from conformance.gate.findings import Finding
from conformance.gate.outputs.text import SHOWN, command, one_line
from conformance.model.results import Run
from conformance.runs.run_file import path_of

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_RULES = {
    "unexplained": "A deviation that no known divergence explains.",
    "changed": "A deviation that is known, and is not as its divergence predicts.",
    "spread": "A deviation as a known divergence predicts it, where it does not predict one.",
    "fault": "bnconf could not judge an answer.",
    "incomplete": "Something that was asked for was not judged.",
    "vanished": "A known divergence whose witness now passes.",
    "expired": "A known divergence that was to be reviewed by now.",
    "worse": "A larger error than in the baseline, inside the bound.",
    "version changed": "Other versions than in the baseline.",
    "version unknown": "A known divergence asks about a version that nobody knows.",
    "explained": "A deviation as a known divergence predicts it.",
}
_IDS = list(_RULES)


def as_sarif(decision: GateDecision, run: Run, folder: Path) -> str:
    """Return the decision as a SARIF log; locations are files of the run's folder."""
    found = [_result(finding, decision.causes(finding), run, folder) for finding in decision.findings]
    rules = [{"id": name, "shortDescription": {"text": text}} for name, text in _RULES.items()]
    driver = {"name": "bnconf", "version": run.header.version, "rules": rules}
    invocation = {"executionSuccessful": decision.status not in (3, 5), "exitCode": decision.status}
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [invocation],
                "columnKind": "unicodeCodePoints",
                "results": [*found, *_suppressed(decision, path_of(folder).name)],
            }
        ],
    }
    return msgspec.json.format(msgspec.json.encode(log)).decode() + "\n"


def _result(finding: Finding, causes: list[str], run: Run, folder: Path) -> dict[str, Any]:
    level = "error" if finding.status else "note" if finding.kind == "version changed" else "warning"
    lines = [one_line(said) for said in (finding.says, *causes)]
    lines += [command(run, failure, folder) for failure in finding.failures[:SHOWN]]
    file = run.cases[finding.failures[0].case].file if finding.failures else path_of(folder).name
    about = (finding.kind, finding.implementation, finding.output, *finding.divergences)
    return {**_about(finding.kind, level, "\n".join(lines), file), "partialFingerprints": {"bnconf/v1": _hash(about)}}


def _suppressed(decision: GateDecision, file: str) -> Iterator[dict[str, Any]]:
    """Yield a result for each implementation and output that known divergences explain; file: the run's."""
    counts = Counter((e.result.implementation, e.result.output, e.divergences) for e in decision.explained)
    for (implementation, output, divergences), count in sorted(counts.items()):
        text = one_line(f"{implementation} {output}: {count} failures as {', '.join(divergences)} predicts")
        why = one_line("; ".join(decision.reasons[name] for name in divergences))
        yield {
            **_about("explained", "note", text, file),
            "partialFingerprints": {"bnconf/v1": _hash(("explained", implementation, output, *divergences))},
            "suppressions": [{"kind": "external", "status": "accepted", "justification": why}],
        }


def _about(rule: str, level: str, text: str, file: str) -> dict[str, Any]:
    location = {"physicalLocation": {"artifactLocation": {"uri": file}, "region": {"startLine": 1}}}
    return {
        "ruleId": rule,
        "ruleIndex": _IDS.index(rule),
        "level": level,
        "message": {"text": text},
        "locations": [location],
    }


def _hash(about: tuple[str, ...]) -> str:
    """Return what tells the same finding of two runs from others: not its counts, nor its worst case."""
    return hashlib.sha256("\0".join(about).encode()).hexdigest()[:16]
