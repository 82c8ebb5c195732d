"""CONTRIBUTING.md is true: its recipes are followed to the letter, and what they say must be green is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^## (.+)\n((?:.|\n)*?)(?=^## |\Z)", PAGE, re.MULTILINE))
BLOCK = re.compile(
    r"^(?P<new>New file )?`(?P<file>\S+)`(?:, (?P<how>below|in place of) `(?P<line>.+)`)?:\n\n"
    r"```\w*\n(?P<code>(?:.|\n)*?)```$",
    re.MULTILINE,
)
COMMANDS = re.compile(r"^Must be green.*:\n\n```\n((?:.|\n)*?)```$", re.MULTILINE)


@pytest.fixture
def tree(tmp_path):
    """Return a copy of what a clone holds and the recipes touch."""
    for folder in ("conformance", "reference", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)  # bytecode too, which says what it is of
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def follow(recipe, tree):
    """Put every block of a recipe where the line above it says."""
    blocks = list(BLOCK.finditer(RECIPES[recipe]))
    for block in blocks:
        path = tree / block["file"]
        assert path.exists() != bool(block["new"]), path
        path.write_text(block["code"] if block["new"] else edited(path, block))
    assert len(blocks) == len(re.findall(r"^```\w*\n", RECIPES[recipe], re.MULTILINE)) // 2 - 1  # and the commands


def edited(path, block):
    """Return a file with a block below a line, or in its place; the line is there once."""
    lines = path.read_text().splitlines(keepends=True)
    (at,) = [n for n, line in enumerate(lines) if line.startswith(block["line"])] or [
        n for n, line in enumerate(lines) if block["line"] in line
    ]
    kept = [lines[at]] if block["how"] == "below" else []
    return "".join([*lines[:at], *kept, block["code"], *lines[at + 1 :]])


def run(line, tree):
    """Run a command of the page in the tree: the tests with this Python, without installing anything."""
    words = shlex.split(line)
    python = {
        "make": ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
        "bnconf": ["-m", "conformance"],
        "python": [],
    }[words[0]]
    given = shlex.split(words[2].removeprefix("PYTEST_ARGS=")) if words[0] == "make" else words[1:]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, *python, *given], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, f"{line}\n{done.stdout}{done.stderr}"


def is_green(recipe, tree):
    """Run the commands of a recipe, one after the other: each exits with 0."""
    for line in COMMANDS.search(RECIPES[recipe])[1].splitlines():
        status, said = run(line, tree)
        assert status == 0, said


@pytest.mark.parametrize("recipe", [title for title in RECIPES if title != "A divergence"])
def test_a_recipe_that_is_followed_is_green(recipe, tree):
    """Each block goes where the page says, and then each command succeeds."""
    follow(recipe, tree)
    is_green(recipe, tree)


def test_a_divergence_makes_a_red_gate_green(tree):
    """What the example promises makes the gate red; what its divergence predicts makes it green again."""
    follow("An implementation", tree)
    follow("A divergence", tree)
    known = tree / "conformance" / "gate" / "divergences" / "mine.toml"
    entry = known.read_text()
    known.unlink()
    asked, decided = COMMANDS.search(RECIPES["A divergence"])[1].splitlines()
    assert run(asked, tree)[0] == 0
    status, said = run(f"{decided} --update", tree)
    assert (status, "stored" in said or "[[divergence]]" in said) == (1, True), said
    known.write_text(entry)
    assert run(decided, tree)[0] == 0
