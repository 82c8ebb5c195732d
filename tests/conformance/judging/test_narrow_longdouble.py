"""Judging float64 where longdouble is no wider than float64 (Apple's ARM, MSVC): pretended here, on any platform."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from conformance.judging import exact_case
from reference.precision import working_dtype


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="there is no wide longdouble to compare with")
def test_float64_gets_the_same_verdicts_in_binary128(run, monkeypatch):
    """In binary128 float64 gets the verdicts that longdouble gives it, and its ρ to a thousandth of the bound."""
    wide = run("numpy.*", cases=60, out="wide", in_process=True)
    monkeypatch.setattr(exact_case, "working_dtype", partial(working_dtype, wide=np.float64))
    narrow = run("numpy.*", cases=60, out="narrow", in_process=True)
    pairs = list(zip(wide.results, narrow.results, strict=True))
    assert sum(a.dtype == "float64" and a.verdict == "PASS" for a, _ in pairs) > 50
    for a, b in pairs:
        assert (a.verdict, a.reason, a.output, a.vacuous) == (b.verdict, b.reason, b.output, b.vacuous)
        if isinstance(a.rho, float):
            assert b.rho == pytest.approx(a.rho, abs=1e-3, rel=1e-3)
