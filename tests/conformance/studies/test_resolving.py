"""What the bounds can see is measured, and kept as the report shows it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from conformance.studies import resolving


@pytest.mark.parametrize("of", resolving.CLASSES)
@pytest.mark.parametrize("whole", [False, True])
def test_what_the_report_shows_is_what_is_measured(of, whole):
    """For 100 and 1,024 values the kept figures come out again: `tests/benchmarks/resolving_power.py --write`."""
    kept = {(p.of, p.whole, p.n): p for p in resolving.measured()}
    assert {n for _, _, n in kept} == set(resolving.SIZES)
    for n in (100, 1024):
        with np.errstate(all="ignore"):
            now = resolving.power(of, n, whole=whole)
        then = kept[of, whole, n]
        assert msgspec.structs.astuple(now)[3:] == pytest.approx(msgspec.structs.astuple(then)[3:], rel=1e-6)


@pytest.mark.parametrize("of", resolving.CLASSES)
def test_a_hundred_thousandth_is_seen_in_a_million_whole_numbers(of):
    """At 65,536 and 1,048,576 values: in one element of y and dx, in every statistic, and one term missing in a sum."""
    for power in resolving.measured():
        if power.of == of and power.whole and power.n in (65_536, 1_048_576):
            assert max(power.y, power.dx, power.mean, power.variance, power.dgamma, power.dbeta) < 1e-5
            assert power.missing < 1


def test_ordinary_data_hides_thousands():
    """Without whole numbers a sum of a million terms may miss a tenth of them: what the record says of before."""
    worst = max(p.missing for p in resolving.measured() if not p.whole and p.n == 1_000_000)
    assert worst > 1e5
