"""The calibration subjects in NumPy compute what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.implementations.numpy import Welford, WelfordInLanes


@pytest.mark.parametrize("channels", [0, 1, 3])
@pytest.mark.parametrize("values", [1, 2, 31, 32, 33, 64, 95, 300])
@pytest.mark.parametrize("subject", [Welford, WelfordInLanes])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_welford_is_a_running_mean_in_each_lane(subject, values, channels, dtype):
    """Bit for bit: count, mean and sum of squared deviations of every lanes-th value (Welford 1962), whole or not."""
    rows = np.random.default_rng(values).normal(100.0, 3.0, (values, channels)).astype(dtype)
    counts, means, squares = subject("cpu").running(rows)
    lanes = min(subject.lanes, values)
    assert len(counts) == lanes
    for lane in range(lanes):
        count, mean, square = dtype(0), np.zeros(channels, dtype), np.zeros(channels, dtype)
        for x in rows[lane::lanes]:
            count += dtype(1)
            deviation = x - mean
            mean = mean + deviation / count
            square = square + deviation * (x - mean)
        assert counts[lane] == count
        np.testing.assert_array_equal(means[lane], mean, strict=True)
        np.testing.assert_array_equal(squares[lane], square, strict=True)
