"""What a run's seconds of CPU went to: each part has its own, and together they are all."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import worker
from conformance.model import stopwatch
from conformance.model.outcome import Reply
from conformance.runs import run_file
from conformance.runs.timetable import PARTS, Spent


def busy(seconds):
    """Use a processor for some seconds."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def spoiled():
    """Spend seconds in two parts, one in the other, and raise."""
    with stopwatch.part("judge"):
        busy(0.02)
        with stopwatch.part("expected"):
            busy(0.05)
            raise KeyError


def test_a_part_within_another_is_not_counted_twice():
    """What is inside counts for itself alone, also after an exception, and each thread has its own stopwatch."""
    stopwatch.taken()
    with pytest.raises(KeyError):
        spoiled()
    other = threading.Thread(target=stopwatch.part("wire")(busy), args=(0.02,))
    other.start()
    other.join()
    with stopwatch.part("judge"):
        busy(0.01)
    found = stopwatch.taken()
    assert set(found) == {"judge", "expected"}
    assert found["expected"] == pytest.approx(0.05, abs=0.01)
    assert found["judge"] == pytest.approx(0.03, abs=0.01)


def test_what_a_reply_says_of_itself_is_taken_off():
    """Tracing and compiling are a part of an answer and not computing; the wire before it is besides."""
    spent = Spent()
    spent.answered("jax", Reply(0, "a@cpu", (), cpu=5.0, spent={"trace": 1.0, "compile": 3.0, "wire": 0.5, "tea": 9.0}))
    spent.answered("jax", Reply(1, "a@cpu", (), cpu=1.0))
    assert spent.table() == {"jax": {"trace": 1.0, "compile": 3.0, "compute": 2.0, "wire": 0.5}}


def test_the_worker_hears_frameworks(monkeypatch):
    """Seconds of the clock become those of CPU; what is told twice is not more than the answer; a second one is new."""
    listeners, told = [], {}
    jax = SimpleNamespace(register_event_duration_secs_listener=listeners.append)
    monkeypatch.setitem(worker.sys.modules, "jax.monitoring", jax)
    monkeypatch.setitem(worker.sys.modules, "torch._dynamo.utils", SimpleNamespace(compilation_time_metrics=told))
    spending = worker._spending.Spending()
    spending.started()
    busy(0.03)
    spending.begun()
    busy(0.1)
    (hear,) = listeners
    hear("/jax/core/compile/backend_compile_duration", 0.04)
    hear("/jax/core/compile/jaxpr_trace_duration", 0.02)
    hear("/jax/pmap/something_else", 9.0)
    cpu, spent = spending.ended()
    assert cpu == pytest.approx(0.1, abs=0.02)
    assert spent["wire"] == pytest.approx(0.03, abs=0.02)
    assert 0 < spent["trace"] <= 0.02
    assert spent["compile"] == pytest.approx(2 * spent["trace"])
    told.update({"_compile.compile_inner": [5.0, 2.0], "OutputGraph.call_user_compiler": [4.0]})
    spending.begun()
    busy(0.02)
    cpu, spent = spending.ended()
    assert spent["trace"] + spent["compile"] == pytest.approx(cpu)
    assert spent["compile"] == pytest.approx(spent["trace"] * 4 / 3)
    spending.begun()
    busy(0.01)
    assert set(spending.ended()[1]) == {"wire"}
    assert listeners == [hear]


def test_a_run_records_and_prints_it(tmp_path):
    """The record has parts of all it did, by environment; --timings prints them, and --json has them."""
    words = ["run", "-i", "numpy.two_pass", "--cases", "12", "--no-corpus", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(main, [*words, "--timings"])
    assert "seconds of CPU" in done.output
    table = run_file.read(tmp_path / "run").end.timetable
    assert set(table) == {"numpy", "the run itself"}
    assert {"start", "compute", "wire", "expected", "judge", "write"} <= set(table["numpy"])
    assert set(table["the run itself"]) <= {"draw", "write"}
    assert all(value > 0 for parts in table.values() for value in parts.values())
    assert set().union(*table.values()) <= set(PARTS)
    again = CliRunner().invoke(main, [*words, "--json"])
    assert set(json.loads(again.stdout)["timetable"]) == {"numpy", "the run itself"}
    assert "seconds of CPU" not in CliRunner().invoke(main, words).output


def test_a_narrow_terminal_has_it_in_lines(tmp_path, monkeypatch):
    """Where the table does not fit, each environment is a line of its parts."""
    monkeypatch.setenv("COLUMNS", "50")
    words = ["run", "-i", "numpy.two_pass", "--cases", "6", "--no-corpus", "--out", str(tmp_path), "--timings"]
    assert "numpy: start 0." in CliRunner().invoke(main, words).output


def test_of_a_soak_there_is_none(tmp_path):
    """It is of one run, and a soak makes many."""
    done = CliRunner().invoke(main, ["run", "--profile", "soak", "--timings", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "--timings: is of one run" in done.output
