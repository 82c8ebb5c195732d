"""What an audit blames: numerics before semantics, one promise rather than all, and nothing where nothing explains."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from conformance.cli.main import main


@pytest.fixture
def audited(adapter, tmp_path):
    """Return what audits an adapter that promises next to nothing: exit status, file as JSON, what is printed."""

    def audit(name):
        out = tmp_path / "audit.json"
        result = CliRunner().invoke(main, ["audit", "-i", adapter(f"undescribed:{name}"), "--out", str(out)])
        return result.exit_code, json.loads(out.read_text()), result.output

    return audit


def test_numerics_are_fitted_before_semantics_are_blamed(audited):
    """A folded map that nobody declared refutes no field; that it is folded is said by itself, and exits 1."""
    code, found, printed = audited("Folded")
    assert code == 1
    assert {cell["status"] for cell in found["cells"]} == {"proven"}
    (mismatch,) = found["numerics"]
    assert mismatch["numerics"] == {"affine": "folded"}
    assert mismatch["rho"] > 1
    assert "computed with affine folded, which it does not promise" in printed


def test_a_broken_promise_is_blamed_on_no_other_field(audited):
    """Who stores the unbiased variance, and trains where it is frozen, is told these two; eight others are proven."""
    code, found, _ = audited("StoresUnbiased")
    assert code == 1
    refuted = {cell["field"]: cell["why"] for cell in found["cells"] if cell["status"] == "refuted"}
    assert set(refuted) == {"stored_variance", "frozen"}
    assert refuted["stored_variance"].endswith("unbiased would explain it")
    assert [cell["status"] for cell in found["cells"]].count("proven") == len(found["cells"]) - 2


@pytest.mark.parametrize("name", ["TrainsUnbiased", "MomentumSwapped"])
def test_what_nothing_explains_refutes_no_field_and_is_said(audited, name):
    """Training by N/(N-1) and a swapped momentum are no value of a field: none is refuted, the cases are named."""
    code, found, printed = audited(name)
    assert code == 1
    assert not [cell for cell in found["cells"] if cell["status"] == "refuted"]
    assert {"plain", "tiny epsilon"} <= {one["probe"] for one in found["unexplained"]}
    assert f"unexplained: {found['unexplained'][0]['implementation']}, plain in rank 2, axis 1" in printed


def test_a_rule_of_training_steps_is_a_promise_of_the_case(audited):
    """A statement whose rule speaks of training steps alone is read so: what it promises there is proven."""
    code, found, _ = audited("SaysUnbiasedOfTraining")
    values = {cell["field"]: (cell["value"], cell["status"]) for cell in found["cells"]}
    assert code == 0
    assert values["stored_variance"] == ("unbiased", "proven")
    assert values["frozen"] == ("train", "proven")


@pytest.mark.parametrize("name", ["Exact", "InferenceOnly", "Unasked"])
def test_who_only_infers_is_proven_by_what_it_infers(audited, name):
    """Declared by nothing but modes, every field of inference is proven and nothing is unexplained."""
    code, found, printed = audited(name)
    assert code == 0, printed
    assert {"epsilon_placement", "epsilon_floor"} <= {cell["field"] for cell in found["cells"]}
    assert {cell["status"] for cell in found["cells"]} == {"proven"}
    assert not found.get("unexplained")
    assert not found.get("numerics")
