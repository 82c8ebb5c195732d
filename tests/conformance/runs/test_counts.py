"""Counts add up: what a judged array and a failure are is the same wherever a number is printed."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.gate import baseline
from conformance.gate.decision import GateDecision
from conformance.gate.explanation import Explanation
from conformance.gate.outputs import text
from conformance.hosts.participants import Participants
from conformance.hosts.roster import select
from conformance.model import results
from conformance.model.results import Result
from conformance.report import coverage, gather, history, render
from conformance.runs import counts, matrix, run_file, summary, wording
from conformance.runs.campaign import Campaign, Options
from conformance.runs.progress import Progress

ADAPTERS = Path(__file__).parents[1] / "adapters"
KINDS = {
    "passed": Result("c", "i", "PASS", 0, "train", "y", rho=0.5),
    "failed": Result("c", "i", "FAIL", 0, "train", "dx", rho="inf"),
    "outcomes_passed": Result("c", "i", "PASS", 1, "train", outcome="Refused"),
    "outcomes_failed": Result("c", "i", "FAIL", 2, "train", outcome="Crashed"),
    "inconclusive": Result("c", "i", "INCONCLUSIVE", 0, "train", "mean", rho=None),
    "unsupported": Result("d", "i", "UNSUPPORTED"),
    "errors": Result("e", "i", "ERROR"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_result_is_of_one_kind(kind):
    """A result counts as one thing, and the sum of all kinds is the number of results."""
    found = counts.of([KINDS[kind]] * 3)
    assert found == counts.Counts(**{kind: 3})
    assert found.judged == 3 * (kind in ("passed", "failed"))
    assert found.failures == 3 * KINDS[kind].failed


def numbers(words):
    """Return the numbers in some words."""
    return [int(n.replace(",", "")) for n in re.findall(r"\b\d[\d,]*\b", words)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a run with failures, refusals, crashes, what is unsupported and what is inconclusive."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    adapters = [str(ADAPTERS / name) for name in ("wrong.py:BiasedForUnbiased", "faulty.py:Raise")]
    who = Participants(select(("numpy.two_pass", *adapters)), requested=True)
    Campaign(Options(who, folder, cases=20, corpus=False), Progress()).run()
    file = folder / run_file.FILE
    lines = file.read_bytes().splitlines(keepends=True)
    case = next(iter(run_file.read(folder).cases))
    others = [
        Result(case, "numpy.two_pass@cpu", "INCONCLUSIVE", 9, "train", "y", "every bound is infinite", rho=None),
        Result(case, "numpy.two_pass@cpu", "PASS", 10, "train", outcome="Refused"),
        Result(case, "numpy.two_pass@cpu", "UNSUPPORTED", reason="rank is 9; supported: 2"),
    ]
    file.write_bytes(b"".join([*lines[:-1], *(msgspec.json.encode(r) + b"\n" for r in others), lines[-1]]))
    return folder


@pytest.fixture
def mixed(whole):
    """Return that run, and its folder."""
    found = run_file.read(whole)
    present = counts.of(found.results)
    assert all(n for name, n in present._asdict().items() if name != "errors"), present
    return found, whole


def test_the_run_the_gate_the_report_and_the_history_give_the_same_numbers(mixed):
    """Judged arrays and failures of one run are two numbers, in text, JSON, page, history, matrix and baseline."""
    found, folder = mixed
    wanted = counts.of(found.results)
    invoked = CliRunner().invoke(main, ["gate", str(folder), "--json"])
    decision = msgspec.json.decode(invoked.output)
    material = gather(folder)
    page = " ".join(re.sub(r"<[^>]+>", " ", render(material)).split())
    kept = history.of(found)
    generated = [r for r in found.results if found.cases[r.case].recipe]
    assert {
        "run": numbers(wording.headline(found).split(";")[1])[0],
        "rows": sum(worst.judged for row in summary.rows(found) for worst in row.outputs.values()),
        "gate": decision["judged"],
        "page": numbers(re.search(r"cases, ([\d,]+) judged arrays", page)[1])[0],
        "gate on the page": numbers(re.search(r"([\d,]+) judged arrays, \d+ of", page)[1])[0],
        "history": kept.judged,
        "baseline": sum(line.judged for line in baseline.of(found)),
    } == dict.fromkeys(("run", "rows", "gate", "page", "gate on the page", "history", "baseline"), wanted.judged)
    assert (decision["failures"], kept.failed) == (wanted.failures, wanted.failures)
    assert sum(coverage.cells(found).judged.values()) == counts.of(generated).judged
    assert sum(sum(line.ranks.values()) for line in matrix.lines(found)) == counts.of(generated).judged


def test_every_kind_of_result_is_said_once():
    """Each count stands in the words as itself; what was not asked is not said."""
    said = counts.Counts(1, 20, 300, 4_000, 50_000, 600_000, 7_000_000).words
    assert sorted(map(int, re.findall(r"\d+", said))) == [1, 20, 21, 300, 4_000, 50_000, 7_000_000]


def test_the_parts_of_a_headline_add_up(mixed):
    """PASS and FAIL are the judged arrays; with what stands beside them they are all results but the unsupported."""
    found, _ = mixed
    arrays, _, beside = wording.headline(found).split("; ", 1)[1].partition("; beside them ")
    judged, *parts = numbers(arrays)
    assert judged == sum(parts)
    assert judged + sum(numbers(beside)) == sum(r.verdict != "UNSUPPORTED" for r in found.results)


def test_failures_that_several_divergences_explain_are_counted_once(mixed, manifest, tmp_path):
    """The lines of the gate add up to the explained failures, and with the unexplained ones to all failures."""
    found, folder = mixed
    one = (manifest() / "wrong.toml").read_text()
    both = one + one.replace('"biased"\n', '"also"\n').replace("# What is known", "")
    (tmp_path / "known" / "wrong.toml").write_text(both)
    asked = ["gate", str(folder), "--divergences", str(tmp_path / "known"), "--today", str(date(2026, 1, 1))]
    done = CliRunner().invoke(main, asked).output
    lines = [(m[1], int(m[2])) for m in re.finditer(r"^explained: (.*) \((\d+) failures\)$", done, re.MULTILINE)]
    assert [name for name, _ in lines] == ["biased and also"]
    explained, failures, _ = numbers(re.search(r"judged arrays, (.*)$", done)[1])
    assert sum(n for _, n in lines) == explained
    unexplained = sum(int(n) for n in re.findall(r": (\d+) failures in \d+ cases", done))
    assert explained + unexplained == failures == counts.of(found.results).failures


def test_explained_lines_of_overlapping_divergences_add_up():
    """One failure of two entries, two of one: three failures, not four."""
    failure = Result("c", "i", "FAIL", 0, "train", "y", rho=2.0)
    explained = [Explanation(failure, "explained", ids) for ids in (("a",), ("a",), ("a", "b"))]
    decision = GateDecision([], explained, ["i"], {"a": "A", "b": "B"}, 9, 6, 0, 3)
    header = results.RunRecord(1, "1", 0, 1, [], "2026-01-02T03:04:05+00:00", {})
    said = text.as_text(decision, results.Run(header, [], {}, [], None, torn=False), folder=None)
    assert "explained: a (2 failures)\nexplained: a and b (1 failures)\n" in said
    assert said.endswith("9 judged arrays, 3 of 3 failures explained, 0 by no formula")
