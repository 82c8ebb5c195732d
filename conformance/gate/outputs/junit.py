"""JUnit XML: a test case per implementation and group of checks, as Jenkins, GitLab and others read it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import groupby
from pathlib import Path

from conformance.gate.decision import GateDecision
from conformance.gate.outputs.checks import Check, State, table
from conformance.gate.outputs.text import one_line
from conformance.model.results import Run

_TAGS: dict[State, str] = {"known": "skipped", "not judged": "skipped", "failed": "failure", "error": "error"}


def as_junit(decision: GateDecision, run: Run, folder: Path) -> str:
    """Return the decision as a JUnit document; what is known and as predicted is skipped, with the reason."""
    checks = table(decision, run, folder)
    seconds = run.end.seconds if run.end else 0.0
    root = ET.Element("testsuites", _counts(checks) | {"name": "bnconf gate", "time": f"{seconds:.3f}"})
    for implementation, found in groupby(checks, key=lambda check: check.implementation):
        root.append(_suite(one_line(implementation), list(found), run.header.started))
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True).decode() + "\n"


def _suite(implementation: str, checks: list[Check], started: str) -> ET.Element:
    about = {"name": implementation, "time": "0", "timestamp": started[:19]}
    skipped = sum(_TAGS.get(check.state) == "skipped" for check in checks)
    suite = ET.Element("testsuite", about | _counts(checks) | {"skipped": str(skipped)})
    for check in checks:
        case = ET.SubElement(suite, "testcase", classname=implementation, name=check.group, time="0")
        if tag := _TAGS.get(check.state):
            message = "; ".join(check.says)
            found = ET.SubElement(case, tag, message=message)
            if tag != "skipped":
                found.set("type", check.state)
                found.text = "\n".join([*check.says, *check.commands])
    return suite


def _counts(checks: list[Check]) -> dict[str, str]:
    tags = [_TAGS.get(check.state) for check in checks]
    return {
        "tests": str(len(checks)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
    }
