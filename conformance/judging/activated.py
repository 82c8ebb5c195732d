"""What an activation that is fused with the layer makes of y and of its cotangent, with the error allowed (BN-37)."""

from __future__ import annotations

import numpy as np

from conformance.judging.carried import StateWithError
from conformance.judging.step import ExpectedStep, Normalizing
from reference.spec import Array


def reaching(step: ExpectedStep, before: StateWithError, used: Normalizing, dy: Array) -> tuple[Array, Array]:
    """Return the part of dy that reaches y, with its error: all of dy where y may be on either side of 0.

    dy and what is returned are laid out as the batch.
    """
    if step.semantics.activation == "none":
        return dy, np.zeros((), dy.dtype)
    y, e = step.mapped(before, used)
    return np.where(y > 0, dy, 0), np.where(np.abs(y) > e, 0, np.abs(dy))
