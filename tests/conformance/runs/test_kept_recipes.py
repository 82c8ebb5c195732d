"""Recipes that are kept: those that would be drawn, by all that they depend on, and never a damaged one."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from click.testing import CliRunner

from conformance.cases import strategies
from conformance.cli.main import main
from conformance.hosts import sources
from conformance.runs import kept_recipes
from conformance.runs.kept_recipes import WantedRecipes


@pytest.fixture(autouse=True)
def drawn(monkeypatch, tmp_path):
    """Give the test a cache of its own, and return what was drawn meanwhile."""
    found, draw = [], strategies.chosen

    def chosen(*asked):
        found.append(asked)
        return draw(*asked)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(strategies, "chosen", chosen)
    return found


def test_what_was_drawn_once_is_not_drawn_again(drawn):
    """It is the same, to the last digit; another seed, number, source or version, or no cache, draws."""
    first = kept_recipes.recipes(WantedRecipes(7, 5), cache=True)
    assert kept_recipes.recipes(WantedRecipes(7, 5), cache=True) == first == strategies.chosen(7, 5)
    drawn.clear()
    for asked, cache in ((WantedRecipes(7, 6), True), (WantedRecipes(8, 5), True), (WantedRecipes(7, 5), False)):
        kept_recipes.recipes(asked, cache=cache)
    assert drawn == [(7, 6), (8, 5), (7, 5)]


def test_another_suite_or_version_draws_anew(drawn, monkeypatch):
    """Whatever decides what is drawn decides what is taken from the cache."""
    kept_recipes.recipes(WantedRecipes(7, 5), cache=True)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "of_the_suite", lambda: "another")
        kept_recipes.recipes(WantedRecipes(7, 5), cache=True)
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"another {name}")
    kept_recipes.recipes(WantedRecipes(7, 5), cache=True)
    assert len(drawn) == 3


@pytest.mark.parametrize("damage", ["digit", "cut", "schema"])
def test_a_damaged_file_is_drawn_anew(drawn, damage):
    """One digit that is another, a file that ends early, and one that holds something else; it is whole again then."""
    first = kept_recipes.recipes(WantedRecipes(7, 5), cache=True)
    (path,) = kept_recipes.folder().iterdir()
    seal, body = path.read_bytes().split(b"\n")
    other = {"digit": body.replace(b'"number":0', b'"number":1'), "cut": body[:-9], "schema": b"[1]"}[damage]
    seal = hashlib.sha256(other).hexdigest().encode() if damage == "schema" else seal
    path.write_bytes(seal + b"\n" + other)
    assert [kept_recipes.recipes(WantedRecipes(7, 5), cache=True) for _ in range(2)] == [first] * 2
    assert len(drawn) == 2


def test_few_are_kept_and_all_can_be_cleared(monkeypatch):
    """The oldest make way; `bnconf cache` shows and removes them."""
    monkeypatch.setattr(kept_recipes, "_MOST", 2)
    for seed in range(4):
        kept_recipes.recipes(WantedRecipes(seed, 3), cache=True)
    assert len(kept_recipes.kept()) == 2
    said = CliRunner().invoke(main, ["cache", "--clear"]).output
    assert "recipes: 2 lists of recipes" in said
    assert CliRunner().invoke(main, ["cache"]).output == "nothing is kept\n"


def test_a_folder_that_cannot_be_written_to_is_done_without(monkeypatch, tmp_path):
    """A cache is no condition of a run."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(kept_recipes.recipes(WantedRecipes(7, 3), cache=True)) == 3


def test_hypothesis_is_imported_only_to_draw():
    """What is kept is read without it."""
    code = (
        "import sys; from conformance.runs import kept_recipes as k; a = k.WantedRecipes(7, 5); "
        "k.recipes(a, cache=True); print('hypothesis' in sys.modules)"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    ]
    assert said == ["True\n", "False\n"]
