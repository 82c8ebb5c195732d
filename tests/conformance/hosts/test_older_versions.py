"""Versions that have less are judged in what they have, and what an adapter cannot call is never their failure."""

from __future__ import annotations

import re
import types

import pytest

from conformance.hosts import availability, roster
from conformance.hosts.environment import Listing
from conformance.hosts.in_process import worker
from conformance.hosts.participants import Participants
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.outcome import Refused, Reply
from conformance.model.statement import recorded
from conformance.runs import replaying

STANDS_IN = """
import importlib.util
spec = importlib.util.spec_from_file_location("calibration", {path!r})
calibration = importlib.util.module_from_spec(spec)
spec.loader.exec_module(calibration)

class Older(calibration.Renorm):
    statement = dict(calibration.Renorm.statement, id="older.renorm")
    def narrower(self):
        return {narrower}
"""


@pytest.fixture
def older(tmp_path):
    """Write an adapter that stands in for an older version of a framework, and return its path."""

    def write(narrower):
        path = tmp_path / "older.py"
        path.write_text(STANDS_IN.format(path=str(roster.ADAPTERS / "numpy.py"), narrower=narrower))
        return f"{path}:Older"

    return write


def test_what_a_version_does_not_have_is_not_asked(run, older):
    """Cases of a fact that the worker says is narrower are unsupported with the reason, and all others are judged."""
    found = run(older({"renorm": [False], "rank": [2]}), cases=12)
    (record,) = found.implementations
    asked = {result.case for result in found.results if result.verdict == "PASS"}
    why = {result.reason for result in found.results if result.verdict == "UNSUPPORTED"}
    assert asked
    assert "rank is 4; supported: 2" in why
    assert recorded(record).supports["renorm"] == [False]
    assert all(found.cases[name].cell.startswith("rank 2") for name in asked)


def test_a_column_that_goes_with_a_version_has_its_reason():
    """The statement says that the version does not have it, so that an empty column of the matrix is no gap."""
    (entry,) = roster.select(("numpy.renorm",))
    said = Listing(entry.id, {}, narrower={"renorm": [False]})
    record = availability.record(entry, said, {"numpy": "1.0"})
    assert not recorded(record).offers("renorm")
    assert recorded(record).lacks["renorm"] == "numpy 1.0 does not have it"
    assert "renorm" not in recorded(availability.record(entry, Listing(entry.id, {}), {})).lacks


def test_a_replayed_case_is_not_asked_either(older, small_case):
    """`replay`, and whatever asks cases outside a run, hears what the worker says."""
    who = Participants(roster.select((older({"dtype": ["float64"]}),)), in_process=True)
    (asked,) = replaying.ask([small_case()], who)
    assert asked.answers == []
    assert asked.unsupported == {"older.renorm@cpu": "dtype is float32; supported: float64"}


def test_a_worker_that_says_nonsense_is_not_asked():
    """A fact that there is none of makes it unavailable, with the nearest word."""
    (entry,) = roster.select(("numpy.two_pass",))
    said = Listing(entry.id, {}, narrower={"masc": [False]})
    record = availability.record(entry, said, {})
    assert not record.available
    assert 'supports: "masc" is no fact; did you mean mask?' in record.reason


ADAPTER = """
import importlib

class Adapter(object):
    statement = {}
    def __init__(self, framework):
        self.framework = framework
    def lookup(self):
        return self.framework.new_name
    def keyword(self):
        return self.framework.function(1, renorm=True)
    def imported(self):
        return importlib.import_module("no_such_module_of_a_framework")
    def inside(self):
        return self.framework.broken()
    def own(self):
        raise ValueError("a fault of ours")
    def run(self, case):
        yield {"y": getattr(self, case)()}
"""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Ask an adapter of the suite, which calls a framework in one of its ways, and return the outcome."""
    (tmp_path / "implementations").mkdir()
    path = tmp_path / "implementations" / "adapter.py"
    path.write_text(ADAPTER)
    monkeypatch.setattr(worker, "_HERE", str(tmp_path / "hosts"))
    framework = types.SimpleNamespace(function=lambda x: x, broken=lambda: types.SimpleNamespace().x)

    def go(way):
        outcomes, _ = worker.run(worker.by_path(str(path)).Adapter(framework), way)
        fields = {name: value for name, value in outcomes[0].items() if name != "type"}
        return Refused(**fields)

    return go


@pytest.mark.parametrize(
    ("way", "verdict", "says"),
    [
        ("lookup", "UNSUPPORTED", "cannot run here: AttributeError: "),
        ("keyword", "UNSUPPORTED", "cannot run here: TypeError: "),
        ("imported", "UNSUPPORTED", "cannot run here: ModuleNotFoundError: "),
        ("inside", "FAIL", "AttributeError: "),
        ("own", "ERROR", "the adapter failed, not what it calls: ValueError: "),
    ],
)
def test_what_an_adapter_cannot_call_is_no_failure(asked, small_case, way, verdict, says):
    """A name, a keyword or a module that is not there cannot be asked here; what the framework raises is its own."""
    (entry,) = roster.select(("numpy.two_pass",))
    reply = Reply(0, entry.id, (asked(way),))
    found = judge("case", ExactCase(small_case(modes="train")), entry.statement, reply)
    assert [(result.verdict, result.reason[: len(says)]) for result in found] == [(verdict, says)]


def test_a_run_that_could_not_call_something_is_incomplete(run, adapter, monkeypatch):
    """It is said who was not answered by, in how many cases and why, and the run is not complete."""
    monkeypatch.setattr(Refused, "not_there", True)
    monkeypatch.setattr(worker, "_by_adapter", lambda *_: True)
    found = run(adapter("refusing:Undocumented"), cases=8, in_process=True, afresh=True)
    assert not found.complete
    (said,) = found.reasons
    assert re.fullmatch(r"refusing.undocumented@cpu: \d cases were not answered: cannot run here: ValueError: .*", said)
