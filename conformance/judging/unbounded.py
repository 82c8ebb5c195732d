"""Why an output has no finite bound: what would have to be otherwise for it to have one."""

from __future__ import annotations

import numpy as np

from conformance.judging import expectation
from conformance.judging.promise import Promise

_OVERFLOWS = "an intermediate, or the value as it is stored, may overflow"
_NEGATIVE = "E[x²] - E[x]² may come out negative, of which there is no root"
_SUPPOSED = {
    _OVERFLOWS: {"limitless": True},
    _NEGATIVE: {"clamped": True},
    f"{_OVERFLOWS}, and {_NEGATIVE}": {"limitless": True, "clamped": True},
}


def reason(promise: Promise, t: int, output: str, refused: frozenset[int]) -> str:
    """Return why every bound of an output of step t is infinite; refused: the steps that were refused."""
    for why, supposed in _SUPPOSED.items():
        answers = expectation.trajectory(promise.supposing(**supposed), refused)[t]
        if isinstance(answers, dict) and np.isfinite(answers[output].bound).any():
            return why
    answers = expectation.trajectory(promise, refused)[t]
    defined = isinstance(answers, dict) and np.isfinite(answers[output].value).any()
    return "a divisor may be 0" if defined else "the exact value is not finite"
