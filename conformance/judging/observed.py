"""Which class and grade an output really shows, beside the declared one: for information."""

from __future__ import annotations

import msgspec

from conformance.judging import expectation
from conformance.judging.bounds import bounds
from conformance.judging.bounds.roundings import sum_depth
from conformance.judging.large.streamed import Streamed
from conformance.judging.promise import Promise
from conformance.model.numerics import Numerics, classes, holds
from reference.spec import Array


def strictest(promise: Promise, t: int, got: Array) -> list[Array]:
    """Return ρ of a large y under the strictest class, which `outside` asks for first; none if it asks for none."""
    first = _asked(promise, t)[:1] if isinstance(got, Streamed) else []
    return [ratio for _, numerics in first if (ratio := _rho(promise, t, numerics, got)) is not None]


def outside(promise: Promise, t: int, got: Array) -> dict[str, float] | None:
    """Return ρ of a training step's y under each class and grade that it is outside of.

    None where no class is promised. The strictest comes first: what is inside it is inside all that allow more, so that
    one comparison settles most.
    """
    inside, found = list[str](), dict[str, float]()
    for label, numerics in (asked := _asked(promise, t)):
        if any(holds(label, strict) for strict in inside):
            continue
        ratios = _rho(promise, t, numerics, got)
        if ratios is None:
            return None
        ratio = float(ratios.max(initial=0))
        if ratio > 1:
            found[label] = ratio
        else:
            inside.append(label)
    return found if asked else None


def _asked(promise: Promise, t: int) -> list[tuple[str, Numerics]]:
    """Return the classes to compare with; where a tree is as deep as any order, what was asked already."""
    promised = promise.at(t).numerics(promise.mode(t), "y")
    if promised.coarse or promise.mode(t) != "train":
        return []
    n = promise.exact_case.batch(t, promise.at(t).semantics).count
    shallow = sum_depth(n, "tree") == sum_depth(n, "serial")
    held = {"sums": promised.sums} if shallow else {}
    return [(label, msgspec.structs.replace(numerics, **held)) for label, numerics in classes(promised).items()]


def _rho(promise: Promise, t: int, numerics: Numerics, got: Array) -> Array | None:
    expected = expectation.y_as(promise, t, numerics)
    return None if expected is None else bounds.rho(got, expected.value, expected.bound)
