"""Verdicts that are kept: those that a judge would give, by all that they depend on, and never a damaged one."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import machine, roster, sources
from conformance.model.outcome import Crashed, Outputs, Refused, Reply, TimedOut
from conformance.model.results import Deviation, Result
from conformance.runs import campaign, kept_verdicts, run_file
from conformance.runs.kept_verdicts import KeptVerdicts

FOUND = [
    Result("c", "i", "FAIL", 0, "train", "y", rho="inf", checks={"step": None}, dtype="float16", elements=3, depth=0.1),
    Result("c", "i", "FAIL", 1, "train", "y", rho=5e-324, deviation=Deviation("step", [1], 1 / 3, "nan", math.inf)),
    Result("c", "i", "INCONCLUSIVE", 2, rho=None, outside=["A·S"], class_a=1e308, reason="why"),
]
ADAPTERS = Path(__file__).parents[1] / "adapters"
STATEMENT = next(entry.statement for entry in roster.built_in() if entry.id.startswith("numpy.two_pass"))
REPLY = Reply(1, "i", (Outputs({"y": np.arange(6.0).reshape(2, 3)}), Refused("E", "why")))


@pytest.fixture(autouse=True)
def judged(monkeypatch, tmp_path, kept_verdicts_opened):
    """Give the test a cache of its own, and return what was judged meanwhile."""
    found, judge = [], campaign.judge

    def judging(case, *rest):
        found.append((case, rest[-1].implementation))
        return judge(case, *rest)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(campaign, "judge", judging)
    monkeypatch.setattr(KeptVerdicts, "opened", kept_verdicts_opened)
    return found


@contextlib.contextmanager
def opened():
    """Open what is kept, as a run does."""
    kept = KeptVerdicts(use=True)
    with kept.opened():
        yield kept


def found(case="c", statement=STATEMENT, reply=REPLY):
    """Return what is kept of an answer."""
    with opened() as kept:
        return kept.of(case, statement, reply)[1]


def add(verdicts=FOUND, reply=REPLY, case="c"):
    """Keep what was found of an answer."""
    with opened() as kept:
        kept.add(kept.of(case, STATEMENT, reply)[0], verdicts)


def run(folder, *options):
    """Run what is right and what is wrong, and return the results, and what was printed."""
    names = ("numpy.two_pass", "numpy.welford", f"{ADAPTERS}/wrong.py:BiasedForUnbiased")
    asked = [*(f"-i{name}" for name in names), "--cases=8", "--no-corpus", "--out", str(folder), *options]
    done = CliRunner().invoke(main, ["run", *asked])
    assert done.exit_code == 0, done.output
    return run_file.read(folder).results, done.output


def test_what_was_judged_once_is_not_judged_again(tmp_path, judged):
    """The results are the same to the last digit, failures are told and their answers kept; --no-cache judges."""
    first, said = run(tmp_path / "first")
    assert len(judged) == len(set(judged)) > 15
    judged.clear()
    again, told = run(tmp_path / "again")
    assert not judged
    assert again == first
    assert any(result.failed for result in first)
    assert [line for line in told.splitlines() if "ρ" in line] == [line for line in said.splitlines() if "ρ" in line]
    answers = [sorted(path.name for path in (tmp_path / name / "answers").iterdir()) for name in ("first", "again")]
    assert answers[0] == answers[1] != []
    assert run(tmp_path / "without", "--no-cache")[0] == first
    assert len(judged) == len(set(judged)) > 15


def test_results_come_back_as_they_were():
    """Infinite and absent numbers, the smallest and the largest, what was not measured, and no results at all."""
    assert found() is None
    add()
    assert found() == FOUND
    add([], case="nothing")
    assert found("nothing") == []


def changed(**tensors):
    """Return the answer with other arrays."""
    return msgspec.structs.replace(REPLY, outcomes=(Outputs(tensors), REPLY.outcomes[1]))


y = REPLY.outcomes[0].tensors["y"]


OTHERS = {
    "case": {"case": "d"},
    "statement": {"statement": msgspec.structs.replace(STATEMENT, keeps_inputs=False)},
    "implementation": {"reply": msgspec.structs.replace(REPLY, implementation="j")},
    "last bit": {"reply": changed(y=np.nextafter(y, 9.0))},
    "shape": {"reply": changed(y=y.reshape(3, 2))},
    "dtype": {"reply": changed(y=y.view(np.int64))},
    "name": {"reply": changed(dx=y)},
    "one more": {"reply": changed(y=y, dx=y)},
    "outcomes": {"reply": msgspec.structs.replace(REPLY, outcomes=REPLY.outcomes[::-1])},
    "fewer": {"reply": msgspec.structs.replace(REPLY, outcomes=REPLY.outcomes[:1])},
    "by adapter": {
        "reply": msgspec.structs.replace(REPLY, outcomes=(REPLY.outcomes[0], Refused("E", "why", by_adapter=True)))
    },
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_case_promise_or_answer_is_judged(other):
    """Whatever a verdict depends on decides what is taken from the cache: every bit of an answer does."""
    add()
    assert found(**other) is None
    assert found() == FOUND


def test_the_same_answer_at_another_time_is_not_judged():
    """How long it took, and what number its question had, are no part of it."""
    add()
    assert found(reply=msgspec.structs.replace(REPLY, request=7, cpu=3.0, spent={"trace": 1.0})) == FOUND


@pytest.mark.parametrize("what", ["suite", "version", "machine"])
def test_another_judge_judges(monkeypatch, what):
    """Other sources, another NumPy, another machine: nothing is taken over."""
    add()
    patches = {
        "suite": (sources, "of_the_judge", lambda: "another"),
        "version": (kept_verdicts.importlib.metadata, "version", lambda name: f"another {name}"),
        "machine": (machine, "processor", lambda: "another"),
    }
    kept_verdicts._judges.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(*patches[what])
        assert found() is None
    kept_verdicts._judges.cache_clear()
    assert found() == FOUND


@pytest.mark.parametrize("outcome", [Crashed("died"), TimedOut(1.0)], ids=str)
def test_who_died_is_judged_each_time(outcome):
    """What is no function of the case is not kept, nor is a fault of the judge."""
    died = msgspec.structs.replace(REPLY, outcomes=(outcome,))
    add(reply=died)
    assert found(reply=died) is None
    add([Result("c", "i", "ERROR", reason="the judge failed")])
    assert found() is None


@pytest.mark.parametrize("damage", ["bit", "type", "cut", "page", "zeros", "text", "schema", "folder"])
def test_a_damaged_file_is_as_none(damage, tmp_path, judged):
    """A bit that is another, a file that ends early, one of zeros or of something else: the answers are judged."""
    first, _ = run(tmp_path / "first")
    (path,) = kept_verdicts.folder().iterdir()
    whole = path.read_bytes()
    if damage in ("bit", "type"):
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            rows = database.execute("SELECT answer, found FROM verdicts").fetchall()
            flipped = [(bytes([*kept[:40], kept[40] ^ 1, *kept[41:]]), answer) for answer, kept in rows]
            other = flipped if damage == "bit" else [(7, answer) for answer, _ in rows]
            database.executemany("UPDATE verdicts SET found = ? WHERE answer = ?", other)
    elif damage == "schema":
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE verdicts (other TEXT)")
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        pages = whole[:4096] + bytes(len(whole) - 4096)  # of which the first says that all is well
        made = {
            "page": pages,
            "cut": whole[: len(whole) // 2],
            "zeros": whole[:100] + bytes(len(whole) - 100),
            "text": b"no" * 999,
        }
        path.write_bytes(made[damage])
    judged.clear()
    assert run(tmp_path / "again")[0] == first
    assert len(judged) > 15
    if damage == "page":  # which was noticed after it had been opened
        run(tmp_path / "anew")
    if damage not in ("schema", "folder"):  # which nobody but a user can have made
        judged.clear()
        assert run(tmp_path / "mended")[0] == first
        assert not judged


def test_a_file_in_use_or_a_folder_that_cannot_be_written_to_is_done_without(monkeypatch, tmp_path):
    """A cache is no condition of a run."""
    add()
    with contextlib.closing(sqlite3.connect(next(kept_verdicts.folder().iterdir()))) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert found() is None
    assert found() == FOUND
    with opened() as kept, contextlib.closing(sqlite3.connect(next(kept_verdicts.folder().iterdir()))) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert kept.of("c", STATEMENT, REPLY)[1] is None
        assert kept.of("c", STATEMENT, REPLY) == (b"", None)  # and it is waited for no longer
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    add()
    assert found() is None


def test_a_fault_in_mid_run_costs_time_alone(tmp_path, judged, monkeypatch):
    """A file that another process begins to hold, or that is damaged meanwhile: what is left is judged."""
    first, _ = run(tmp_path / "first")
    judged.clear()
    there, number = KeptVerdicts._found, iter(range(99))

    def found(self, answer):
        if next(number) == 3:
            with self._lock:
                self._database.execute("DROP TABLE verdicts")
        return there(self, answer)

    monkeypatch.setattr(KeptVerdicts, "_found", found)
    assert run(tmp_path / "again")[0] == first
    assert len(judged) > 10


def test_a_verdict_that_another_process_adds_is_found():
    """Two runs at a time share what they find, and neither waits for the other's end."""
    with opened() as one, opened() as other:
        one.add(one.of("c", STATEMENT, REPLY)[0], FOUND)
        one._write()
        assert other.of("c", STATEMENT, REPLY)[1] == FOUND
        other.add(other.of("d", STATEMENT, REPLY)[0], FOUND)
    assert found("d") == FOUND


def test_threads_share_it():
    """Each finds what it added, whoever writes."""
    with opened() as kept, ThreadPoolExecutor(4) as threads:

        def both(number):
            answer, before = kept.of(str(number), STATEMENT, REPLY)
            kept.add(answer, FOUND)
            return before

        assert list(threads.map(both, range(3000))) == [None] * 3000
    assert kept_verdicts.kept()[0] == 3000


def test_the_oldest_make_way(monkeypatch):
    """Neither the verdicts of one judge nor the judges become more than is said; the newest are there."""
    monkeypatch.setattr(kept_verdicts, "_MOST", 200_000)
    monkeypatch.setattr(kept_verdicts, "_BATCH", 50)
    with opened() as kept:
        for number in range(3000):
            kept.add(kept.of(str(number), STATEMENT, REPLY)[0], FOUND)
    answers, size = kept_verdicts.kept()
    assert 300 < answers < 3000
    assert size < 300_000
    assert found("2999") == FOUND
    assert found("0") is None
    for number in range(5):
        monkeypatch.setattr(kept_verdicts, "_judges", lambda number=number: f"judge {number}")
        add()
    assert sorted(path.stem for path in kept_verdicts.folder().iterdir()) == ["judge 2", "judge 3", "judge 4"]


def test_the_cache_is_shown_and_cleared():
    """`bnconf cache` tells how many answers were judged, and removes them."""
    add()
    assert "verdicts: 1 judged answer, 0.0 MiB; removed" in CliRunner().invoke(main, ["cache", "--clear"]).output
    assert CliRunner().invoke(main, ["cache"]).output == "nothing is kept\n"
