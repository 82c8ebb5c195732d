"""A summary word speaks only of what was judged: INCONCLUSIVE wins where an output that was asked for never was."""

import json
import shutil

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance import pytest_plugin
from conformance.cli.main import main
from conformance.gate.decision import decide
from conformance.gate.outputs.checks import table
from conformance.model import results
from conformance.model.case import Case, Derivative, Step
from conformance.model.codec import encode_case
from conformance.model.results import Result
from conformance.report import gather, render
from conformance.runs import replaying, run_file, summary
from reference import Spec

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # in this process, too, squares overflow


def invoke(*arguments):
    """Run a command."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


PASS = Result("c", "i", "PASS", step=1, output="y", rho=0.5)
FAIL = Result("c", "i", "FAIL", step=0, output="y", rho=2.0)
UNJUDGED = Result("c", "i", "INCONCLUSIVE", step=0, output="y", rho=None, reason="every bound is infinite")


@pytest.mark.parametrize(
    ("now", "before", "word"),
    [
        ((UNJUDGED, PASS), None, "INCONCLUSIVE"),
        ((UNJUDGED, PASS), (FAIL, PASS), "INCONCLUSIVE"),
        ((UNJUDGED, PASS), (UNJUDGED, PASS), "INCONCLUSIVE"),
        ((UNJUDGED, FAIL), None, "FAILS"),
        ((), None, "INCONCLUSIVE"),
        ((PASS,), None, "CONFORMS"),
    ],
)
def test_what_was_never_judged_does_not_conform(now, before, word):
    """Neither CONFORMS nor FIXED is said of an answer in which an output was not judged, or none at all."""
    assert replaying.word(now, before) == word


@pytest.fixture
def vacuous(tmp_path):
    """Write a case whose inference is ordinary, and whose training step is beyond all bounds; return its file."""
    rng, single = np.random.default_rng(0), np.float32
    tensors = {f"{t}.{name}": rng.normal(size=(5, 3)).astype(single) for t in (0, 1) for name in ("x", "dy")}
    tensors |= {name: np.ones(3, single) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    tensors["1.x"] *= single(1e30)
    steps = tuple(Step(mode, derivatives=(Derivative(),)) for mode in ("infer", "train"))
    case = Case(Spec(), steps, tensors=tensors)
    path = tmp_path / "vacuous.safetensors"
    path.write_bytes(encode_case(case))
    return path


def test_replay_says_inconclusive_and_why(vacuous):
    """Where every bound of a training step is infinite the word is INCONCLUSIVE, with how many outputs and why."""
    result = invoke("replay", vacuous, "-i", "numpy.two_pass", "--in-process")
    assert "CONFORMS" not in result.output
    assert "INCONCLUSIVE: numpy.two_pass@cpu, vacuous: " in result.output
    assert "never judged: step 1 y, dx, dgamma, moving_variance, variance: every bound is infinite" in result.output
    lines = json.loads(invoke("replay", vacuous, "-i", "numpy.two_pass", "--in-process", "--json").stdout)
    assert [line["status"] for line in lines] == ["INCONCLUSIVE"]


def test_replay_of_recorded_answers_says_inconclusive(vacuous, tmp_path):
    """--recorded says no more of a recording than of an answer given now."""
    invoke("replay", vacuous, "-i", "numpy.two_pass", "--in-process", "--save", tmp_path / "saved")
    result = invoke("replay", tmp_path / "saved", "--recorded")
    assert "INCONCLUSIVE: numpy.two_pass@cpu" in result.output
    assert "CONFORMS" not in result.output


def test_explain_counts_only_who_was_judged(vacuous):
    """An output whose bounds are all infinite is not judged, rather than failed by nobody."""
    lines = invoke("explain", vacuous, "-i", "numpy.two_pass", "-i", "numpy.fast", "--in-process").stdout.splitlines()
    (of_y,) = [line for line in lines if line.startswith("step 1 train y")]
    assert of_y.startswith("step 1 train y: not judged: every bound is infinite")
    assert "step 0 infer y: 0 of 2 fail" in lines


def test_explain_and_replay_show_answers_that_are_not_finite(vacuous, tmp_path):
    """Where the exact value is ordinary and NaN was answered, both say so, though no bound does."""
    result = invoke("replay", vacuous, "-i", "numpy.fast", "--in-process", "--save", tmp_path / "saved")
    shown = "15 of 15 answers are not finite where the exact values are"
    (line,) = [line for line in result.output.splitlines() if " step 1 train y" in line]
    assert "every bound is infinite: an intermediate" in line
    assert line.endswith(f"; {shown}")
    assert f"  numpy.fast@cpu: {shown}" in invoke("explain", tmp_path / "saved" / "vacuous.safetensors").stdout


@pytest.fixture
def dx_never_judged(run, tmp_path):
    """Make a run in which all bounds of dx were infinite, and return it with its folder."""
    run("numpy.two_pass", cases=8)
    file = tmp_path / "run" / "run.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["type"] == "result" and line.get("output") == "dx":
            line |= {"verdict": "INCONCLUSIVE", "rho": None, "reason": "every bound is infinite"}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run_file.read(tmp_path / "run"), tmp_path / "run"


def test_an_implementation_whose_dx_was_never_judged_does_not_conform(dx_never_judged):
    """Not in the summary of a run, not in a check of the gate, not in the test of a user's own project."""
    run, folder = dx_never_judged
    (row,) = summary.rows(run)
    assert not row.conforms
    assert row.unjudged == ["dx train", "dx infer"]
    (gradients,) = [check for check in table(decide(folder, run, []), run, folder) if check.group == "gradients"]
    assert (gradients.state, gradients.says) == ("not judged", ("dx was never judged",))
    assert "gradients: dx was never judged" in pytest_plugin._problem(run, folder, "gradients")


def test_a_run_says_which_outputs_were_never_judged(dx_never_judged, capsys):
    """The summary of a run names them, and the report says `nothing compared` of the check."""
    from conformance.cli.finished import print_run

    run, folder = dx_never_judged
    print_run(run, folder)
    assert "numpy.two_pass@cpu: never judged: dx train, dx infer" in capsys.readouterr().out


def test_the_report_calls_no_check_conforming_in_which_an_output_was_never_judged(dx_never_judged):
    """dgamma and dbeta were judged, dx was not: the check of gradients has nothing to say."""
    html = render(gather(dx_never_judged[1]))
    assert '<td class="text nothing-compared">– nothing compared</td>' in html


def test_recall_says_not_found_only_of_what_was_judged(run, tmp_path):
    """Where nothing was judged of whoever could show an entry, it is not applicable, and says why."""
    from conformance.studies.recall import Recall, read

    entry = next(e for e in read() if e.instead)
    identity = entry.implementations[0].replace("*", "any")
    record = results.ImplementationRecord(identity, "i", "cpu", available=True)
    unjudged, judged = (msgspec.structs.replace(one, implementation=identity) for one in (UNJUDGED, PASS))
    (said,) = Recall([entry]).recalled([record, unjudged])
    assert (said.status, said.reason) == ("not applicable", f"nothing was judged of {identity}")
    (said,) = Recall([entry]).recalled([record, judged])
    assert said.status == "not found"


def test_hunt_says_how_many_cases_were_judged(adapter, tmp_path):
    """A search in which nothing was compared has not found that nothing fails."""
    result = invoke("hunt", "-i", "numpy.two_pass", "--cases", "3", "--out", tmp_path / "hunt", "--in-process")
    assert "3 cases asked, 3 judged, 0 kinds of failure" in result.output
    shutil.rmtree(tmp_path / "hunt")


def test_the_report_shows_answers_that_are_not_finite():
    """A row says how many of them there are beside why it was not judged."""
    from conformance.report.data import said

    strange = msgspec.structs.replace(UNJUDGED, not_finite=5, elements=15)
    assert said(strange) == "every bound is infinite; 5 of 15 answers are not finite where the exact values are"
    assert said(UNJUDGED) == "every bound is infinite"
    assert said(Result("c", "i", "FAIL", reason="it died", outcome="Crashed")) == "Crashed it died"
