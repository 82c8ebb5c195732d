"""What a statement limits: modes, outputs, precision, and the number of signatures."""

from __future__ import annotations

from conformance.cases.cells import SMOKE
from conformance.cases.sizes import SIZES


def test_mode_that_an_implementation_lacks_is_not_judged(run, adapter):
    """Inference is judged from the case's own statistics, training steps leave no result and fail nothing."""
    found = run(adapter("limited:InferenceOnly"), cases=24)
    judged = [r for r in found.results if r.verdict != "UNSUPPORTED"]
    assert {(r.mode, r.output) for r in judged} == {("infer", "y"), ("infer", "dx")}
    assert {r.verdict for r in judged} <= {"PASS", "INCONCLUSIVE"}
    assert "PASS" in {r.verdict for r in judged}


def test_modes_alone_declare_an_implementation_that_only_infers(run, adapter):
    """Whatever it yields for training steps, its own start included, exact inference has no failure, and is judged."""
    found = run(adapter("infer_only"), cases=120, corpus=True)
    for record in found.implementations:
        own = [r for r in found.results if r.implementation == record.id and r.verdict != "UNSUPPORTED"]
        assert not [r for r in own if r.verdict in ("FAIL", "ERROR")], record.id
        assert {(r.mode, r.output) for r in own if r.verdict == "PASS"} >= {("infer", "y")}
        assert {r.mode for r in own} == {"infer"}
    assert len(found.implementations) == 5


def test_expensive_implementation_gets_few_signatures(run, adapter):
    """It gets every case of its two plain signatures, four of features, one of every third size, and no other."""
    found = run(adapter("limited:Expensive"), cases=285)
    asked = {r.case for r in found.results if "expensive" in r.implementation and r.verdict != "UNSUPPORTED"}
    signatures = [found.cases[case].recipe["signature"] for case in asked]
    others = [c for c in found.cases.values() if c.recipe["pooled"] and c.case not in asked]
    plain, featured = ({str(s) for s in signatures if bool(s.get("feature")) == has} for has in (False, True))
    assert len(plain) == 2
    assert 1 <= len([name for name in featured if not any(size in name for size in SIZES)]) <= 4
    assert len([size for size in SIZES if any(size in name for name in featured)]) == -(-len(SIZES) // 3)
    assert not [c for c in others if c.recipe["signature"] in signatures and not c.recipe["signature"].get("feature")]


def test_absent_output_is_not_missed_where_a_rule_says_so(run, adapter):
    """dgamma is judged of layers that are not frozen only, and nothing fails."""
    found = run(adapter("limited:Forgetful"), cases=SMOKE)
    features = {r.case: found.cases[r.case].recipe.get("signature", {}).get("feature", "") for r in found.results}
    judged = {(features[r.case] == "frozen", r.output) for r in found.results if r.verdict == "PASS"}
    assert {(True, "dbeta"), (False, "dgamma"), (True, "dx")} <= judged
    assert (True, "dgamma") not in judged
    assert "FAIL" not in {r.verdict for r in found.results}


def test_arithmetic_in_half_precision_may_round_the_statistics_it_takes(run, adapter):
    """Inference in float16 by float32 statistics is within the bounds of its class."""
    found = run(adapter("limited:Narrow"), cases=285)
    verdicts = [r.verdict for r in found.results if r.output == "y"]
    assert verdicts.count("PASS") > 20
    assert "FAIL" not in verdicts
