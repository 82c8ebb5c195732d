"""The pytest plugin, in somebody else's repository: one test per implementation and group, the same whatever -n."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.cases import corpus
from conformance.cli.main import main
from conformance.runs import run_file, summary

pytest_plugins = ["pytester"]

GROUPS = ["y_train", "y_infer", "gradients", "moving_statistics", "batch_statistics", "outcomes"]
TESTS = """
import pytest

@pytest.mark.bnconf({names}, cases=14)
def test_batch_norm(bnconf_check):
    bnconf_check()
"""


@pytest.fixture
def outside(pytester, monkeypatch, adapter):
    """Run pytest in a repository of its own, on a test file with these implementations; return its result.

    It starts in this process, in half the time, unless a test wants it `alone`, as its user would start it.
    """
    installed = any(point.name == "bnconf" for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "conformance.pytest_plugin"]

    def run(*names, arguments=(), text=TESTS, ini="", alone=False):
        pytester.makeini(f"[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n{ini}")
        pytester.makepyfile(text.format(names=", ".join(repr(adapter(name)) for name in names)))
        start = pytester.runpytest_subprocess if alone else pytester.runpytest_inprocess
        return start(*plugin, "-p", "no:hypothesispytest", *arguments)

    return run


def reported(result):
    """Return the outcome of each test, without xdist's suffix."""
    found = re.findall(r"(PASSED|FAILED) \S+\[(\S+)\]", "\n".join(result.outlines))
    return {name: outcome for outcome, name in found}


def test_right_and_wrong_are_told_apart_group_by_group(outside):
    """What conforms passes every group; what swaps momentum fails in its state and in what is inferred from it."""
    result = outside("faulty:Fine", "wrong:MomentumSwapped", arguments=["-rA"], alone=True)
    found = reported(result)
    assert set(found) == {f"{name}@cpu-{g}" for name in ("faulty.fine", "wrong.momentum_swapped") for g in GROUPS}
    failed = {name for name, outcome in found.items() if outcome == "FAILED"}
    assert "wrong.momentum_swapped@cpu-moving_statistics" in failed
    assert "wrong.momentum_swapped@cpu-y_train" not in failed
    assert not any(name.startswith("faulty") for name in failed)


def test_a_failure_shows_the_worst_and_the_command_that_asks_again(outside, pytester):
    """Case, step, output, ρ, got, expected and bound are shown, and the command that is printed fails the same way."""
    result = outside("wrong:EpsilonOutside")
    shown = "\n".join(result.outlines)
    assert re.search(r"y_train: \d+ of \d+ judgments fail, in \d+ cases; the worst:", shown)
    pattern = r"FAIL wrong.epsilon_outside@cpu case (\w+) step \d train y: ρ = .*got .*, expected .* ± .* at \[.*\]"
    case = re.search(pattern, shown)[1]
    asked = run_file.read(next(pytester.path.glob(".pytest_cache/d/bnconf/*")))
    y = [r for r in asked.results if (r.verdict, r.output, r.mode) == ("FAIL", "y", "train")]
    most = max(summary.as_number(result.rho) for result in y)
    assert case in {result.case for result in y if summary.as_number(result.rho) == most}
    command = next(line for line in result.outlines if line.startswith("bnconf replay") and case in line)
    again = CliRunner().invoke(main, shlex.split(command)[1:])
    assert again.exit_code == 1
    assert f"FAIL wrong.epsilon_outside@cpu case {case}" in again.output


@pytest.mark.parametrize("fault", ["Exit", "Raise"])
def test_a_crash_is_an_outcome(outside, fault):
    """An implementation that dies or raises fails in its outcomes, and its other groups are judged on what there is."""
    failed = [
        name for name, outcome in reported(outside(f"faulty:{fault}", arguments=["-rA"])).items() if outcome == "FAILED"
    ]
    assert failed == [f"faulty.{fault.lower()}@cpu-outcomes"]


def test_xdist_gives_the_same_results_and_asks_once(outside, pytester, adapter):
    """-n 2 reports what one process does, and an implementation is introduced by each process but asked in one."""
    started = pytester.path / "started"
    source = f"import runpy\nclass Counted(runpy.run_path({adapter('wrong')!r})['MomentumSwapped']):\n"
    source += "    def run(self, case):\n"
    source += f"        open({str(started)!r}, 'a').write('x')\n        return super().run(case)\n"
    (pytester.path / "counted.py").write_text(source)
    text = TESTS.replace("{names}", "'counted:Counted'")
    by_one = outside(text=text, arguments=["-rA"])
    cases = len(started.read_text())
    shared = outside(text=text, arguments=["-rA", "-n", "2", "--dist", "load"], alone=True)
    assert len(reported(shared)) == len(GROUPS)
    assert reported(shared) == reported(by_one)
    assert len(started.read_text()) == 2 * cases


@pytest.mark.parametrize(
    ("mark", "arguments", "asked"),
    [
        ("", [], "5-7"),
        (", cases=8, seed=0", [], "0-8"),
        (", cases=8, seed=2", ["--bnconf-cases", "6", "--bnconf-seed", "3"], "3-6"),
    ],
)
def test_the_command_line_wins_over_the_mark_and_the_mark_over_the_file(outside, pytester, mark, arguments, asked):
    """Seed and cases may be given three ways, and a folder for the runs."""
    ini = "bnconf_cases = 7\nbnconf_seed = 5\nbnconf_out = here\n"
    outside("faulty:Fine", text=TESTS.replace(", cases=14", mark), arguments=arguments, ini=ini)
    (folder,) = (pytester.path / "here").iterdir()
    assert folder.name == f"faulty.fine@cpu-{asked}"
    assert len(list((folder / "cases").iterdir())) == int(asked.partition("-")[2]) + len(corpus.read())


def test_an_implementation_that_cannot_run_fails_with_the_reason(outside, pytester):
    """What was named and is not there is no pass and no skip; it works without pytest's cache as well."""
    (pytester.path / "gone.py").write_text(
        "class Gone:\n    statement = {'id': 'gone.bn', 'packages': [], 'documentation': '', 'conventions': {}}\n"
        "    def __init__(self, device):\n        import no_such_framework\n"
    )
    result = outside(text=TESTS.replace("{names}", "'gone:Gone'"), arguments=["-p", "no:cacheprovider"])
    assert result.parseoutcomes() == {"failed": len(GROUPS) - 1}
    assert "gone.bn@cpu is not available: ModuleNotFoundError: No module named 'no_such_framework'" in str(
        result.outlines
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TESTS.replace("{names}", "'nobody.knows'"), "-i nobody.knows: no such implementation; did you mean"),
        (TESTS.replace("{names}, ", ""), "name implementations, such as @pytest.mark.bnconf("),
        (TESTS.replace("{names}", "'numpy.fast'").replace("14", "'few'"), "bnconf cases is few; give a whole number"),
        ("def test_it(bnconf_check):\n    bnconf_check()\n", "bnconf_check: mark the test with @pytest.mark.bnconf"),
    ],
)
def test_a_mistake_is_one_clear_error(outside, text, says):
    """An unknown implementation, no implementation, a number that is none, no mark: each names the fix."""
    result = outside(text=text.replace("{", "{{").replace("}", "}}"))
    assert result.ret != 0
    assert says in "\n".join(result.outlines)


def test_without_the_mark_nothing_of_the_suite_is_imported(outside):
    """A repository that has us installed and does not use us pays nothing, and sees nothing."""
    text = "import sys\ndef test_it():\n    ours = {{m for m in sys.modules if m.startswith('conformance.')}}\n"
    result = outside(text=text + "    assert ours <= {{'conformance.pytest_plugin'}}\n", alone=True)
    result.assert_outcomes(passed=1)


def test_the_process_of_pytest_imports_no_framework(outside, pytester):
    """An implementation that imports at its top is imported in its worker and nowhere else."""
    source = (Path(__file__).with_name("adapters") / "faulty.py").read_text()
    (pytester.path / "mine.py").write_text(
        f"__file__ = {str(Path(__file__).with_name('adapters') / 'faulty.py')!r}\n" + source
    )
    text = TESTS.replace("{names}", "'mine:Fine'")
    text += "    import sys\n    assert not {{'mine', 'torch', 'tensorflow', 'jax'}} & set(sys.modules)\n"
    outside(text=text, alone=True).assert_outcomes(passed=len(GROUPS))


def test_the_readmes_three_lines_are_enough(outside, pytester):
    """The example of conformance/README.md, as it stands, tests the implementation of the same page."""
    text = (Path(__file__).parents[2] / "conformance" / "README.md").read_text()
    implementation, three_lines = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (pytester.path / "mypackage").mkdir()
    (pytester.path / "mypackage" / "module.py").write_text(implementation)
    result = outside(text="import pytest\n" + three_lines.replace("{", "{{").replace("}", "}}"))
    result.assert_outcomes(passed=len(GROUPS) - 2)  # it returns neither gradients nor the batch's statistics


@pytest.mark.parametrize("given", ["ini", "option", "mark"])
def test_known_divergences_are_expected_failures(outside, manifest, given):
    """What is known and as predicted is an xfail with its reason, wherever it is given; the rest passes."""
    known = str(manifest())
    text = TESTS.replace("cases=14", f"cases=14, divergences={known!r}") if given == "mark" else TESTS
    options = [f"--bnconf-divergences={known}"] if given == "option" else []
    ini = f"bnconf_divergences = {known}" if given == "ini" else ""
    result = outside("wrong:BiasedForUnbiased", arguments=["-rx", *options], text=text, ini=ini)
    result.assert_outcomes(xfailed=3, passed=len(GROUPS) + 1 - 3)
    result.stdout.fnmatch_lines(
        ["XFAIL *moving_statistics* biased: It stores the biased variance (unreported); * failures"]
    )


def test_an_expected_failure_that_vanished_fails(outside, manifest):
    """Where the witness of a divergence passes, the test of what is known fails and says what to do."""
    known = manifest(implementations='["faulty.*"]')
    result = outside("faulty:Fine", arguments=[f"--bnconf-divergences={known}"])
    result.assert_outcomes(failed=1, passed=len(GROUPS))
    result.stdout.fnmatch_lines(["*biased: faulty.fine@cpu now passes its witness*remove or narrow it*"])


def test_what_is_not_as_predicted_fails(outside, manifest):
    """A failure that a divergence does not predict is no xfail, and comes with the command that asks again."""
    known = manifest(predicts='{ semantics = { average = "zero_debiased" } }')
    result = outside("wrong:BiasedForUnbiased", arguments=[f"--bnconf-divergences={known}"])
    result.assert_outcomes(failed=3, passed=len(GROUPS) + 1 - 3)
    result.stdout.fnmatch_lines(["*moving_variance*not as biased predicts", "bnconf replay *"])


@pytest.mark.parametrize(
    ("value", "says"), [("nowhere", "*bnconf divergences is nowhere; give a folder*"), ("known", "*defekt*")]
)
def test_manifests_that_cannot_be_read_are_one_clear_error(outside, manifest, pytester, value, says):
    """A folder that does not exist, or a manifest that is not valid, is named when tests are collected."""
    (pytester.path / "known").mkdir()
    text = (manifest(kind='"defekt"') / "wrong.toml").read_text()
    (pytester.path / "known" / "wrong.toml").write_text(text)
    outside("faulty:Fine", arguments=[f"--bnconf-divergences={value}"]).stdout.fnmatch_lines([says])
