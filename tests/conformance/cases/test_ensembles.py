"""Ensembles: each member is judged as though it were alone, and what makes no sense as one is refused."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from plain_numpy import TwoPass, asked, judged

from conformance.hosts import going_on, worker
from conformance.hosts.roster import ADAPTERS
from conformance.judging.exact_case import ExactCase
from conformance.judging.expectation import trajectory
from conformance.judging.promise import Promise
from conformance.model import ensembles
from conformance.model.case import Actions, Case, Derivative, Step, content, parameters
from conformance.model.codec import case_from_json, case_to_json, check
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.statement import stated
from conformance.studies.hunt.minimizing import candidates
from reference import Spec

MAPPERS = [
    pytest.param("torch.py:torch.F.batch_norm+vmap", marks=pytest.mark.framework("torch")),
    pytest.param("torch_modules.py:torch.nn.BatchNorm1d", marks=pytest.mark.framework("torch")),
    pytest.param("jax_functions.py:jax.nn.standardize+jit", marks=pytest.mark.framework("jax")),
    pytest.param("tensorflow.py:tf.nn.batch_normalization", marks=pytest.mark.framework("tensorflow")),
]


class OneState(TwoPass):
    """All members move the statistics of one layer, one after another."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        for step in case.steps:
            step.member = 0
        return TwoPass.steps(self, case)


def ensemble(mapped):
    """Return a generated case that is mapped so, and whose statistics move."""
    found = (e for f in ("ensemble", "jacobian") for e in asked(f, 4))
    return next(e for e in found if e.case.actions.mapped == mapped and 0 < e.case.spec.momentum < 1)


def alone(case, member):
    """Return the case of one member of an ensemble."""
    calls = range(member, len(case.steps), case.actions.members)
    tensors = {name: array for name, array in case.tensors.items() if "." not in name}
    given = parameters(case, np.float64, member)
    own = {"gamma": given.gamma, "beta": given.beta}
    tensors |= {name: array.astype(tensors[name].dtype) for name, array in own.items() if array is not None}
    tensors |= {f"{n}.{name}": case.tensors[f"{t}.{name}"] for n, t in enumerate(calls) for name in ("x", "dy")}
    return msgspec.structs.replace(case, actions=Actions(), steps=tuple(case.steps[t] for t in calls), tensors=tensors)


def answered(target, case):
    """Return what an adapter answers to a case."""
    path, _, identity = target.partition(":")
    (cls,) = (cls for cls in worker.load(f"{ADAPTERS / path}") if cls.statement["id"] == identity)
    return worker.run(cls("cpu"), worker.Case(json.loads(json.dumps(content(case))), case.tensors, cls.statement))


@pytest.mark.parametrize("mapped", ["dy", "x", "parameters", "both", "nested"])
def test_members_are_expected_to_answer_as_though_alone(mapped):
    """Values and bounds are those of the case that has nothing but the member's steps, gamma and beta."""
    exact_case, statement = ensemble(mapped), stated(TwoPass.statement, "numpy")
    whole = trajectory(Promise.of(exact_case, statement))
    for member in range(exact_case.case.actions.members):
        own = alone(exact_case.case, member)
        check(own)
        for wanted, found in zip(
            trajectory(Promise.of(ExactCase(own), statement)),
            whole[member :: exact_case.case.actions.members],
            strict=True,
        ):
            assert wanted.keys() == found.keys()
            assert all(np.array_equal(wanted[n].value, found[n].value) for n in wanted)
            assert all(np.array_equal(wanted[n].bound, found[n].bound) for n in wanted)


@pytest.mark.parametrize("mapped", ["dy", "x", "parameters", "both", "nested"])
def test_each_step_is_held_to_its_own_member(mapped):
    """NumPy passes, and who lets the members share one state fails in every case."""
    exact_case = ensemble(mapped)
    assert {r.verdict for r in judged(TwoPass, exact_case)} == {"PASS"}
    assert "FAIL" in {r.verdict for r in judged(OneState, exact_case)}


@pytest.mark.parametrize("mapped", ["dy", "x", "parameters", "both", "nested"])
@pytest.mark.parametrize("target", MAPPERS)
def test_frameworks_map_what_they_say(target, mapped):
    """The adapter gives arrays of every member in the shape of one alone, and members that differ differ."""
    case = ensemble(mapped).case
    outcomes, got = answered(target, case)
    assert [outcome["type"] for outcome in outcomes] == ["outputs"] * len(case.steps)
    assert all(got[f"{t}.y"].shape == case.x(t).shape for t in range(len(case.steps)))
    name = "dx" if mapped == "dy" else "y"
    last = case.actions.members - 1
    assert not np.allclose(got[f"0.{name}"], got[f"{last}.{name}"])


def plain(members, mapped, **tensors):
    """Return a small ensemble of one call."""
    x = np.float32([[1, 2], [4, 3], [0, 7]])
    given = {f"{t}.{name}": x for t in range(members) for name in ("x", "dy")}
    steps = (Step("train", derivatives=(Derivative(),)),) * members
    layer = {"gamma": x[0], "beta": x[1]}
    return Case(
        Spec(axis=1), steps, actions=Actions(members=members, mapped=mapped), tensors={**layer, **given, **tensors}
    )


OTHER = np.float32([[1, 2], [4, 3], [0, 8]])


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (plain(2, "x"), ""),
        (plain(2, "x", **{"1.x": OTHER}), ""),
        (plain(4, "nested", **{"2.gamma": OTHER[0], "3.gamma": OTHER[0]}), ""),
        (plain(2, "none"), "actions.members is 2 and actions.mapped none"),
        (plain(1, "x"), "actions.members is 1 and actions.mapped x"),
        (plain(3, "nested"), "give 4 or 9"),
        (plain(2, "dy", **{"1.x": OTHER}), "1.x is not 0.x, but actions.mapped is dy"),
        (plain(2, "x", **{"1.gamma": OTHER[2]}), "1.gamma is not 0.gamma, but actions.mapped is x"),
        (plain(4, "nested", **{"3.gamma": OTHER[2]}), "3.gamma is not 2.gamma, but actions.mapped is nested"),
        (plain(2, "x", **{"1.tangent": OTHER}), "step 1 has or asks for more than x, dy and gradients"),
        (plain(2, "x", **{"1.x": OTHER[:2], "1.dy": OTHER[:2]}), "steps 0 and 1 are of one call"),
        (msgspec.structs.replace(plain(2, "x"), actions=Actions(members=2, mapped="x", sites=2)), "leave out all"),
    ],
)
def test_what_members_must_share(case, said):
    """A case says what is wrong with it, and is read back where nothing is."""
    if not said:
        check(again := case_from_json(case_to_json(case)))
        assert again.actions == case.actions
        return
    with pytest.raises(ValueError, match=said):
        check(case)


def test_a_refused_call_is_refused_to_all_members():
    """The rest is not asked again, since a member cannot be left out of a call."""
    case = plain(2, "x")
    twice = msgspec.structs.replace(case, steps=case.steps * 2)
    reply = Reply(0, "x", (Outputs({}), Outputs({}), Refused("ValueError", "no")))
    assert going_on.left(twice, reply) is None
    assert going_on.left(msgspec.structs.replace(twice, actions=Actions()), reply) is not None


def test_what_a_hunt_makes_smaller_stays_an_ensemble():
    """Calls go as a whole, and what members share stays shared."""
    smaller = list(candidates(ensemble("nested").case))
    assert {len(case.steps) for case in smaller} == {4, 8}
    assert not any(ensembles.wrong(case) for case in smaller)
