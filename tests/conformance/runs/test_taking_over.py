"""A run that asks only whoever has changed since an earlier one."""

from __future__ import annotations

import ast

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import sources
from conformance.hosts.machine import describe_host
from conformance.model.results import Result
from conformance.runs import run_file, taking_over
from conformance.runs.taking_over import Earlier

ADAPTER = '''"""NumPy's, with another mean."""

import importlib.util

spec = importlib.util.spec_from_file_location("calibration", {path!r})
calibration = importlib.util.module_from_spec(spec)
spec.loader.exec_module(calibration)


class NearlyRight(calibration.TwoPass):
    """Adds to y."""

    statement = dict(calibration.TwoPass.statement, id="mine.nearly")

    def run(self, case):
        """Yield what it adds to."""
        for out in super().run(case):
            yield dict(out, y=out["y"] + 1e-3)


IMPLEMENTATIONS = [NearlyRight]
'''


@pytest.fixture
def mine(tmp_path):
    """Return the path of an adapter in a folder of its own."""
    path = tmp_path / "mine" / "mine.py"
    path.parent.mkdir()
    path.write_text(ADAPTER.format(path=sources.__file__.replace("hosts/sources", "implementations/numpy")))
    return path


def judged(*arguments):
    """Run, and return what the command prints."""
    done = CliRunner().invoke(main, ["run", "--cases", "6", "--no-corpus", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def results(folder):
    """Return the results of a run, and how many were taken over."""
    run = run_file.read(folder)
    return [record for record in run.results if isinstance(record, Result)], run.end.taken


def test_who_has_not_changed_is_not_asked_again(tmp_path, mine):
    """Its results are those of before, failures with their answers too, and the run says how many it took over."""
    asked = ["-i", "numpy.two_pass", "-i", mine]
    judged(*asked, "--out", tmp_path / "before")
    said = judged(*asked, "--out", tmp_path / "after", "--changed-since", tmp_path / "before")
    before, after = results(tmp_path / "before"), results(tmp_path / "after")
    assert after[0] == before[0]
    assert sum(after[1].values()) == len([r for r in before[0] if r.verdict != "UNSUPPORTED"])
    assert any(r.failed for r in after[0])
    assert "numpy: 0 questions" in said
    assert "0 of 1 implementations are not what they were" in said
    kept = {path.name for path in (tmp_path / "before" / "answers").iterdir()}
    assert {path.name for path in (tmp_path / "after" / "answers").iterdir()} == kept != set()


@pytest.mark.parametrize("torn", [b"", b'{"type":"res'], ids=["between lines", "in a line"])
def test_of_a_run_that_was_killed_the_last_answer_is_asked_again(tmp_path, torn):
    """Only some of its results may be there, and whoever takes them over would miss the others for ever."""
    asked = ["-i", "numpy.two_pass"]
    judged(*asked, "--out", tmp_path / "before")
    path, whole = tmp_path / "before" / "run.jsonl", results(tmp_path / "before")[0]
    *lines, _end = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + torn)
    assert (whole[-2].case, whole[-2].implementation) == (whole[-1].case, whole[-1].implementation)
    judged(*asked, "--out", tmp_path / "after", "--changed-since", tmp_path / "before")
    assert results(tmp_path / "after")[0] == whole


def test_who_has_changed_is_asked_again(tmp_path, mine):
    """An adapter that was mended passes, though the run before failed it; NumPy's results are taken over."""
    asked = ["-i", "numpy.two_pass", "-i", mine]
    judged(*asked, "--out", tmp_path / "before")
    mine.write_text(mine.read_text().replace("1e-3", "0"))
    judged(*asked, "--out", tmp_path / "after", "--changed-since", tmp_path / "before")
    found, taken = results(tmp_path / "after")
    assert not [r for r in found if r.failed]
    assert set(taken) == {"numpy.two_pass@cpu"}


@pytest.mark.parametrize("changed", [{"versions": {"numpy": "0.1"}}, {"sources": "0" * 16}, {"statement": {}}], ids=str)
def test_another_version_source_or_promise_takes_nothing_over(tmp_path, run, changed):
    """What decides a verdict besides the case has to be what it was."""
    (record,) = run("numpy.two_pass", cases=2).implementations
    earlier = Earlier(tmp_path / "run")
    assert earlier.unchanged(record)
    assert not earlier.unchanged(msgspec.structs.replace(record, **changed))


def test_another_machine_takes_nothing_over(tmp_path, monkeypatch, run):
    """Kernels are chosen by the processor, and add up in another order."""
    (record,) = run("numpy.two_pass", cases=2).implementations
    monkeypatch.setattr(taking_over, "describe_host", lambda: {**describe_host(), "processor": "another"})
    assert not Earlier(tmp_path / "run").unchanged(record)


def test_a_crash_is_asked_again(tmp_path, adapter, run):
    """Whoever crashed may answer now."""
    found = run(adapter("faulty:Segfault"), cases=4)
    earlier = Earlier(tmp_path / "run")
    taken = {r.case: earlier.take(r.case, r.implementation, tmp_path) for r in found.results}
    assert any(taken.values())
    assert [case for case, those in taken.items() if not those] == list(
        dict.fromkeys(r.case for r in found.results if r.outcome == "Crashed")
    )


def test_the_folder_that_is_written_to_is_no_earlier_run(tmp_path):
    """Its answers would be removed before they are read."""
    judged("-i", "numpy.two_pass", "--out", tmp_path / "before")
    again = ["run", "-i", "numpy.two_pass", "--out", str(tmp_path / "before"), "--changed-since"]
    done = CliRunner().invoke(main, [*again, str(tmp_path / "before")])
    assert done.exit_code == 2
    assert "name another --out" in done.output


def test_an_adapter_is_what_it_imports_too(tmp_path):
    """A file beside a user's adapter counts, and of a built-in one those that it imports, but no others."""
    (tmp_path / "a.py").write_text("import b\n")
    (tmp_path / "b.py").write_text("x = 1\n")
    before = sources.digest(f"{tmp_path}/a.py")
    (tmp_path / "b.py").write_text("x = 2\n")
    assert sources.digest(f"{tmp_path}/a.py") != before
    assert sources.digest("exec:./mine") == ""
    for path in sources._BUILT_IN.glob("*.py"):
        relative = [node for node in ast.walk(ast.parse(path.read_text())) if getattr(node, "level", 0)]
        named = [[node.module] if node.module else [alias.name for alias in node.names] for node in relative]
        assert {f"{name}.py" for names in named for name in names} <= {p.name for p in sources._with_imported(path)}
    assert "torch.py" not in {p.name for p in sources._with_imported(sources._BUILT_IN / "haiku.py")}
