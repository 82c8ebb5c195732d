"""Failures of a run are told once for each cause, with the shortest true sentence on where they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cases import cells, strategies
from conformance.cases.building import build
from conformance.cli.main import main
from conformance.runs.failures.conditions import ConditionTable
from conformance.runs.failures.learning import where

_ADAPTERS = Path(__file__).parents[1] / "adapters"
_ASKED = [cell for cell in cells.CELLS if not cell.feature or cell.feature in ("1,025 values", "4,099 values")]


def invoke(*arguments):
    """Run a command."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def asked():
    """Return the steps of the plain cells, and of some sizes, by their cases."""
    return [(str(n), build(recipe, 0)) for n, cell in enumerate(_ASKED) for recipe in strategies.recipes(cell, 0, 1)]


@pytest.fixture(scope="module")
def table(asked):
    """Return what is true of them."""
    return ConditionTable(asked)


def values(case, t):
    """Return how many values each channel of a step has."""
    x, kept = case.x(t), case.spec.axis if isinstance(case.spec.axis, tuple) else (case.spec.axis,)
    return x.size // int(np.prod([x.shape[axis] for axis in kept]))


SENTENCES = {
    "large": (lambda c, t: values(c, t) > 1024, "only where N > 1,024"),
    "blocks": (
        lambda c, t: values(c, t) > 32 and values(c, t) % 32,
        "only where N > 32 and where N is no multiple of 32",
    ),
    "half": (lambda c, t: c.dtypes.x == "float16" and c.steps[t].mode == "train", "only in float16 and in training"),
    "several": (lambda c, t: values(c, t) % 8 == 0, "only where N is a multiple of 8"),
    "rank": (lambda c, t: c.x(t).ndim == 4, "only in rank 4"),
    "after": (lambda c, t: any(s.mode == "infer" for s in c.steps[:t]), "only after inference"),
    "memory": (lambda c, t: c.layout in ("strided", "reversed"), "only in memory that is reversed or strided"),
    "all": (lambda _c, _t: True, "wherever it was asked"),
}


@pytest.mark.parametrize(("fails", "says"), SENTENCES.values(), ids=SENTENCES.keys())
def test_where_is_the_shortest_true_sentence(asked, table, fails, says):
    """It holds of every failure, of nothing else where that can be said, and counts both sides."""
    failing = {table.rows[name, t] for name, case in asked for t in range(len(case.steps)) if fails(case, t)}
    told = where(table, [row for row in table.rows.values() if row not in failing], sorted(failing))
    assert (told.says, told.fails, told.of) == (says, len(failing), len(failing))
    assert told.of + told.elsewhere == len(table.rows)


def test_a_few_passes_do_not_make_the_sentence_longer(asked, table):
    """What shows only mostly is told by the simple condition, whose counts say how often."""
    large = [table.rows[name, t] for name, case in asked for t in range(len(case.steps)) if values(case, t) > 1024]
    told = where(table, [row for row in table.rows.values() if row not in large[1:]], large[1:])
    assert told.sentence.startswith(f"only where N > 1,024: {len(large) - 1} of {len(large)} steps fail there, none ")


def test_one_failure_is_not_told_by_the_ratio_that_only_its_values_have(table):
    """No kernel tells |mean|/σ = 3.88 from 3.87: that a step is the only one with it says nothing of a cause."""
    rows = list(table.rows.values())
    told = [where(table, [other for other in rows if other != row], [row]).says for row in rows[::7]]
    assert [says for says in told if "σ =" in says] == []


@pytest.fixture(scope="module")
def folder(asked_before):
    """Return the folder of a run in which one implementation is wrong and one is right."""
    return asked_before((f"{_ADAPTERS / 'wrong.py'}:MomentumSwapped", "numpy.two_pass"), cases=16)


def test_explain_without_a_case_tells_each_cause_once(folder):
    """One line for all that an implementation does wrong: the change, the stage, the counts, and a command."""
    found = invoke("explain", "--run", folder)
    assert found.exit_code == 0, found.output
    told = [line for line in found.stdout.splitlines() if line.startswith("FAIL")]
    assert len(told) == 1
    assert "momentum is inverted: what should be kept enters (stage: update)" in told[0]
    assert " steps fail" in told[0]
    assert "1 failures with a cause or reason of their own" in found.stdout
    (group,) = json.loads(invoke("explain", "--run", folder, "--json").stdout)
    assert group["cause"] == {"stage": "update", "says": "momentum is inverted: what should be kept enters"}


def test_explain_of_a_case_tells_the_cause_and_where_else(folder):
    """The case's own output has the cause, and the run says where else the same outputs fail."""
    (group,) = json.loads(invoke("explain", "--run", folder, "--json").stdout)
    found = invoke("explain", group["witness"]["case"], "--run", folder)
    assert "    cause: momentum is inverted" in found.stdout
    assert "wrong.momentum_swapped@cpu fails " in found.stdout


def test_the_gate_says_why_once(folder):
    """The first finding of a cause has it; the others refer to it."""
    lines = invoke("gate", folder, "--baseline", "/dev/null").stdout.splitlines()
    assert sum("momentum is inverted" in line for line in lines) == 1
    assert any("as above: one cause" in line for line in lines)
