"""Correct ways of computing are no alarms, and faulty ones are: a part of `make prove-correct` that CI can pay for."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import faulty
import numpy as np
import pytest
import ways
from panel import Panel

from conformance.cases import cells, strategies
from conformance.runs.run_case import RunCase

FAULTY = str(Path(__file__).parent / "faulty.py")
MOST = 5_000  # elements that ways can add up in time, row by row in Python; `test_blocks` asks more
NAMES = (
    "sum_kahan",
    "sum_fused",
    "moments_corrected_both",
    "moments_weighted_4",
    "moments_ones_chan",
    "root_rsqrt_above",
    "affine_spread",
    "affine_apart",
    "gradient_paper",
    "gradient_folded_cubed",
    "gradient_fast_cubed",
    "average_lerp_exact",
    "flushed_folded",
    "native_half_two_pass",
    "single_welford",
    "whole_away_weighted",
    "whole_worst_autodiff",
    "whole_half_up_fast",
    "told_kahan",
    "told_away_lanes_32",
    "told_chan_8_tree",
    "told_up_shifted",
    "told_logarithm",
    "told_recovered",
    "told_saved_bfloat16",
    "told_tf32",
)


@pytest.fixture(scope="module")
def items():
    """Every fifth case of a smoke run: of plain layers and of edges."""
    drawn = strategies.cases(1702, cells.SMOKE)[::5]
    few = [(origin, case) for origin, case in drawn if case.x(0).size <= MOST]
    return [RunCase(i, origin, case) for i, (origin, case) in enumerate(few)]


def failing(panel, items):
    """Return the worst ρ of each output that fails, by way, and how many arrays were judged."""
    worst, judged = defaultdict(dict), 0
    with np.errstate(all="ignore"):
        for result in (result for item in items for result in panel.results(item)):
            judged += result.size >= 0
            if result.failed:
                row, name = worst[result.implementation[4:-4]], result.output
                row[name] = max(row.get(name, 0.0), result.size)
    return dict(worst), judged


def test_correct_ways_of_computing_are_no_alarm(items):
    """A dozen and a half of them, of every family, pass thousands of arrays."""
    found, judged = failing(Panel(names=NAMES), items)
    assert not found
    assert judged > 2_000


def test_a_way_with_a_fault_is_an_alarm(items):
    """Each shows in the outputs that it should show in, so that no alarm means something."""
    found, _ = failing(Panel(FAULTY), items)
    for name, (_, outputs) in faulty.FAULTS.items():
        assert outputs <= set(found.get(name, ())), (name, found.get(name))


def test_there_are_a_hundred_ways_of_other_names_and_parts():
    """No two ways are put together of the same parts."""
    parts = {
        str((made.add, made.moments, made.root, made.affine, made.gradient, made.average, made.kinds, made.statement))
        for made in ways.IMPLEMENTATIONS
    }
    assert len({made.__name__ for made in ways.IMPLEMENTATIONS}) == len(parts) == len(ways.IMPLEMENTATIONS) >= 100
