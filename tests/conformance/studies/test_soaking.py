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

from conformance.cli import console
from conformance.cli.main import main
from conformance.hosts import machine, roster
from conformance.hosts.participants import Participants
from conformance.judging import judgment
from conformance.model.errors import InvalidInput
from conformance.runs import campaign, run_file
from conformance.runs.campaign import Campaign, Options
from conformance.runs.kept_verdicts import KeptVerdicts
from conformance.runs.progress import Progress
from conformance.studies import soaking

WRONG = f"{Path(__file__).parents[1] / 'adapters' / 'wrong.py'}:MomentumSwapped"
BIASED = f"{Path(__file__).parents[1] / 'adapters' / 'wrong.py'}:BiasedForUnbiased"


def options(out, *names, seed=7, cases=5, resume=False, corpus=False, in_process=True):
    """Return what a small soak asks."""
    who = Participants(roster.select(names or ("numpy.two_pass",)), requested=True, in_process=in_process)
    return Options(who, out, seed, cases, resume=resume, corpus=corpus)


def soak(out, *names, runs=3, **asked):
    """Return the first runs of a soak with few cases."""
    return list(itertools.islice(soaking.rounds(options(out, *names, **asked), 60, Progress()), runs))


def command(out, *names):
    """Return the command of such a soak."""
    named = [word for name in names for word in ("-i", name)]
    return [
        "run",
        "--profile",
        "soak",
        "--cases",
        "5",
        "--seed",
        "7",
        "--no-corpus",
        "--in-process",
        *named,
        "--out",
        str(out),
    ]


def lines(out):
    """Return what the file of a soak says of its runs."""
    return [json.loads(line) for line in (out / "soak.jsonl").read_text().splitlines()[1:]]


def folders(out):
    """Return which folders are there."""
    return sorted(path.name for path in out.glob("seed-*"))


def judged(folder):
    """Return what a run judged."""
    return run_file.read(folder).results


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path_factory, monkeypatch):
    """Keep what is compiled in a folder of the test's: that of the user may hold thousands of files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def asked(monkeypatch):
    """Return the seed of each run that is made, and whether it goes on with one."""
    found, run = [], Campaign.run
    monkeypatch.setattr(
        Campaign, "run", lambda self: found.append((self.options.seed, self.options.resume)) or run(self)
    )
    return found


def test_a_soak_runs_one_seed_after_the_other(tmp_path):
    """Until the time is over, each in a folder of its own; what nothing explains is told."""
    result = CliRunner().invoke(main, [*command(tmp_path, "numpy.two_pass", WRONG), "--minutes", "0.05", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [one["seed"] for one in found] == list(range(7, 7 + len(found)))
    assert Path(found[0]["folder"], "run.jsonl").exists()
    assert any("momentum_swapped" in says for one in found for says in one["unexplained"])
    assert lines(tmp_path) == found


def test_the_corpus_is_asked_once(tmp_path, monkeypatch):
    """Its cases are the same with every seed."""
    corpus, run = [], Campaign.run
    monkeypatch.setattr(Campaign, "run", lambda self: corpus.append(self.options.corpus) or run(self))
    soak(tmp_path, corpus=True)
    assert corpus == [True, False, False]


def test_nothing_is_left_of_a_run_without_findings_but_its_line(tmp_path):
    """Whoever soaks for a night finds no full disk; what was in the folder before is not ours to remove."""
    (tmp_path / "seed-8").mkdir()
    (tmp_path / "seed-8" / "mine.txt").touch()
    assert [one.folder for one in soak(tmp_path)] == [""] * 3
    assert folders(tmp_path) == ["seed-8"]
    assert (tmp_path / "seed-8" / "mine.txt").exists()
    assert [one["seed"] for one in lines(tmp_path)] == [7, 8, 9]


def test_a_run_is_left_where_it_found_something_new(tmp_path, monkeypatch):
    """Who fails with every seed fails alike; another implementation, output or kind of failure is left in whole."""
    kinds, run = (
        {7: ("a y unexplained",), 9: ("a y unexplained", "a dx changed"), 10: ("a dx changed",)},
        soaking._round,
    )

    def found(asked, *rest):
        return msgspec.structs.replace(run(asked, *rest), kinds=kinds.get(asked.seed, kinds[7]))

    monkeypatch.setattr(soaking, "_round", found)
    assert [bool(one.folder) for one in soak(tmp_path, runs=5)] == [True, False, True, False, False]
    assert folders(tmp_path) == ["seed-7", "seed-9"]


def test_a_fault_of_ours_is_a_finding(tmp_path, monkeypatch):
    """A run that could not be judged is not told as one in which all is well."""

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(judgment._Judge, "results", broken)
    (found,) = soak(tmp_path, runs=1)
    assert "bnconf could not judge it" in found.unexplained[0]
    assert folders(tmp_path) == ["seed-7"]


def test_the_printed_end_names_the_folders_that_are_left(tmp_path, capsys):
    """Of the others it says where to look."""
    console.print_rounds(soak(tmp_path, WRONG, runs=2))
    said = capsys.readouterr().out
    assert "2 runs, seeds 7 to 8" in said
    assert f"bnconf gate {tmp_path / 'seed-7'}" in said
    assert "seed-8" not in said
    assert "soak.jsonl has a line of each whole run" in said


def test_each_run_begins_with_what_the_one_before_says_takes_longest(tmp_path, monkeypatch):
    """The folder of the run before may be gone; what it measured is not."""
    given, workers = [], Participants.workers
    monkeypatch.setattr(
        Participants, "workers", lambda who, most, costs: given.append(costs) or workers(who, most, costs)
    )
    soak(tmp_path / "soak")
    assert given[0] is None
    assert all(costs["numpy.two_pass@cpu"] > 0 for costs in given[1:])


def test_a_soak_leaves_what_is_judged_and_drawn_to_others(tmp_path, monkeypatch, kept_verdicts_opened):
    """Nobody asks for its cases again, and what other runs ask for would make way."""
    monkeypatch.setattr(KeptVerdicts, "opened", kept_verdicts_opened)
    soak(tmp_path / "soak", runs=2, in_process=False)
    assert not [path for name in ("verdicts", "recipes") for path in (machine.cache() / name).glob("*")]


@pytest.mark.parametrize("cache", [True, False])
def test_what_is_compiled_is_limited_between_two_runs(tmp_path, monkeypatch, cache):
    """Every seed compiles other programs, for hours; --no-cache keeps none."""
    calls = []
    monkeypatch.setattr(soaking.compiled, "make_room", lambda: calls.append(None))
    asked = options(tmp_path)
    asked = msgspec.structs.replace(asked, who=msgspec.structs.replace(asked.who, cache=cache))
    assert len(list(itertools.islice(soaking.rounds(asked, 60, Progress()), 2))) == 2
    assert len(calls) == 2 * cache


@pytest.mark.parametrize("torn", [b"", b'{"seed":9,"fol'], ids=["whole", "torn"])
def test_a_soak_that_is_resumed_goes_on_after_what_is_whole(tmp_path, asked, monkeypatch, torn):
    """It ends as one that was not interrupted: a run that was killed in its middle goes on, others are not asked."""
    whole, out = soak(tmp_path / "whole", WRONG), tmp_path / "cut"
    soak(out, WRONG, runs=2)
    with (out / "soak.jsonl").open("ab") as written:
        written.write(torn)
    CliRunner().invoke(main, ["run", "--seed=9", "--cases=5", "--no-corpus", "-i", WRONG, "--out", f"{out}/seed-9"])
    run, judge, again = out / "seed-9" / "run.jsonl", campaign.judge, []
    everything = judged(out / "seed-9")
    run.write_bytes(b"".join(run.read_bytes().splitlines(keepends=True)[:-20]))
    asked.clear()
    monkeypatch.setattr(campaign, "judge", lambda *a: again.append(a[0]) or judge(*a))
    with monkeypatch.context() as patched:
        patched.setattr(soaking.shutil, "rmtree", lambda *_, **__: None)
        found = soak(out, WRONG, resume=True)
    assert [one["seed"] for one in lines(out)] == [7, 8, 9]
    assert asked == [(9, True)]
    assert 0 < len(again) < 5
    assert judged(out / "seed-9") == everything
    assert [(one.judged, one.unexplained) for one in found] == [(one.judged, one.unexplained) for one in whole]


def test_a_soak_that_is_resumed_knows_what_it_left(tmp_path, asked):
    """A kind of which a run is there is not left again; one that was removed meanwhile, to make room, is."""
    soak(tmp_path, WRONG, runs=1)
    assert [bool(one.folder) for one in soak(tmp_path, WRONG, runs=2, resume=True)] == [True, False]
    shutil.rmtree(tmp_path / "seed-7")
    assert [bool(one.folder) for one in soak(tmp_path, WRONG, runs=3, resume=True)] == [False, False, True]
    assert asked == [(7, False), (8, False), (9, False)]
    assert folders(tmp_path) == ["seed-9"]


def test_nothing_is_left_of_a_run_that_was_gone_on_with(tmp_path):
    """Its folder was there before, but it is the soak's."""
    soak(tmp_path, runs=1)
    CliRunner().invoke(
        main, ["run", "--seed=8", "--cases=5", "--no-corpus", "-i", "numpy.two_pass", "--out", f"{tmp_path}/seed-8"]
    )
    assert [one.folder for one in soak(tmp_path, runs=2, resume=True)] == ["", ""]
    assert folders(tmp_path) == []


@pytest.mark.parametrize(
    ("resumed", "said"),
    [
        ({"seed": 3}, "is of a soak with another seed (7)"),
        ({"cases": 20}, "is of a soak with another cases (5)"),
        ({"corpus": True}, "is of a soak with another corpus (False)"),
        (
            {"names": (WRONG,)},
            "another implementations (numpy.two_pass@cpu wrong.momentum_swapped@cpu); ask for the same",
        ),
    ],
    ids=str,
)
def test_a_soak_is_resumed_as_it_was(tmp_path, resumed, said):
    """What its lines say of some would be told of others."""
    soak(tmp_path, runs=1)
    before = (tmp_path / "soak.jsonl").read_bytes()
    with pytest.raises(InvalidInput) as error:
        soak(tmp_path, *resumed.pop("names", ()), **resumed, resume=True)
    assert said in str(error.value)
    assert (tmp_path / "soak.jsonl").read_bytes() == before


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (b'"judged":', b'"judged"', "malformed"),
        (b'"folder":""', b'"folder":"\xff"', "utf-8"),
        (b'seed":8', b'seed":9', "a seed is missing"),
    ],
    ids=["no JSON", "no UTF-8", "no seed"],
)
def test_a_damaged_soak_is_named_and_nothing_is_lost(tmp_path, resume, was, now, said):
    """The file, what is wrong with it, and what to do."""
    soak(tmp_path, runs=2)
    path = tmp_path / "soak.jsonl"
    path.write_bytes(path.read_bytes().replace(was, now))
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="is damaged") as error:
        soak(tmp_path, resume=resume)
    assert said in str(error.value)
    assert path.read_bytes() == before


def test_a_soak_that_begins_anew_replaces_one_that_found_nothing(tmp_path):
    """What an earlier one found is not lost to who forgets --resume: he is asked what to do."""
    soak(tmp_path, seed=3, runs=1)
    soak(tmp_path, WRONG, runs=1)
    assert [one["seed"] for one in lines(tmp_path)] == [7]
    with pytest.raises(InvalidInput, match="found something, in seed-7; go on with --resume"):
        soak(tmp_path, runs=1)
    shutil.rmtree(tmp_path / "seed-7")
    soak(tmp_path, seed=3, runs=1)
    assert [one["seed"] for one in lines(tmp_path)] == [3]


def test_one_damaged_run_does_not_end_a_soak(tmp_path):
    """What is whole is kept: the one in which it was interrupted is named, and what to do with it."""
    soak(tmp_path, runs=1)
    (tmp_path / "seed-8").mkdir()
    (tmp_path / "seed-8" / "run.jsonl").write_bytes(b"\0\n")
    with pytest.raises(InvalidInput, match=r"seed-8: cannot be gone on with .* remove that folder, and go on"):
        soak(tmp_path, resume=True, runs=2)
    shutil.rmtree(tmp_path / "seed-8")
    assert [one.seed for one in soak(tmp_path, resume=True, runs=2)] == [7, 8]


@pytest.mark.parametrize("full", ["a run begins", "a run ends", "its line is written"])
def test_a_full_disk_ends_a_soak(tmp_path, monkeypatch, full):
    """What came before is told, the run in which it happened is incomplete, and --resume goes on with it."""
    soak(tmp_path, WRONG, runs=1)

    there = Path.open

    def opened(path, mode="r", **rest):
        return there(Path("/dev/full") if (path.name, mode) == ("soak.jsonl", "ab") else path, mode, **rest)

    def no_room(file, *given):
        if "begins" not in full or file._folder.name == "seed-9":
            raise OSError(errno.ENOSPC, "No space left on device")
        store(file, *given)

    store = run_file.RunFile._store
    broken = {
        "a run begins": (run_file.RunFile, "_store", no_room),
        "a run ends": (run_file.RunFile, "finish", no_room),
        "its line is written": (Path, "open", opened),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*broken[full])
        done = CliRunner().invoke(main, [*command(tmp_path, WRONG), "--resume"])
    assert done.exit_code == 3, done.output
    last = 9 if "begins" in full else 8
    assert f"seeds 7 to {last}" in done.stdout
    assert f"bnconf gate {tmp_path / 'seed-7'}" in done.stdout
    assert "No space left on device" in done.output
    assert "None" not in done.output
    found = soak(tmp_path, WRONG, runs=last - 6, resume=True)
    assert [(one.seed, one.reasons) for one in found] == [(seed, ()) for seed in range(7, last + 1)]


def test_what_a_soak_found_is_told_however_it_ends(tmp_path, monkeypatch):
    """Ctrl-C between two runs loses nothing that was found."""
    decide = soaking.decision.decide

    def interrupted(folder, *rest):
        if folder.name == "seed-8":
            raise KeyboardInterrupt
        return decide(folder, *rest)

    monkeypatch.setattr(soaking.decision, "decide", interrupted)
    done = CliRunner().invoke(main, command(tmp_path, WRONG))
    assert done.exit_code != 0
    assert "1 run, seed 7" in done.stdout
    assert [one["seed"] for one in lines(tmp_path)] == [7]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--minutes", "1"], "--minutes 1: is of --profile soak alone"),
        (["--profile", "soak", "--shard", "1/2"], "--profile soak: has no --shard; give each machine another --seed"),
        (["--profile", "soak", "--changed-since", "."], "--changed-since: is of one run's cases"),
        (["--profile", "soak", "--resume"], "holds no soak; leave --resume out"),
        (["--profile", "soak", "--out", "/dev/null/x"], "cannot be written"),
    ],
)
def test_a_soak_says_what_does_not_go_together(tmp_path, options, said):
    """Exit 2, and what to do instead."""
    result = CliRunner().invoke(main, ["run", "-i", "numpy.two_pass", "--out", str(tmp_path / "x"), *options])
    assert result.exit_code == 2
    assert said in result.output
