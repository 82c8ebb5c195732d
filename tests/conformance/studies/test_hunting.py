"""`bnconf hunt`: a seeded fault is caught, its case is small, what is known is left alone, a search goes on."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cases import strategies
from conformance.cases.building import build
from conformance.cases.cells import CELLS
from conformance.cases.features import FEATURES
from conformance.cli.main import main
from conformance.model.case import case_id
from conformance.model.codec import read_case
from conformance.model.results import Result
from conformance.studies.hunt import minimizing
from conformance.studies.hunt.hunting import recipes


def hunt(*arguments):
    """Run `bnconf hunt`."""
    return CliRunner().invoke(main, ["hunt", *map(str, arguments)])


@pytest.mark.parametrize("feature", [name for name, feature in FEATURES.items() if not feature.profile])
def test_every_feature_can_be_drawn_in_small_sizes(feature):
    """Whatever sizes a hunt draws for a feature, the case can be built: of one, of two and of odd numbers."""
    first = sorted(FEATURES[feature].first)[:1]
    for cell in (cell for cell in CELLS if cell.feature == feature):
        for recipe in strategies.recipes(cell, 1, len(FEATURES[feature].variants)):
            rank = len(recipe.signature.shape)
            for size in (1, 2, 3):
                shape = (*first, *(size,) * rank)[:rank]
                signature = msgspec.structs.replace(recipe.signature, shape=shape)
                case = build(msgspec.structs.replace(recipe, signature=signature), 0)
                assert len(case.steps) == len(recipe.modes.split()) * case.actions.members


def test_a_seeded_fault_is_caught_and_made_small(adapter, tmp_path):
    """Who stores the biased variance for the unbiased is caught with rank 2, one step, two rows and plain numbers."""
    result = hunt("-i", adapter("wrong:BiasedForUnbiased"), "--cases", 150, "--out", tmp_path, "--json")
    (found,) = json.loads(result.stdout)
    assert result.exit_code == 1
    (caught,) = [one for one in found["caught"] if one["kind"] == "train moving_variance"]
    path = tmp_path / found["implementation"] / caught["file"]
    case, _ = read_case(path)
    assert (len(case.shape), len(case.steps), case.x(0).size) == (2, 1, 2)
    assert all(float(value) == round(float(value), 3) for array in case.tensors.values() for value in array.flat)
    replayed = CliRunner().invoke(main, ["replay", str(path), "-i", adapter("wrong:BiasedForUnbiased")])
    assert replayed.exit_code == 1
    assert "moving_variance" in replayed.stdout


def test_what_was_caught_is_not_looked_for_again(adapter, tmp_path):
    """A second search of the same folder lists what the first caught, and catches no kind of it again."""
    arguments = ("-i", adapter("wrong:BiasedForUnbiased"), "--cases", 60, "--out", tmp_path, "--json")
    (first,), (second,) = (json.loads(hunt(*arguments).stdout) for _ in range(2))
    kinds = [caught["kind"] for caught in second["caught"]]
    assert second["caught"][: len(first["caught"])] == first["caught"]
    assert len(kinds) == len(set(kinds))


def test_what_is_caught_last_is_made_small_too(adapter, tmp_path):
    """A search that is over with the first case it asks still makes that case smaller."""
    result = hunt("-i", adapter("wrong:BiasedForUnbiased"), "--cases", 1, "--seed", 3, "--out", tmp_path, "--json")
    (found,) = json.loads(result.stdout)
    (caught,) = found["caught"]
    assert caught["elements"] <= 4


def test_a_correct_implementation_is_left_alone(tmp_path):
    """Nothing is caught of a calibration subject: exit 0."""
    result = hunt("-i", "numpy.two_pass", "--cases", 60, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "0 kinds of failure" in result.stdout


def test_a_search_needs_a_name(tmp_path):
    """Without -i: exit 2, and what to give."""
    result = hunt("--out", tmp_path)
    assert result.exit_code == 2
    assert "give -i ID" in result.stderr


@pytest.mark.parametrize("size", [1, 2, 127, 1000])
def test_sizes_are_within_reach(size):
    """An axis of one value, of two, of a prime, of a thousand: each can be drawn, and makes a case."""
    from hypothesis import Phase, find, settings

    drawn = settings(database=None, max_examples=2000, phases=[Phase.generate])  # the first will do, large or small
    recipe = find(recipes(), lambda r: size in r.signature.shape, settings=drawn)
    assert size in build(recipe, 0).shape


def test_what_fails_at_the_far_end_of_an_axis_is_made_small_too(small_case):
    """One negative gamma, the last of seventeen: entries before it go as well as those after."""
    case = small_case(shape=(4, 17), modes="train")
    gamma = np.ones(17, np.float32)
    gamma[-1] = -1
    failure = Result(case_id(case), "i@cpu", "FAIL", 0)

    def still(smaller):
        return failure if (smaller.tensors["gamma"] < 0).any() else None

    case = msgspec.structs.replace(case, tensors=case.tensors | {"gamma": gamma})
    assert minimizing.smallest(case, failure, still)[0].shape == (1, 1)
