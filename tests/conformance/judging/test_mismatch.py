"""What is wrong with an array that has no ρ, read off the array and not off the message."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.hosts import roster
from conformance.judging import mismatch
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.outcome import Outputs, Reply

CHANGES = {
    "shape": lambda y: y.reshape(-1),
    "dtype": lambda y: y.astype(np.float64),
    "kind": np.zeros_like,
    "": lambda y: y + 1,
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("wanted", CHANGES)
def test_a_mismatch_is_told_by_the_array(small_case, wanted):
    """A wrong shape, a wrong dtype, zeros where NaN must be, and a wrong value, whatever the judgment says of them."""
    case = small_case()
    if wanted == "kind":
        case.tensors["0.x"][...] = np.nan
    (entry,) = roster.select(("numpy.two_pass",))
    y = CHANGES[wanted](np.array(case.x(0)))
    reply, exact_case = Reply(0, entry.id, [Outputs({"y": y})]), ExactCase(case)
    (result,) = [r for r in judge("", exact_case, entry.statement, reply) if r.output == "y"]
    assert result.verdict == "FAIL"
    assert mismatch.of(exact_case, entry.statement, reply, result) == wanted
    (missing,) = [r for r in judge("", exact_case, entry.statement, reply) if r.output == "moving_mean"]
    assert mismatch.of(exact_case, entry.statement, reply, missing) == ""
