"""Cases that memory does not hold are skipped, counted and said; large ones stay on disk."""

from __future__ import annotations

import json
import mmap
import os

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cases import building
from conformance.cli.main import main
from conformance.hosts import machine
from conformance.hosts.environment import Limits
from conformance.hosts.participants import Participants
from conformance.hosts.roster import select
from conformance.model import buffers
from conformance.model.codec import encode_case
from conformance.runs import fitting, replaying, run_file, wording
from conformance.runs.campaign import Campaign, Options
from conformance.runs.merging import merge
from conformance.runs.progress import Progress

ALLOWED = 8192
ASKED = ["-i", "numpy.two_pass", "--cases", "24", "--no-corpus", "--memory", "1"]


@pytest.fixture
def little(monkeypatch):
    """Let 1 GiB be enough for a case of 8 KiB."""
    monkeypatch.setattr(fitting, "TIMES", (1 << 30) // ALLOWED)


def cli(*words):
    """Return the exit status and the output of a command."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    return done.exit_code, done.output


def test_a_run_skips_what_memory_does_not_hold_before_it_draws_it(little, tmp_path, monkeypatch):
    """The rest is judged; the file, the output, the report and the status say how many bytes each would have needed."""
    made, build = [], building.build
    counted = lambda recipe, seed: made.append(building.size(recipe)) or build(recipe, seed)  # noqa: E731
    monkeypatch.setattr(building, "build", counted)
    status, said = cli("run", *ASKED, "--out", tmp_path)
    run = run_file.read(tmp_path)
    assert status == 3
    assert not run.complete
    assert 5 < len(run.skipped) < 20
    assert len(run.skipped) + len(run.cases) == len(made) + len(run.skipped) == 24
    assert max(made) <= ALLOWED
    assert {one.index for one in run.skipped} | {one.index for one in run.cases.values()} == set(range(24))
    for one in run.skipped:
        assert one.needed > one.allowed == 1 << 30
        (reason,) = [
            reason for reason in run.reasons if reason.startswith(f"{one.cell}: would need {one.needed:,} bytes")
        ]
        assert "--memory 1; give --memory" in reason
    assert f"; {len(run.skipped)} cases skipped, which memory does not hold; " in wording.headline(run)
    assert wording.headline(run).split("; ")[1] in said
    assert len(list((tmp_path / "cases").iterdir())) == len(run.cases)
    assert any(result.verdict == "PASS" for result in run.results)
    assert cli("report", tmp_path, "--out", tmp_path / "page.html")[0] == 0
    assert f"{len(run.skipped)} more were skipped, which memory does not hold" in (tmp_path / "page.html").read_text()
    status, said = cli("run", *ASKED, "--out", tmp_path, "--json")
    assert len(json.loads(said.splitlines()[0])["skipped"]) == len(run.skipped)


def test_shards_skip_what_the_whole_run_skips(little, tmp_path):
    """Each says what it skipped itself, and together they are the run."""
    cli("run", *ASKED, "--out", tmp_path / "whole")
    for k in (1, 2):
        cli("run", *ASKED, "--shard", f"{k}/2", "--out", tmp_path / str(k))
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged", [])
    whole, merged = (run_file.read(tmp_path / name) for name in ("whole", "merged"))
    assert merged.skipped == whole.skipped
    assert merged.reasons == whole.reasons
    assert merged.results == whole.results


def test_a_replayed_case_that_memory_does_not_hold_is_not_asked(little, tmp_path, small_case):
    """The status is that of a run that is incomplete, and the number is said."""
    case = small_case()
    path = tmp_path / "x.safetensors"
    path.write_bytes(encode_case(case))
    assert cli("replay", path, "-i", "numpy.two_pass", "--memory", "1")[0] == 0
    larger = msgspec.structs.replace(case, tensors=case.tensors | {"0.x": np.ones((1000, *case.shape[1:]), np.float32)})
    larger = msgspec.structs.replace(larger, steps=(msgspec.structs.replace(case.steps[0], derivatives=()),))
    kept = {name: array for name, array in larger.tensors.items() if not name.startswith("1.") and name != "0.dy"}
    larger = msgspec.structs.replace(larger, tensors=kept)
    path.write_bytes(encode_case(larger))
    status, said = cli("replay", path, "-i", "numpy.two_pass", "--memory", "1")
    assert status == 3
    assert "1 CANNOT RUN" in said
    assert f"would need {fitting.TIMES * larger.nbytes:,} bytes of memory" in said


@pytest.mark.parametrize(
    ("memory", "there", "at_a_time", "allowed", "says"),
    [
        (None, 24, 3, 8, "--memory is 8 unless you say otherwise; give --memory 9"),
        (
            None,
            6,
            3,
            2,
            "6 GiB are available to 3 workers at a time; ask fewer at a time with --jobs 1, free",
        ),
        (None, 6, 1, 6, "6 GiB are available; free some, or give --memory 9 to ask it all the same"),
        (12, 6, 3, 12, ""),
        (0.5, 6, 1, 0.5, "--memory 0.5; give --memory 9"),
    ],
)
def test_the_room_of_a_case(monkeypatch, memory, there, at_a_time, allowed, says):
    """What was asked for, or else 8 GiB, or else an even share of what is there."""
    monkeypatch.setattr(machine, "available_memory", lambda: there << 30)
    room = fitting.room(Limits(memory=memory), at_a_time)
    assert room.allowed == allowed * 2**30
    largest = room.allowed // fitting.TIMES
    assert (room.lacking(largest), room.lacking(largest + 1)) == (0, fitting.TIMES * (largest + 1))
    assert not says or says in room.refusal(9 << 30)


def test_available_memory_is_some_of_the_machine():
    """It is a number of bytes, and no more than there are."""
    there = machine.available_memory()
    assert 1 << 20 < there <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("value", ["lots", "0.05", "-3", "nan", "1 TiB", "50MiB"])
def test_no_memory_is_refused(value):
    """With the value, the rule, and an example."""
    status, said = cli("run", "--memory", value)
    assert status == 2
    assert f"{value!r} is no memory of 0.1 GiB or more; give a number of GiB, such as 8, or 512MiB" in said


def test_a_large_case_stays_on_disk(run, tmp_path, monkeypatch):
    """What is asked and judged is read from the run's folder, and the verdicts are the same."""
    before = run("numpy.two_pass", cases=6, out="before").results
    monkeypatch.setattr(buffers, "MAPPED", 1)
    bases = []

    def seen(item, *_):
        array = item.case.x(0)
        while isinstance(array, np.ndarray):
            array = array.base
        bases.append(type(array.obj if isinstance(array, memoryview) else array))

    who = Participants(select(("numpy.two_pass",)), requested=True)
    Campaign(Options(who, tmp_path / "mapped", cases=6, corpus=False), Progress(), seen).run()
    assert set(bases) == {mmap.mmap}
    assert run_file.read(tmp_path / "mapped").results == before


def test_arrays_of_answers_are_kept_for_who_wants_them(small_case):
    """A replay that saves nothing holds no answer longer than it takes to judge it."""
    who = Participants(select(("numpy.two_pass",)), requested=True)
    kept, judged = (replaying.ask([small_case()], who, keep=keep)[0].answers[0] for keep in (True, False))
    assert kept.results == judged.results
    assert (kept.reply is not None, judged.reply) == (True, None)
