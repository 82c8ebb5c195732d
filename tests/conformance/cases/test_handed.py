"""Things handed over as another type: the same value and dtype, and a fault that nothing else finds."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from plain_numpy import TwoPass, asked, judged

from conformance.cases.handed import HANDED
from conformance.hosts import worker
from conformance.model.case import Actions, Case, Step, case_id, content
from conformance.model.case_facts import every_step
from conformance.model.codec import case_from_json, case_to_json
from conformance.model.statement import stated
from reference import Spec

OLD = stated({"id": "old.bn", "packages": [], "documentation": "", "conventions": {}}, "old")


class WidenedByEpsilon(TwoPass):
    """Adds epsilon as it is: NumPy promotes what a float64 scalar meets, and no Python number."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        for out, take in TwoPass.steps(self, case):
            wide = np.result_type(out["y"], case.native["epsilon"])
            yield dict(out, y=out["y"].astype(wide)), take


def test_a_fault_that_nothing_else_finds():
    """Who lets the dtype of epsilon into y fails where it is wider than x, and nowhere else."""
    others = ("", "mixed dtypes", "constants", "own start", "many steps")
    failing = [
        f for f in (*HANDED, *others) if any(r.verdict == "FAIL" for e in asked(f) for r in judged(WidenedByEpsilon, e))
    ]
    assert failing == ["float64 scalars"]


@pytest.mark.parametrize("feature", HANDED)
def test_plain_numpy_passes(feature):
    """The calibration subject takes each number for what it is."""
    found = [r for e in asked(feature) for r in judged(TwoPass, e)]
    assert found
    assert {r.verdict for r in found} == {"PASS"}


def plain():
    """Return a case of one step."""
    x = np.float32([[1, 2], [4, 3]])
    one = np.ones(2, np.float32)
    layer = {"gamma": one, "beta": 0 * one, "moving_mean": 0 * one, "moving_variance": one}
    return Case(Spec(axis=1, epsilon=0.25, momentum=0.75), (Step("train"),), tensors={"0.x": x, **layer})


@pytest.mark.parametrize(
    ("scalars", "kind"),
    [("number", float), ("float64", np.float64), ("float32", np.float32), ("array", np.ndarray)],
)
@pytest.mark.parametrize("convention", ["kept", "updated"])
def test_numbers_come_as_the_type_asked_for(scalars, kind, convention):
    """Both constants have that type and the value of the case, by either convention, and no others share a program."""
    case = msgspec.structs.replace(plain(), actions=Actions(scalars=scalars))
    statement = {"conventions": {"momentum": convention}}
    seen = worker.Case(content(case), case.tensors, statement)
    numbers = [seen.native[name] for name in ("momentum", "epsilon")]
    assert [type(number) for number in numbers] == [kind, kind]
    assert [float(number) for number in numbers] == [0.75 if convention == "kept" else 0.25, 0.25]
    assert all(np.ndim(number) == 0 for number in numbers)
    keys = {worker.Case(content(c), c.tensors, statement).static(traced=("actions",)).key for c in (plain(), case)}
    assert len(keys) == (1 if scalars == "number" else 2)


def test_old_adapters_are_not_asked_and_old_cases_are_as_they_were():
    """The field is spelled out only where it says something, and read again."""
    told = msgspec.structs.replace(plain(), actions=Actions(scalars="float64"))
    assert "scalars" not in content(plain())["actions"]
    assert content(told)["actions"]["scalars"] == "float64"
    assert case_from_json(case_to_json(told)).actions == told.actions
    assert case_id(told) != case_id(plain())
    assert OLD.unsupported(*every_step(told)) == "scalars is float64; supported: number"
    assert not OLD.unsupported(*every_step(plain()))
