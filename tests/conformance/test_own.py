"""A user's own implementations: executables that speak the protocol, classes by dotted name, installed packages."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conformance import summary, targets
from conformance.cli import main
from conformance.environment import Limits
from conformance.errors import Incomplete, InvalidInput

PROGRAMS = Path(__file__).with_name("programs")


def broken(fault):
    """Return the target of a program that breaks the protocol in one way."""
    return f"exec:{sys.executable} {PROGRAMS / 'broken.py'} {fault}"


def lines(found, identity):
    """Return the bytes that a run file has about one implementation's results."""
    return [msgspec.json.encode(result) for result in found.results if result.implementation == identity]


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js on PATH; install nodejs to run the example")
def test_the_javascript_example_conforms(run):
    """The documented example in another language is judged on 60 cases, every kept axis among them, and none fails."""
    found = run(f"exec:node {PROGRAMS / 'batch_norm.js'}", cases=60)
    (row,) = summary.rows(found)
    assert found.complete
    assert row.conforms
    assert row.id == "javascript.batch_norm@cpu"
    assert {"y train", "y infer", "dx train", "dgamma infer", "moving_variance", "variance"} <= set(row.outputs)
    judged = {r.case for r in found.results if r.rho is not msgspec.UNSET}
    assert len({found.cases[case].cell.partition(";")[0] for case in judged}) == 10
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
        ("unnamed", "first frame is no hello"),
    ],
)
def test_a_program_that_does_not_keep_the_protocol_is_named(fault, says):
    """Silence, an early end, chatter, another version, a frame that is no hello: each says so and names the program."""
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
        (broken("ends"), 3, "I have nothing to say, before it said hello"),
        (broken("nonsense"), 2, "the statement of broken.nonsense@cpu is not valid: Object contains unknown field"),
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
