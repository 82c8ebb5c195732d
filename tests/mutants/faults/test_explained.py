"""Forty faults are explained: the stage, the change, where they show over all results, and where in an array."""

from __future__ import annotations

import pytest
from explained_faults import EXPLAINED
from explaining import Panel, verdict

ENOUGH = 36


@pytest.fixture(scope="module")
def panel():
    """Return the cases that are asked."""
    return Panel()


@pytest.fixture(scope="module")
def verdicts(panel):
    """Return what is right of the explanation of each fault."""
    return {one.fault.name: verdict(one, panel.groups(one.fault.at)) for one in EXPLAINED}


def test_the_list_is_of_different_stages_places_and_facts():
    """Forty, ten of them only beyond N = 1,024, none twice; most are changes, and some are none."""
    assert len({one.fault.name for one in EXPLAINED}) == len(EXPLAINED) == 40
    assert sum(one.where == "N > 1,024" for one in EXPLAINED) == 10
    assert len({one.stage for one in EXPLAINED}) >= 10
    assert len({one.where for one in EXPLAINED}) >= 8
    assert 25 <= sum(bool(one.says) for one in EXPLAINED) <= 35


@pytest.mark.proof
@pytest.mark.parametrize("part", ["stage", "says", "where"])
def test_at_least_thirty_six_are_explained_rightly(verdicts, part):
    """The stage; the change, or none where it is none; the sentence on where, with the shape in the array."""
    wrong = {name: v.group and v.group.says for name, v in verdicts.items() if not getattr(v, part)}
    assert len(verdicts) - len(wrong) >= ENOUGH, wrong


def test_a_right_answer_has_no_group(panel):
    """Nothing is said of who does nothing wrong."""
    assert panel.groups({}) == []
