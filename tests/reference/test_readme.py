"""The README is the law: its examples are true, its rules are complete, and every field has rule, test and mutant."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import re
from pathlib import Path
from typing import Any

import pytest

import reference
from reference import Semantics, Spec
from reference.paths import Paths

FOLDER = Path(reference.__file__).parent
TESTS = Path(__file__).parent
README = (FOLDER / "README.md").read_text()
RULES = re.findall(r'<a id="bn-(\d+)"></a>\n### BN-(\d+) (.+)\n((?:.|\n)*?)(?=\n<a id|\n## )', README)
MODULES = sorted(FOLDER.glob("*.py"))


def test_every_example_is_true() -> None:
    """All examples of the README run, in one namespace, with the output that they show."""
    failed, run = doctest.testfile(str(FOLDER / "README.md"), module_relative=False)
    assert failed == 0
    assert run > 90


def test_rules_are_numbered_and_anchored() -> None:
    """The rules are numbered from 1 without a gap, and each anchor is its number."""
    assert [int(anchor) for anchor, _, _, _ in RULES] == list(range(1, 38))
    assert all(anchor == number for anchor, number, _, _ in RULES)


@pytest.mark.parametrize(("anchor", "number", "title", "body"), RULES, ids=[f"BN-{r[0]}" for r in RULES])
def test_each_rule_has_source_and_example(anchor: str, number: str, title: str, body: str) -> None:
    """Each rule says where it comes from and shows itself."""
    assert anchor == number
    assert title[0].isupper()
    assert "\nSource: " in body
    assert "\n>>> " in body


def rules_of(cls: Any) -> dict[str, list[str]]:
    """Return the numbers of the rules that a class's docstring names for each of its fields."""
    named = re.findall(r"((?:\w+, )*\w+) \((BN-\d+(?:, BN-\d+)*)\)", cls.__doc__ or "")
    return {field: re.findall(r"\d+", numbers) for fields, numbers in named for field in fields.split(", ")}


@pytest.mark.parametrize("cls", [Spec, Semantics])
def test_each_field_names_its_rule(cls: Any) -> None:
    """The docstring of Spec and of Semantics gives every field a rule, and that rule exists."""
    for field in dataclasses.fields(cls):
        assert field.name in rules_of(cls)
        assert all(f'<a id="bn-{rule}"></a>' in README for rule in rules_of(cls)[field.name])


def set_by_tests() -> set[str]:
    """Return the fields of Semantics that a law, an exact or an edge test sets: in a call, by keyword or by place."""
    fields, found = [field.name for field in dataclasses.fields(Semantics)], set[str]()
    for name in ("scenarios", "test_laws", "test_edges", "test_validation"):
        for call in ast.walk(ast.parse((TESTS / f"{name}.py").read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Semantics":
                found |= {*fields[: len(call.args)], *(k.arg for k in call.keywords if k.arg)}
    return found


def named_mutants() -> list[list[Any]]:
    """Return the arguments of the named mutants, as they are written: name, module, before, after, field."""
    calls = ast.walk(ast.parse((TESTS.parent / "mutants" / "named.py").read_text()))
    named = [c for c in calls if isinstance(c, ast.Call) and isinstance(c.func, ast.Name) and c.func.id == "Named"]
    return [[ast.literal_eval(argument) for argument in call.args] for call in named]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Semantics)])
def test_each_semantics_field_has_a_rule_a_test_and_a_mutant(field: str) -> None:
    """Each field is named by a rule that its docstring cites, set by a law, exact or edge test, and has a mutant."""
    bodies = [body for number, _, _, body in RULES if number in rules_of(Semantics)[field]]
    assert any(f"`{field}" in body or f"{field}=" in body for body in bodies)
    assert field in set_by_tests()
    assert field in [mutant[4] for mutant in named_mutants() if len(mutant) == 5]


def test_named_mutants_fit() -> None:
    """There are at least 40 named mutants, each with a name of its own, and each changes text that occurs once."""
    mutants = named_mutants()
    assert len({mutant[0] for mutant in mutants}) == len(mutants) >= 40
    for name, module, before, after, *_ in mutants:
        assert (FOLDER / f"{module}.py").read_text().count(before) == 1, name
        assert before != after, name


def code_lines(path: Path) -> int:
    """Count the lines that are neither blank, comment nor docstring."""
    source = path.read_text()
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and i not in documented for i, line in lines)


@pytest.mark.parametrize("path", MODULES, ids=[path.name for path in MODULES])
def test_modules_are_short(path: Path) -> None:
    """No module is over 200 lines, and batch_norm.py has at most 60 lines of code."""
    assert len(path.read_text().splitlines()) <= 200
    if path.name == "batch_norm.py":
        assert code_lines(path) <= 60


@pytest.mark.parametrize("path", MODULES, ids=[path.name for path in MODULES])
def test_functions_are_short_and_documented(path: Path) -> None:
    """No function is over 40 lines beside its docstring, and every public one has a docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            documentation = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or 0) - node.lineno - len((documentation or "").splitlines())
            assert lines <= 40, node.name
            assert documentation or node.name.startswith("_") or node.name == "moved"


@pytest.mark.parametrize("path", MODULES, ids=[path.name for path in MODULES])
def test_only_numpy_is_imported(path: Path) -> None:
    """The reference imports NumPy, the standard library and itself; for want of a wide longdouble, binary128."""
    known = {"__future__", "collections", "dataclasses", "functools", "math", "numpy", "reference", "typing"}
    known |= {"numpy_quaddtype"} if path.name == "precision.py" else set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] in known


def test_paths_are_documented() -> None:
    """The docstring of Paths explains each of its fields."""
    assert Paths.__doc__ is not None
    assert all(field.name in Paths.__doc__ for field in dataclasses.fields(Paths))
