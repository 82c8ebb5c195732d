"""The gate: ten drills with their exit codes, and what its options do."""

from __future__ import annotations

import json
import re

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cases.cells import DEFAULT
from conformance.cli.main import main
from conformance.gate import completeness, divergences
from conformance.gate.decision import decide
from conformance.gate.explanation import FailedAnswer, explain
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model import results
from conformance.model.codec import read_case
from conformance.model.outcome import Outputs, Reply
from conformance.runs import run_file

BIASED = "wrong:BiasedForUnbiased"
WRONG = '{ wrong = true, no_formula = "it reads memory that nobody wrote" }'
SEVERAL_RANKS = 20  # cases that reach ranks 2 to 5


@pytest.fixture(autouse=True)
def no_github(monkeypatch):
    """Keep the outputs of these tests out of the summary of a job that runs them."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gate(tmp_path):
    """Run the command on the run in the test's folder."""

    def go(*arguments, folder=tmp_path / "run"):
        return CliRunner().invoke(main, ["gate", str(folder), *map(str, arguments)])

    return go


@pytest.fixture
def missing(tmp_path):
    """Return an adapter whose framework does not exist."""
    path = tmp_path / "gone.py"
    path.write_text(
        "class Gone:\n"
        "    statement = {'id': 'gone.bn', 'packages': [], 'documentation': '', 'conventions': {}}\n"
        "    def __init__(self, device):\n        import no_such_framework\n"
        "IMPLEMENTATIONS = [Gone]\n"
    )
    return str(path)


def verdict(result):
    """Return the last line of what was printed to standard output."""
    return result.stdout.splitlines()[-1]


def test_a_deviation_as_predicted_is_green(run, adapter, manifest, gate):
    """What behaves as its divergence predicts, the witness included, exits 0, and is counted as explained."""
    found = run(adapter(BIASED), "numpy.two_pass", cases=SEVERAL_RANKS, corpus=True)
    failed = sum(r.verdict == "FAIL" for r in found.results)
    result = gate("--divergences", manifest())
    assert result.exit_code == 0, result.output
    assert f"explained: biased ({failed} failures)" in result.stdout
    assert verdict(result).startswith("green (0): conformant, or every deviation is explained")


@pytest.mark.parametrize("when", ['output = ["moving_variance"]', 'mode = ["train"]', 'n = ["many"]'])
def test_what_is_predicted_of_some_results_explains_those_and_no_other(run, adapter, manifest, gate, when):
    """Semantics change a whole case, so a prediction about one output or mode explains its results; others spread."""
    run(adapter(BIASED), cases=SEVERAL_RANKS)
    result = gate("--divergences", manifest(when=f"{{ {when} }}"))
    assert "explained: biased" in result.stdout
    assert "CHANGED" not in result.stdout
    assert ("SPREAD" in result.stdout) == ("many" not in when)


def test_drill_new_failure(run, adapter, gate, tmp_path):
    """What no divergence speaks of exits 1, and is shown with a command that asks the case again."""
    run(adapter(BIASED))
    result = gate("--divergences", tmp_path)
    assert result.exit_code == 1
    assert "UNEXPLAINED wrong.biased_for_unbiased@cpu moving_variance" in result.stdout
    command = re.search(r"bnconf (replay \S+ -i \S+)", result.stdout)[1].split()
    assert CliRunner().invoke(main, command).exit_code == 1


def test_drill_vanished(run, adapter, manifest, gate):
    """A divergence whose witness passes exits 4."""
    run("numpy.two_pass", corpus=True)
    result = gate("--divergences", manifest(implementations='["numpy.*"]'))
    assert result.exit_code == 4
    assert "VANISHED biased: numpy.two_pass@cpu now passes its witness features-by-batch-axis-0" in result.stdout


def test_drill_changed_value(run, adapter, manifest, gate):
    """What fails where that is predicted, with another value than predicted, exits 1."""
    run(adapter(BIASED))
    result = gate("--divergences", manifest(predicts='{ semantics = { average = "zero_debiased" } }'))
    assert result.exit_code == 1
    assert "CHANGED wrong.biased_for_unbiased@cpu moving_variance" in result.stdout
    assert "not as biased predicts" in result.stdout


def test_drill_spread_to_another_rank(run, adapter, manifest, gate):
    """What behaves at every rank as predicted of rank 4 exits 1, and rank 4 stays explained."""
    run(adapter(BIASED), cases=SEVERAL_RANKS)
    result = gate("--divergences", manifest(when="{ rank = [4] }"))
    assert result.exit_code == 1
    assert "SPREAD wrong.biased_for_unbiased@cpu moving_variance" in result.stdout
    said = {line.split()[0] for line in result.stdout.splitlines() if line[0] != " "}
    assert said == {"SPREAD", "explained:", "red"}


def test_drill_expired(run, adapter, manifest, gate):
    """A divergence past its review date exits 4 the day after, although every failure is as it predicts."""
    run(adapter(BIASED))
    known = ("--divergences", manifest(review_by="2026-06-30"))
    assert gate(*known, "--today", "2026-06-30").exit_code == 0
    result = gate(*known, "--today", "2026-07-01")
    assert result.exit_code == 4
    assert "EXPIRED biased: was to be reviewed by 2026-06-30" in result.stdout


def test_drill_missing_framework(run, missing, gate):
    """An implementation that was asked for and cannot run exits 3, and is named with the reason."""
    run("numpy.two_pass", missing)
    result = gate()
    assert result.exit_code == 3
    assert "INCOMPLETE gone.bn@cpu is not available: ModuleNotFoundError: No module named 'no_such_" in result.stdout


@pytest.mark.parametrize(("requested", "status"), [(False, 3), (True, 0)])
def test_drill_unreached_mandatory_cell(run, gate, tmp_path, requested, status):
    """A run over everything that leaves a cell unjudged exits 3 and names it; a run of some implementations may."""
    run("numpy.two_pass", requested=requested)
    path = tmp_path / "run" / "run.jsonl"
    path.write_text(path.read_text().replace('"cases":8,', f'"cases":{DEFAULT},', 1))
    result = gate()
    assert result.exit_code == status
    found = re.search(r"INCOMPLETE mandatory cell not reached: rank \d, axis", result.stdout)
    assert bool(found) is not requested


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": '"defekt"'}, r"line 5, column 1: Invalid enum value 'defekt'"),
        ({"kind": "defect"}, r"\(at line 5, column 8\)"),
        ({"review_by": '"soon"'}, r"line 12, column 1: .*date"),
        ({"versions": '{ numpy = "two" }'}, r"line 2, column 1: Invalid specifier: 'two'"),
        ({"link": '"http://x"'}, r"line 2, column 1: link \"http://x\""),
        ({"reason": '" "'}, r"line 2, column 1: reason of biased is empty"),
        ({"witness": '"nothing"'}, r'line 2, column 1: biased: no witness is called "nothing"; use one of .*axis-0'),
        ({"when": "{ ranc = [2] }"}, r'line 2, column 1: biased: no fact is called "ranc"; use one of .*rank'),
        ({"predicts": '{ semantics = { stored = "biased" } }'}, r'no semantics is called "stored"'),
        ({"predicts": '{ semantics = { stored_variance = "b" } }'}, r'variance: "b" is no word for it; did you mean'),
        ({"predicts": '{ numerics = { sums = "some" } }'}, r'numerics.sums: "some" is no word for it; did you mean'),
        ({"when": '{ dtype = ["float31"] }'}, r'when.dtype: "float31" is no value of dtype; did you mean float32'),
        ({"predicts": "{}"}, r"biased must predict one thing: semantics or numerics"),
    ],
)
def test_drill_malformed_manifest(run, manifest, gate, changes, says):
    """A manifest that is no TOML, misses a rule or names what does not exist exits 2, with file, line and column."""
    run("numpy.two_pass", cases=2)
    result = gate("--divergences", manifest(**changes))
    assert result.exit_code == 2, result.output
    assert "wrong.toml" in result.stderr
    assert re.search(says, result.stderr), result.stderr


def test_drill_corrupt_run_file(run, gate, tmp_path):
    """A run file that is damaged in the middle exits 2, and names the line."""
    run("numpy.two_pass", cases=4)
    path = tmp_path / "run" / "run.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], lines[5][:20] + b"\n", *lines[6:]]))
    result = gate()
    assert result.exit_code == 2
    assert f"{path}, line 6:" in result.stderr


@pytest.mark.framework("onnx")
def test_a_wrong_value_may_be_nan_where_nan_went_in(run, gate, tmp_path):
    """Opset 9's evaluator blends the batch's NaN into a whole channel: explained; that an output is missing is not."""
    found = run("onnx.reference.BatchNormalization+opset9", cases=1, corpus=True)
    nan = {case.case for case in found.cases.values() if case.name == "nan-in-one-element-of-inference"}
    assert any(r.failed and r.rho == "inf" for r in found.results if r.case in nan)
    output = gate().stdout
    assert "explained: onnx-evaluator-opset-9-blends" in output
    assert "CHANGED" not in output
    (record,) = found.implementations
    (name,) = nan
    case, _ = read_case(tmp_path / "run" / found.cases[name].file)
    lost = results.Result(name, record.id, "FAIL", step=0, mode="infer", output="y", rho="inf", reason="is missing")
    answered = FailedAnswer(record, ExactCase(case), Reply(0, record.id, (Outputs({}),)))
    (missing,) = answered.explained([lost], divergences.read())
    assert missing.kind == "changed"


def test_a_numerical_class_that_is_none_is_a_damaged_file(run, gate, tmp_path):
    """A label that no class has is found when the file is read, not where it is used: exit code 2, and the line."""
    run("numpy.two_pass", cases=4)
    path = tmp_path / "run" / "run.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"A·S"', '"garbage"', 1), encoding="utf-8")
    result = gate()
    assert result.exit_code == 2, result.output
    assert re.search(r"line \d+: .*numerics", result.stderr), result.stderr


def test_drill_crashing_implementation(run, adapter, gate):
    """An implementation that takes its process down exits 1."""
    run(adapter("faulty:Exit"), "numpy.two_pass", cases=14)
    result = gate()
    assert result.exit_code == 1
    assert "UNEXPLAINED faulty.exit@cpu outcome" in result.stdout
    assert "exit code 7" in result.stdout


def test_an_answer_that_is_gone_exits_2(run, adapter, manifest, gate, tmp_path):
    """What failed can be explained only from the answer itself; without its file the gate does not guess."""
    run(adapter(BIASED))
    for file in (tmp_path / "run" / "answers").iterdir():
        file.unlink()
    result = gate("--divergences", manifest())
    assert result.exit_code == 2
    assert "the answer that failed cannot be read" in result.stderr


def test_a_result_without_its_implementation_is_unexplained(run, adapter, manifest, tmp_path):
    """A run that was killed may hold results of an implementation whose record it lost: nothing explains them."""
    found = run(adapter(BIASED))
    found.implementations.clear()
    kinds = {e.kind for e in explain(tmp_path / "run", found, divergences.read(manifest()))}
    assert kinds == {"unexplained"}


def test_only_is_about_these_implementations(run, adapter, missing, gate, tmp_path):
    """--only hides what others did, what they miss included; what is missing of the named ones stays."""
    run(adapter(BIASED), "numpy.two_pass", missing)
    known = ("--divergences", tmp_path)
    assert gate(*known).exit_code == 1
    assert gate(*known, "--only", "numpy.*").exit_code == 0
    assert gate(*known, "--only", "gone.*").exit_code == 3
    assert gate(*known, "--only", "numpy.*", "--only", "wrong.*").exit_code == 1


def test_only_leaves_out_what_expired_elsewhere(run, adapter, manifest, gate):
    """A divergence that speaks of none of the named implementations may be due for review."""
    run(adapter(BIASED), "numpy.two_pass")
    known = ("--divergences", manifest(review_by="2026-01-02"))
    assert gate(*known, "--only", "wrong.*").exit_code == 4
    assert gate(*known, "--only", "numpy.*").exit_code == 0


def test_only_refuses_a_name_that_nothing_has(run, gate):
    """A misspelt --only would be green whatever happened: it exits 2 and lists what there is."""
    run("numpy.two_pass", cases=2)
    result = gate("--only", "nunpy.*")
    assert result.exit_code == 2
    assert "--only nunpy.*: no implementation of this run is called so; it holds numpy.two_pass@cpu" in result.stderr


def test_fail_fast_shows_one_finding_and_the_verdict(run, adapter, gate, tmp_path):
    """--fail-fast shows the first finding that makes it red, and decides the same."""
    run(adapter(BIASED))
    result = gate("--divergences", tmp_path, "--fail-fast")
    assert result.exit_code == 1
    assert result.stdout.count("UNEXPLAINED") == 1
    assert gate("--divergences", tmp_path).stdout.count("UNEXPLAINED") > 1


def test_exit_zero_reports_and_exits_0(run, adapter, gate, tmp_path):
    """--exit-zero changes the exit status and nothing else."""
    run(adapter(BIASED))
    result = gate("--divergences", tmp_path, "--exit-zero")
    assert result.exit_code == 0
    assert verdict(result).startswith("red (1)")


def test_what_no_formula_explains_is_counted_in_every_format(run, adapter, manifest, gate, tmp_path):
    """A prediction that any wrong value would fit says so: in text, JSON and summary; one with a formula counts 0."""
    failed = sum(r.verdict == "FAIL" for r in run(adapter(BIASED), cases=SEVERAL_RANKS).results)
    summary = tmp_path / "summary.md"
    assert verdict(gate("--divergences", manifest())).endswith(", 0 by no formula")
    known = ("--divergences", manifest(predicts=WRONG))
    assert verdict(gate(*known, "--summary", summary)).endswith(
        f"{failed} of {failed} failures explained, {failed} by no formula"
    )
    assert f"{failed} by no formula" in summary.read_text()
    assert json.loads(gate(*known, "--json").stdout)["no_formula"] == failed


def test_json_holds_the_decision(run, adapter, gate, tmp_path):
    """--json prints findings and counts."""
    run(adapter(BIASED))
    found = json.loads(gate("--divergences", tmp_path, "--json").stdout)
    assert {finding["kind"] for finding in found["findings"]} == {"unexplained"}
    assert found["implementations"] == ["wrong.biased_for_unbiased@cpu"]


def _changed(path, **fields):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | fields) + "\n" for line in lines))


def test_a_larger_error_inside_the_bound_is_a_warning(run, gate, tmp_path):
    """A worst ρ that grew by more than the stated factor is said and stays green; the run's own baseline is silent."""
    run("numpy.two_pass")
    path = tmp_path / "baseline.jsonl"
    assert gate("--write-baseline", path).exit_code == 0
    assert gate("--baseline", path).stdout.splitlines()[:-1] == []
    _changed(path, rho=0.001)
    result = gate("--baseline", path)
    assert result.exit_code == 0
    assert "WORSE numpy.two_pass@cpu y train" in result.stdout
    assert "0.001 in the baseline" in result.stdout


def test_another_version_than_in_the_baseline_is_shown(run, adapter, gate, tmp_path):
    """A framework that was upgraded is named with both versions, and with what fails now and did not, or no longer."""
    run("numpy.two_pass", adapter(BIASED))
    path = tmp_path / "baseline.jsonl"
    gate("--write-baseline", path)
    _changed(path, versions={"numpy": "1.0", "python": "3.11"})
    upgraded = "VERSION CHANGED numpy.two_pass@cpu: numpy 1.0, python 3.11 in the baseline, "
    found = gate("--baseline", path, "--only", "numpy.*")
    assert found.exit_code == 0
    assert re.search(f"{upgraded}.* now; nothing else fails or passes\n", found.stdout)
    _changed(path, failed=0)
    assert "; moving_variance fails now; y infer fails now\n" in gate("--baseline", path).stdout
    _changed(path, failed=1)
    assert re.search(f"{upgraded}.* now; .*dbeta infer fails no longer", gate("--baseline", path).stdout)


def test_the_decision_depends_on_the_run_alone(run, adapter, manifest, tmp_path):
    """Two runs of one seed are decided the same."""
    known = divergences.read(manifest())
    decisions = []
    for out in ("a", "b"):
        run(adapter(BIASED), out=out, afresh=True)
        decisions.append(decide(tmp_path / out, run_file.read(tmp_path / out), known))
    assert decisions[0] == decisions[1]


@pytest.mark.parametrize(("predicts", "status"), [("{ crashes = true }", 0), (WRONG, 1)])
def test_a_crash_is_explained_by_the_prediction_of_a_crash_alone(run, adapter, manifest, gate, predicts, status):
    """A process that dies as predicted is green; a prediction of wrong values does not cover it."""
    run(adapter("faulty:Exit"), cases=14, corpus=True)
    known = manifest(implementations='["faulty.exit@*"]', predicts=predicts, when="{ rank = [2] }")
    assert gate("--divergences", known).exit_code == status


@pytest.mark.parametrize(("array", "kind"), [(np.zeros((1,), np.float32), "explained"), (None, "changed")])
def test_a_wrong_value_may_be_of_another_shape_but_not_missing(run, adapter, manifest, tmp_path, array, kind):
    """A mean of all channels has another shape than one of each; an output that is not there has none."""
    found = run(adapter(BIASED), cases=1)
    (record,), (name,) = found.implementations, found.cases
    case, _ = read_case(tmp_path / "run" / found.cases[name].file)
    answer = Outputs({} if array is None else {"mean": array})
    answered = FailedAnswer(record, ExactCase(case), Reply(0, record.id, (answer,) * len(case.steps)))
    judged = judge(name, answered.exact_case, answered.statement, answered.reply)
    (failure,) = (r for r in judged if (r.step, r.output) == (0, "mean"))
    (explained,) = answered.explained([failure], divergences.read(manifest(predicts=WRONG)))
    assert explained.kind == kind


def test_cells_are_mandatory_for_frameworks_that_are_there(run, tmp_path):
    """A cell that only somebody who is not here supports is named in one line; without him it is missing."""
    found = run("numpy.two_pass", "numpy.fast", cases=8)
    here, gone = found.implementations
    here = msgspec.structs.replace(here, statement=here.statement | {"supports": {"rank": [6]}})
    gone = msgspec.structs.replace(gone, available=False)
    header = msgspec.structs.replace(found.header, cases=DEFAULT, selected=False)
    without = msgspec.structs.replace(found, header=header, implementations=[here], results=[])
    asked = {f"mandatory cell not reached: {case.cell}" for case in found.cases.values()}
    assert asked <= {one.says for one in completeness.incomplete(tmp_path / "run", without, without)}
    both = msgspec.structs.replace(without, implementations=[here, gone])
    said = list(completeness.incomplete(tmp_path / "run", both, both))
    (line,) = (one for one in said if one.kind == "not here")
    assert line.says.startswith(f"{len(asked)} cells are reached only by what is not here, numpy: ")
    assert not asked & {one.says for one in said}
    assert line.status == 0
