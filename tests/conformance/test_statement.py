"""What a statement limits: modes, and the number of signatures."""

from __future__ import annotations


def test_mode_that_an_implementation_lacks_is_not_judged(run, adapter):
    """Inference is judged from the case's own statistics, training steps leave no result and fail nothing."""
    found = run(adapter("limited:InferenceOnly"), cases=24)
    judged = [r for r in found.results if r.verdict != "UNSUPPORTED"]
    assert {(r.mode, r.output) for r in judged} == {("infer", "y"), ("infer", "dx")}
    assert {r.verdict for r in judged} <= {"PASS", "INCONCLUSIVE"}
    assert "PASS" in {r.verdict for r in judged}


def test_expensive_implementation_gets_few_signatures(run, adapter):
    """It gets every case of its two plain signatures, no more than two of features, and no other."""
    found = run(adapter("limited:Expensive"), "numpy.two_pass", cases=285)
    asked = {r.case for r in found.results if "expensive" in r.implementation and r.verdict != "UNSUPPORTED"}
    signatures = [found.cases[case].recipe["signature"] for case in asked]
    others = [c for c in found.cases.values() if c.recipe["pooled"] and c.case not in asked]
    plain, featured = ({str(s) for s in signatures if bool(s.get("feature")) == has} for has in (False, True))
    assert len(plain) == 2
    assert 1 <= len(featured) <= 2
    assert not [c for c in others if c.recipe["signature"] in signatures]
