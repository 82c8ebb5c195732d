"""Large cases: how large they are, what is in them, and that none of it has to be drawn to be told its size."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from conformance.cases import building, cells, strategies
from conformance.model.case import case_id


def small(recipe):
    """Return the recipe of a case that is like this one, but for its size."""
    sizes = [min(size, 11) for size in recipe.signature.shape]
    sizes[recipe.signature.axis] = min(recipe.signature.shape[recipe.signature.axis], 3)
    return msgspec.structs.replace(recipe, signature=msgspec.structs.replace(recipe.signature, shape=tuple(sizes)))


@pytest.mark.parametrize("name", ["65,536 values", "131,077 values"])
def test_blocks_and_lanes_of_an_ordinary_batch_have_means_of_their_own(name):
    """The halves of each channel, and its odd and even values, are a standard deviation of the noise apart."""
    cell = next(cell for cell in cells.CELLS if cell.feature == name)
    (recipe,) = strategies.recipes(cell, 0, 1)
    x = np.moveaxis(building.build(recipe, 0).x(2).astype(float), recipe.signature.axis, 0)
    for rows in x.reshape(len(x), -1):
        half = len(rows) // 2
        apart = rows[half:].mean() - rows[:half].mean(), rows[1::2].mean() - rows[::2].mean()
        noise = (rows[:half:2]).std()
        assert min(apart) > noise / 2


def test_sizes_pass_the_numbers_at_which_kernels_break():
    """2^20 values per channel and more, 2^24 elements and more, and one channel, three, 65 and 2,048."""
    signatures = [strategies.recipes(cell, 0, 1)[0].signature for cell in cells.LARGE]
    assert {1, 3, 65, 2048} <= {one.shape[one.axis] for one in signatures}
    assert max(math.prod(one.shape) // one.shape[one.axis] for one in signatures) > 2**20
    assert max(math.prod(one.shape) for one in signatures) > 2**24
    for elements in ("25,690,112", "61,651,200", "17,039,555"):
        assert elements in {f"{math.prod(one.shape):,}" for one in signatures}


@pytest.mark.parametrize("cell", cells.LARGE, ids=str)
def test_whole_numbers_and_ordinary_ones_take_turns(cell):
    """Channels in a step, and steps in a channel; the case is of the variant's dtype, and as large as was said."""
    for recipe in strategies.recipes(cell, 0, cells.LARGE[cell]):
        holds_what_it_should(small(recipe))


def holds_what_it_should(recipe):
    """Look into the case of a recipe."""
    case = building.build(recipe, 0)
    assert case_id(case) == case_id(building.build(recipe, 0)) != case_id(building.build(recipe, 1))
    batches = [array for name, array in case.tensors.items() if name[0].isdigit()]
    assert {array.dtype.name for array in batches} == {case.dtypes.x} == {recipe.signature.variant}
    assert sum(array.nbytes for array in batches) == building.size(recipe)
    for t, step in enumerate(case.steps):
        channels = np.moveaxis(case.x(t).astype(float), recipe.signature.axis, 0)
        whole = [bool((channel == np.rint(channel)).all()) for channel in channels]
        assert whole == [(c + t) % 2 == 0 for c in range(len(channels))]
        asked = bool(step.derivatives), f"{t}.dy" in case.tensors, case.x(t).shape[0] <= 8
        assert asked == ((True, True, recipe.signature.shape[0] <= 8) if step.mode == "train" else (False, False, True))
