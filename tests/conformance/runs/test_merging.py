"""`bnconf merge`: shards put together are the run that was not sharded, and nothing else is put together."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.gate.decision import decide
from conformance.runs import run_file

TIMES = {"command", "started", "seconds", "cpu", "timetable"}


@pytest.fixture
def shards(run, adapter, tmp_path):
    """Run as four shards and whole, the corpus too, and return the shards' folders."""
    for out, shard in (("whole", (1, 1)), *((f"shard{k}", (k, 4)) for k in (1, 2, 3, 4))):
        run(
            "numpy.two_pass",
            "numpy.fast",
            adapter("wrong:BiasedForUnbiased"),
            cases=12,
            corpus=True,
            out=out,
            shard=shard,
        )
    return [tmp_path / f"shard{k}" for k in (1, 2, 3, 4)]


@pytest.fixture
def merge(tmp_path):
    """Run the command."""

    def go(*folders, out="merged"):
        return CliRunner().invoke(main, ["merge", *map(str, folders), "--out", str(tmp_path / out)])

    return go


def lines(folder):
    """Return the lines of a run without times and processes."""
    found = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    return [json.dumps({k: v for k, v in r.items() if k not in TIMES}) for r in found if r["type"] != "worker"]


def files(folder):
    """Return the bytes of every case and answer, but for how long the answer took."""
    found = [*(folder / "cases").iterdir(), *(folder / "answers").iterdir()]
    return {p.name: p.read_bytes() for p in found if p.parent.name == "cases"}, {p.name for p in found}


def rewritten(folder, **fields):
    """Change fields of a run's header."""
    path = folder / "run.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps(json.loads(first) | fields) + "\n" + "".join(rest))


def test_four_shards_merged_equal_the_unsharded_run(shards, merge, tmp_path):
    """Records, order, cases and answers are those of the whole run; the gate decides the same."""
    result = merge(*reversed(shards))
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "merged")
    assert lines(tmp_path / "merged") == lines(tmp_path / "whole")
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    whole, merged = (decide(tmp_path / name, run_file.read(tmp_path / name), []) for name in ("whole", "merged"))
    assert merged == whole
    assert {finding.kind for finding in whole.findings} == {"unexplained"}


def test_what_a_crash_says_is_the_same_in_a_shard(run, merge, adapter, tmp_path):
    """The last words of a worker are about the case that killed it, whatever the cases before it printed."""
    names = (adapter("faulty:Raise"), adapter("faulty:Exit"))
    run(*names, cases=14, out="whole")
    for k in (1, 2):
        run(*names, cases=14, out=f"part{k}", shard=(k, 2))
    assert merge(tmp_path / "part1", tmp_path / "part2").exit_code == 0
    assert lines(tmp_path / "merged") == lines(tmp_path / "whole")
    crashed = {r.reason for r in run_file.read(tmp_path / "whole").results if r.outcome == "Crashed"}
    assert crashed == {"the worker ended with exit code 7: it said nothing"}


def test_a_missing_shard_is_incomplete(shards, merge, tmp_path):
    """Three of four shards make a run that says which one is missing: exit 3 here, and from the gate."""
    result = merge(*shards[:2], shards[3])
    assert result.exit_code == 3
    assert "shard 3/4 is missing" in result.stderr
    merged = run_file.read(tmp_path / "merged")
    assert merged.reasons == ["shard 3/4 is missing"]
    assert "incomplete" in {finding.kind for finding in decide(tmp_path / "merged", merged, []).findings}


def test_a_killed_shard_is_incomplete(shards, merge, tmp_path):
    """A shard whose file has no end makes the whole incomplete, and what it judged is kept."""
    path = shards[1] / "run.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    result = merge(*shards)
    assert result.exit_code == 3
    assert "shard 2/4: the run was killed before it ended" in result.stderr
    assert len(run_file.read(tmp_path / "merged").results) == len(run_file.read(tmp_path / "whole").results)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"seed": 7}, "has seed 7, "),
        ({"cases": 25}, "has cases 25, "),
        ({"version": "9.9"}, "has version 9.9, "),
        ({"profile": "smoke"}, "has profile smoke, "),
        ({"shard": "2/5"}, "is of another number of shards than"),
        ({"shard": "1/4"}, "is the same shard as"),
    ],
)
def test_what_is_not_another_shard_of_the_run_is_refused(shards, merge, tmp_path, fields, says):
    """Another seed, number of cases, version or split, or the same shard twice: exit 2, and nothing is written."""
    rewritten(shards[1], **fields)
    result = merge(*shards)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not (tmp_path / "merged").exists()


def test_other_versions_of_a_framework_are_refused(shards, merge):
    """Shards that judged different versions are no one run: exit 2, with both versions."""
    found = run_file.read(shards[2]).implementations[0].versions["numpy"]
    path = shards[2] / "run.jsonl"
    path.write_text(path.read_text().replace(f'"numpy":"{found}"', '"numpy":"1.0"'))
    result = merge(*shards)
    assert result.exit_code == 2
    assert "numpy 1.0" in result.stderr
    assert f"numpy {found}" in result.stderr


def test_an_implementation_that_some_shards_lack_is_incomplete(run, merge, tmp_path):
    """What one machine judged and another had not installed is no whole, although each shard is complete."""
    run("numpy.*", cases=8, out="a", shard=(1, 2))
    run("numpy.two_pass", cases=8, out="b", shard=(2, 2))
    result = merge(tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 3
    assert "numpy.fast@cpu is available in 1 of 2 shards" in result.stderr


def test_a_shard_without_the_corpus_is_incomplete(run, merge, tmp_path):
    """Cases that a shard was not asked are missed, although every shard is there."""
    run("numpy.two_pass", cases=8, out="a", shard=(1, 2), corpus=True)
    run("numpy.two_pass", cases=8, out="b", shard=(2, 2))
    result = merge(tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 3
    assert "the shards do not hold every case" in result.stderr


def test_the_output_may_not_be_a_shard(shards, merge):
    """Merging into one of the shards would destroy it: exit 2, and it is untouched."""
    before = (shards[0] / "run.jsonl").read_bytes()
    assert merge(*shards, out="shard1").exit_code == 2
    assert (shards[0] / "run.jsonl").read_bytes() == before


def test_a_shard_whose_cases_are_gone_is_refused(shards, merge):
    """A run file without its folder's case files cannot be replayed: exit 2, and the file is named."""
    shutil.rmtree(shards[0] / "cases")
    result = merge(*shards)
    assert result.exit_code == 2
    assert "copy the whole folder of the shard" in result.stderr
