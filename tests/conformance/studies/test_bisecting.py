"""Which release changed an answer: the search itself, and whole, on an index of tiny wheels."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from packaging.version import Version

from conformance.cases import corpus
from conformance.cli.main import main
from conformance.hosts import builds, installing, releases, roster
from conformance.hosts.participants import Participants
from conformance.hosts.releases import PackageIndex, Release
from conformance.hosts.worker import by_path
from conformance.model.errors import Incomplete, InvalidInput
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.results import ImplementationRecord, Result
from conformance.runs import run_file
from conformance.runs.recording import RecordedAnswer
from conformance.studies.bisecting import effects, halving, trying
from conformance.studies.bisecting.effects import Effect
from conformance.studies.bisecting.trying import Trial

package_index = by_path(str(Path(__file__).parents[1] / "hosts" / "package_index.py"))
NONE = PackageIndex("nowhere")
RELEASES = [Release(Version(f"1.{n}")) for n in range(20)]
STATES = {"p": "passes", "f": "fails", "r": "refuses", "-": "cannot run here", "x": "cannot be built"}


class Asked:
    """Releases that answer as a string has it, one character each; which were asked."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def __call__(self, release):
        """Return what a release answers."""
        number = RELEASES.index(release)
        self.asked.append(number)
        return Trial(release, {("mine", 0): Effect(STATES[self.answers[number]])})


def numbers(found):
    """Return the two releases on both sides of the change."""
    return [RELEASES.index(trial.release) for trial in (found.last, found.first)]


@pytest.mark.parametrize(
    ("answers", "ends"),
    [
        ("ppppppppppppppffffff", [13, 14]),
        ("ppppppp---xxffffffff", [6, 12]),
        ("--------pppfffffff--", [10, 11]),
        ("ffffffffffffffffffpp", [17, 18]),
        ("pppppppprrrrrrrrrrrr", [7, 8]),
    ],
)
def test_the_first_release_that_differs_is_found(answers, ends):
    """From the newest backwards, past releases that do not answer, each asked once."""
    ask = Asked(answers)
    found = halving.search(RELEASES[: len(answers)], ask)
    assert numbers(found) == ends
    assert len(ask.asked) == len(set(ask.asked))


def test_halving_asks_few():
    """Between two of twenty releases five are asked."""
    ask = Asked("p" * 11 + "f" * 9)
    found = halving.search(RELEASES, ask, RELEASES[0], RELEASES[19])
    assert numbers(found) == [10, 11]
    assert len(ask.asked) <= 2 + 5


def test_good_and_bad_may_be_of_either_order():
    """What was mended is found as what was broken is."""
    assert numbers(halving.search(RELEASES, Asked("f" * 7 + "p" * 13), RELEASES[19], RELEASES[0])) == [6, 7]


def test_one_end_is_enough():
    """With --good alone the newest is the other end; from --bad alone, which answers as that, it goes backwards."""
    ask = Asked("p" * 7 + "f" * 13)
    assert numbers(halving.search(RELEASES, ask, good=RELEASES[2])) == [6, 7]
    assert numbers(halving.search(RELEASES, ask, bad=RELEASES[12])) == [6, 7]


def test_nothing_that_changes_is_found_as_nothing():
    """Where all that answer do the same there is no first, and the search does not go on for ever."""
    found = halving.search(RELEASES, Asked("p" * 20))
    assert found.first is None
    assert len(found.trials) < 8
    assert not halving.search(RELEASES, Asked("-" * 20)).answered


def test_ends_that_do_not_serve_are_said():
    """Two that answer alike are bad input; one that does not answer makes the search incomplete."""
    with pytest.raises(InvalidInput, match=r"--good 1\.0 and --bad 1\.19 answer alike \(passes\)"):
        halving.search(RELEASES, Asked("p" * 20), RELEASES[0], RELEASES[19])
    with pytest.raises(Incomplete, match=r"--bad 1\.19: cannot be built"):
        halving.search(RELEASES, Asked("p" * 19 + "x"), RELEASES[0], RELEASES[19])


def test_a_matrix_asks_every_release():
    """All are asked, and the last change is the one that is named."""
    ask = Asked("pppffppppffffffffff-")
    assert numbers(halving.whole(RELEASES, ask)) == [8, 9]
    assert sorted(ask.asked) == list(range(20))


def answer(outcome, *verdicts):
    """Return an answer of one step with these results."""
    record = ImplementationRecord("mine", "mine", "cpu", available=True)
    results = tuple(Result("c", "mine", verdict, 0, output=output, outcome=said) for verdict, output, said in verdicts)
    return RecordedAnswer(record, results, Reply(0, "mine", (outcome,)))


@pytest.mark.parametrize(
    "outcome",
    [
        Refused("AttributeError", "'State' object has no attribute 'x'", by_adapter=True),
        Refused("TypeError", "BatchNorm.__init__() got an unexpected keyword argument 'mode'"),
        Refused("ValueError", "Unexpected keyword arguments: use_reentrant"),
        Refused("ValueError", "Unrecognized keyword arguments passed to BatchNormalization: {'renorm': False}"),
    ],
)
def test_what_a_release_lacks_is_no_failure_of_it(outcome):
    """An adapter's own error, and an argument that a release does not know, are why it cannot run here."""
    found = effects.answered(answer(outcome, ("FAIL", "outcome", "Refused")))
    assert found.state == "cannot run here"
    assert outcome.message in found.why


def test_refusals_and_wrong_values_are_told_apart():
    """A refusal of the framework is its answer, as is a wrong value, or an answer where it was to refuse."""
    refused = answer(Refused("ValueError", "no"), ("FAIL", "outcome", "Refused"))
    assert str(effects.answered(refused)) == "refuses: ValueError: no"
    assert str(effects.answered(answer(Outputs(), ("FAIL", "y", ""), ("PASS", "dx", "")))) == "fails: y (ρ ∞)"
    assert "to be refused" in str(effects.answered(answer(Outputs(), ("FAIL", "outcome", "Outputs"))))
    assert effects.answered(answer(Outputs(), ("INCONCLUSIVE", "y", ""))).state == "not compared"


def test_what_needs_ml_dtypes_is_not_asked_without(monkeypatch):
    """Where it cannot be had a case of bfloat16 or of eight bits is no crash of the release: it is not asked."""
    named = {one.name: one.case for one in corpus.read() if one.name in ("half-mean-of-100", "r05-two-rows")}
    experiment = trying.Experiment(
        "numpy", list(named.values()), Participants(roster.select(("numpy.two_pass",))), NONE
    )
    there = builds.Built(sys.executable, "3.11", {})
    states = [answer.state for _, answer in sorted(trying._answers(experiment, there))]
    assert states == ["cannot run here", "passes"]
    there = msgspec.structs.replace(there, versions={"ml-dtypes": "0.6"})
    states = [answer.state for _, answer in sorted(trying._answers(experiment, there))]
    assert states == ["not supported", "passes"]  # as its statement says


def test_what_an_adapter_looked_for_is_the_releases_own_matter():
    """No other environment is made for what a release has not; for what is missing beside it, one is."""
    found = effects.lacking("mine@cpu is not available: RuntimeError: mine 0.1 has no modes; pip install 'mine'")
    assert (found.why, found.asked) == ("RuntimeError: mine 0.1 has no modes", True)
    assert not effects.lacking("mine@cpu is not available: ImportError: cannot import name 'x'").asked


@pytest.mark.parametrize(("first", "built"), [("pp-", 1), ("p--", 2), ("xxx", 2), ("ppp", 1)])
def test_an_environment_is_enough_where_most_of_it_answers(monkeypatch, first, built):
    """No other is made for the sake of what hardly any environment of that day can do; a better one is taken."""
    made = iter([first, "pp-"])

    def completed(*_):
        answers = {("mine", n): Effect(STATES[letter], asked=letter == "p") for n, letter in enumerate(next(made))}
        return Trial(RELEASES[0], answers, "3.11")

    experiment = trying.Experiment("mine", [], Participants([]), NONE)
    monkeypatch.setattr(builds, "setups", lambda *_: [builds.Setup("", "3.11", ())] * 2)
    monkeypatch.setattr(trying, "_completed", completed)
    found = trying.ask(experiment, RELEASES[0], lambda _: None)
    assert len(list(made)) == 2 - built
    assert sum(answer.decisive for answer in found.answers.values()) >= 2


@pytest.mark.parametrize(("unbuildable", "state"), [("ml_dtypes", "passes"), ("setuptools<81", "cannot run here")])
def test_what_turns_out_to_be_imported_is_added(monkeypatch, unbuildable, state):
    """A missing module is installed too, though another is not to be had; where it is not, the answer stays."""
    built = []

    def tried(_experiment, release, setup):
        built.append(setup.requirements)
        lacking = Effect("cannot run here", why="No module named 'pkg_resources'", asked=False)
        answer = Effect("passes") if "setuptools<81" in setup.requirements else lacking
        return Trial(release, {("mine", 0): answer}, "" if unbuildable in setup.requirements else "3.11")

    experiment = trying.Experiment("mine", [], Participants([]), NONE, ["ml_dtypes"][: unbuildable == "ml_dtypes"])
    monkeypatch.setattr(builds, "setups", lambda *_: [builds.Setup("", "3.11", ("mine",))])
    monkeypatch.setattr(trying, "_tried", tried)
    found = trying.ask(experiment, RELEASES[0], lambda _: None)
    assert (found.only.state, found.python) == (state, "3.11")
    assert [len(requirements) for requirements in built] == ([2, 1, 2] if state == "passes" else [1, 2])


MINE = """
import numpy as np


class Tiny:
    statement = {
        "id": "tiny.bn", "packages": ["tiny"], "documentation": "", "conventions": {},
        "supports": {"dtype": ["float32"], "start": ["given", "own"]}, "outputs": ["y"],
    }

    def __init__(self, device):
        import tiny

        self.tiny = tiny

    def run(self, case):
        for step in case.steps:
            axes = tuple(step.reduced)
            mean, variance = step.x.mean(axes, keepdims=True), step.x.var(axes, keepdims=True)
            r = 1 / np.sqrt(variance + np.float32(case.native["epsilon"]))
            gamma, beta = (np.reshape(case.neutral(name), mean.shape) for name in ("gamma", "beta"))
            yield {"y": gamma * (step.x - mean) * r * self.tiny.normalize(1) + beta}


IMPLEMENTATIONS = [Tiny]
"""
RIGHT, WRONG, OTHER = (
    "def normalize(n): return n\n",
    "def normalize(n): return 2 * n\n",
    "def standardize(n): return n\n",
)
VERSIONS = {"0.9": OTHER, "1.0": RIGHT, "1.1": RIGHT, "1.2": RIGHT, "1.3": WRONG, "1.4": WRONG}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Return a folder with an adapter and a case, and an index of a package that doubles its numbers from 1.3 on."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for version, text in VERSIONS.items():
        package_index.wheel(wheels, "tiny", version, {"tiny.py": text}, ["numpy"])
    package_index.wheel(wheels, "tiny", "1.5", {"tiny.py": WRONG}, ["nowhere"])
    package_index.numpy(wheels)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    with package_index.serving(wheels, {"tiny-1.3-py3-none-any.whl": "2024-02-03"}) as url:
        monkeypatch.setenv("UV_DEFAULT_INDEX", url)
        yield tmp_path


def bisect(*arguments):
    """Run the command on a case of the corpus."""
    words = ["bisect", "r06-drifting-mean", "-i", "mine.py:Tiny", "--package", "tiny", *arguments]
    return CliRunner().invoke(main, words)


@pytest.mark.proof
def test_a_release_that_broke_something_is_found_on_an_index(index):
    """Environments are made and asked; one that cannot be built is passed over, and so is one that lacks the call."""
    done = bisect()
    assert done.exit_code == 0, done.output
    assert "tiny 1.3 of 2024-02-03 is the first that fails: y" in done.output
    assert "1.5" in done.output
    assert "cannot be built" in done.output
    assert "bnconf replay" in done.output
    again = json.loads(bisect("--json", "--matrix", "--versions", "<1.3").stdout)
    assert [row["state"] for row in again["trials"]] == ["cannot run here", "passes", "passes", "passes"]
    assert "normalize" in again["trials"][0]["why"]
    assert again["first"] == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--package", "nowhere"], 2, "has no such package"),
        (["--good", "7"], 2, "--good 7: is none of the releases 0.9 to 1.5"),
        (["--versions", ">9"], 2, "--versions >9: none of 0.9 to 1.5 is"),
        (["-i", "numpy.*"], 2, "name the one to ask"),
        (["--env", "user=/bin/python"], 2, "leave them out"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(index, arguments, code, said):
    """Bad input names the option, and no environment is made."""
    done = bisect(*arguments)
    assert (done.exit_code, done.output.count("\n")) == (code, 1)
    assert said in done.output
    assert not (index / "cache" / "bnconf" / "releases").exists()


def test_no_network_is_one_sentence(index, monkeypatch):
    """Where the index does not answer, the search is incomplete."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    done = bisect()
    assert done.exit_code == 3
    assert "does not answer" in done.output


def run(*arguments):
    """Run the user's implementation on few cases."""
    return CliRunner().invoke(main, ["run", "-i", "mine.py:Tiny", "--cases", "30", "--no-corpus", *arguments])


@pytest.mark.proof
def test_an_interpreter_may_be_named_by_a_release(index):
    """It is made once, each release judged as it is, and the line that replays a failure works as printed."""
    wrong = []
    for version in ("1.2", "1.3"):
        done = run("--env", f"user=tiny=={version}")
        assert done.exit_code == 0, done.output
        assert f"making an environment of tiny=={version} with Python" in done.output
        found = run_file.read(index / "reports/latest")
        assert {record.versions["tiny"] for record in found.implementations} == {version}
        wrong.append(sum(result.failed and result.output == "y" for result in found.results))
    assert wrong[0] < wrong[1]
    lines = [line.strip() for line in done.output.splitlines() if "bnconf replay" in line]
    assert lines, done.output
    assert "--env user=tiny==1.3" in lines[0]
    again = CliRunner().invoke(main, shlex.split(lines[0])[1:])
    assert again.exit_code == 1, again.output
    assert "making" not in again.output


@pytest.mark.parametrize(
    ("wanted", "code", "said"),
    [
        ("user=tiny==7", 2, "tiny 7: is none of the releases 0.9 to 1.5"),
        ("user=nowhere==1", 2, "nowhere: http"),
        ("user=tiny==1.5", 3, "tiny==1.5: no environment can be made of it here: "),
    ],
)
def test_a_release_that_cannot_be_had_is_one_sentence(index, wanted, code, said):
    """Bad input names the package and the version; what cannot be installed says why."""
    done = run("--env", wanted)
    assert (done.exit_code, said in done.output) == (code, True), done.output
    assert not (index / "reports").exists()


def test_what_is_said_of_other_packages_is_installed_instead(monkeypatch, tmp_path):
    """Further requirements take the place of their packages as they are here, and the first setup that fits is kept."""
    made = []

    def build(_package, _release, setup, _where):
        made.append(setup)
        if len(made) == 1:
            raise builds.Unbuildable("no wheel")
        return builds.Built(sys.executable, "3.11", {})

    setup = builds.Setup("", "3.11", ("torch==2.11.0", "numpy"), ("numpy==2.4.6", "mpmath==1.3.0"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    builds.kept().mkdir(parents=True)
    monkeypatch.setattr(releases, "index", lambda: None)
    monkeypatch.setattr(releases, "of", lambda *_: RELEASES)
    monkeypatch.setattr(builds, "setups", lambda *_: [setup] * 2)
    monkeypatch.setattr(builds, "build", build)
    wanted = f"mine=={RELEASES[0].version}", "NumPy==2.2.6"
    for _ in range(2):
        assert installing.python(wanted, ("mine",), lambda _: None) == sys.executable
    assert len(made) == 2
    assert made[0].requirements == ("torch==2.11.0", "NumPy==2.2.6")
    assert made[0].held == ("mpmath==1.3.0",)
