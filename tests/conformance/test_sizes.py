"""The code stays small: functions and modules have a size that is read at a glance."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
ADAPTERS = ROOT / "conformance" / "implementations"
FILES = [p for of in ("conformance", "reference") for p in (ROOT / of).rglob("*.py") if ADAPTERS not in p.parents]


def lengths() -> dict[str, int]:
    """Return the lines of each function, signature and docstring included, by its place."""
    found: dict[str, int] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                found[place] = node.end_lineno - node.lineno + 1
    return found


def test_functions_are_short():
    """Half of them have at most 8 lines, nine of ten at most 18, and none more than 45."""
    found = lengths()
    assert len(found) > 1000
    median, most = np.percentile(list(found.values()), (50, 90))
    assert (median <= 8, most <= 18) == (True, True), (median, most)
    assert {place: n for place, n in found.items() if n > 45} == {}


def test_modules_are_short():
    """None has more than 300 lines."""
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {path: n for path, n in sizes.items() if n > 300} == {}
