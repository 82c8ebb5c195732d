"""Whole runs: real workers, real processes; crashes, hangs, garbage and interrupts are results."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cases.cells import SMOKE
from conformance.cli.main import main
from conformance.hosts import participants
from conformance.hosts.environment import Limits, Worker
from conformance.hosts.participants import Participants
from conformance.hosts.roster import select
from conformance.judging.judgment import judge
from conformance.model.codec import read_case
from conformance.model.errors import InvalidInput
from conformance.runs import campaign, run_file, summary
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress

ADAPTERS = Path(__file__).parents[1] / "adapters"

CALIBRATION = "numpy.two_pass"


def verdicts(found, identity):
    """Return the verdicts of one implementation, by case, step and output."""
    return {(r.case, r.step, r.output): r.verdict for r in found.results if r.implementation == identity}


@pytest.mark.parametrize(
    ("wrong", "output"),
    [("EpsilonOutside", "y"), ("MomentumSwapped", "moving_mean"), ("BiasedForUnbiased", "moving_variance")],
)
def test_wrong_implementation_fails(run, adapter, wrong, output):
    """Epsilon outside the root, momentum swapped, biased for unbiased: each fails, in the output that it spoils."""
    found = run(adapter(f"wrong:{wrong}"), cases=12)
    failed = {r.output for r in found.results if r.verdict == "FAIL"}
    assert output in failed


def test_swapping_momentum_leaves_the_training_output_alone(run, adapter):
    """What is right stays green beside what is wrong: momentum never touches a training step's y."""
    found = run(adapter("wrong:MomentumSwapped"), cases=12)
    assert {r.verdict for r in found.results if (r.output, r.mode) == ("y", "train")} == {"PASS"}


@pytest.mark.parametrize(
    ("fault", "outcome", "says"),
    [
        ("Exit", "Crashed", "exit code 7"),
        ("Raise", "Refused", "RuntimeError: <script>"),
        ("Complex", "Refused", "the wire carries"),
    ],
)
def test_fault_costs_one_case_and_nobody_else(run, adapter, fault, outcome, says):
    """An exit or a raise is a verdict; a neighbour in the same worker is untouched. The drill has the other faults."""
    limits = Limits(case=2, memory=1)
    found = run(adapter(f"faulty:{fault}"), adapter("faulty:Fine"), cases=14, limits=limits)
    identity = f"faulty.{fault.lower()}@cpu"
    failed = [r for r in found.results if r.verdict == "FAIL"]
    assert {(r.implementation, r.outcome) for r in failed} == {(identity, outcome)}
    assert all(says in r.reason for r in failed)
    rank_two = {c.case for c in found.cases.values() if "rank 2" in c.cell}
    assert {r.case for r in failed} <= rank_two
    alone = run("numpy.two_pass", cases=14, out="alone")
    assert verdicts(found, "faulty.fine@cpu") == verdicts(alone, "numpy.two_pass@cpu")
    assert found.complete


def test_the_fault_drill_leaves_the_others_byte_for_byte(run, adapter, tmp_path):
    """Every fault at once, in the worker of a neighbour that is fine: each is a verdict, and nobody else's changes.

    The others' results are the same bytes as in a run without a fault, and each case that failed can be read back.
    """
    faults = {"Segfault": ("Crashed", "Segmentation fault"), "Garbage": ("Crashed", "the worker wrote garbage")}
    faults |= {"Hang": ("TimedOut", "no answer within 5 s"), "Exhaust": ("Crashed", "out of memory")}
    faults |= {"WrongShape": ("", "shape"), "WrongDtype": ("", "dtype"), "Nothing": ("", ""), "Early": ("", "")}
    drilled = [adapter(f"faulty:{name}") for name in faults]
    limits = Limits(case=5, memory=1)
    found = run(*drilled, adapter("faulty:Fine"), "numpy.*", cases=14, limits=limits)
    alone = run(adapter("faulty:Fine"), "numpy.*", cases=14, out="alone")
    said = {
        i.id: {r.outcome for r in found.results if r.verdict == "FAIL" and r.implementation == i.id}
        for i in found.implementations
    }
    failed = {identity: outcomes for identity, outcomes in said.items() if outcomes}
    names = {"WrongShape": "wrong_shape", "WrongDtype": "wrong_dtype"}
    wanted = {f"faulty.{names.get(name, name.lower())}@cpu": said for name, said in faults.items()}
    assert failed == {identity: {outcome} for identity, (outcome, _) in wanted.items()}
    fails = [r for r in found.results if r.verdict == "FAIL"]
    assert [r.reason for r in fails if wanted[r.implementation][1] not in r.reason] == []
    assert {found.cases[r.case].cell.count("rank 2") for r in fails if r.outcome} == {1}
    others = {i.id for i in alone.implementations}
    lines = [msgspec.json.encode(r) for r in found.results if r.implementation in others]
    assert lines == [msgspec.json.encode(r) for r in alone.results]
    for case in {r.case for r in found.results if r.verdict == "FAIL"}:
        read_case(tmp_path / "run" / found.cases[case].file)
    assert found.complete


@pytest.mark.parametrize(
    ("fault", "says"),
    [("WrongShape", "shape"), ("WrongDtype", "dtype float16"), ("Missing", "missing"), ("NotFinite", "")],
)
def test_malformed_answer_fails_and_the_run_goes_on(run, adapter, fault, says):
    """Wrong shapes, wrong dtypes, nothing and NaN are failures of y, and of y alone."""
    found = run(adapter(f"faulty:{fault}"), cases=40)
    failed = [r for r in found.results if r.verdict == "FAIL"]
    assert failed
    assert {r.output for r in failed} == {"y"}
    assert all(says in r.reason for r in failed)


def test_stopping_early_is_a_failure(run, adapter):
    """An implementation that answers the first step only and says nothing of the others does not pass."""
    found = run(adapter("faulty:Early"), cases=6)
    failed = [r for r in found.results if r.verdict == "FAIL"]
    assert {r.step for r in failed} >= {1}
    assert {r.reason for r in failed} == {"it stopped answering, and said nothing"}


def test_more_precise_than_promised_is_no_failure(run, adapter):
    """float64 inside, float32 outside: the residual check allows for the rounding of what is returned."""
    found = run(adapter("faulty:Wide"), cases=60)
    trained = [r for r in found.results if (r.output, r.mode) == ("y", "train")]
    assert len([r for r in trained if "residual" in r.checks]) > 30
    assert {r.verdict for r in trained if r.elements != r.vacuous} == {"PASS"}


def test_renorm_is_held_to_the_returned_statistics_and_the_state_before(run):
    """y, dx, dgamma and all five moving statistics of a layer with renorm follow from what it returned."""
    found = run("numpy.renorm", cases=SMOKE, in_process=True)
    renorm = {r.case for r in found.results if r.output == "renorm_mean"}
    held = {r.output for r in found.results if r.case in renorm and "residual" in r.checks}
    state = {"moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"}
    assert held == {"y", "dx", "dgamma", *state}


def test_a_child_that_keeps_the_pipe_does_not_hold_the_run(run, adapter):
    """A worker that dies and leaves a child behind costs its cases, not an hour."""
    began = time.monotonic()
    found = run(adapter("faulty:Fork"), cases=8, limits=Limits(case=2, memory=1))
    assert time.monotonic() - began < 60
    assert {r.outcome for r in found.results if r.verdict == "FAIL"} <= {"Crashed", "TimedOut"}
    assert found.complete


def test_a_crash_is_recorded_even_if_the_worker_cannot_start_again(run, tmp_path, adapter):
    """The case that killed the worker is a result before anything else is tried."""
    path = tmp_path / "once.py"
    path.write_text(
        f"import os, runpy\nif os.path.exists({str(tmp_path / 'crashed')!r}): raise RuntimeError('gone')\n"
        f"faulty = runpy.run_path({adapter('faulty')!r})\n"
        "class Once(faulty['Fine']):\n"
        "    statement = dict(faulty['Fine'].statement, id='faulty.once')\n"
        f"    def run(self, case):\n        open({str(tmp_path / 'crashed')!r}, 'w').close()\n        os._exit(3)\n"
        "IMPLEMENTATIONS = [Once]\n"
    )
    found = run(str(path), cases=14)
    assert [r.outcome for r in found.results if r.verdict == "FAIL"] == ["Crashed"]
    assert not found.complete


def test_what_a_framework_prints_does_not_disturb_the_wire(run, adapter):
    """Chatter on stdout, from Python or from below it, ends in the log."""
    found = run(adapter("faulty:Print"), cases=14)
    assert not [r for r in found.results if r.verdict != "PASS" and r.rho is not msgspec.UNSET and r.rho is not None]


def test_same_seed_same_file(run):
    """Two runs of one seed are the same records but for times and process ids."""

    def strip(found):
        return (found.cases, found.results, found.implementations, found.end.verdicts)

    first = strip(run("numpy.*", cases=14, out="a"))
    assert strip(run("numpy.*", cases=14, out="b", afresh=True)) == first
    assert strip(run("numpy.two_pass", cases=14, out="c", seed=1))[0] != first[0]


def test_in_process_gives_the_same_verdicts(run):
    """Debugging without a worker judges the same."""
    assert run("numpy.*", cases=14, out="a").results == run("numpy.*", cases=14, out="b", in_process=True).results


def test_case_files_replay_to_the_same_verdict(run, adapter, tmp_path):
    """Every case of a run is on disk, and asking one again gives the same results."""
    from conformance.hosts.participants import Participants
    from conformance.hosts.roster import select
    from conformance.model.codec import read_case
    from conformance.runs.replaying import ask

    found = run(adapter("wrong:EpsilonOutside"), cases=6)
    who = Participants(select((adapter("wrong:EpsilonOutside"),)))
    cases = [read_case(tmp_path / "run" / record.file)[0] for record in found.cases.values()]
    for record, again in zip(found.cases.values(), ask(cases, who), strict=True):
        assert again.missing == {}
        judged = [result for answer in again.answers for result in answer.results]
        assert judged == [r for r in found.results if r.case == record.case and r.verdict != "UNSUPPORTED"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_a_readable_run_that_says_so(tmp_path, bnconf, wait_for_results, number):
    """Ctrl-C and SIGTERM stop after the case in hand: exit 3, a closed file, nothing judged is lost."""
    process = bnconf("run", "-i", "numpy.*", "--cases", "146", "--out", "r")
    seen = len(wait_for_results(tmp_path / "r" / "run.jsonl").results)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    found = run_file.read(tmp_path / "r")
    assert process.returncode == 3, errors
    assert (found.complete, found.end.reasons) == (False, ["the run was interrupted"])
    assert len(found.results) >= seen


def test_a_killed_run_is_readable_and_incomplete(tmp_path, bnconf, wait_for_results):
    """kill -9 on the host leaves what was judged, and a torn last line is tolerated and said."""
    process = bnconf("run", "-i", "numpy.*", "--cases", "146", "--out", "r")
    path = tmp_path / "r" / "run.jsonl"
    wait_for_results(path)
    process.kill()
    process.communicate()
    path.write_bytes(path.read_bytes() + b'{"type":"result","case":"to')
    found = run_file.read(tmp_path / "r")
    assert (found.complete, found.torn) == (False, True)
    assert found.reasons == ["the run was killed before it ended; its last line is torn"]
    assert summary.rows(found)


def test_an_environment_that_cannot_start_is_named(run, tmp_path):
    """An interpreter that does not exist makes its implementations unavailable and the run incomplete."""
    found = run("numpy.*", cases=6, interpreters={"numpy": str(tmp_path / "nowhere" / "python")})
    assert not found.complete
    assert all("cannot be started" in i.reason for i in found.implementations)


def test_another_interpreter_hosts_the_worker(run, tmp_path):
    """--env runs the adapters in the interpreter it names."""
    link = tmp_path / "mine"
    link.write_text(f'#!/bin/sh\ntouch "{tmp_path}/used"\nexec "{sys.executable}" "$@"\n')
    link.chmod(0o755)
    assert run("numpy.*", cases=6, interpreters={"numpy": str(link)}).complete
    assert (tmp_path / "used").exists()


def test_shards_together_are_the_whole(run):
    """Four shards ask every case once and judge it as the unsharded run does."""
    whole = run("numpy.*", cases=14, out="whole")
    parts = [run("numpy.*", cases=14, out=f"part{k}", shard=(k, 4)) for k in (1, 2, 3, 4)]
    key = lambda r: (r.case, r.implementation, r.step, r.output)  # noqa: E731
    assert sorted((r for p in parts for r in p.results), key=key) == sorted(whole.results, key=key)
    assert sum(len(p.cases) for p in parts) == len(whole.cases)


@pytest.mark.parametrize("torn", [0, 40], ids=["between lines", "in a line"])
def test_resume_asks_only_what_is_missing(run, tmp_path, monkeypatch, torn):
    """A run cut off in the middle and resumed gives the same results as one that was not, and judges no pair twice."""
    whole, judged = run("numpy.*", cases=14, out="whole"), []
    cut = tmp_path / "cut"
    (cut / "cases").mkdir(parents=True)
    lines = (tmp_path / "whole" / "run.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "run.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]) + lines[-2][:torn])
    records = [record for record in map(json.loads, lines[: len(lines) // 2]) if record["type"] == "result"]
    pairs = [(record["case"], record["implementation"]) for record in records]
    kept = set(pairs) - {pairs[-1]}  # which the end may have cut
    monkeypatch.setattr(campaign, "judge", lambda *a: judged.append((a[0], a[3].implementation)) or judge(*a))
    again = run("numpy.*", cases=14, out="cut", resume=True)
    assert again.complete
    assert again.results == whole.results
    asked = {(r.case, r.implementation) for r in whole.results if r.verdict != "UNSUPPORTED"}
    assert sorted(judged) == sorted(asked - kept)
    assert kept & asked


def test_resume_refuses_to_forget_an_implementation(run):
    """Resuming with fewer implementations would lose what the others were judged to be."""
    run("numpy.*", cases=6)
    with pytest.raises(InvalidInput, match=r"holds results of numpy\.fast@cpu"):
        run("numpy.two_pass", cases=6, resume=True)


def test_a_second_interrupt_ends_at_once(tmp_path, bnconf, wait_for_results, adapter):
    """Ctrl-C twice does not wait for an implementation that hangs: exit 3, no worker left behind."""
    process = bnconf("run", "-i", "numpy.two_pass", "-i", adapter("faulty:Hang"), "--cases", "60", "--out", "r")
    wait_for_results(tmp_path / "r" / "run.jsonl", 200)
    workers = [
        w for w in map(json.loads, (tmp_path / "r" / "run.jsonl").read_text().splitlines()) if w["type"] == "worker"
    ]
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    process.communicate(timeout=20)
    assert process.returncode == 3
    commands = [Path(f"/proc/{w['pid']}/cmdline") for w in workers]
    assert not any(c.exists() and c.read_bytes() for c in commands)  # a zombie has no command line
    assert not run_file.read(tmp_path / "r").complete


def test_resume_refuses_another_run(run):
    """Resuming with another seed, or a smoke run with as many cases for all, would mix two runs."""
    run("numpy.two_pass", cases=6)
    for word, options in (("seed", {"seed": 1}), ("profile", {"hands": 5})):
        with pytest.raises(InvalidInput, match=f"another {word}"):
            run("numpy.two_pass", cases=6, resume=True, **options)


def test_failures_are_told_as_they_occur(tmp_path, adapter):
    """Every answer in which something fails is told; a run that is to stop there asks nothing more, and says why."""

    class Told(Progress):
        def __init__(self):
            self.failed_replies = []

        def failed(self, failed):
            self.failed_replies.append(failed)

    wrong, told = select((adapter("wrong"),)), Told()
    options = Options(Participants(wrong), tmp_path / "run", cases=20, corpus=False, jobs=1)
    assert Campaign(options, told).run().complete
    whole = run_file.read(tmp_path / "run")
    assert sum(len(one.failures) for one in told.failed_replies) == sum(result.failed for result in whole.results) > 0
    told.failed_replies.clear()
    end = Campaign(msgspec.structs.replace(options, out=tmp_path / "fast", fail_fast=True), told).run()
    fast = run_file.read(tmp_path / "fast")
    assert (end.complete, len(told.failed_replies)) == (False, 1)
    assert end.reasons == [f"stopped at the first failure, as --fail-fast asks: {told.failed_replies[0].record.id}"]
    assert 0 < len(fast.results) < len(whole.results)


@pytest.fixture
def workers(monkeypatch):
    """Return how many workers ran each time one more was started."""
    running, found = set(), []
    start, close = Worker.__init__, Worker.close

    def started(self, *arguments, **words):
        running.add(self)
        found.append(len(running))
        start(self, *arguments, **words)

    def closed(self):
        close(self)
        running.discard(self)

    monkeypatch.setattr(Worker, "__init__", started)
    monkeypatch.setattr(Worker, "close", closed)
    return found


@pytest.mark.parametrize("jobs", [1, 2])
def test_jobs_limits_how_many_workers_run_at_a_time(run, adapter, workers, jobs):
    """There are never more at a time, and the results are the same."""
    names = ("numpy.two_pass", adapter("faulty:Fine"), "onnx.reference.BatchNormalization+opset9")
    at_once = run(*names, cases=6, out="a")
    workers.clear()
    in_turn = run(*names, cases=6, out="b", jobs=jobs)
    assert sorted(at_once.results, key=repr) == sorted(in_turn.results, key=repr)
    assert max(workers) == jobs


@pytest.mark.parametrize(("jobs", "most"), [(0, 2), (1, 1), (2, 2), (5, 2)])
def test_who_takes_long_has_as_many_workers_as_may_run(tmp_path, monkeypatch, jobs, most):
    """PyTorch has two, and one where one may run at a time, which the estimate of the time is told too."""
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    one = Campaign(Options(Participants(select(("torch.*",))), tmp_path / "run", jobs=jobs), Progress())
    assert [len(workers) for _, workers in one._hosts] == [most]


def test_a_worker_whose_questions_are_all_asked_is_not_started(run, monkeypatch, workers):
    """With one job the second worker of an environment finds nothing left, and costs no start."""
    monkeypatch.setattr(participants, "_LONG", ("numpy",))
    monkeypatch.setattr(participants, "_PAYS", 1)
    monkeypatch.setattr(Campaign, "_workers_at_most", lambda _: 2)
    assert run("numpy.two_pass", cases=6, jobs=1, afresh=True).complete
    assert workers == [1]


def test_a_run_begins_with_what_an_earlier_one_says_takes_longest(monkeypatch, tmp_path):
    """The command gives the run the seconds that implementations took in the folder's run before."""
    command = ["run", "-i", "numpy.two_pass", "--cases", "4", "--no-corpus", "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(main, command).exit_code == 0
    given, workers = [], Participants.workers
    monkeypatch.setattr(
        Participants, "workers", lambda who, most, costs: given.append(costs) or workers(who, most, costs)
    )
    assert CliRunner().invoke(main, command).exit_code == 0
    assert given[0]["numpy.two_pass@cpu"] > 0
    assert given[0]["numpy"] > 0  # its start


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_run_that_is_interrupted_is_incomplete(tmp_path, fail_fast):
    """Whatever else would have ended it: nothing failed, and not everything was asked."""
    options = Options(Participants(select((CALIBRATION,))), tmp_path / "run", cases=6, fail_fast=fail_fast)
    stopped = Campaign(options, Progress())
    stopped.stop()
    end = stopped.run()
    assert (end.complete, end.reasons) == (False, ["the run was interrupted"])
