"""Vectors: files that C and JavaScript read and judge as bnconf does; a wrong answer is caught by all three."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import roster
from conformance.hosts.participants import Participants
from conformance.model.codec import read_case
from conformance.model.errors import InvalidInput
from conformance.model.outcome import Outputs, Refused
from conformance.runs import asking
from conformance.workbench.vectors import judging, lines
from conformance.workbench.vectors.writing import CASE, INDEX

READERS = Path(__file__).with_name("readers")


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Return a folder of vectors to which numpy.two_pass has answered every case."""
    folder = tmp_path_factory.mktemp("vectors") / "here"
    done = CliRunner().invoke(main, ["export", "--vectors", str(folder), "--count", "40", "--seed", "3"])
    assert done.exit_code == 0, done.output
    who = Participants(roster.select(("numpy.two_pass",)), requested=True, in_process=True)
    for _, _, ask in asking.each(who):
        for path in sorted(folder.glob(f"*/{CASE}")):
            with np.errstate(all="ignore"):  # as in a worker, where a warning is none of the answer
                answered(path.parent, ask(read_case(path)[0]).outcomes)
    return folder


def answered(folder, outcomes):
    """Lay an answer beside a case."""
    arrays = [(t, of.tensors) for t, of in enumerate(outcomes) if isinstance(of, Outputs)]
    found = [lines.NamedArray("answer", f"{t}.{name}", array) for t, of in arrays for name, array in of.items()]
    lines.write(folder / "answer", found)
    refused = [f"refused {t}\n" for t, of in enumerate(outcomes) if isinstance(of, Refused)]
    with (folder / "answer.txt").open("a") as file:
        file.writelines(refused)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Return the commands of the readers in C and JavaScript."""
    compiler, node = shutil.which("cc") or shutil.which("gcc"), shutil.which("node")
    if not compiler or not node:
        pytest.skip("no C compiler, or no node, on PATH")
    program = tmp_path_factory.mktemp("reader") / "reader"
    subprocess.run([compiler, "-O1", "-Wall", "-Werror", READERS / "reader.c", "-lm", "-o", program], check=True)
    return [[program], [node, READERS / "reader.js"]]


def plain(folder):
    """Return whether an answer is of the dtypes that the readers know."""
    return all(one.array.dtype.name in ("float32", "float64") for one in lines.read(folder / "answer"))


def test_answers_of_the_suites_own_subject_conform(vectors):
    """Every case that numpy.two_pass answers passes, by files alone."""
    found, without = judging.judged(vectors)
    assert not without
    results = [result for one in found for result in one.results]
    assert len(results) > 500
    assert [result for result in results if result.failed] == []
    assert not [one.missing for one in found if one.missing]


def test_both_readers_agree_with_the_judge(vectors, readers, tmp_path):
    """Readers of thirty lines pass what is right, and name the output where one element is off by five bounds."""
    asked = [path.parent for path in sorted(vectors.glob("*/answer.bin")) if plain(path.parent)]
    assert len(asked) > 60
    wrong = tmp_path / "wrong"
    for folder in asked[::4]:
        for reader in readers:
            assert subprocess.run([*reader, folder], check=False).returncode == 0, folder
    for folder in asked[1::12]:
        shutil.copytree(folder, wrong, dirs_exist_ok=True)
        if name := spoiled(wrong):
            for reader in readers:
                done = subprocess.run([*reader, wrong], capture_output=True, text=True, check=False)
                assert (done.returncode, done.stdout.split("[")[0]) == (1, name), folder


def spoiled(folder):
    """Make one element of an answer wrong by five times its bound, and return the name of the output."""
    known = {(one.role, one.name): one.array for one in lines.read(folder / "case")}
    answer = lines.read(folder / "answer")
    for n, (role, name, array) in enumerate(answer):
        bound, value = known["allowed", name], known["expected", name]
        at = np.argwhere(np.isfinite(bound) & np.isfinite(value))
        if name.endswith(".y") and len(at):
            other, index = array.copy(), tuple(at[-1])
            other[index] += 5 * bound[index] + 5 * np.spacing(np.abs(other[index]))
            answer[n] = lines.NamedArray(role, name, other)
            lines.write(folder / "answer", answer)
            return name
    return ""


def test_a_wrong_answer_is_named_by_the_command(vectors, tmp_path):
    """`bnconf judge` exits 1, names case, output and element, in text and JSON."""
    folder = tmp_path / "copy"
    shutil.copytree(vectors, folder)
    spoiled_one = next(path for path in sorted(folder.glob("*/answer.bin")) if spoiled(path.parent)).parent
    text = CliRunner().invoke(main, ["judge", str(folder)])
    told = CliRunner().invoke(main, ["judge", str(folder), "--json"])
    assert (text.exit_code, told.exit_code) == (1, 1)
    assert f"{spoiled_one.name}: FAIL" in text.output
    failed = {
        one["case"] for one in json.loads(told.output) for result in one["results"] if result["verdict"] == "FAIL"
    }
    assert failed == {spoiled_one.name}


def test_what_is_left_out_is_not_judged_and_said(vectors, tmp_path):
    """A case without an answer is counted, an output without one is counted as missing, and neither fails."""
    folder = tmp_path / "copy"
    shutil.copytree(vectors, folder)
    first, second = sorted(path.parent for path in folder.glob("*/answer.bin"))[:2]
    (first / "answer.txt").unlink()
    lines.write(second / "answer", [one for one in lines.read(second / "answer") if one.name == "0.y"])
    found, without = judging.judged(folder)
    assert without == [first.name]
    of_second = next(one for one in found if one.case == second.name)
    assert {result.output for result in of_second.results} == {"y"}
    assert of_second.missing


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("answer 0.y float32 0 2 4", "is no line"),
        ("answer 0.y complex64 0 1 4", "is no dtype"),
        ("answer 0.y float32 0 1 4000000", "would end at byte"),
        ("answer 9.y float32 0 1 0", "is no answer to one of"),
        ("refused 9", "names none of"),
    ],
)
def test_a_malformed_answer_is_one_sentence(vectors, tmp_path, text, said):
    """What cannot be read exits 2 and names the file and the rule."""
    folder = tmp_path / "copy"
    shutil.copytree(vectors, folder)
    next(iter(sorted(folder.glob("*/answer.txt")))).write_text(text + "\n")
    with pytest.raises(InvalidInput, match=said):
        judging.judged(folder)


def test_bad_input_is_one_sentence(vectors, tmp_path):
    """No vectors, a folder that is in use, no answers, neither option: each is told."""
    (tmp_path / "empty").mkdir()
    words = {
        ("judge", str(tmp_path / "empty")): (2, f"has no {INDEX}"),
        ("export", "--vectors", str(vectors)): (2, "is not empty"),
        ("export",): (2, "give --out FOLDER or --vectors FOLDER"),
        ("export", "--vectors", str(tmp_path / "v"), "--promises", "numpy.*"): (2, "name one"),
    }
    for given, (status, said) in words.items():
        done = CliRunner().invoke(main, list(given))
        assert done.exit_code == status, given
        assert said in done.output, given
