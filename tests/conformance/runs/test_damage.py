"""Disks that are full, files that are damaged or cannot be read: a clear error with the file, and how to go on."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.model.results import SkippedRecord
from conformance.runs import run_file

ROOT = Path(__file__).parents[3]
RUN = ["run", "-i", "numpy.two_pass", "--cases", "14", "--no-corpus", "--out", "run"]


def invoke(*arguments):
    """Run a command and return its result."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Return the folder of a small finished run, made once."""
    folder = tmp_path_factory.mktemp("ran") / "run"
    assert invoke(*RUN[:-1], folder).exit_code == 0
    return folder


@pytest.fixture
def finished(ran):
    """Return the file of a copy of it."""
    shutil.copytree(ran, "run")
    return Path("run/run.jsonl")


def judged(file="run"):
    """Return what a run judged, in any order."""
    return sorted(map(repr, run_file.read(Path(file)).results))


def test_a_disk_that_fills_up_is_an_error_that_says_how_to_go_on(finished):
    """The run stops with the file, the reason and what is kept; what is on disk is whole, and --resume completes it."""
    whole, room = judged(), finished.stat().st_size // 1024 - 8
    command = [sys.executable, "-m", "conformance", *RUN[:-1], "small"]
    done = subprocess.run(
        ["bash", "-c", f'ulimit -f {room}; exec "$@"', "bash", *command],  # KiB
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    said = re.search(r"Incomplete: small/run.jsonl: cannot be written \(File too large\); (\d+) results are kept in "
                     r"small/run.jsonl; make room, and go on: (bnconf run .* --resume)", done.stderr)  # fmt: skip
    assert said, done.stderr
    assert "fault of bnconf" not in done.stderr
    kept = run_file.read(Path("small"))
    assert (len(kept.results), kept.torn) == (int(said[1]), False)
    assert 0 < len(kept.results) < len(whole)
    assert invoke(*said[2].split()[1:]).exit_code == 0
    assert judged("small") == whole


def test_whoever_writes_after_a_failed_write_learns_why_it_failed(tmp_path):
    """Threads write to one file: each is told the reason, and nothing follows what is missing."""
    file = run_file.RunFile(tmp_path)
    stream = file._stream
    with Path("/dev/full").open("ab", buffering=0) as full:
        for file._stream in (full, stream):
            with pytest.raises(OSError, match="No space left on device") as error:
                file.write(SkippedRecord(0, "cell", 2, 1))
            assert error.value.filename == str(tmp_path / "run.jsonl")
    file.__exit__()
    assert (tmp_path / "run.jsonl").read_bytes() == b""


def test_a_full_disk_anywhere_in_a_run_is_no_fault_of_ours(monkeypatch, finished):
    """Whichever write fails first, of a case, an answer or the end, it is told alike, and what was kept stays."""
    before = judged()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "run/run.jsonl")

    monkeypatch.setattr(run_file.RunFile, "finish", full)
    done = invoke(*RUN, "--resume")
    assert (done.exit_code, "No space left on device" in done.output, "--resume" in done.output) == (3, True, True)
    assert judged() == before
    monkeypatch.setattr(Path, "write_bytes", full)
    assert invoke(*RUN, "--resume").exit_code == 2
    assert judged() == before


@pytest.mark.parametrize(
    ("damage", "says"),
    [(b'{"type":"result","case":"\xff"}', "byte 25 (0xff) is no UTF-8"), (b'{"type":"result",,}', "JSON is malformed")],
    ids=["no UTF-8", "no JSON"],
)
def test_a_damaged_line_is_named_and_resume_keeps_the_rest(finished, damage, says):
    """The file, the line, what is wrong and what is whole; --resume asks again what the line held, and no more."""
    whole, lines = judged(), finished.read_bytes().split(b"\n")
    middle = next(n for n, line in enumerate(lines) if b'"result"' in line) + 20
    lines[middle] = damage
    finished.write_bytes(b"\n".join(lines))
    for command in (["gate", "run"], ["report", "run"], ["matrix", "run"], ["export", "run", "--out", "x"]):
        done = invoke(*command)
        assert done.exit_code == 2, done.output
        assert f"Error: run/run.jsonl, line {middle + 1}: {says}" in done.output
        assert "20 results before it are whole; the same `bnconf run` again with --resume keeps the rest" in done.output
    done = invoke(*RUN, "--resume")
    assert done.exit_code == 0, done.output
    assert int(re.search(r"numpy: (\d+) questions", done.output)[1]) in (1, 2)
    assert judged() == whole


@pytest.mark.parametrize(
    "command",
    [
        ["gate", "run", "--write-baseline", "file/base.jsonl"],
        ["replay", "case.json", "-i", "numpy.two_pass", "--save", "file/saved"],
        ["matrix", "run", "--out", "file/page.md"],
        ["gate", "bad"],
        ["gate", "run", "--divergences", "manifests"],
        ["gate", "run", "--baseline", "bad/run.jsonl"],
        ["replay", "bad"],
        ["replay", "cut.safetensors"],
        ["replay", "folder.json"],
        ["run", "-i", "numpy.two_pass", "--cases", "6", "--out", "file"],
        ["run", "-i", "numpy.two_pass", "--cases", "6", "--out", "taken"],
        ["merge", "run", "--out", "file/whole"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_read_or_written_is_named(command, finished):
    """A file for a folder, a folder for a file, a cut file, bytes that are no text: exit 2, and the path is named."""
    Path("file").write_text("mine")
    for folder in ("bad", "manifests", "folder.json", "taken/run.jsonl"):
        Path(folder).mkdir(parents=True)
    Path("bad/run.jsonl").write_bytes(b"\xff\xfe\n\xff")
    Path("manifests/x.toml").write_bytes(b"id = '\xff'")
    Path("cut.safetensors").write_bytes(next(Path("run/cases").iterdir()).read_bytes()[:200])
    Path("case.json").write_text(
        '{"spec": {}, "steps": [{"mode": "train"}], "tensors": {"0.x": {"dtype": "float32", "data": [[1], [2]]}}}'
    )
    done = invoke(*command)
    assert done.exit_code == 2, done.output
    assert re.search(r"Error: .*(file|bad|manifests|cut|folder|taken)", done.output)
    assert "fault of bnconf" not in done.output


def test_a_run_without_its_cases_is_named(finished):
    """Of a folder that was copied without `cases` those of the corpus are an error that names the file."""
    lines = finished.read_bytes()
    finished.write_bytes(re.sub(rb'"recipe":{.*?},"well_posed"', b'"recipe":{},"well_posed"', lines))
    for file in Path("run/cases").iterdir():
        file.unlink()
    done = invoke("explain", next(iter(run_file.read(Path("run")).cases)))
    assert done.exit_code == 2
    done = invoke("explain", next(iter(run_file.read(Path("run")).cases)), "--run", "run")
    assert (done.exit_code, "Error: run/cases/" in done.output) == (2, True), done.output
