"""Which cases an implementation that compiles gets."""

from __future__ import annotations

import importlib

import pytest
from click.testing import CliRunner

from conformance.cases import building, strategies
from conformance.cases.cells import DEFAULT, SMOKE
from conformance.cases.sizes import SIZES
from conformance.cli.main import main
from conformance.hosts.roster import built_in, select
from conformance.model.errors import Incomplete
from conformance.runs.dealing import Deal
from conformance.runs.run_case import RunCase

ASKED = ("onnx.reference.BatchNormalization+opset9", "numpy.two_pass")
COMPILED = "flax.linen.BatchNorm+jit@cpu"


@pytest.fixture(scope="module")
def signatures():
    """Return the pooled signatures of a case of each cell, with their facts."""
    recipes = [recipe for recipe in strategies.chosen(0, SMOKE) if recipe.pooled]
    made = [RunCase(i, recipe, building.build(recipe, 0)) for i, recipe in enumerate(recipes)]
    return [(item.signature, item.facts) for item in made]


def features(signatures, seed, cases, identity=COMPILED):
    """Return the features that an implementation is dealt."""
    statement = select((COMPILED,))[0].statement
    dealt = Deal(seed, cases).pooled(identity, statement, signatures)
    return {signature.feature for signature in dealt if signature.feature}


def test_a_look_asks_a_third_of_what_a_run_asks(signatures):
    """Of features and of sizes an implementation that compiles gets a third where a run is too small to suffice."""
    whole, look = features(signatures, 0, DEFAULT), features(signatures, 0, SMOKE)
    assert (len(whole - set(SIZES)), len(look - set(SIZES))) == (
        33,
        12,
    )  # 32, and one that nobody answers without compiling
    assert len(look & set(SIZES)) == -(-len(whole & set(SIZES)) // 3)


@pytest.mark.parametrize("cases", [SMOKE, DEFAULT])
def test_seeds_leave_no_feature_out(signatures, cases):
    """Every feature that it supports is asked of an implementation in some of eight seeds, not the first ones alone."""
    statement = select((COMPILED,))[0].statement
    there = {s.feature for s, facts in signatures if s.feature and not statement.unsupported(*facts)}
    assert len(there) > len(features(signatures, 0, cases))
    assert set().union(*(features(signatures, seed, cases) for seed in range(8))) == there


@pytest.mark.parametrize("seed", range(10))
def test_every_feature_is_asked_of_somebody(signatures, seed):
    """Whatever the seed, a default run asks each feature that a built-in implementation has of one at least."""
    asked, there = set(), set()
    for entry in (one for one in built_in() if not one.statement.calibration):
        able = [(s, facts) for s, facts in signatures if s.feature and not entry.statement.unsupported(*facts)]
        there |= {signature.feature for signature, _ in able}
        dealt = Deal(seed, DEFAULT).pooled(entry.id, entry.statement, signatures) if entry.statement.compiled else None
        asked |= {signature.feature for signature, _ in able if dealt is None or signature in dealt}
    assert there - asked == set()
    assert len(there) > 60


def test_variants_of_one_layer_are_dealt_different_features(signatures):
    """Two implementations of the same abilities begin elsewhere, so that a look at both sees more than at one."""
    names = ("flax.linen.BatchNorm+jit@cpu", "flax.linen.BatchNorm+two_pass+jit@cpu")
    first, second = (features(signatures, 0, SMOKE, name) for name in names)
    assert len(first | second) > max(len(first), len(second))


def test_neighbours_are_dealt_other_placements(signatures):
    """Of a feature with several placements, two variants of one layer do not get the same one."""
    statement = select((COMPILED,))[0].statement
    names = ("flax.linen.BatchNorm+jit@cpu", "flax.linen.BatchNorm+two_pass+jit@cpu")
    first, second = (
        {s.feature: s for s in Deal(0, DEFAULT).pooled(name, statement, signatures) if s.feature} for name in names
    )
    there = {s.feature: set() for s, _ in signatures}
    for signature, facts in signatures:
        if not statement.unsupported(*facts):
            there[signature.feature].add(repr(signature))
    several = [name for name in first.keys() & second.keys() if len(there[name]) > 1]
    assert len(several) > 5
    assert all(repr(first[name]) != repr(second[name]) for name in several)


HANDS = 5


@pytest.fixture
def campaign_of(run):
    """Return a function that asks a layer and a calibration subject thirty cases, dealt among so many hands."""
    return lambda hands: run(*ASKED, cases=30, hands=hands, out=f"dealt-{hands}")


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_together_are_asked_every_case_of_a_smoke_run(seed):
    """Whoever pays for no programs gets a fifth, of each placement and precision; five that follow get all."""
    ours = [entry.id for entry in built_in() if not (entry.statement.compiled or entry.statement.calibration)]
    cells = [recipe.cell.split("; ") for recipe in strategies.chosen(seed, SMOKE)]
    plain = {i: cell for i, cell in enumerate(cells) if len(cell) == 3}
    dealt = {identity: {i for i in range(SMOKE) if Deal(seed, SMOKE, HANDS).gives(i, identity)} for identity in ours}
    for given in dealt.values():
        assert abs(len(given) - SMOKE / HANDS) < 2
        for part in (0, 2):
            assert {plain[i][part] for i in given & plain.keys()} == {cell[part] for cell in plain.values()}
    for five in zip(*(ours[begin:] for begin in range(HANDS)), strict=False):
        assert set().union(*(dealt[identity] for identity in five)) == set(range(SMOKE))


def test_ones_own_is_asked_every_case_of_a_smoke_run(signatures):
    """An implementation that is not of the roster has no neighbours: it is dealt every case, and programs as before."""
    assert all(Deal(3, SMOKE, HANDS).gives(number, "mine@cpu") for number in range(SMOKE))
    statement = select((COMPILED,))[0].statement
    mine, ours = (Deal(0, SMOKE, HANDS).pooled(name, statement, signatures) for name in ("mine@cpu", COMPILED))
    assert mine == Deal(0, SMOKE).pooled("mine@cpu", statement, signatures)
    assert len(ours) < len(mine)


@pytest.mark.parametrize(
    ("words", "hands"), [(["--profile", "smoke"], 5), (["--profile", "smoke", "--cases", "9"], 1), ([], 1)]
)
def test_only_a_smoke_run_deals(monkeypatch, tmp_path, words, hands):
    """A number of cases that is asked for, and any other profile, is asked of everybody."""
    asked = []

    def campaign(options, *_, **__):
        asked.append(options)
        raise Incomplete("the run is not made")

    monkeypatch.setattr(importlib.import_module("conformance.cli.run"), "Campaign", campaign)
    command = ["run", "-i", "numpy.fast", "--out", str(tmp_path / "run"), *words]
    assert CliRunner().invoke(main, command).exit_code == 3
    assert [options.hands for options in asked] == [hands]


def test_a_run_asks_what_is_dealt(campaign_of):
    """Of thirty cases a layer is asked those that it is dealt, a calibration subject all that it supports."""
    layer, subject = "onnx.reference.BatchNormalization+opset9@cpu", "numpy.two_pass@cpu"
    whole, dealt = campaign_of(1), campaign_of(HANDS)
    mine = {name for name, case in whole.cases.items() if Deal(0, 30, HANDS).gives(case.index, layer)}
    assert asked_of(whole, layer) & mine == asked_of(dealt, layer) != asked_of(whole, layer)
    assert asked_of(whole, subject) == asked_of(dealt, subject)


def test_shards_of_what_is_dealt_are_the_whole(run, campaign_of):
    """Each shard asks an implementation those of its cases that it gets in the run of all."""
    layer = "onnx.reference.BatchNormalization+opset9@cpu"
    shards = [run(*ASKED, cases=30, hands=HANDS, shard=(k, 2), out=f"shard-{k}") for k in (1, 2)]
    assert set().union(*(asked_of(one, layer) for one in shards)) == asked_of(campaign_of(HANDS), layer)


def asked_of(found, identity):
    """Return the cases that an implementation answered."""
    return {r.case for r in found.results if r.implementation == identity and r.verdict != "UNSUPPORTED"}
