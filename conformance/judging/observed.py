"""Which class and grade an output really shows, beside the declared one: for information."""

from __future__ import annotations

import msgspec

from conformance.judging import expectation
from conformance.judging.bounds import bounds
from conformance.judging.bounds.roundings import sum_depth
from conformance.judging.promise import Promise
from conformance.model.numerics import classes, holds
from reference.spec import Array


def outside(promise: Promise, t: int, got: Array) -> dict[str, float] | None:
    """Return ρ of a training step's y under each class and grade that it is outside of.

    None where no class is promised. The strictest comes first: what is inside it is inside all that allow more, so that
    one comparison settles most.
    """
    promised = promise.at(t).numerics(promise.mode(t), "y")
    if promised.accumulate == "input" or promise.mode(t) != "train":
        return None
    inside, found = list[str](), dict[str, float]()
    n = promise.exact_case.batch(t, promise.at(t).semantics).count
    shallow = sum_depth(n, "tree") == sum_depth(n, "serial")
    for label, numerics in classes(promised).items():
        if any(holds(label, strict) for strict in inside):
            continue
        # where a tree is as deep as any order, ask what was asked already
        asked = msgspec.structs.replace(numerics, sums=promised.sums) if shallow else numerics
        expected = expectation.y_as(promise, t, asked)
        if expected is None:
            return None
        ratio = float(bounds.rho(got, expected.value, expected.bound).max(initial=0))
        if ratio > 1:
            found[label] = ratio
        else:
            inside.append(label)
    return found
