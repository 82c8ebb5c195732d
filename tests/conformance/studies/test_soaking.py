"""A soak: one seed after another, for hours, and no more left of it than there is to look at."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import machine, roster
from conformance.hosts.participants import Participants
from conformance.model.errors import InvalidInput
from conformance.runs import run_file
from conformance.runs.campaign import Options
from conformance.runs.kept_verdicts import KeptVerdicts
from conformance.runs.progress import Progress
from conformance.studies import soaking

WRONG = f"{Path(__file__).parents[1] / 'adapters' / 'wrong.py'}:MomentumSwapped"


def soak(out, *names, runs=3, seed=7, resume=False):
    """Return the first runs of a soak with few cases."""
    options = Options(Participants(roster.select(names), requested=True), out, seed, cases=14, resume=resume)
    return list(itertools.islice(soaking.rounds(options, 60, Progress()), runs))


def judged(folder):
    """Return what a run judged."""
    return run_file.read(folder).results


def test_a_soak_runs_one_seed_after_the_other(tmp_path):
    """Until the time is over, each in a folder of its own, the corpus in the first; what nothing explains is told."""
    asked = ["run", "--profile", "soak", "--minutes", "0.05", "--cases", "14", "--out", str(tmp_path), "--json"]
    result = CliRunner().invoke(main, [*asked, "--seed", "7", "-i", "numpy.two_pass", "-i", WRONG])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [one["seed"] for one in found] == list(range(7, 7 + len(found)))
    assert all(Path(one["folder"], "run.jsonl").exists() for one in found)
    assert found[0]["judged"] > found[-1]["judged"] or len(found) == 1
    assert any("momentum_swapped" in says for one in found for says in one["unexplained"])
    assert [json.loads(line) for line in (tmp_path / "soak.jsonl").read_text().splitlines()] == found


def test_nothing_is_left_of_a_run_without_findings_but_its_line(tmp_path):
    """The seed makes it again; whoever soaks for a night finds no full disk."""
    found = soak(tmp_path, "numpy.two_pass")
    assert [one.folder for one in found] == [""] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["soak.jsonl"]


def test_of_runs_with_findings_the_first_are_left(tmp_path, monkeypatch):
    """Who fails with every seed fails alike; what was found is told of all."""
    monkeypatch.setattr(soaking, "_FOLDERS", 2)
    found = soak(tmp_path, "numpy.two_pass", WRONG, runs=4)
    assert all(one.unexplained for one in found)
    assert [Path(one.folder).name for one in found] == ["seed-7", "seed-8", "", ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-7", "seed-8", "soak.jsonl"]


def test_the_printed_end_names_the_folders_that_are_left(tmp_path, monkeypatch):
    """Of the others it says where to look, and how to make them again."""
    monkeypatch.setattr(soaking, "_FOLDERS", 1)
    asked = ["run", "--profile", "soak", "--minutes", "0.1", "--cases", "14", "--no-corpus", "--out", str(tmp_path)]
    done = CliRunner().invoke(main, [*asked, "--seed", "7", "-i", WRONG])
    assert done.exit_code == 0, done.output
    assert f"bnconf gate {tmp_path / 'seed-7'}" in done.stdout
    assert "seed-8" not in done.stdout
    assert "in soak.jsonl" in done.stdout


def test_each_run_begins_with_what_the_one_before_says_takes_longest(tmp_path, monkeypatch):
    """The folder of the run before may be gone; what it measured is not."""
    given, workers = [], Participants.workers
    monkeypatch.setattr(
        Participants, "workers", lambda who, most, costs: given.append(costs) or workers(who, most, costs)
    )
    soak(tmp_path / "soak", "numpy.two_pass")
    assert given[0] is None
    assert all(costs["numpy.two_pass@cpu"] > 0 for costs in given[1:])


def test_a_soak_leaves_the_cache_to_others(tmp_path, monkeypatch, kept_verdicts_opened):
    """Nobody asks for its cases again, and what other runs ask for would make way."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(KeptVerdicts, "opened", kept_verdicts_opened)
    soak(tmp_path / "soak", "numpy.two_pass", runs=2)
    assert not [path for name in ("verdicts", "recipes") for path in (machine.cache() / name).glob("*")]


@pytest.mark.parametrize("torn", [b"", b'{"seed":9,"fol'], ids=["whole", "torn"])
def test_a_soak_that_is_resumed_goes_on_after_what_is_whole(tmp_path, torn):
    """It ends as one that was not interrupted, a run that was killed in its middle and a torn line included."""
    whole = soak(tmp_path / "whole", "numpy.two_pass", WRONG)
    out = tmp_path / "cut"
    soak(out, "numpy.two_pass", WRONG, runs=2)
    with (out / "soak.jsonl").open("ab") as written:
        written.write(torn)
    shutil.copytree(tmp_path / "whole" / "seed-9", out / "seed-9")
    run = out / "seed-9" / "run.jsonl"
    run.write_bytes(b"".join(run.read_bytes().splitlines(keepends=True)[:-40]))
    again = soak(out, "numpy.two_pass", WRONG, resume=True)
    assert [msgspec.structs.replace(one, folder="") for one in again] == [
        msgspec.structs.replace(one, folder="") for one in whole
    ]
    assert len((out / "soak.jsonl").read_bytes().splitlines()) == 3
    assert judged(out / "seed-9") == judged(tmp_path / "whole" / "seed-9")


def test_a_soak_that_is_resumed_counts_the_folders_that_it_left(tmp_path, monkeypatch):
    """However often it is interrupted, no more of them are left."""
    monkeypatch.setattr(soaking, "_FOLDERS", 1)
    soak(tmp_path, WRONG, runs=1)
    assert [bool(one.folder) for one in soak(tmp_path, WRONG, runs=2, resume=True)] == [True, False]


@pytest.mark.parametrize(
    ("line", "said"),
    [(b'{"seed":', "is damaged"), (b'{"seed":3', "is of a soak from --seed 3, not 7")],
    ids=["damaged", "another seed"],
)
def test_a_soak_that_cannot_be_resumed_says_why(tmp_path, line, said):
    """The file, and what to do; nothing is lost."""
    rest = b',"folder":"","judged":1,"failed":0,"unexplained":[],"reasons":[]}\n'
    (tmp_path / "soak.jsonl").write_bytes(line + rest)
    with pytest.raises(InvalidInput, match=said):
        soak(tmp_path, "numpy.two_pass", resume=True)
    assert (tmp_path / "soak.jsonl").read_bytes() == line + rest


def test_a_soak_that_begins_anew_forgets_an_earlier_one(tmp_path):
    """Its lines are not those of this one."""
    soak(tmp_path, "numpy.two_pass", seed=3, runs=1)
    soak(tmp_path, "numpy.two_pass", runs=1)
    assert [json.loads(line)["seed"] for line in (tmp_path / "soak.jsonl").read_text().splitlines()] == [7]


@pytest.mark.parametrize("full", ["run", "soak"])
def test_a_full_disk_ends_a_soak(tmp_path, monkeypatch, full):
    """What came before is told, the run in which it happened is incomplete, and --resume goes on with it."""
    soak(tmp_path, WRONG, runs=1)
    there = Path.open

    def opened(path, mode="r", **rest):
        if (path.name, mode) == ("soak.jsonl", "ab"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return there(path, mode, **rest)

    def finish(file, _):
        raise OSError(errno.ENOSPC, "No space left on device", str(file.path))

    with monkeypatch.context() as patched:
        patched.setattr(*((run_file.RunFile, "finish", finish) if full == "run" else (Path, "open", opened)))
        asked = ["run", "--profile", "soak", "--cases", "14", "--seed", "7", "-i", WRONG, "--out", str(tmp_path)]
        done = CliRunner().invoke(main, [*asked, "--resume"])
    assert done.exit_code == 3, done.output
    assert "2 runs, seeds 7 to 8" in done.stdout
    assert f"bnconf gate {tmp_path / 'seed-7'}" in done.stdout
    assert "No space left on device" in done.output
    assert "--resume" in done.output
    assert [one.seed for one in soak(tmp_path, WRONG, runs=2, resume=True) if not one.reasons] == [7, 8]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--minutes", "1"], "--minutes 1: is of --profile soak alone"),
        (["--profile", "soak", "--shard", "1/2"], "--profile soak: has no --shard; give each machine another --seed"),
        (["--profile", "soak", "--changed-since", "."], "--changed-since: is of one run's cases"),
        (["--profile", "soak", "--resume"], "seed-0: holds no run"),
    ],
)
def test_a_soak_says_what_does_not_go_together(tmp_path, options, said):
    """Exit 2, and what to do instead."""
    result = CliRunner().invoke(main, ["run", *options, "-i", "numpy.two_pass", "--out", str(tmp_path / "x")])
    assert result.exit_code == 2
    assert said in result.output
