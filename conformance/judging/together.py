"""What is expected where all calls are made in one graph, and one gradient is taken of all of them (BN-28).

Gamma's and beta's gradients are sums over the calls, and come with the last one that has any; so does the state, since
what is between the calls of a graph is seen by nobody.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conformance.judging.bounds.roundings import growth
from conformance.judging.expected import Expected
from conformance.judging.not_finite import NONE, either
from conformance.judging.promise import Promise
from conformance.judging.step import ExpectedOutputs
from conformance.model.outputs import RENORM
from reference import Refusal
from reference.spec import Array

SUMMED = ("dgamma", "dbeta")
STATE = ("moving_mean", "moving_variance", *RENORM)


Steps = list[ExpectedOutputs | Refusal]


def together(promise: Promise, steps: Steps) -> Steps:
    """Return what is expected of calls that are made in one graph, from what would be of each by itself."""
    made = {t: step for t, step in enumerate(steps) if isinstance(step, dict) and step}
    sums: dict[int, ExpectedOutputs] = {t: {} for t in made}
    for name in SUMMED:
        parts = {t: step[name] for t, step in made.items() if name in step}
        if parts:
            sums[max(parts)][name] = _sum(promise, max(parts), name, list(parts.values()))
    hidden = {t: SUMMED if t == max(made) else (*SUMMED, *STATE) for t in made}
    seen = {t: {n: e for n, e in step.items() if n not in hidden[t]} | sums[t] for t, step in made.items()}
    return [seen.get(t, step) for t, step in enumerate(steps)]


def of_one_call(promise: Promise, found: ExpectedOutputs) -> ExpectedOutputs:
    """Return what follows from one call alone: of calls that are made together, no sum over them."""
    if promise.case.actions.backward != "together":
        return found
    return {name: expected for name, expected in found.items() if name not in SUMMED}


def _sum(promise: Promise, t: int, name: str, parts: list[Expected]) -> Expected:
    """Return the sum of gradients that are computed one by one and then added, in any order.

    Of k terms v with errors e, k - 1 additions err by no more than ((1 + u)^(k-1) - 1) sum(|v| + e) (Higham, Accuracy
    and Stability of Numerical Algorithms, 4.2), in the arithmetic or in the dtype in which they are stored.
    """
    units = promise.at(t).bounds(promise.mode(t), name, 1).units
    none = np.zeros_like(parts[0].value)
    value, size = sum((p.value for p in parts), none), sum((np.abs(p.value) + p.bound for p in parts), none)
    more = len(parts) - 1
    bound = sum((p.bound for p in parts), none) + growth(more * max(units.u, units.stored_u)) * size
    bound = bound + more * units.smallest  # flushed to 0
    return Expected(value, np.where(np.isnan(bound), np.inf, bound), parts[0].dtype, _terms(parts), kinds=_kinds(parts))


def _terms(parts: list[Expected]) -> Callable[[], Array]:
    return lambda: sum((part.size for part in parts), np.zeros(()))


def _kinds(parts: list[Expected]) -> Array | None:
    known = [NONE if part.kinds is None else part.kinds for part in parts]
    return either(*known) if any(part.kinds is not None for part in parts) else None
