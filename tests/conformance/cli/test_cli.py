"""The command line: help, exit codes, and errors that name the value and the fix."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from conformance.cli.main import COMMANDS, main
from conformance.runs import run_file

GOOD = ["run", "-i", "numpy.two_pass", "--cases", "6"]


def invoke(*arguments):
    """Run the command and return its result."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a small finished run."""
    assert invoke(*GOOD, "--out", tmp_path / "run").exit_code == 0
    return tmp_path / "run"


@pytest.mark.parametrize(
    "command", [[], ["run"], ["report"], ["implementations"], ["replay"], ["doctor"], ["translate"]]
)
def test_every_command_explains_itself(command):
    """--help works everywhere and exits 0."""
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "-i", "torch.nn.BatchNorm4d"], "did you mean torch.nn.BatchNorm"),
        (["run", "-i", "nowhere.py"], "nowhere.py: no such adapter"),
        (["run", "--env", "torch"], "--env torch: must be NAME=PYTHON"),
        (["run", "--env", "pytorch=/bin/python"], "--env pytorch: no such environment; use one of"),
        (["run", "--shard", "5/4"], "--shard 5/4: must be K/N with K from 1 to N"),
        (["run", "--profile", "quick"], "'quick' is not one of 'smoke', 'default', 'thorough'"),
        (["run", "-i", "numpy.*", "--resume"], "holds no run"),
        (["run", "--cases", "0"], "0 is not in the range x>=1"),
        (["run", "--cases", "many"], "'many' is not a valid integer"),
        (["report", "nothing-here"], "nothing-here: holds no run"),
        (["replay", "nothing.safetensors"], "nothing.safetensors: cannot be read as a case"),
        (["rum"], "No such command 'rum'"),
    ],
)
def test_bad_usage_exits_2_and_names_the_value(arguments, says, tmp_path, monkeypatch):
    """Each mistake is one clear error; nothing is written."""
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert says in result.output
    assert not (tmp_path / "reports").exists()


def test_an_output_folder_that_cannot_be_written_exits_2(tmp_path):
    """A file where the folder should be is named, and kept."""
    (tmp_path / "file").write_text("mine")
    result = invoke(*GOOD, "--out", tmp_path / "file" / "run")
    assert result.exit_code == 2
    assert "cannot be written" in result.output
    assert (tmp_path / "file").read_text() == "mine"


def test_a_report_that_cannot_be_written_exits_2(folder, tmp_path):
    """The path is named, and the run is kept."""
    (tmp_path / "file").write_text("mine")
    result = invoke("report", folder, "--out", tmp_path / "file" / "x.html")
    assert result.exit_code == 2
    assert run_file.read(folder).complete


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is no run file"),
        (b'{"type":"end"}\n', "is no run file|missing required field"),
        (b"{\n{\n", "line 1"),
        (b"\xff\xfe", "run.jsonl"),
    ],
)
def test_a_corrupt_run_file_exits_2(tmp_path, text, says):
    """What is no run is refused with the file's name and line."""
    (tmp_path / "run.jsonl").write_bytes(text)
    result = invoke("report", tmp_path)
    assert result.exit_code == 2
    assert any(s in result.output for s in says.split("|"))


def test_a_damaged_middle_is_refused_a_torn_end_is_tolerated(folder):
    """A run cut short can be read; one that is damaged inside cannot."""
    path = folder / "run.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert run_file.read(folder).torn
    path.write_bytes(whole.replace(b'"type":"case"', b'"type":"cas"', 1))
    result = invoke("report", folder)
    assert result.exit_code == 2
    assert "line 4" in result.output


def test_a_newer_run_file_is_refused(folder):
    """A schema that this version does not know is not guessed at."""
    path = folder / "run.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":9', 1))
    result = invoke("report", folder)
    assert result.exit_code == 2
    assert "has schema 9, this version reads up to 1; update bnconf" in result.output


def test_nothing_already_computed_is_lost(folder):
    """A second run that fails for its arguments leaves the first one as it was."""
    before = (folder / "run.jsonl").read_bytes()
    assert invoke("run", "-i", "nobody", "--out", folder).exit_code == 2
    assert (folder / "run.jsonl").read_bytes() == before


def test_a_missing_framework_is_named_with_its_extra_and_the_rest_goes_on(tmp_path, adapter):
    """Exit 3: what was asked for is missing, what was there is judged."""
    missing = tmp_path / "missing.py"
    text = "class Gone:\n    statement = {'id': 'gone.bn', 'packages': [], 'documentation': '', 'conventions': {}}\n"
    missing.write_text(
        text + "    def __init__(self, device):\n        import no_such_framework\nIMPLEMENTATIONS = [Gone]\n"
    )
    result = invoke(*GOOD, "-i", missing, "--out", tmp_path / "run")
    found = run_file.read(tmp_path / "run")
    assert result.exit_code == 3
    assert "gone.bn@cpu is not available: ModuleNotFoundError: No module named 'no_such_framework'" in result.output
    assert not found.complete
    assert list(found.whose.values()) == ["gone.bn@cpu"]
    assert {r.implementation for r in found.results} == {"numpy.two_pass@cpu"}


def test_a_missing_extra_is_named():
    """The advice is a command that can be pasted."""
    from conformance.hosts.availability import advice

    said = advice("ModuleNotFoundError: No module named 'flax'", "jax")
    assert said.endswith("pip install 'batchnorm-conformance[jax]'")
    assert advice("RuntimeError: broken", "jax") == "RuntimeError: broken"


def test_json_output_is_json(folder, tmp_path):
    """The machine-readable table has what the terminal's has."""
    result = CliRunner().invoke(main, [*GOOD, "--out", str(tmp_path / "again"), "--json"])
    table = json.loads(result.stdout)
    assert table["complete"]
    assert table["implementations"][0]["id"] == "numpy.two_pass@cpu"
    assert 0 < table["implementations"][0]["rho"]["y train"] <= 1


def test_every_judged_array_in_the_run_file_has_a_rho(folder):
    """The stable contract: an object with a `rho` is a judged array, and rho is a number, "inf" or null."""
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    judged = [line for line in lines if "rho" in line]
    assert judged
    assert {line["type"] for line in judged} == {"result"}
    assert all(r["rho"] is None or r["rho"] == "inf" or isinstance(r["rho"], (int, float)) for r in judged)
    keys = [(r["case"], r["implementation"], r["step"], r["output"]) for r in judged]
    assert len(keys) == len(set(keys))


def test_replay_exit_codes(folder, adapter):
    """Replaying says 0 where the case passes, 1 where it fails."""
    drawn = {r.file: r.recipe["signature"] for r in run_file.read(folder).cases.values() if not r.name}
    plain = [folder / file for file, s in drawn.items() if s["momentum"] == 0.99 and not s.get("feature")]
    assert invoke("replay", *plain, "-i", "numpy.two_pass").exit_code == 0
    assert invoke("replay", *plain, "-i", adapter("wrong:MomentumSwapped")).exit_code == 1


def test_replay_tells_what_it_could_and_names_what_is_missing(folder, tmp_path):
    """One that cannot start costs nobody else's answer, and exit 3 says that it was asked for."""
    found = run_file.read(folder)
    case = folder / found.cases[next(r.case for r in found.results if r.verdict == "PASS")].file
    nowhere = tmp_path / "python"
    result = invoke("replay", case, "-i", "numpy.two_pass", "-i", "torch.*", "--env", f"torch={nowhere}")
    text = invoke("replay", case, "-i", "numpy.two_pass").output.splitlines()[0]
    assert text in result.output


def test_a_fault_of_ours_exits_5(monkeypatch, tmp_path):
    """An internal error is told apart from bad input and from a failing implementation."""
    monkeypatch.setattr("conformance.runs.campaign.Campaign.run", lambda self: 1 / 0)
    result = invoke(*GOOD, "--out", tmp_path / "run")
    assert result.exit_code == 5
    assert "fault of bnconf" in result.output


def test_python_m_conformance_is_the_command():
    """`python -m conformance` and `bnconf` are the same."""
    command = [sys.executable, "-m", "conformance", "--version"]
    assert "0.1.0" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (["--version"], ["numpy", "hypothesis", "conformance.cli.run"]),
        (["doctor"], ["hypothesis", "conformance.runs.campaign", "conformance.report"]),
        (["replay", "--help"], ["hypothesis", "conformance.runs.campaign", "conformance.report"]),
        (["gate", "--help"], ["hypothesis", "rich", "conformance.report"]),
        (["run", "--help"], ["conformance.studies", "conformance.report"]),
    ],
)
def test_a_command_imports_what_it_needs_and_not_what_others_do(arguments, without):
    """What draws cases, and what writes a page, is loaded by the commands that do so."""
    command = [sys.executable, "-X", "importtime", "-m", "conformance", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    imported = {line.rpartition("|")[2].strip() for line in told.splitlines() if line.startswith("import time:")}
    assert "conformance.cli.main" in imported
    assert imported & set(without) == set()


def test_every_command_is_where_the_table_says():
    """The table names each command as the command names itself, in the order of --help."""
    context = click.Context(main)
    assert {name: getattr(main.get_command(context, name), "name", None) for name in COMMANDS} == {
        n: n for n in COMMANDS
    }
    assert list(COMMANDS) == sorted(COMMANDS)
