"""The HTML report: complete, self-contained, and deaf to what implementations shout."""

from __future__ import annotations

import base64
import json
import re
import struct
import time
import zlib
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.gate import baseline
from conformance.model.errors import InvalidInput
from conformance.model.results import Result
from conformance.report import gather, render, write
from conformance.report.entries import changes, entries
from conformance.report.pack import PLANES
from conformance.report.tally import tally


class _Tags(HTMLParser):
    """Collects elements and checks that they nest."""

    void = frozenset(["meta", "link", "br", "img", "hr", "input"])

    def __init__(self):
        super().__init__()
        self.stack, self.seen, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def parsed(html):
    """Return the elements of a page whose tags nest."""
    tags = _Tags()
    tags.feed(html)
    assert tags.stack == []
    return tags


def packed(html):
    """Return the header of the page's data, and its columns decoded."""
    text = re.search(r'id="data">([^<]*)<', html)[1]
    body = zlib.decompress(base64.b64decode(text))
    (length,) = struct.unpack_from("<I", body)
    header = json.loads(body[4 : 4 + length])
    columns = {}
    for name, column in header["columns"].items():
        dtype = column["type"].removesuffix("Array").lower()
        values = np.frombuffer(body, dtype, column["length"], 4 + length + column["offset"])
        if name == PLANES:
            values = values.view(np.uint8).reshape(values.itemsize, -1).T.copy().view(dtype).ravel()
        columns[name] = [column["values"][v] for v in values] if "values" in column else values
    return header, columns


@pytest.fixture
def page(tmp_path):
    """Return the page of a run folder."""

    def make(out="run", **options):
        return render(gather(tmp_path / out, **options))

    return make


def test_report_lists_every_implementation_with_a_rho(run, tmp_path):
    """The table has a row for each, the verdict in words, and the path is returned."""
    found = run("numpy.*", cases=12)
    (path,) = write(gather(tmp_path / "run"), tmp_path / "out" / "report.html")
    html = path.read_text()
    for name in (record.id for record in found.implementations):
        row = re.search(rf'<tr><th scope="row"><a [^>]*>{re.escape(name)}</a></th>.*?</tr>', html, re.DOTALL)
        assert row
        assert re.search(r'<td class="conforms">✓ 0\.\d+</td>', row[0])
    whole = len(found.implementations)
    assert f"{whole} of {whole} implementations conform</strong>" in html


def test_report_needs_no_network(run, page):
    """Nothing is fetched, and the policy lets the browser run the page's own script and style only."""
    run("numpy.*", cases=6)
    html = page()
    tags = parsed(html)
    assert not {"link", "img", "iframe", "object"} & set(tags.seen)
    assert not [value for name, value in tags.attributes if name in ("src", "srcset", "action", "style")]
    assert all(value.startswith("#") for name, value in tags.attributes if name == "href")
    policy = next(v for n, v in tags.attributes if n == "content" and "default-src" in v)
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-\S+'; script-src 'sha256-\S+'; base-uri 'none'; form-action 'none'",
        policy,
    )


def test_separate_files_leave_nothing_inline(run, tmp_path):
    """With --csp style and script are files, so that a policy without any exception admits them."""
    run("numpy.two_pass", cases=2)
    page, style, script = write(gather(tmp_path / "run"), tmp_path / "r.html", separate=True)
    html = page.read_text()
    assert "<style" not in html
    assert [v for n, v in parsed(html).attributes if n == "content" and "style-src 'self'; script-src 'self'" in v]
    assert f'href="{style.name}"' in html
    assert f'src="{script.name}"' in html
    assert re.findall(r"<script[^>]*>", html) == [
        '<script type="application/octet-stream" id="data">',
        '<script src="r.js">',
    ]


def test_hostile_messages_appear_as_text(run, adapter, page):
    """A message with markup is shown, not run."""
    run(adapter("faulty:Raise"), cases=14)
    html = page()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(&#39;no&#39;)&lt;/script&gt;" in html
    parsed(html)


def test_hostile_records_appear_as_text(run, page, tmp_path):
    """Whatever field of a run file holds markup, it is text in the page."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    run("numpy.two_pass", cases=3)
    file = tmp_path / "run" / "run.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        match line["type"]:
            case "run":
                line |= {"version": evil, "command": [evil], "started": evil, "environment": {evil: {evil: evil}}}
            case "implementation":
                line |= {"id": evil, "framework": evil, "documentation": evil, "versions": {evil: evil}, "named": evil}
                line["statement"]["rules"][0] |= {"cite": evil}  # a fact that is none is refused
            case "case":
                line |= {"cell": evil, "summary": evil, "name": evil}
            case "result":
                line |= {"implementation": evil, "verdict": "FAIL", "reason": evil, "outcome": evil}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    html = page()
    assert "<img" not in html
    assert "<script>alert" not in html
    assert set(re.findall(r"<script[^>]*>", html)) == {
        '<script type="application/octet-stream" id="data">',
        "<script>",
    }
    parsed(html)


def test_failures_are_named_with_a_replay_command(run, adapter, page):
    """Each kind of failure says implementation, output, case, expected and got, and how to ask again."""
    found = run(adapter("wrong:MomentumSwapped"), cases=12)
    html = page()
    worst = max((r for r in found.results if r.output == "moving_mean"), key=lambda r: float(r.rho or 0))
    assert f"<code>{worst.case}</code>" in html
    assert re.search(r"bnconf replay \S+/run/cases/", html)
    assert "moving_mean" in html
    assert "in a way that nothing explains</strong>" in html


def test_what_a_divergence_predicts_is_explained(run, adapter, page, manifest):
    """An explained failure is counted as such, with the divergence's reason; the headline says so."""
    run(adapter("wrong:BiasedForUnbiased"), cases=12)
    html = page(manifests=manifest())
    assert "1 departs from it only as 1 known divergence predicts" in html
    assert "It stores the biased variance" in html
    assert "nothing explains</strong>" not in html


def test_nothing_compared_is_not_called_a_departure(run, page, tmp_path):
    """An implementation that supports none of the cases neither conforms nor departs."""
    run("numpy.two_pass", cases=2)
    file = tmp_path / "run" / "run.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["type"] == "result":
            line |= {"verdict": "UNSUPPORTED"}
            del line["rho"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    html = page()
    assert '<td class="text departs">' not in html
    assert '<td class="text nothing-compared">– nothing compared</td>' in html


def test_incomplete_runs_say_so(run, tmp_path, page):
    """An environment that did not start is in the headline and in the table."""
    found = run("numpy.*", cases=6, interpreters={"numpy": str(tmp_path / "none")})
    html = page()
    assert "Incomplete.</strong>" in html
    assert html.count("– not judged<") == len(found.implementations) > 0


def test_counts_are_exact_however_few_rows_are_kept(run, page):
    """The kinds of the data add up to the run's results; each keeps its worst."""
    found = run("numpy.*", cases=12)
    header, columns = packed(page())
    assert columns["kind.number"].sum() == len(found.results)
    kept = {(columns["kind.implementation"][k], columns["kind.column"][k]) for k in columns["row.kind"]}
    assert {(r.implementation, r.output) for r in found.results if r.output == "moving_mean"} <= kept
    worst = max(float(r.rho) for r in found.results if isinstance(r.rho, float))
    assert columns["row.rho"][~np.isnan(columns["row.rho"])].max() == pytest.approx(worst)
    assert len(header["cases"]) == len(found.cases)


def test_samples_hold_the_worst_element(run, adapter, page):
    """What is kept to drill into is judged again, and its marked element has the ρ of the run."""
    found = run(adapter("wrong:MomentumSwapped"), cases=6)
    header, columns = packed(page())
    known = {(r.case, r.step, r.output): r for r in found.results}
    assert header["samples"]
    offset = 0
    for sample in header["samples"]:
        arrays = {}
        for name, rows, width in sample["arrays"]:
            arrays[name] = columns["values"][offset : offset + rows * width].reshape(rows, width)
            offset += rows * width
        result = known[sample["case"], sample["step"], sample["output"]]
        assert arrays["ρ"][tuple(sample["worst"])] == pytest.approx(float(result.rho), rel=1e-5)
        for name in ("expected", "got", "bound"):
            assert arrays[name][tuple(sample["worst"])] == pytest.approx(
                float(getattr(result.deviation, name)), rel=1e-5
            )
        error = float(result.deviation.got) - float(result.deviation.expected)
        assert arrays["error"][tuple(sample["worst"])] == pytest.approx(error, rel=1e-5)
    assert offset == len(columns["values"])


def _result(verdict, case="a", step=0, output="y", implementation="i", **fields):
    return Result(case, implementation, verdict, step=step, mode="train", output=output, **fields)


@pytest.mark.parametrize(
    ("now", "before", "change"),
    [
        ([_result("FAIL")], [_result("FAIL", case="b")], ""),
        ([_result("FAIL")], [_result("PASS")], "regressed"),
        ([_result("FAIL")], [_result("PASS", output="dx")], "regressed"),
        ([_result("FAIL")], [_result("FAIL")], "still failing"),
        ([_result("PASS")], [_result("FAIL")], "fixed"),
        ([_result("PASS")], [_result("FAIL", output="outcome")], "fixed"),
        ([_result("PASS")], [_result("FAIL", case="b")], ""),
        ([_result("PASS")], [_result("FAIL", implementation="j")], ""),
        ([_result("FAIL")], [_result("UNSUPPORTED")], ""),
    ],
)
def test_a_failure_is_known_from_run_to_run(now, before, change, run):
    """By its case, implementation, step and output, each failure is in one state, if both runs asked it."""
    plain = run("numpy.two_pass", cases=1)
    here, there = (msgspec.structs.replace(plain, results=r) for r in (now, before))
    assert {entry.change for entry in entries(here, [], there)} - {""} == {change} - {""}
    assert sum(changes(here, there).values()) == bool(change)


def test_what_is_fixed_does_not_count_against_an_implementation(run):
    """A failure of the other run, gone with its output, is no failure of this one."""
    plain = run("numpy.two_pass", cases=1)
    here = msgspec.structs.replace(plain, results=[_result("PASS", rho=0.5)])
    there = msgspec.structs.replace(plain, results=[_result("FAIL", output="dx", rho=2.0)])
    found = list(entries(here, [], there))
    assert [entry.fails for entry in found] == [False, False]
    assert [count.kind.verdict for count in tally(found, lambda r: "")] == ["not asked", "PASS"]


def test_two_runs_are_compared(run, adapter, page, tmp_path):
    """Against another run the page says what became of what both asked, by divergence, and that nothing vanished."""
    run(adapter("wrong:MomentumSwapped"), cases=6, out="before")
    run(adapter("wrong:MomentumSwapped"), cases=6)
    html = page(against=tmp_path / "before")
    assert re.search(r"Against before</strong> of .*?>0 regressed</a>.*?>[1-9]\d* still failing</a>", html, re.DOTALL)
    assert "100.0 % of this run and 100.0 % of the other." in html
    assert "1 do not" not in html
    run("numpy.two_pass", cases=6)
    html = page(against=tmp_path / "before")
    assert re.search(r">0 regressed</a>.*?>0 still failing</a>.*?>0 fixed</a>", html, re.DOTALL)
    assert "0 cases of 0 implementations" in html
    assert "of nothing else is anything said" in html


def test_the_baseline_beside_a_run_is_compared_with_by_itself(run, adapter, page, tmp_path):
    """`baseline/cpu.jsonl` beside the run's folder is taken without being named; what fails now is said first."""
    found = run("numpy.two_pass", cases=6)
    assert "Compared with no baseline" in page()
    path = baseline.write(found, tmp_path / "baseline" / "cpu.jsonl")
    assert "<strong>Since the baseline cpu.jsonl</strong>: no checks fail that did not" in page()
    failing = json.loads(path.read_bytes().splitlines()[0]) | {"failed": 3, "versions": {"numpy": "0.9"}}
    path.write_text(json.dumps(failing))
    html = page()
    assert re.search(r"no checks fail that did not,\s+1 fails no longer, 1 implementation of other versions", html)
    assert "numpy 0.9" in html


def test_a_run_without_its_answers_still_has_a_report(run, adapter, page, tmp_path, manifest):
    """Where the gate cannot judge again, the page says why and shows the judgments."""
    run(adapter("wrong:BiasedForUnbiased"), cases=6)
    for file in (tmp_path / "run" / "answers").iterdir():
        file.unlink()
    html = page(manifests=manifest())
    assert "The gate did not decide" in html
    assert "moving_variance" in html


def test_an_audit_that_cannot_be_read_is_named(run, page, tmp_path):
    """A damaged file beside the run is an error with the file's name and what to do."""
    run("numpy.two_pass", cases=1)
    (tmp_path / "run" / "audit.json").write_text('{"cells": 3}')
    with pytest.raises(InvalidInput, match=r"audit\.json: is no audit .*write it again"):
        page()


def test_witnesses_and_scores_are_shown(run, page, tmp_path):
    """An audit in the run's folder marks its cells; scores beside the run have tables and a curve."""
    run("numpy.two_pass", cases=1)
    cell = {"implementation": "numpy.two_pass@cpu", "field": "frozen", "value": "train", "status": "proven", "rho": 0.5}
    cell |= {"witness": {"case": "cafe01", "file": "cases/cafe01.safetensors"}, "alternatives": {"batch": "inf"}}
    (tmp_path / "run" / "audit.json").write_text(json.dumps({"cells": [cell]}))
    (tmp_path / "score").mkdir()
    curve = [{"output": "y", "dtype": "float32", "delta": 1e-6, "detected": 9, "of": 10}]
    faults = [{"name": "gamma ignored", "easy": {"applied": 3, "detected": 2}}]
    (tmp_path / "score" / "faults.json").write_text(json.dumps({"seed": 1, "faults": faults, "curve": curve}))
    mutants = [{"id": "m", "framework": "flax", "category": "affine", "killed": True}]
    (tmp_path / "score" / "framework_mutants.json").write_text(json.dumps({"mutants": mutants}))
    html = page()
    assert "train: proven; case cafe01 (), ρ 0.5 against batch ∞" in html
    assert "gamma ignored" in html
    assert "How small a fault is noticed in float32?" in html
    assert re.search(r"flax</td><td[^>]*>affine</td><td[^>]*>1</td><td[^>]*>1</td><td[^>]*>100%", html)


def test_the_command_writes_what_it_is_asked_for(run, tmp_path):
    """A path a line: the report, with --csp its style and script, with --index the page over all runs."""
    run("numpy.two_pass", cases=2)
    done = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--csp", "--index"])
    assert (done.exit_code, done.stderr) == (0, "")
    names = [Path(line).relative_to(tmp_path.resolve()).as_posix() for line in done.stdout.splitlines()]
    assert names == ["run/report.html", "run/report.css", "run/report.js", "index.html"]
    assert 'href="run/report.html"' in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("option", [["--serve"], ["--pdf", "x.pdf"]])
def test_separate_files_are_for_another_server(run, tmp_path, option):
    """--csp with --serve or --pdf is an error that says what to leave out."""
    run("numpy.two_pass", cases=1)
    done = CliRunner().invoke(main, ["report", str(tmp_path / "run"), "--csp", *option])
    assert done.exit_code == 2
    assert "leave one out" in done.stderr


def test_a_large_report_says_so(run, tmp_path, monkeypatch):
    """From 10 MB on, a note says how large it is and what makes it smaller."""
    run("numpy.two_pass", cases=1)
    monkeypatch.setattr("conformance.report.LARGE", 1000)
    done = CliRunner().invoke(main, ["report", str(tmp_path / "run")])
    assert done.exit_code == 0
    assert re.search(r"note: the report has 0\.\d MB; run fewer cases", done.stderr)


def test_history_is_read_from_runs_and_from_summaries(run, tmp_path):
    """A run whose report was made counts, as does a summary that was copied into history/; a run twice counts once."""
    run("numpy.two_pass", cases=1, out="older")
    gather(tmp_path / "older")
    (tmp_path / "history").mkdir()
    kept = json.loads((tmp_path / "older" / "summary.json").read_text())
    (tmp_path / "history" / "accepted.json").write_text(json.dumps(kept | {"started": "2020-01-01T00:00:00+00:00"}))
    (tmp_path / "history" / "twice.json").write_text(json.dumps(kept))
    time.sleep(1.1)  # runs are told apart by the second in which they started
    run("numpy.two_pass", cases=1, afresh=True)
    assert [one.name for one in gather(tmp_path / "run").runs] == ["accepted", "older", "run"]
