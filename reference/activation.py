"""An activation that is fused with the layer (BN-37)."""

from __future__ import annotations

import numpy as np

from reference.spec import Array, Semantics


def activate(y: Array, semantics: Semantics) -> Array:
    """Return y behind the activation, if there is one.

    >>> activate(np.array([-1.0, 2.0]), Semantics(activation="relu")).tolist()
    [0.0, 2.0]
    """
    return np.maximum(y, 0) if semantics.activation == "relu" else y
