"""Ways with one fault each, which must be alarms: `bnconf run -i tests/calibration/faulty.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import gradients as g  # noqa: E402 - found by the path above, as what follows
import maps  # noqa: E402
import moments as mo  # noqa: E402
from sums import Serial  # noqa: E402
from way import way  # noqa: E402


class Forgetful(Serial):
    """The last of many rows is left out."""

    def order(self, rows: Any) -> Any:
        """Return all rows but the last."""
        return rows[:-1] if len(rows) > 2 else rows


def unbiased(ar: Any, sums: Any, x: Any) -> tuple[Any, Any]:
    """Divide squared distances by n - 1."""
    mean, variance = mo.two_pass(ar, sums, x)
    return mean, ar.mul(variance, ar.take(len(x) / max(len(x) - 1, 1)))


def without_mean(ar: Any, sums: Any, k: g.Known) -> tuple[Any, Any, Any]:
    """dx = gamma r (dy - z mean(dy z)): the mean of dy is not taken off."""
    z = ar.mul(ar.sub(k.x, k.mean), k.r)
    _, dgamma, dbeta = g.textbook(ar, sums, k)
    return ar.mul(ar.mul(k.gamma, k.r), ar.sub(k.dy, ar.mul(z, sums.share(ar, dgamma, k.n)))), dgamma, dbeta


def swapped(ar: Any, old: Any, new: Any, kept: Any) -> Any:
    """(1 - kept) old + kept new."""
    return maps.weighted(ar, new, old, kept)


def misdeclared(*at: Any) -> Any:
    """Fold, and say that it is direct: the words are those of the function in `maps`."""
    return maps.folded(*at)


def unsaid(*at: Any) -> Any:
    """Take z from y, and say nothing: the words are those of the function in `gradients`."""
    return g.recovered(*at)


FAULTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "forgetful_sum": ({"add": Forgetful()}, {"y", "mean", "dbeta"}),
    "unbiased_variance": ({"moments": unbiased}, {"y", "variance"}),
    "rsqrt_good_to_64_ulps": ({"root": maps.rsqrt(64)}, {"y"}),
    "gradient_without_mean": ({"gradient": without_mean}, {"dx"}),
    "average_swapped": ({"average": swapped}, {"moving_mean", "moving_variance"}),
    "fast_said_to_be_two_pass": ({"moments": mo.fast_clamped, "words": {"variance": "two_pass"}}, {"variance"}),
    "folded_said_to_be_direct": ({"affine": misdeclared}, {"y"}),
    "serial_said_to_be_compensated": ({"words": {"sums": "compensated"}}, {"mean"}),
    "serial_said_to_be_64_lanes": ({"words": {"sums": "tree", "lanes": 64}}, {"mean"}),
    "fast_said_to_be_shifted": ({"moments": mo.fast_clamped, "words": {"variance": "shifted"}}, {"variance"}),
    "saved_half_unsaid": ({"saved": "bfloat16", "words": {"saved": "unrounded"}}, {"y", "dx"}),
    "recovered_unsaid": ({"gradient": unsaid}, {"dgamma"}),
}
"""The parts of each, and the outputs in which it shows."""

IMPLEMENTATIONS = [way(name, **parts) for name, (parts, _) in FAULTS.items()]
