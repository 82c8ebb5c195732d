"""Two runs compared, and two interpreters."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.runs import run_file
from conformance.studies.comparing import compare

ADAPTER = '''"""NumPy's, in another version."""

import importlib.util

spec = importlib.util.spec_from_file_location("calibration", {path!r})
calibration = importlib.util.module_from_spec(spec)
spec.loader.exec_module(calibration)


class Mine(calibration.TwoPass):
    """It does something to what it answers."""

    statement = dict(calibration.TwoPass.statement, id="mine.layer")

    def run(self, case):
        """Yield it."""
        for out in super().run(case):
            {change}
            yield out


IMPLEMENTATIONS = [Mine]
'''
SAME = "pass"
CHANGES = {
    "fails now": 'out["y"] = out["y"] + 1e-2',
    "is refused now": 'if case.rank == 4: raise ValueError("rank 4 is not supported any more")',
    "is less precise now": 'out["y"] = out["y"] * (1 + 4e-7)',
    "crashes or hangs now": "import os; os._exit(3)",
}


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Return a function that runs an adapter with a change, under the name of a folder, and returns the folder."""
    monkeypatch.chdir(tmp_path)

    def go(folder, change=SAME, *more):
        path = run_file.__file__.replace("runs/run_file", "implementations/numpy")
        (tmp_path / "mine.py").write_text(ADAPTER.format(path=path, change=change))
        asked = ["run", "-i", "mine.py", "--cases", "12", "--no-corpus", "--out", folder, *more]
        CliRunner().invoke(main, asked)
        return tmp_path / folder

    return go


def compared(*arguments):
    """Return the exit status, and what the command prints."""
    done = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    return done.exit_code, done.output


def test_a_run_is_no_other_than_itself(ran):
    """The same asked twice: nothing differs, exit 0."""
    status, said = compared(ran("a"), ran("b"))
    assert status == 0
    assert said.splitlines()[-1] == "nothing differs"


@pytest.mark.parametrize("kind", CHANGES)
def test_what_a_change_does_is_told_by_its_kind(ran, kind):
    """Failures, refusals, crashes and lost precision are told apart, exit 1; the other way round it is no loss."""
    before, after = ran("a"), ran("b", CHANGES[kind])
    found = compare(run_file.read(before), run_file.read(after))
    assert kind in {one.kind for one in found.differences if one.worsened}
    status, said = compared(before, after)
    assert status == 1
    assert "mine.layer@cpu" in said
    back = compare(run_file.read(after), run_file.read(before))
    assert back.differences
    assert not back.worsened
    assert compared(after, before)[0] == 0


def test_failures_of_one_kind_are_one_line(ran):
    """A change names output, feature and dtype, how many results it stands for, and a case that explain knows."""
    before, after = ran("a"), ran("b", CHANGES["fails now"])
    found = compare(run_file.read(before), run_file.read(after)).differences
    assert {one.output for one in found} == {"y"}
    assert sum(one.arrays for one in found) > len(found)
    assert all(one.fact.startswith("plain, float") for one in found)
    _, said = compared(before, after)
    line = next(line for line in said.splitlines() if line.startswith("    bnconf explain"))
    done = CliRunner().invoke(main, line.split()[1:])
    assert done.exit_code == 0, done.output


def test_another_seed_has_little_in_common(ran):
    """Where no case is common, that is incomplete, exit 3, and not a run in which nothing differs."""
    status, said = compared(ran("a"), ran("b", SAME, "--seed", "7"))
    assert status == 3
    assert "nothing differs" not in said


def test_a_lost_framework_is_told(tmp_path, ran):
    """Who cannot be asked any more is named with the reason."""
    before = ran("a")
    lines = (before / "run.jsonl").read_text().splitlines()
    record = next(json.loads(line) for line in lines if '"type":"implementation"' in line)
    after = tmp_path / "after"
    after.mkdir()
    gone = json.dumps({**record, "available": False, "reason": "No module named numpy"})
    kept = [gone if '"type":"implementation"' in line else line for line in lines if '"type":"result"' not in line]
    (after / "run.jsonl").write_text("".join(line + "\n" for line in kept))
    status, said = compared(before, after)
    assert "mine.layer@cpu is not available now: No module named numpy" in said
    assert status == 3


def test_interpreters_are_asked_now(tmp_path):
    """NAME=PYTHON on both sides: the same twice is no change, and the runs are kept where --out says."""
    one = f"numpy={sys.executable}"
    status, said = compared(one, one, "-i", "numpy.two_pass", "--cases", "4", "--out", tmp_path / "kept")
    assert status == 0, said
    assert said.splitlines()[-1] == "nothing differs"
    assert (tmp_path / "kept" / "after" / "run.jsonl").exists()


def test_what_is_neither_run_nor_interpreter_is_an_error(tmp_path):
    """Exit 2, with the rule."""
    status, said = compared(tmp_path / "nothing", tmp_path / "nothing")
    assert status == 2
    assert "nothing" in said
    assert compared("nobody=/usr/bin/python3", "nobody=/usr/bin/python3")[0] == 2
