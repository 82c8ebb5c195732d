"""What was not asked, and why: which fact of the case, which value, what is supported; never a silence, never green."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.model import excluded
from conformance.studies.hunt import hunting

FLOAT16 = "dtype is float16; supported: float32, float64"
NARROW = """
import numpy as np


class Narrow:
    statement = {
        "id": "mine.narrow",
        "packages": ["numpy"],
        "documentation": "",
        "conventions": {},
        "supports": {"dtype": ["bfloat16"], "rank": [6], "mask": ["full"], "renorm": [True]},
        "outputs": ["y"],
        "rules": [],
    }

    def __init__(self, device):
        pass

    def run(self, case):
        yield {}


IMPLEMENTATIONS = [Narrow]
"""


def invoke(*arguments):
    """Run a command and return its result."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def files(tmp_path):
    """Return a case that NumPy's implementations support, and one that none of them does."""
    one = {
        "spec": {"axis": 1},
        "steps": [{"mode": "train"}],
        "tensors": {"0.x": {"dtype": "float32", "data": [[1], [2]]}},
    }
    half = json.loads(json.dumps(one).replace("float32", "float16")) | {"dtypes": {"x": "float16"}}
    for name, text in (("plain", one), ("half", half)):
        (tmp_path / f"{name}.json").write_text(json.dumps(text))
    return tmp_path


def test_a_case_that_nobody_supports_names_the_fact_and_is_not_green(files):
    """The fact, its value and what is supported are named, once for all who give one reason; exit code 3."""
    done = invoke("replay", files / "half.json", "-i", "numpy.two_pass", "-i", "numpy.fast", "-i", "numpy.folded")
    assert done.exit_code == 3
    assert (
        f"UNSUPPORTED: half: numpy.two_pass@cpu, numpy.fast@cpu, numpy.folded@cpu: {FLOAT16} (3 times)" in done.output
    )
    assert "Incomplete: nothing was compared: " in done.output


def test_of_several_files_none_vanishes_without_a_line(files):
    """The supported one is judged, the other one is told of, in text and as JSON; what was compared decides."""
    asked = ["replay", files / "half.json", files / "plain.json", "-i", "numpy.two_pass"]
    done = invoke(*asked)
    assert done.exit_code == 0
    assert f"UNSUPPORTED: half: numpy.two_pass@cpu: {FLOAT16}" in done.output
    assert "CONFORMS: numpy.two_pass@cpu, plain" in done.output
    lines = json.loads(invoke(*asked, "--json").output)
    assert {(line["file"], line["status"], line.get("reason", "")) for line in lines} == {
        ("half", "UNSUPPORTED", FLOAT16),
        ("plain", "CONFORMS", ""),
    }


def test_what_explain_cannot_ask_is_said(files):
    """An explanation of a case that nobody supports says why, and exits 3."""
    done = invoke("explain", files / "half.json", "-i", "numpy.two_pass")
    assert (done.exit_code, f"nothing was compared: numpy.two_pass@cpu: {FLOAT16}" in done.output) == (3, True)


def test_a_small_run_that_compares_nothing_names_the_facts_that_exclude(tmp_path):
    """The run, its file and the gate say which facts excluded the cases, and of whom; exit code 3."""
    (tmp_path / "mine.py").write_text(NARROW)
    asked = ["run", "-i", tmp_path / "mine.py", "--cases", 6, "--no-corpus", "--out", tmp_path / "run"]
    done = invoke(*asked)
    assert done.exit_code == 3
    assert "Incomplete: nothing was compared: mine.narrow@cpu: " in done.output
    assert "renorm is False; supported: True (6 times)" in done.output
    assert "note: mine.narrow@cpu is asked nothing: mine.narrow@cpu: " in done.output
    gate = invoke("gate", tmp_path / "run")
    assert (gate.exit_code, "renorm is False; supported: True" in gate.output) == (3, True)


def test_a_hunt_that_can_ask_nothing_says_why(tmp_path, monkeypatch):
    """A search whose cases are all excluded ends, names the facts, and exits 3."""
    monkeypatch.setattr(hunting, "VAIN", 50)
    (tmp_path / "mine.py").write_text(NARROW)
    done = invoke("hunt", "-i", tmp_path / "mine.py", "--cases", 5, "--out", tmp_path / "hunt")
    assert (done.exit_code, "nothing was compared: mine.narrow@cpu: " in done.output) == (3, True), done.output


def test_reasons_are_grouped_and_the_rest_counted():
    """Who gives the same reason shares a line, and what is left out is counted."""
    pairs = [(f"i{n}@cpu", "rank is 5; supported: 4") for n in range(6)] + [("x@cpu", f"reason {n}") for n in range(7)]
    assert excluded.lines(pairs)[0] == "i0@cpu, i1@cpu, i2@cpu and 3 more: rank is 5; supported: 4 (6 times)"
    assert excluded.brief(pairs).endswith("; and 3 more reasons")
