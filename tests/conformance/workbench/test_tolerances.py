"""The pair for `allclose`: no two right answers exceed it, it misses what is said, and there may be none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import roster
from conformance.hosts.participants import Participants
from conformance.judging.causes import mistaken
from conformance.model.errors import InvalidInput
from conformance.runs import asking
from conformance.workbench.pairs import faults
from conformance.workbench.tolerances import PairMember, Setting, case, tolerances

PAIRS = [
    ("numpy.two_pass", "numpy.fast", Setting((64, 3))),
    ("numpy.two_pass", "numpy.folded", Setting((9, 2, 5), axis=-1, mean=30.0)),
    ("numpy.pairwise", "numpy.two_pass", Setting((33, 4), dtype="float64", parameters="float64")),
    ("numpy.welford", "numpy.two_pass", Setting((16, 5), mean=3.0, training=False)),
]


def sides(*names):
    """Return the subjects of these names, called directly."""
    who = Participants(roster.select(names), requested=True, in_process=True)
    found = {entry.statement.id: PairMember(entry.statement, ask) for entry, _, ask in asking.each(who)}
    return tuple(found[name] for name in names)


@pytest.mark.parametrize(("first", "second", "setting"), PAIRS, ids=str)
def test_the_pair_raises_no_alarm_and_misses_what_it_says(first, second, setting):
    """No fresh case exceeds the pair, faults that it is said to miss pass it there, and some fault is caught by it."""
    both = sides(first, second)
    found = tolerances(setting, both, range(4), fresh=range(100, 110))
    assert found
    for one in found:
        assert one.alarms == 0, one
        caught = 0
        for seed in range(200, 202):
            question = case(setting, seed)
            mistakes, right = mistaken.answers(question, both[1].statement), both[1].expected(question)[one.output]
            value = np.asarray(right.value, np.float64)
            for said, wrong in faults(mistakes, one.output, right):
                passes = np.allclose(wrong, value, one.rtol, one.atol)
                assert passes or said not in one.misses, (one.output, said)
                caught += not passes
        assert caught, one


def test_the_pair_is_at_least_what_both_are_allowed_in_every_element():
    """Two right answers may be as far apart as the sum of their bounds, wherever, and the pair takes them still."""
    both, setting = sides("numpy.two_pass", "numpy.fast"), Setting((16, 3), mean=10.0)
    for one in tolerances(setting, both, range(2)):
        for seed in range(2):
            first, second = (side.expected(case(setting, seed))[one.output] for side in both)
            bounds = np.asarray(first.bound + second.bound, np.float64)
            least = np.maximum(np.abs(np.asarray(second.value, np.float64)) - second.bound, 0.0)
            assert (bounds <= (one.atol + one.rtol * least) * (1 + 1e-12)).all(), one


def test_no_pair_is_right_where_the_two_mean_different_things():
    """A moving variance by n - 1 and one by n are apart by more than roundings, which the answer says."""
    biased, other = sides("numpy.two_pass", "numpy.fast")
    rules = [
        *other.statement.rules,
        type(other.statement.rules[0])("supposed", semantics={"stored_variance": "unbiased"}),
    ]
    unbiased = PairMember(type(other.statement)(**{**_fields(other.statement), "rules": rules}), other.ask)
    (found,) = tolerances(Setting((8, 3)), (biased, unbiased), range(2), ("moving_variance",))
    assert found.rtol is None
    assert "mean different things" in found.why


def _fields(statement):
    return {name: getattr(statement, name) for name in statement.__struct_fields__}


def test_no_pair_is_right_where_nothing_is_promised():
    """E[x²] - E[x]² at a mean of a million σ, without epsilon, may give anything, and no pair is named."""
    both, setting = sides("numpy.fast", "numpy.two_pass"), Setting((64, 2), mean=1e6, epsilon=0.0)
    (found,) = tolerances(setting, both, range(2), ("y",))
    assert found.rtol is None
    assert found.allowed[0] == -1
    assert "no finite bound" in found.why


def test_no_pair_is_right_that_takes_zeros():
    """Where the least pair that fits is larger than the values, an answer of zeros would pass, which is said."""
    (found,) = tolerances(
        Setting((256, 2), mean=2000.0), sides("numpy.fast", "numpy.two_pass"), range(2), ("variance",)
    )
    assert found.rtol is None
    assert "zeros" in found.why


def test_the_command_says_it_in_text_and_json():
    """`bnconf tolerance` prints one row for each output, and the same figures as JSON."""
    words = ["tolerance", "numpy.two_pass", "numpy.fast", "--in-process", "--shape", "32,4", "--draws", "2"]
    text = CliRunner().invoke(main, [*words, "--fresh", "3"])
    told = CliRunner().invoke(main, [*words, "--json", "--output", "y"])
    assert text.exit_code == told.exit_code == 0, text.output
    (row,) = json.loads(told.stdout)["outputs"]
    assert f"y                {row['rtol']:g}" in text.stdout
    assert "0 alarms in 3 batches more" in text.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["numpy.*", "numpy.fast"], "names 7 implementations"),
        (["numpy.fast", "numpy.none"], "numpy.none"),
        (["numpy.fast", "numpy.two_pass", "--axis", "4"], "axis 4"),
        (["numpy.fast", "numpy.two_pass", "--shape", "8"], "no shape"),
        (["numpy.fast", "numpy.two_pass", "--output", "ddx"], "--output"),
    ],
)
def test_bad_input_is_one_sentence(words, said):
    """What makes no sense exits 2 and names the value."""
    done = CliRunner().invoke(main, ["tolerance", *words, "--in-process"])
    assert done.exit_code == 2
    assert said in done.output


def test_who_gives_no_arrays_is_named():
    """A dtype that one of the two does not take is told with its reason, not as a fault of ours."""
    two_pass, fast = sides("numpy.two_pass", "numpy.fast")
    refusing = PairMember(
        type(fast.statement)(**{**_fields(fast.statement), "supports": {"dtype": ["float64"]}}), fast.ask
    )
    with pytest.raises(InvalidInput, match="dtype is float32"):
        tolerances(Setting((8, 3)), (two_pass, refusing), range(1))
