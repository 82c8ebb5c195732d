"""Run files that are in gzip: the same records, whatever becomes of the run meanwhile."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.model.results import CaseRecord, EndRecord, Result, RunRecord
from conformance.runs import estimating, gzipped, ordering, run_file
from conformance.runs.run_file import RunFile

RUN = ["run", "-i", "numpy.two_pass", "-i", "numpy.fast", "--cases", "14", "--no-corpus", "--out"]
LINES = [b'{"number":%d}\n' % n for n in range(200)]


def invoke(*arguments):
    """Run a command and return its result."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


def told(folder):
    """Return what a run holds, but for times and process ids."""
    run = run_file.read(folder)
    return run.cases, run.results, run.implementations, run.end and run.end.verdicts


@pytest.fixture
def few(monkeypatch):
    """Let a few lines be many."""
    monkeypatch.setattr(gzipped, "LARGE", 1000)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return the folder of a small run."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert invoke(*RUN, folder).exit_code == 0
    return folder


@pytest.fixture
def packed(few, plain, tmp_path):
    """Return a copy of it, in gzip."""
    folder = Path(shutil.copytree(plain, tmp_path / "run"))
    gzipped.store(folder / run_file.FILE, list(gzipped.read(folder / run_file.FILE)))
    return folder


def test_few_lines_stay_as_they_are_and_many_are_in_gzip(few, tmp_path):
    """What was there before is replaced, whichever it was; lines, their bytes, the first and the last are the same."""
    for lines, name in ((LINES[:9], "a.jsonl"), (LINES, "a.jsonl.gz"), (LINES[:9], "a.jsonl")):
        path = gzipped.store(tmp_path / "a.jsonl", iter(lines))
        assert [path.name] == [one.name for one in tmp_path.iterdir()] == [name]
        assert list(gzipped.read(path)) == lines
        assert gzipped.size(path) == len(b"".join(lines))
        assert gzipped.ends(path) == (lines[0], lines[-1].strip())


def test_whatever_is_left_of_a_file_in_gzip_is_the_lines_before(few, tmp_path):
    """Cut anywhere, it has the lines that were written before, and at most a part of one more."""
    path = gzipped.store(tmp_path / "a.jsonl", LINES)
    batches = gzipped.Batches()
    with path.open("ab") as stream:
        stream.writelines([batches.made(b"".join(LINES)), batches.made(b'{"last":0}\n')])
    whole, text, read = path.read_bytes(), b"".join([*LINES, *LINES, b'{"last":0}\n']), 0
    for length in range(10, len(whole) + 1):
        path.write_bytes(whole[:length])
        found = list(gzipped.read(path))
        assert text.startswith(b"".join(found))
        assert all(line.endswith(b"\n") for line in found[:-1])
        assert read <= (read := len(b"".join(found)))
    assert read == len(text)


def test_a_run_in_gzip_is_the_same_run(few, plain, tmp_path):
    """It is read, gated, shown, estimated by and merged as one that is not."""
    assert invoke(*RUN, tmp_path / "run").exit_code == 0
    assert [path.name for path in (tmp_path / "run").glob("run.*")] == ["run.jsonl.gz"]
    assert told(tmp_path / "run") == told(plain)
    gates = [invoke("gate", folder).output.replace(str(folder), "") for folder in (tmp_path / "run", plain)]
    assert gates[0] == gates[1]
    assert estimating.earlier(tmp_path / "other", 14).cases == 14
    for k in (1, 2):
        assert invoke(*RUN, tmp_path / f"shard-{k}", "--shard", f"{k}/2").exit_code == 0
    done = invoke("merge", tmp_path / "shard-1", tmp_path / "shard-2", "--out", tmp_path / "merged")
    assert done.exit_code == 0, done.output
    assert told(tmp_path / "merged") == told(plain)


@pytest.mark.parametrize("part", [0.4, 0.95])
def test_what_a_kill_leaves_of_a_run_in_gzip_is_gone_on_with(packed, plain, part):
    """A file that ends anywhere is an interrupted run, and --resume makes the same of it."""
    path = run_file.path_of(packed)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    assert run_file.read(packed).end is None
    assert invoke(*RUN, packed, "--resume").exit_code == 0
    assert told(packed) == told(plain)


def test_damage_in_gzip_is_refused_and_said(packed):
    """Nothing is taken from a file whose checksum is wrong, by --resume neither."""
    path = run_file.path_of(packed)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    for command in (("gate", packed), (*RUN, packed, "--resume")):
        done = invoke(*command)
        assert (done.exit_code, "run again" in done.output or "run it again" in done.output) == (2, True), done.output


def test_a_run_grows_into_gzip_and_loses_nothing(few, tmp_path):
    """What was written is there however large it becomes, and a batch is on disk before the next."""
    with RunFile(tmp_path, [RunRecord(1, "0", 0, 1, [], "", {})]) as file:
        for n in range(100):
            file.write(Result(f"{n:x}", "numpy.two_pass@cpu", "PASS"))
    found = run_file.read(tmp_path)
    assert (len(found.results), found.torn, run_file.path_of(tmp_path).suffix) == (100, False, ".gz")


def test_what_waits_is_written_when_it_has_waited_for_long(few, monkeypatch, tmp_path):
    """A record is on disk a second after the one before it at the latest, without being closed."""
    monkeypatch.setattr(run_file, "_PATIENCE", 0.0)
    with RunFile(tmp_path, [RunRecord(1, "0", 0, 1, [], "", {})] * 30) as file:
        file.write(Result("a", "numpy.two_pass@cpu", "PASS"))
        assert len(run_file.read(tmp_path).results) == 1


def test_lines_in_parts_have_the_order_of_lines_at_once(monkeypatch, tmp_path):
    """However many parts are sorted, and wherever the records of cases stand."""
    cases = [CaseRecord(f"{n:x}", n, "", "", "", {}, True, None) for n in range(40)]
    found = [Result(one.case, who, "PASS", step) for one in cases for who in ("b", "a") for step in (1, 0)]
    end = EndRecord(True, [], 0.0, {}, {})

    def finished(folder):
        with RunFile(folder, [RunRecord(1, "0", 0, 1, [], "", {}), *found[::-1], *cases[::-1], end]) as file:
            file.finish(["a", "b"])
        return file.path.read_bytes()

    at_once = finished(tmp_path / "once")
    monkeypatch.setattr(ordering, "_PART", 1000)
    assert finished(tmp_path / "parts") == at_once
    assert [path.name for path in (tmp_path / "parts").iterdir() if "ordering" in path.name] == []
    run = run_file.read(tmp_path / "parts")
    assert [(r.case, r.implementation, r.step) for r in run.results][:4] == [("0", w, s) for w in "ab" for s in (0, 1)]


def test_zlib_says_where_it_cannot_go_on():
    """What is no gzip raises what its readers expect."""
    with pytest.raises(zlib.error):
        list(gzipped._unpacked([b"\x1f\x8b\x08" + b"x" * 99]))
