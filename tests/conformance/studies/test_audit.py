"""`bnconf audit` and `bnconf identify`: what is proven, what is refuted, and what an unknown implementation means."""

from __future__ import annotations

import ast
import contextlib
import json
import os

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts.roster import from_target
from conformance.studies.audit import fields, stating
from conformance.studies.audit.identifying import meant
from reference import Refusal, Semantics, Spec
from reference.validation import validate_semantics

SUBJECT = """
import importlib.util

spec = importlib.util.spec_from_file_location("synthetic", {path!r})
synthetic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(synthetic)


class Own(synthetic.Synthetic):
    semantics = {semantics!r}
    statement = dict(synthetic.Synthetic.statement, rules={rules!r})
"""


OPEN = {"moving_spread": "new_state", "activation": "variance_mean"}
"""The fields that cannot be found beside others, of which derivatives have no bound."""


def invoke(*arguments):
    """Run a command."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def synthetic(adapter, tmp_path):
    """Return what makes a target of the reference with some semantics, which may promise them or say nothing."""

    def make(*, stated=False, **semantics):
        rules = [{"cite": "its lines", "semantics": semantics}] if stated else []
        path = tmp_path / "own.py"
        path.write_text(SUBJECT.format(path=adapter("synthetic"), semantics=semantics, rules=rules))
        return f"{path}:Own"

    return make


def test_every_cell_of_a_subject_that_keeps_its_word_is_proven_and_replays(tmp_path):
    """Each cell names a case that its value explains and no other does, and asked again the case conforms: exit 0."""
    out = tmp_path / "audit.json"
    result = invoke("audit", "-i", "numpy.two_pass", "--out", out, "--json")
    cells = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {cell["status"] for cell in cells} == {"proven"}
    assert {cell["field"] for cell in cells} >= {"stored_variance", "epsilon_placement", "frozen", "average"}
    for cell in cells:
        assert cell["alternatives"]
        assert all(rho == "inf" or rho is None or rho > 1 for rho in cell["alternatives"].values()), cell
        assert cell.get("rho") is None or cell["rho"] <= 1
    files = {tmp_path / cell["witness"]["file"] for cell in cells}
    assert invoke("replay", *sorted(files), "-i", "numpy.two_pass").exit_code == 0


def test_a_promise_that_is_not_kept_is_refuted(adapter, tmp_path):
    """Who promises the unbiased variance and stores the biased one is told so, with what would explain it: exit 1."""
    result = invoke("audit", "-i", adapter("wrong:BiasedForUnbiased"), "--out", tmp_path / "audit.json", "--json")
    (cell,) = [cell for cell in json.loads(result.stdout) if cell["field"] == "stored_variance"]
    assert result.exit_code == 1
    assert (cell["value"], cell["status"]) == ("unbiased", "refuted")
    assert cell["why"].endswith("biased would explain it")


def test_two_audits_are_compared(synthetic, tmp_path):
    """--against says which field changed, and no other."""
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    assert invoke("audit", "-i", synthetic(stated=True), "--out", before).exit_code == 0
    unbiased = synthetic(stated=True, stored_variance="unbiased")
    assert invoke("audit", "-i", unbiased, "--out", after, "--against", before).exit_code == 0
    assert [change["field"] for change in json.loads(after.read_text())["changes"]] == ["stored_variance"]


def test_who_cannot_be_asked_is_incomplete(tmp_path):
    """An implementation that was asked for and is not there: exit 3 and its reason; no file that holds no audit."""
    result = invoke(
        "audit", "-i", "torch.F.batch_norm", "--env", f"torch={tmp_path / 'python'}", "--out", tmp_path / "a"
    )
    assert result.exit_code == 3
    assert "torch.F.batch_norm@cpu is not available" in result.stderr
    (tmp_path / "b").write_text("{}")
    assert invoke("audit", "-i", "numpy.two_pass", "--out", tmp_path / "a", "--against", tmp_path / "b").exit_code == 2


@pytest.mark.parametrize(
    "semantics",
    [
        {"stored_variance": "unbiased", "frozen": "infer", "single_value": "nan"},
        pytest.param({}, marks=pytest.mark.proof),
        pytest.param(
            {"average": "zero_debiased", "initial_variance": 0.0, "updates": "always"}, marks=pytest.mark.proof
        ),
        pytest.param(
            {"virtual_batches": "contiguous", "indivisible_inference": "accepted", "mask": "boolean"},
            marks=pytest.mark.proof,
        ),
        pytest.param(
            {"moving_spread": "stddev", "single_value": "identity", "empty_batch": "refused"}, marks=pytest.mark.proof
        ),
        pytest.param({"stored_variance": "unbiased", "activation": "relu"}, marks=pytest.mark.proof),
    ],
)
def test_the_semantics_of_an_unknown_implementation_are_found(synthetic, semantics):
    """The reference with some semantics, and a statement that says nothing of them, is told to mean exactly these.

    What no bound is derived for stays open: it may be as it is by default, which is said first.
    """
    result = invoke("identify", "-i", synthetic(**semantics), "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert [one["semantics"][0] for one in found] == [semantics]
    assert set(found[0]["open"]) == {OPEN[name] for name in semantics if name in OPEN}


def random_semantics(rng):
    """Draw a value for every field, again where what they are together is not defined."""
    while True:
        drawn = {name: fields.values(name)[rng.integers(len(fields.values(name)))] for name in fields.NAMES}
        nothing = drawn["average"] == "none" and drawn["training_statistics"] == "moving"
        offset = drawn["mask_offset"] > 0 and drawn["variance_mean"] == "stopped"
        with contextlib.suppress(Refusal):
            validate_semantics(Spec(), Semantics(**drawn))
            if not (nothing or offset):
                return drawn


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(int(os.environ.get("AUDIT_SEEDS", "1"))))
def test_random_semantics_are_found(synthetic, adapter, seed):
    """Every field drawn by seed, ten in `make prove-audit`: what is left is the truth, but where there is no bound."""
    drawn = random_semantics(np.random.default_rng(seed))
    result = invoke("identify", "-i", synthetic(**drawn), "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    (entry,) = from_target(adapter("synthetic"))
    truth = stating.changed(meant(entry.statement, Semantics(**drawn), ["float32", "float64", "float16"]))
    for one in found:
        assert truth in one["semantics"], one["open"]
        along = drawn["epsilon_placement"] == "outside" or drawn["activation"] == "relu"
        unbounded = {"variance_mean"} if along else set[str]()
        unbounded |= {"new_state"} if drawn["moving_spread"] == "stddev" else set()
        assert set(one["open"]) <= unbounded


@pytest.mark.proof
def test_what_is_identified_is_a_statement_to_commit(synthetic):
    """What is printed is the statement as Python, whose last rules say what was found."""
    printed = invoke("identify", "-i", synthetic(stored_variance="unbiased")).stdout
    statement = ast.literal_eval(printed.partition("statement = ")[2])
    assert statement["id"] == "synthetic.any"
    assert {"stored_variance": "unbiased"} in [rule.get("semantics") for rule in statement["rules"]]


def test_identify_asks_only_who_is_named():
    """Without -i it says what to name: exit 2."""
    result = invoke("identify")
    assert result.exit_code == 2
    assert "give -i ID" in result.stderr
