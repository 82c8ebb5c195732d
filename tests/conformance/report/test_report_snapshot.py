"""What a report says of a small fixed run, word by word: a change of the page is seen in review.

`python tests/conformance/report/test_report_snapshot.py` writes the snapshot anew.
"""

from __future__ import annotations

import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import msgspec

from conformance.model.results import CaseRecord, Deviation, EndRecord, ImplementationRecord, Result, RunRecord
from conformance.report import gather, render
from conformance.runs import run_file

SNAPSHOT = Path(__file__).with_name("report_snapshot.txt")
SECTIONS = ("overview", "failures", "semantics", "environment", "history", "score", "reading")
"""The pages that depend on the run alone, and not on which cells are mandatory."""

_STATEMENT = {
    "id": "a.one",
    "packages": ["a"],
    "documentation": "https://example.org/a",
    "conventions": {},
    "rules": [
        {"cite": "the manual", "semantics": {"frozen": "infer"}},
        {"cite": "a comment", "when": {"rank": [4]}, "semantics": {"stored_variance": "unbiased"}},
    ],
}


def records():
    """Return the records of the run: two implementations, one that is absent, two cases, one failure and one crash."""
    first, second, named = "c0ffee", "decaf0", "(4, 3) axis=1 float64: named"
    worst = Deviation("trajectory", [1, 2], 0.5, 0.25, 1e-6)
    recipe = {"signature": {"shape": [4, 3], "dtypes": {"x": "float16"}}, "modes": "train infer"}
    machine = {"python": "3.11", "pinned": {"N": "1"}}
    return [
        RunRecord(1, "1.2.3", 7, 2, ["bnconf", "run"], "2026-01-02T03:04:05+00:00", machine),
        ImplementationRecord("a.one@cpu", "a", "cpu", True, versions={"a": "1.0"}, statement=_STATEMENT),
        ImplementationRecord("b.two@cpu", "b", "cpu", True, versions={"b": "2.0"}, documentation="https://b.org"),
        ImplementationRecord("c.three@cpu", "c", "cpu", False, "c is not installed"),
        CaseRecord(
            first,
            0,
            "rank 2, axis 1; easy; float32",
            f"cases/{first}.safetensors",
            "(4, 3)",
            recipe,
            True,
            2,
            dtype="float16",
        ),
        CaseRecord(second, 1, "corpus", f"cases/{second}.safetensors", named, {}, True, None, "named", dtype="float64"),
        Result(first, "a.one@cpu", "PASS", 0, "train", "y", rho=0.25, deviation=worst, numerics="A·S", elements=12),
        Result(first, "a.one@cpu", "PASS", 0, "train", "moving_mean", rho=0.5, numerics="A·S", elements=3),
        Result(second, "a.one@cpu", "UNSUPPORTED", reason="dtype is float64"),
        Result(first, "b.two@cpu", "FAIL", 0, "train", "y", rho=2.5e5, deviation=worst, numerics="A·T", elements=12),
        Result(second, "b.two@cpu", "FAIL", 1, "infer", reason="killed by <signal> 11", outcome="Crashed"),
        EndRecord(True, [], 12.5, {"a": 1.0}, {}),
    ]


class _Text(HTMLParser):
    """What a page says, an element a line, its sections apart; without style, script and data."""

    def __init__(self):
        super().__init__()
        self.lines, self.section, self.skipped = [], "", 0

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        if tag == "section":
            self.section = about.get("id", "")
            if self.section in SECTIONS:
                self.lines.append(f"\n=== {self.section}")
        self.skipped += tag in ("style", "script", "svg")
        if self.section in SECTIONS and tag == "a" and about.get("href"):
            self.lines.append(f"-> {about['href']}")

    def handle_endtag(self, tag):
        self.skipped -= tag in ("style", "script", "svg")
        if tag == "main":
            self.section = ""

    def handle_data(self, data):
        if self.section in SECTIONS and not self.skipped and data.strip():
            self.lines.append(re.sub(r"\s+", " ", data.strip()))


def said(folder):
    """Return what the report says of the run, written into a folder."""
    run = folder / "fixed"
    run.mkdir()
    (run / run_file.FILE).write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records()))
    text = _Text()
    text.feed(render(gather(run)))
    return "\n".join(text.lines).strip().replace(str(run), "fixed") + "\n"


def test_the_report_of_a_fixed_run_says_what_it_said(tmp_path):
    """Each page of a small run says, word by word, what the snapshot holds."""
    assert said(tmp_path) == SNAPSHOT.read_text(encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        SNAPSHOT.write_text(said(Path(home)), encoding="utf-8")
