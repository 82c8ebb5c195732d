"""The mutants of the frameworks fit what is installed, change nothing of it, and are told from a green run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import framework_mutants
import framework_sites
import framework_trial
import pytest
from framework_sites import HOOK, Mutant, Site
from framework_trial import Killer, Trial

from conformance.cases import strategies
from conformance.cases.cells import SMOKE
from conformance.hosts import roster

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # the mean of r13's no rows
MUTANTS = framework_sites.read()
PACKAGES = sorted({mutant.site.module.partition(".")[0] for mutant in MUTANTS})
CATEGORIES = [
    "affine", "axes", "config round trip", "cross-replica", "dtype", "formula", "gradient", "memory", "mode",
    "moving averages", "no statistics", "numerics", "odd values", "other sizes", "renorm", "saved tensors", "state",
    "subsets of gradients", "update flags", "virtual batch",
]  # fmt: skip
VICTIM = '''def square(x):
    """Return x * x."""
    return x * x


def cube(x):
    return x * x * x
'''


@pytest.mark.proof
@pytest.mark.parametrize("package", [pytest.param(p, marks=pytest.mark.framework(p)) for p in PACKAGES])
def test_every_site_is_found_once_in_the_installed_module(package: str) -> None:
    """The words of each site are in its function as often as it says, and what replaces them compiles."""
    rewrite = framework_sites.hook().rewrite
    for mutant in (m for m in MUTANTS if m.site.module.partition(".")[0] == package):
        path = framework_sites.installed(mutant.site.module)
        assert path is not None
        source = path.read_text()
        changed = rewrite(source, json.loads(mutant.variables()["BNCONF_MUTANT"]))
        assert changed != source
        compile(changed, mutant.id, "exec", dont_inherit=True)


def test_there_are_enough_mutants_of_every_category_and_operator() -> None:
    """At least 80 are left when the equivalent ones are not counted; no operator is listed that nobody uses."""
    counted = [mutant for mutant in MUTANTS if not mutant.site.equivalent]
    assert len(counted) >= 80
    assert sorted({mutant.category for mutant in counted}) == CATEGORIES
    assert {mutant.site.operator for mutant in MUTANTS} == set(framework_sites.operators())
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)


def test_every_mutant_is_given_to_an_implementation_of_the_roster() -> None:
    """Each site names one implementation by its whole id."""
    known = {entry.id for entry in roster.built_in()}
    assert {mutant.site.implementation for mutant in MUTANTS} <= known


def test_few_cases_are_the_first_of_the_default_run() -> None:
    """What a run of few cases kills, the default run kills too: it asks the same cases and more."""
    few, default = (strategies.cases(0, count) for count in (framework_trial.SMOKE, framework_trial.DEFAULT))
    assert [recipe for recipe, _ in few] == [recipe for recipe, _ in default[: len(few)]]


def in_process(folder: Path, code: str, **mutant: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process that finds the hook, and a module `victim` in the folder."""
    (folder / "victim.py").write_text(VICTIM)
    site = {"id": "m", "module": "victim", "within": "square", "find": "return x * x", "replace": "return x + x"}
    path = os.pathsep.join((str(HOOK), str(folder)))
    variables = os.environ | {"PYTHONPATH": path, "BNCONF_MUTANT": json.dumps(site | mutant)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_the_hook_changes_one_function_in_memory_and_no_file(tmp_path: Path) -> None:
    """The process computes by the mutant, reads its source too, and leaves the file and no bytecode of it."""
    code = (
        "import inspect, victim; print(victim.square(5), victim.cube(2), 'x + x' in inspect.getsource(victim.square))"
    )
    done = in_process(tmp_path, code)
    assert done.stdout.split() == ["10", "8", "True"]
    assert "mutant m is in victim" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["victim.py"]
    assert (tmp_path / "victim.py").read_text() == VICTIM


@pytest.mark.parametrize(
    ("mutant", "says"),
    [
        ({"find": "y * y"}, "'y * y' is 0 times in square"),
        ({"find": "x"}, "'x' is 5 times in square"),
        ({"find": "x", "nth": 7}, "'x' is 5 times in square"),
        ({"within": "Square.call"}, "Square.call is defined 0 times"),
        ({"replace": "return ("}, "does not fit victim"),
    ],
)
def test_a_mutant_that_does_not_fit_ends_the_process(tmp_path: Path, mutant: dict[str, object], says: str) -> None:
    """A process whose mutant cannot be put in says why and ends, even where the import is in a try."""
    done = in_process(tmp_path, "try:\n import victim\nexcept Exception:\n pass\nprint('went on')", **mutant)
    assert done.returncode == 1
    assert says in done.stderr
    assert "went on" not in done.stdout


def test_the_second_of_several_can_be_meant(tmp_path: Path) -> None:
    """`nth` says which of the places where the words are is changed, from 1."""
    done = in_process(tmp_path, "import victim; print(victim.cube(3))", within="cube", find="x *", replace="x -", nth=2)
    assert done.stdout.split() == ["6"]  # x * x - x


def made(mutant: str, **changes: object) -> Mutant:
    """Return a mutant with fields of its site changed."""
    found = next(m for m in MUTANTS if m.id == mutant)
    fields = {name: getattr(found.site, name) for name in Site.__struct_fields__}
    return Mutant(found.id, found.framework, found.category, Site(**fields | changes))


@pytest.mark.framework("keras", "tensorflow")
def test_a_mutant_of_a_framework_is_killed_and_its_installation_stays() -> None:
    """The gate is red for it, green without it; the killer is an output and a rho; no file of the framework changes."""
    mutant = made("keras-numpy-half-batch")
    path = framework_sites.installed(mutant.site.module)
    assert path is not None
    before = path.read_bytes(), sorted(p.stat().st_mtime_ns for p in path.parent.rglob("*.pyc"))
    found, versions = framework_trial.trial(mutant, cases=8)
    assert (found.killed, found.cases) == (True, 8)
    assert found.killer is not None
    assert found.killer.output in {"mean", "y"}  # whatever follows from the batch's mean
    assert float(found.killer.rho) > 1
    assert min(found.seconds, found.cpu, found.run) > 0
    assert "keras" in versions
    assert before == (path.read_bytes(), sorted(p.stat().st_mtime_ns for p in path.parent.rglob("*.pyc")))


@pytest.mark.framework("keras", "tensorflow")
def test_a_mutant_that_is_not_put_in_is_not_killed() -> None:
    """A worker that refuses to start for it kills nothing, and the note says what was not found."""
    found, _ = framework_trial.trial(made("keras-numpy-half-batch", find="no such words"), cases=8)
    assert not found.killed
    assert "not put in" in found.note
    assert "'no such words' is 0 times in moments" in found.note


def test_without_a_green_baseline_nothing_is_judged() -> None:
    """An implementation that fails as it is stops the command."""
    adapter = Path(__file__).parents[1] / "conformance" / "adapters" / "wrong.py"
    with pytest.raises(framework_trial.NotGreen, match=r"without a mutant, 4 cases: red \(1\)"):
        framework_trial.baseline(f"{adapter}:BiasedForUnbiased", 4)


def trial(name: str, **fields: object) -> Trial:
    """Return the trial of a mutant."""
    found = next(m for m in MUTANTS if m.id == name)
    return Trial(name, found.framework, found.category, found.site.operator, "i", cases=SMOKE, run=1.0, **fields)


def test_a_survivor_counts_and_an_argued_one_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is 1 for a survivor, 0 where all are killed or argued; the table counts those not argued."""
    killed = trial("keras-numpy-half-batch", killed=True, killer=Killer("c", "y", 7.0), seconds=1.0, cpu=1.0)
    argued = trial("keras-numpy-nan-swallowed", killed=False, equivalent=True, note="why")
    assert framework_mutants.report([killed, argued]) == 0
    assert "formula              1 / 1" in capsys.readouterr().out
    assert framework_mutants.report([killed, trial("keras-axis-absolute", killed=False, note="green")]) == 1
    said = capsys.readouterr().out
    assert "all                  1 / 2" in said
    assert "survived: keras-axis-absolute" in said


def test_results_are_renewed_one_by_one(tmp_path: Path) -> None:
    """A file keeps the results of other mutants, replaces those of the same, and drops those of no mutant."""
    path = tmp_path / "score" / "mutants.json"
    first = trial("keras-numpy-half-batch", killed=False, note="green")
    framework_mutants.write(path, [first], {"keras": "1"})
    content = json.loads(path.read_text())
    content["mutants"].append({"id": "gone"})
    path.write_text(json.dumps(content))
    second = trial("keras-axis-absolute", killed=True, killer=Killer("c", "y", 7.0))
    renewed = trial("keras-numpy-half-batch", killed=True, killer=Killer("c", "mean", "inf"))
    framework_mutants.write(path, [second, renewed], {"keras": "2"})
    content = json.loads(path.read_text())
    assert [(m["id"], m["killed"]) for m in content["mutants"]] == [(second.id, True), (renewed.id, True)]
    assert content["mutants"][1]["killer"] == {"case": "c", "output": "mean", "rho": "inf"}
    assert content["versions"] == {"keras": "2"}
