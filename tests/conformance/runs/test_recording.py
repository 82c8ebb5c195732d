"""Recordings, and `bnconf replay`, `explain` and `export`: no answer is lost, and none needs its framework."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import availability
from conformance.model import results
from conformance.model.codec import encode_case, read_case
from conformance.model.errors import InvalidInput
from conformance.runs import recording, replaying, run_file

EPSILON = "wrong:EpsilonOutside"


def invoke(*arguments):
    """Run a command."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def failing(run, adapter, tmp_path):
    """Run a wrong and a right implementation, and return the run's folder and the ids of the cases that one fails."""
    found = run(adapter(EPSILON), "numpy.two_pass", cases=8)
    return tmp_path / "run", sorted({r.case for r in found.results if r.verdict == "FAIL"})


@pytest.fixture
def exported(failing, tmp_path):
    """Export what fails and return the folder of recordings."""
    assert invoke("export", failing[0], "--out", tmp_path / "suite").exit_code == 0
    return tmp_path / "suite"


def test_a_recording_reads_back_as_it_was_written(failing, tmp_path):
    """Case, outcomes bit for bit, verdicts, environment, and metadata of others; writing again gives the same bytes."""
    part = msgspec.structs.replace(next(recording.of_run(failing[0])), extra={"note": "kept"})
    path = recording.write(part, tmp_path / f"{part.name}.safetensors")
    (again,) = recording.read(path)
    assert again.extra == {"note": "kept"}
    assert (again.id, again.environment) == (part.id, part.environment)
    assert [a.results for a in again.answers] == [a.results for a in part.answers]
    for one, other in zip(part.answers, again.answers, strict=True):
        assert one.record == other.record
        for left, right in zip(one.reply.outcomes, other.reply.outcomes, strict=True):
            assert left.tensors.keys() == right.tensors.keys() != set()
            assert all(np.array_equal(left.tensors[k], right.tensors[k], equal_nan=True) for k in left.tensors)
    assert recording.write(again, tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_recording_is_a_case_file_too(exported, failing):
    """Whoever reads cases reads the question of a recording, with the id that it had."""
    for path in exported.iterdir():
        case, _ = read_case(path)
        assert encode_case(case) == encode_case(read_case(failing[0] / "cases" / path.name)[0])


def test_recorded_answers_are_judged_again_without_their_implementation(exported, failing, adapter, monkeypatch):
    """--recorded starts no process, gives the recorded verdicts, and exits 1 where one fails."""
    monkeypatch.setattr(
        "conformance.hosts.environment.Worker.__init__", lambda *a, **k: pytest.fail("a worker was started")
    )
    result = invoke("replay", exported, "--recorded", "--json")
    assert result.exit_code == 1
    lines = json.loads(result.stdout)
    assert {line["status"] for line in lines} == {"STILL FAILING"}
    stored = {r.case: [] for r in run_file.read(failing[0]).results if r.verdict == "FAIL"}
    for r in run_file.read(failing[0]).results:
        if r.case in stored and r.implementation.startswith("wrong"):
            stored[r.case].append(json.loads(msgspec.json.encode(r)))
    assert {line["case"]: [{k: v for k, v in r.items() if k != "type"} for r in line["results"]] for line in lines} == {
        case: [{k: v for k, v in r.items() if k != "type"} for r in found] for case, found in stored.items()
    }


def test_a_case_without_answers_cannot_be_judged_again(failing):
    """--recorded on a bare case file is an error that says what to do: exit 2."""
    case = next((failing[0] / "cases").iterdir())
    result = invoke("replay", case, "--recorded")
    assert result.exit_code == 2
    assert "holds no recorded answer" in result.stderr


@pytest.mark.parametrize("what", ["recordings", "run"])
def test_a_folder_is_a_regression_suite(exported, failing, adapter, what):
    """A folder of recordings, or a run's, asks those who failed again; what fails as it did is STILL FAILING."""
    folder = exported if what == "recordings" else failing[0]
    result = invoke("replay", folder, "--json")
    lines = json.loads(result.stdout)
    assert result.exit_code == 1
    assert sorted(line["case"] for line in lines) == failing[1]
    assert {(line["implementation"], line["status"]) for line in lines} == {
        ("wrong.epsilon_outside@cpu", "STILL FAILING")
    }


def test_what_was_mended_is_fixed(run, adapter, tmp_path):
    """A user's own implementation that conforms after a change is FIXED, and the suite exits 0."""
    own, wrong = tmp_path / "own.py", Path(adapter("wrong")).read_text()
    wrong = wrong.replace("os.path.abspath(__file__)", repr(adapter("wrong")))
    own.write_text(wrong)
    run(f"{own}:EpsilonOutside", cases=8)
    assert invoke("replay", tmp_path / "run").exit_code == 1
    own.write_text(wrong + "\nEpsilonOutside.run = calibration.TwoPass.run\n")
    result = invoke("replay", tmp_path / "run", "--json")
    assert {line["status"] for line in json.loads(result.stdout)} == {"FIXED"}, result.output
    assert result.exit_code == 0


def test_the_words():
    """FIXED, STILL FAILING and CHANGED compare places; without a record an answer CONFORMS or FAILS."""
    passes = (results.Result("c", "i", "PASS", step=0, output="y"),)
    fails = (results.Result("c", "i", "FAIL", step=0, output="y"),)
    elsewhere = (results.Result("c", "i", "FAIL", step=1, output="dx"),)
    words = [
        replaying.word(now, before)
        for now, before in [
            (passes, None), (fails, None), (passes, passes), (passes, fails), (fails, fails),
            (elsewhere, fails), (fails, passes),
        ]
    ]  # fmt: skip
    assert words == ["CONFORMS", "FAILS", "CONFORMS", "FIXED", "STILL FAILING", "CHANGED", "CHANGED"]


def test_who_cannot_be_asked_cannot_run(run, adapter, tmp_path):
    """One that was recorded and is gone is said so: exit 3, and what the others answer is told."""
    own = tmp_path / "own.py"
    own.write_text(Path(adapter("wrong")).read_text().replace("os.path.abspath(__file__)", repr(adapter("wrong"))))
    run(f"{own}:EpsilonOutside", adapter("wrong:MomentumSwapped"), cases=8)
    own.unlink()
    result = invoke("replay", tmp_path / "run")
    assert result.exit_code == 3
    assert "STILL FAILING: wrong.momentum_swapped@cpu" in result.output
    assert "CANNOT RUN" in result.output
    assert "wrong.epsilon_outside@cpu: -i" in result.output


def damaged(path, change):
    """Rewrite a file's bytes."""
    path.write_bytes(change(path.read_bytes()))
    return path


def test_a_damaged_file_is_refused(exported):
    """Cut off, altered by one bit of one tensor, or of a newer version: one line that says so, exit 2."""
    first = min(exported.iterdir())
    whole = first.read_bytes()
    for change, says in (
        (lambda b: b[: len(b) // 2], "cannot be read as a case"),
        (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "do not match its checksum"),
        (lambda b: b.replace(b'\\"schema\\": 1', b'\\"schema\\": 2', 1), "checksum"),
    ):
        result = invoke("replay", damaged(first, change))
        assert result.exit_code == 2, result.output
        assert says in result.stderr
        assert len(result.stderr.splitlines()) == 1
        first.write_bytes(whole)


def test_a_newer_recording_is_refused(exported, monkeypatch, tmp_path):
    """A schema above ours is refused with what to do; the case in it is not judged."""
    part = next(recording.read(exported))
    monkeypatch.setattr(recording, "SCHEMA", 2)
    path = recording.write(part, tmp_path / "newer.safetensors")
    monkeypatch.setattr(recording, "SCHEMA", 1)
    with pytest.raises(InvalidInput, match="its schema is 2, this version reads up to 1; update bnconf"):
        list(recording.read(path))


def test_saving_records_everybody(failing, tmp_path, adapter):
    """--save writes what is answered now, of those who pass too, with the arrays."""
    case = failing[0] / "cases" / f"{failing[1][0]}.safetensors"
    asked = invoke("replay", case, "-i", "numpy.two_pass", "-i", adapter(EPSILON), "--save", tmp_path / "saved")
    assert asked.exit_code == 1
    (part,) = recording.read(tmp_path / "saved")
    assert {a.record.id for a in part.answers} == {"numpy.two_pass@cpu", "wrong.epsilon_outside@cpu"}
    assert all(a.reply and a.reply.outcomes[0].tensors["y"].size for a in part.answers)
    assert part.environment["python"]


def test_explain_names_the_worst_element_and_the_camps(failing, adapter, tmp_path):
    """It shows expected, got, bound and ρ of the worst element, its conditioning, and who stands with the reference."""
    result = invoke("explain", failing[1][0], "--run", failing[0])
    assert result.exit_code == 0, result.output
    assert "wrong.epsilon_outside@cpu: ρ = " in result.stdout
    for word in ("expected", "got", "bound", "channel of", "mean/deviation"):
        assert word in result.stdout
    assert "camp 1: the reference, numpy.two_pass@cpu" in result.stdout
    assert "camp 2: wrong.epsilon_outside@cpu" in result.stdout


def test_two_that_are_wrong_alike_are_one_camp(failing, adapter, tmp_path):
    """Implementations whose answers could be the same are put together, whatever the reference says."""
    case = failing[0] / "cases" / f"{failing[1][0]}.safetensors"
    invoke("replay", case, "-i", adapter(EPSILON), "--save", tmp_path / "saved")
    (part,) = recording.read(tmp_path / "saved")
    twin = msgspec.structs.replace(
        part.answers[0],
        record=msgspec.structs.replace(part.answers[0].record, id="twin"),
        results=tuple(msgspec.structs.replace(r, implementation="twin") for r in part.answers[0].results),
    )
    path = recording.write(msgspec.structs.replace(part, answers=(part.answers[0], twin)), tmp_path / "two.safetensors")
    places = json.loads(invoke("explain", path, "--json").stdout)
    assert ["wrong.epsilon_outside@cpu", "twin"] in places[0]["camps"]
    assert places[0]["deviations"][0]["worst"]["bound"] > 0


def test_explain_of_an_unknown_case_is_an_error(failing):
    """A case that the run does not have: exit 2, and what to give instead."""
    result = invoke("explain", "0123456789abcdef", "--run", failing[0])
    assert result.exit_code == 2
    assert "has no case 0123456789abcdef" in result.stderr


def test_each_environment_starts_once_whoever_failed_what(run, adapter, tmp_path, monkeypatch):
    """Cases that different implementations failed are asked of one worker, and each only of who failed it."""
    found = run(adapter(EPSILON), adapter("wrong:MomentumSwapped"), cases=8)
    failed = {(r.case, r.implementation) for r in found.results if r.verdict == "FAIL"}
    assert len({frozenset(i for c, i in failed if c == case) for case, _ in failed}) > 1
    started = []
    worker = availability.Worker
    monkeypatch.setattr(availability, "Worker", lambda *a, **k: started.append(a) or worker(*a, **k))
    lines = json.loads(invoke("replay", tmp_path / "run", "--json").stdout)
    assert len(started) == 1
    assert {(line["case"], line["implementation"]) for line in lines} == failed
