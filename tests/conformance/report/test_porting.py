"""The porting question: what momentum means to each, what means nothing, and what differences are worth."""

from __future__ import annotations

import msgspec
import pytest

from conformance.hosts.roster import built_in
from conformance.model.results import ImplementationRecord
from conformance.report import porting
from conformance.studies.translation import effects, measuring


def record(name):
    """Return the record of an implementation of the roster, with its statement."""
    entry = next(entry for entry in built_in() if entry.id == name)
    statement = msgspec.to_builtins(entry.statement)
    return ImplementationRecord(name, name.split(".")[0], "cpu", True, statement=statement)


@pytest.mark.parametrize(
    ("name", "said", "key"),
    [
        ("torch.nn.BatchNorm2d@cpu", ["the new part", "0.1 (keeps 0.9)", "1e-05"], "0.9"),
        ("keras.BatchNormalization+tensorflow@cpu", ["the kept part", "0.99", "0.001"], "0.99"),
        ("tf.raw_ops.FusedBatchNormV3@cpu", ["the new part", "1 (keeps 0)", "0.0001"], "0"),
        ("haiku.BatchNorm@cpu", ["the kept part", "must be given", "1e-05"], ""),
        ("tf.nn.batch_normalization@cpu", ["not taken", "–", "must be given"], ""),
    ],
)
def test_momentum_is_said_in_the_framework_s_own_sense(name, said, key):
    """Its convention, its default with what that keeps, and the default epsilon; what is compared is what is kept."""
    found = porting.called(record(name))
    assert [found[column].value for column in porting.NATIVE] == said
    assert found["default momentum"].key == key


def test_of_a_user_s_own_nothing_is_claimed():
    """How an implementation that no table knows is called is not known."""
    own = msgspec.structs.replace(record("torch.nn.BatchNorm2d@cpu"), id="mine.layer@cpu", framework="mine")
    assert {promise.value for promise in porting.called(own).values()} == {"not known"}
    assert not porting.translatable(own)


def test_the_kept_effects_come_out_again():
    """What is kept of 8 values per channel is what the reference says now: `tests/benchmarks/effects.py --write`."""
    kept = {(one.field, one.one, one.other): one for one in effects.measured() if one.n == 8}
    for field, one, other in (("stored_variance", "biased", "unbiased"), ("epsilon", 0.001, 1e-5)):
        assert measuring.effect(field, one, other, 8) == kept[field, one, other]


def test_every_column_has_a_group_and_every_field_a_place_where_it_shows():
    """No field of `Semantics` is left out of the groups, nor without a word on where it shows."""
    named = {name for names in porting.GROUPS.values() for name in names}
    assert set(porting.FIELDS) <= named
    silent = {
        "moving_spread",
        "initial_mean",
        "epsilon_placement",
        "epsilon_dtype",
        "activation",
    }  # that nobody of the roster has
    assert set(porting.FIELDS) - set(effects.OF_SEMANTICS) - set(effects.ELSEWHERE) == silent
