"""Reciprocal roots, affine maps, and moving averages: each in the forms that kernels and compilers give it.

Rows have shape (values, channels), statistics and parameters (channels,). `WORDS` is what a statement says of a map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

# --- from w = variance + epsilon to 1 / sqrt(w) -------------------------------------------------------------------

Root = Callable[[Any, Any], Any]


def inverse(ar: Any, w: Any) -> Any:
    """1 / sqrt(w)."""
    return ar.div(ar.take(1), ar.sqrt(w))


def root_of_inverse(ar: Any, w: Any) -> Any:
    """sqrt(1 / w)."""
    return ar.sqrt(ar.div(ar.take(1), w))


def rsqrt(ulps: float) -> Root:
    """Return a reciprocal root that is off by so many ulps."""

    def root(ar: Any, w: Any) -> Any:
        return ar.near(1 / np.sqrt(w.astype(np.longdouble)), ulps)

    return root


def power(ar: Any, w: Any) -> Any:
    """w ** -0.5, by the platform's function."""
    return ar.done(np.power(w, w.dtype.type(-0.5)))


def logarithm(ar: Any, w: Any) -> Any:
    """exp(-log(w) / 2), by the platform's functions."""
    return ar.done(np.exp(ar.mul(ar.done(np.log(w)), ar.take(-0.5))))


ROOTS: dict[Any, dict[str, Any]] = {
    inverse: {"root": "rounded"},
    root_of_inverse: {"root": "rounded"},
    logarithm: {"root": "logarithm"},
}
"""What a statement says of these; of all others, nothing."""


# --- y of a row x, mean m, root r -----------------------------------------------------------------------------------


def direct(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """gamma ((x - m) r) + beta."""
    return ar.add(ar.mul(gamma, ar.mul(ar.sub(x, m), r)), beta)


def direct_fused(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """gamma ((x - m) r) + beta, the last two fused."""
    return ar.fma(ar.mul(ar.sub(x, m), r), gamma, beta)


def scaled(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """(x - m) (gamma r) + beta."""
    return ar.add(ar.mul(ar.sub(x, m), ar.mul(gamma, r)), beta)


def scaled_fused(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """(x - m) (gamma r) + beta, the last two fused."""
    return ar.fma(ar.sub(x, m), ar.mul(gamma, r), beta)


def scaled_first(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """(gamma (x - m)) r + beta."""
    return ar.add(ar.mul(gamma, ar.sub(x, m), r), beta)


def quotient(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """gamma (x - m) / sqrt(w) + beta, r being the root itself here: see `divides`."""
    return ar.add(ar.mul(gamma, ar.div(ar.sub(x, m), r)), beta)


def folded(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """x s + (beta - m s), s = gamma r."""
    scale = ar.mul(gamma, r)
    return ar.add(ar.mul(x, scale), ar.sub(beta, ar.mul(m, scale)))


def folded_fused(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """x s + (beta - m s), s = gamma r, each fused."""
    scale = ar.mul(gamma, r)
    return ar.fma(x, scale, ar.fma(-m, scale, beta))


def spread(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """gamma (x r - m r) + beta."""
    return ar.add(ar.mul(gamma, ar.sub(ar.mul(x, r), ar.mul(m, r))), beta)


def apart(ar: Any, x: Any, m: Any, r: Any, gamma: Any, beta: Any) -> Any:
    """x (gamma r) + (beta - (m r) gamma)."""
    return ar.add(ar.mul(x, ar.mul(gamma, r)), ar.sub(beta, ar.mul(m, r, gamma)))


WORDS: dict[Any, dict[str, Any]] = {
    folded: {"affine": "folded"},
    folded_fused: {"affine": "folded"},
    spread: {"affine": "folded"},
    apart: {"affine": "folded", "shift": "apart"},
}
"""What a statement says of these; of all others, nothing."""

divides = {quotient}
"""Maps that are given sqrt(w)."""


# --- the moving average of old and the batch's new, kept being the momentum -----------------------------------------


def weighted(ar: Any, old: Any, new: Any, kept: Any) -> Any:
    """kept old + (1 - kept) new."""
    return ar.add(ar.mul(kept, old), ar.mul(ar.sub(ar.take(1), kept), new))


def weighted_fused(ar: Any, old: Any, new: Any, kept: Any) -> Any:
    """kept old + (1 - kept) new, a product fused with the sum."""
    return ar.fma(kept, old, ar.mul(ar.sub(ar.take(1), kept), new))


def moved_back(ar: Any, old: Any, new: Any, kept: Any) -> Any:
    """old - (old - new) (1 - kept)."""
    return ar.sub(old, ar.mul(ar.sub(old, new), ar.sub(ar.take(1), kept)))


def moved(ar: Any, old: Any, new: Any, kept: Any) -> Any:
    """old + (1 - kept) (new - old)."""
    return ar.add(old, ar.mul(ar.sub(ar.take(1), kept), ar.sub(new, old)))


def lerp(ar: Any, old: Any, new: Any, kept: Any) -> Any:
    """old + (1 - kept) (new - old), the product fused with the sum."""
    return ar.fma(ar.sub(ar.take(1), kept), ar.sub(new, old), old)


def lerp_exact(ar: Any, old: Any, new: Any, kept: Any) -> Any:
    """t new + (old - t old), both products fused, which gives new where t = 1 - kept is 1."""
    t = ar.sub(ar.take(1), kept)
    return ar.fma(t, new, ar.fma(-t, old, old))
