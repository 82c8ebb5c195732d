"""A user's own implementations: executables that speak the protocol, classes by dotted name, installed packages."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
import types
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cases.cells import PLAIN, SMOKE
from conformance.cli.main import main
from conformance.hosts import availability, roster, targets, versions
from conformance.hosts.environment import Limits
from conformance.model.errors import Incomplete, InvalidInput
from conformance.runs import summary

ROOT = Path(__file__).parents[3]
PROGRAMS = Path(__file__).parents[1] / "programs"


def broken(fault):
    """Return the target of a program that breaks the protocol in one way."""
    return f"exec:{sys.executable} {PROGRAMS / 'broken.py'} {fault}"


def lines(found, identity):
    """Return the bytes that a run file has about one implementation's results."""
    return [msgspec.json.encode(result) for result in found.results if result.implementation == identity]


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js on PATH; install nodejs to run the example")
def test_the_javascript_example_conforms(run):
    """The documented example in another language is judged on a case of each cell, and none fails."""
    found = run(f"exec:node {PROGRAMS / 'batch_norm.js'}", cases=SMOKE, corpus=True)
    (row,) = summary.rows(found)
    assert found.complete
    assert row.conforms
    assert row.id == "javascript.batch_norm@cpu"
    assert {"y train", "y infer", "dx train", "dgamma infer", "moving_variance", "variance"} <= set(row.outputs)
    judged = {r.case for r in found.results if r.rho is not msgspec.UNSET and found.cases[r.case].recipe}
    placements = {found.cases[c].cell.partition(";")[0] for c in judged}
    assert placements == {*PLAIN, "rank 1, axis 0", "rank 1, axis -1", "rank 6, axis 1"}
    assert "node" in found.implementations[0].versions


def test_several_implementations_of_one_program_share_its_process(run):
    """A program that announces two implementations is started once, and both are judged."""
    found = run(broken("fine"), cases=14)
    assert [row.conforms for row in summary.rows(found)] == [True, True]
    assert {r.id for r in found.implementations} == {"broken.fine@cpu", "broken.second@cpu"}
    assert len({entry.host for entry in targets.introduced(broken("fine"))}) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("silent", "did not say hello within 2 s"),
        ("ends", "ended with exit code 1: I have nothing to say"),
        ("chatter", "wrote garbage"),
        ("newer", "speaks protocol 2, this bnconf speaks 1"),
    ],
)
def test_a_program_that_does_not_keep_the_protocol_is_named(fault, says):
    """Silence, an early end, chatter, another version: each says so and names the program."""
    with pytest.raises(Incomplete, match=says) as raised:
        targets.introduced(broken(fault), start=2)
    assert broken(fault) in str(raised.value)


@pytest.mark.parametrize(
    ("target", "code", "says"),
    [
        ("exec:./nowhere", 2, "./nowhere: no such program; give its path"),
        ("exec:./plain", 2, "./plain: is not executable; chmod +x ./plain"),
        ("exec:", 2, "names no program"),
        ("exec:node 'x", 2, "No closing quotation; quote it as a shell would"),
        (broken("newer"), 3, "update the older of the two"),
        (
            broken("unnamed"),
            2,
            'metadata: "hi" is no name of a first frame; did you mean hello',
        ),
        (broken("ends"), 3, "I have nothing to say, before it said hello"),
        (broken("nonsense"), 2, 'the statement of broken.nonsense@cpu is not valid: "numerics" is no field'),
        ("no_such_package.module:Mine", 2, "ModuleNotFoundError: No module named 'no_such_package'"),
        ("broken_module:Mine", 2, "SyntaxError"),
        ("plain_module:Theirs", 2, "module 'plain_module' has no attribute 'Theirs'"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_error(target, code, says, tmp_path, monkeypatch):
    """What cannot be found or read exits 2, what does not speak 3; each names the target, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_text("no program")
    (tmp_path / "broken_module.py").write_text("class Mine(:")
    (tmp_path / "plain_module.py").write_text("")
    result = CliRunner().invoke(main, ["run", "-i", target])
    assert result.exit_code == code, result.output
    assert says in result.output
    assert f"-i {target}" in result.output
    assert not (tmp_path / "reports").exists()


def test_a_program_does_not_run_in_process():
    """--in-process with an executable is refused."""
    result = CliRunner().invoke(main, ["run", "--in-process", "-i", broken("fine")])
    assert result.exit_code == 2
    assert "an executable is a process of its own" in result.output


def test_a_program_asked_for_another_device_is_incomplete():
    """An executable that announces nothing on the device that was asked for is missing, not wrong."""
    with pytest.raises(
        Incomplete, match=r"announces no implementation on cuda, but broken.fine@cpu, broken.second@cpu"
    ):
        targets.introduced(broken("fine"), "cuda")


def test_an_id_is_taken_once(run, adapter, tmp_path):
    """Two targets that call themselves the same cannot be told apart in a run, and are refused."""
    shutil.copy(adapter("faulty"), tmp_path / "copy.py")
    (tmp_path / "copy.py").write_text(f"import runpy\nFine = runpy.run_path({adapter('faulty')!r})['Fine']\n")
    with pytest.raises(InvalidInput, match=r"calls itself faulty.fine@cpu, as .*; give one another id"):
        run(adapter("faulty:Fine"), f"{tmp_path / 'copy.py'}:Fine", cases=6)


@pytest.mark.parametrize(("fault", "says"), [("half", "exit code 4"), ("hoard", "out of memory")])
def test_a_program_that_breaks_costs_its_own_case_and_nobody_elses(run, tmp_path, fault, says):
    """Half a frame, memory without end: a verdict on a saved case; the rest of the file is the same, byte for byte."""
    found = run(broken(fault), "numpy.two_pass", cases=14, limits=Limits(case=20, memory=1))
    failed = [r for r in found.results if r.verdict == "FAIL"]
    assert {(r.implementation, r.outcome) for r in failed} == {(f"broken.{fault}@cpu", "Crashed")}
    assert all(says in r.reason for r in failed), failed
    assert {found.cases[r.case].cell.partition(",")[0] for r in failed} == {"rank 2"}
    assert all((tmp_path / "run" / found.cases[r.case].file).exists() for r in failed)
    alone = run("numpy.two_pass", cases=14, out="alone")
    assert lines(found, "numpy.two_pass@cpu") == lines(alone, "numpy.two_pass@cpu")
    assert found.complete


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package, as pip would: the README's twenty lines in it, and one entry point for each text given."""
    text = (ROOT / "conformance" / "README.md").read_text()
    site = tmp_path / "site"
    (site / "minepackage").mkdir(parents=True)
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    (site / "minepackage" / "layers.py").write_text(f"{example}\n\nIMPLEMENTATIONS = [MyBatchNorm]\n")
    (site / "minepackage" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def entry_points(*points):
        info = site / "minepackage-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: minepackage\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(["[bnconf.implementations]", *points, ""]))
        importlib.invalidate_caches()

    return entry_points


def test_a_class_by_its_dotted_name_is_the_class_in_its_file(run, package, tmp_path):
    """The twenty lines conform by module:Class as they do by path, and the host never imports them."""
    dotted = run("minepackage.layers:MyBatchNorm", cases=20, out="dotted")
    by_path = run(f"{tmp_path / 'site' / 'minepackage' / 'layers.py'}:MyBatchNorm", cases=20, out="path")
    assert dotted.results == by_path.results
    assert summary.rows(dotted)[0].conforms
    assert "minepackage.layers" not in sys.modules
    assert dotted.named("mine.batch_norm@cpu") == "minepackage.layers:MyBatchNorm"


def test_a_module_in_the_current_folder_has_a_dotted_name(package, tmp_path, bnconf):
    """What is not installed is found from where the command runs, as `python -m` finds it."""
    shutil.copy(tmp_path / "site" / "minepackage" / "layers.py", tmp_path / "here.py")
    process = bnconf("run", "-i", "here:MyBatchNorm", "--cases", "6", "--json", "--out", "r")
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert '"id":"mine.batch_norm@cpu"' in said


@pytest.mark.parametrize("point", ["one = minepackage.layers:MyBatchNorm", "all = minepackage.layers"])
def test_an_installed_package_adds_to_the_roster(package, point):
    """An entry point of a class or of a module is in the roster, in the environment `user`, and patterns find it."""
    package(point)
    (entry,) = roster.select(("mine.*",))
    assert (entry.id, entry.environment, entry.named) == ("mine.batch_norm@cpu", "user", "mine.batch_norm@cpu")
    assert entry in roster.select(())
    (listed,) = availability.check([entry], {})
    assert listed.available


def test_an_installed_package_that_is_misspelt_is_refused_when_it_is_asked_for(package, tmp_path):
    """Asked for by its name it is refused with the nearest right word; the rest of the roster is there."""
    layers = tmp_path / "site" / "minepackage" / "layers.py"
    text = "class Wrong:\n    statement = dict(MyBatchNorm.statement, modez=['infer'])\n"
    layers.write_text(layers.read_text() + text)
    package("wrong.thing = minepackage.layers:Wrong")
    with pytest.raises(InvalidInput, match=r'"modez" is no field; did you mean modes\?'):
        roster.select(("wrong.thing",))
    (entry,) = [e for e in roster.select(()) if e.id.startswith("wrong.")]
    assert "modez" in entry.fault


def test_an_installed_package_that_is_broken_says_so_and_breaks_nothing(package, run):
    """What cannot be loaded is listed as not available, with the reason; others are judged as ever."""
    package("broken.thing = minepackage.nowhere:Nothing", "fine = minepackage.layers:MyBatchNorm")
    found = run("broken.*", "mine.*", cases=6)
    said = {r.id: r.reason for r in found.implementations}
    assert "No module named 'minepackage.nowhere'" in said["broken.thing@cpu"]
    assert said["mine.batch_norm@cpu"] == ""
    assert summary.rows(found)[1].conforms
    assert not found.complete


def test_a_replay_command_names_a_users_own_by_its_target(adapter, tmp_path):
    """The command that a failure ends with can be pasted: it asks the same implementation, and it fails again."""
    ran = CliRunner().invoke(
        main, ["run", "-i", adapter("wrong:EpsilonOutside"), "--cases", "6", "--out", str(tmp_path)]
    )
    commands = [line.split() for line in ran.output.splitlines() if line.strip().startswith("bnconf replay")]
    assert commands
    replayed = CliRunner().invoke(main, commands[0][1:])
    assert replayed.exit_code == 1
    assert "FAIL wrong.epsilon_outside@cpu" in replayed.output


def test_a_version_that_is_more_than_a_string_is_told_as_one(monkeypatch):
    """torch's `__version__` compares as a version does; a record says its text."""
    module = types.ModuleType("versioned")
    module.__version__ = type("TorchVersion", (str,), {})("2.13.0")
    monkeypatch.setitem(sys.modules, "versioned", module)
    assert type(versions.version("versioned")) is str
    assert versions.version("versioned") == "2.13.0"
