"""The worker: an answer is what was computed when it was given, and of nothing but its own case."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from conformance.hosts import roster
from conformance.hosts.environment import WORKER
from conformance.hosts.in_process import worker
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.codec import encode_case
from conformance.model.outcome import decode_reply
from conformance.runs import summary

PROGRAMS = Path(__file__).parents[1] / "programs"


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
@pytest.mark.parametrize("how", ["process", "in process", "program"])
def test_statistics_that_move_in_place_conform(run, adapter, how):
    """The documented example with `moving_mean *= kept` conforms, and so does who overwrites all it was given after."""
    target, options = adapter("in_place"), {"in_process": how == "in process"}
    if how == "program":
        target = f"exec:{sys.executable} {WORKER} {target}"
    found = run(target, cases=40, corpus=True, **options)
    rows = summary.rows(found)
    assert [(row.id, row.conforms) for row in rows] == [("in_place.moving@cpu", True), ("in_place.spoiling@cpu", True)]
    assert {"moving_mean", "moving_variance", "y train", "y infer"} <= set(rows[0].outputs)


def test_arrays_that_change_after_a_step_do_not_change_its_answer():
    """What a step answered stays as it was, whatever becomes of the arrays: NumPy's own, views, and torch's buffers."""
    kept, buffer = np.zeros(3, np.float32), np.zeros((2, 3), np.float32)

    class Counting:
        def run(self, _case):
            for t in range(3):
                kept[...], buffer[...] = t, 10 * t
                yield {"moving_mean": kept, "y": buffer[::-1], "mean": memoryview(kept)}
            kept[...] = buffer[...] = -1

    asked = SimpleNamespace(turned=lambda _, array: array)  # x is what it seems to be, and answers need no turning
    outcomes, tensors = worker.run(Counting(), asked)
    assert [outcome["type"] for outcome in outcomes] == ["outputs"] * 3
    for t in range(3):
        assert {name: set(np.unique(tensors[f"{t}.{name}"])) for name in ("moving_mean", "y", "mean")} == {
            "moving_mean": {t}, "y": {10 * t}, "mean": {t}
        }  # fmt: skip


def test_what_one_implementation_does_to_a_case_no_other_sees(small_case):
    """Arrays of a request cannot be written to, and each implementation has lists and dictionaries of its own."""
    seen = []

    class Careless:
        statement: ClassVar = {"conventions": {}}

        def run(self, case):
            seen.append(json.dumps([case.spec, case.dtypes, case.actions, [s.derivatives for s in case.steps]]))
            assert not any(array.flags.writeable for array in case.tensors.values())
            case.spec["epsilon"], case.dtypes["x"], case.actions["flag"] = 7.0, "float64", "int"
            case.steps[0].derivatives.clear()
            case.native["momentum"] = case.gamma[...] = case.steps[0].x[...] = 0
            yield {"y": case.steps[0].x}

    request = {"id": 1, "implementations": ["a", "b"]}
    fields, tensors = worker.decode(encode_case(small_case()))
    body = worker.encode({"request": json.dumps(request), "case": fields["case"]}, tensors)
    replies = [worker.decode(b"".join(reply)) for reply in worker.replies(body, {"a": Careless(), "b": Careless()})]
    assert [json.loads(fields["reply"])["outcomes"] for fields, _ in replies] == [[{"type": "outputs"}]] * 2
    assert seen[0] == seen[1]


FAILING = {  # what an adapter's step does, and whether it fails by that itself
    "case.kept[9]": True,
    "nobody_knows": True,
    "case.nothing": True,
    "a, b = case.kept": True,
    "raise ValueError('I would rather not')": True,
    "called()": False,  # what it called raised
    "np.zeros(3).reshape(2)": False,  # so did this, without a frame of its own
    "called(case.kept[9])": True,  # on the way to the call
}


@pytest.mark.parametrize("place", ["of ours", "a user's", "a calibration subject"])
@pytest.mark.parametrize("does", FAILING)
def test_what_an_adapter_of_ours_fails_by_itself_is_no_refusal(small_case, does, place):
    """An error of the suite's own adapter ends as ERROR, or as UNSUPPORTED where what it calls is not there.

    A user's class, and a subject, are what is judged.
    """
    path = (roster.ADAPTERS if place != "a user's" else PROGRAMS) / "made_up.py"
    called = "def called(*_):\n    raise IndexError('select(): index 0 out of range')\n"
    source = f"class Failing:\n    def run(self, case):\n        {does}\n        yield {{}}\n"
    made = {"np": np}
    exec(compile(called, str(PROGRAMS / "framework.py"), "exec"), made)
    exec(compile(source, str(path), "exec"), made)
    statement = {"conventions": {}, "calibration": place == "a calibration subject"}
    failing, case = made["Failing"](), small_case()
    failing.statement = statement
    metadata, tensors = worker.decode(encode_case(case))
    reply = decode_reply(b"".join(worker.answer(failing, "i", 0, json.loads(metadata["case"]), tensors)))
    found = judge("", ExactCase(case), roster.select(("numpy.two_pass",))[0].statement, reply)
    by_itself = "UNSUPPORTED" if does == "case.nothing" else "ERROR"
    expected = by_itself if FAILING[does] and place == "of ours" else "FAIL"
    assert [r.verdict for r in found] == [expected, "INCONCLUSIVE"]


def test_an_adapter_finds_what_stands_beside_it_and_no_others_neighbour(tmp_path):
    """`from . import beside` is the file of the adapter's own folder, and Python remembers no module of it."""
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "beside.py").write_text(f"PLACE = {place!r}\n")
        (tmp_path / place / "mine.py").write_text("from . import beside\n")
    before = set(sys.modules)
    found = [worker.by_path(str(tmp_path / place / "mine.py")).beside.PLACE for place in ("one", "two")]
    assert found == ["one", "two"]
    assert set(sys.modules) == before


def test_a_log_has_questions_of_which_something_was_said(monkeypatch, tmp_path):
    """A question about which nothing was said makes way for the next; the last stays, as who dies of it is silent."""
    with (tmp_path / "log").open("a") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log = worker.Log()
        for n, said in enumerate(["", "", "a warning\n", "", ""]):
            log.about("a@cpu", n)
            stream.write(said)
    expected = "== a@cpu, request 2\na warning\n== a@cpu, request 4\n"
    assert (tmp_path / "log").read_text() == expected


def test_a_log_shows_once_where_an_exception_came_from(capsys):
    """Whoever refuses alike again and again fills no log with the same frames; each refusal has its own words."""

    class Refusing:
        def run(self, case):
            raise ValueError(f"not {case}")
            yield {}

    for n in range(3):
        ((outcome,), _) = worker.run(Refusing(), n)
        assert outcome["message"] == f"not {n}"
    said = capsys.readouterr().err
    assert (said.count("Traceback"), [n for n in range(3) if f"ValueError: not {n}\n" in said]) == (1, [0, 1, 2])
