"""What proves the versions: which it chooses, and the table that it makes of what the gate says of each."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec
import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from conformance.hosts.releases import Release

PATH = Path(__file__).parents[2] / "benchmarks" / "prove_versions.py"
YELLOW = "yellow (0): every deviation is explained; 9 judged arrays, 2 of 2 failures explained, 0 by no formula"


@pytest.fixture
def prove(tmp_path, monkeypatch):
    """Return the script as a module that keeps what it finds in the test's folder."""
    spec = importlib.util.spec_from_file_location("prove_versions", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(module, "PAGE", tmp_path / "versions.md")
    return module


def test_the_ends_and_two_between_are_chosen(prove):
    """Of what is claimed and can be installed here: the oldest, two between, the newest; or as many as there are."""
    tags = frozenset({"py3-none-any"})
    found = [Release(Version(f"1.{n}"), tags=tags) for n in range(11)]
    claimed = SpecifierSet(">=1.1")
    assert [str(one.version) for one in prove.chosen(found, claimed)] == ["1.1", "1.4", "1.7", "1.10"]
    assert [str(one.version) for one in prove.chosen(found[:3], claimed)] == ["1.1", "1.2"]
    elsewhere = [Release(Version("1.5"), tags=frozenset({"cp39-cp39-win32"}))]
    assert prove.chosen(elsewhere, claimed) == []


def test_a_version_is_a_row_with_what_is_said_of_it(prove, tmp_path, capsys):
    """Its companions, who is there, the gate's colour; below it who cannot run, who is asked less and what is found."""
    why = {"keras.a@cpu": "RuntimeError: no", "keras.b@cpu": "RuntimeError: no"}
    said = ["ANOTHER VERSION keras 3.6: the same", YELLOW]
    one = prove.JudgedVersion("3.6", "2024-10-03", {"numpy": "2.0"}, 1, 3, why, {"keras.c@cpu": ["renorm"]}, said)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "keras-3.6.json").write_bytes(msgspec.json.encode(one))
    assert prove.main(["--page-only"]) == 0
    text = (tmp_path / "versions.md").read_text()
    assert f"| 3.6 2024-10-03 | numpy 2.0 | 1 of 3 | **yellow**: {YELLOW.partition('; ')[2]} |\n" in text
    assert "\nNot judged yet: onnx, onnxruntime, equinox, haiku, flax, jax, sonnet, " in text
    assert "- 3.6: `keras.a@cpu` and 1 more cannot run: RuntimeError: no\n" in text
    assert "- 3.6: 1 implementations are asked less of renorm\n- 3.6: ANOTHER VERSION keras 3.6: the same\n" in text
    assert capsys.readouterr().out.endswith("1 versions, 0 red\n")


def test_a_family_of_which_nothing_is_kept_stays_as_it_stands(prove, tmp_path):
    """Who judges one family alone loses no other from the page; the head counts the rows of both."""
    (tmp_path / "kept").mkdir()
    one = prove.JudgedVersion("3.6", "2024-10-03", {}, 1, 1, {}, {}, [YELLOW])
    (tmp_path / "kept" / "keras-3.6.json").write_bytes(msgspec.json.encode(one))
    assert prove.main(["--page-only"]) == 0
    (tmp_path / "kept" / "keras-3.6.json").rename(tmp_path / "kept" / "onnx-3.6.json")
    before = (tmp_path / "versions.md").read_text()
    assert prove.main(["--page-only"]) == 0
    text = (tmp_path / "versions.md").read_text()
    assert before.partition("## keras")[2] == text.partition("## keras")[2]
    assert "2 versions of 2 families" in text
    assert "\n## onnx\n\n| version" in text


def test_a_red_gate_is_named_and_exits_1(prove, tmp_path, capsys):
    """What is neither green nor yellow fails the proof."""
    (tmp_path / "kept").mkdir()
    one = prove.JudgedVersion("3.6", "", {}, 1, 1, {}, {}, ["UNEXPLAINED y", "red (1): a deviation; 9 judged arrays"])
    (tmp_path / "kept" / "keras-3.6.json").write_bytes(msgspec.json.encode(one))
    assert prove.main(["--page-only"]) == 1
    assert capsys.readouterr().out.endswith("1 versions, 1 red: keras 3.6\n")
