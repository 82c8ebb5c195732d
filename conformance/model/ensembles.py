"""Ensembles: several layers that one mapped call makes, of which each answers as though it were alone (BN-35).

What differs between the members in a call:

    dy          the cotangent alone: rows of a Jacobian
    x           x too: one layer that sees several batches, each of which moves statistics of its own
    parameters  gamma and beta
    both        x, gamma and beta
    nested      one map within another: member k i + j has the parameters of i and the x of j, for i and j below k

All begin with the same statistics; from the second call on each has its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from conformance.model.case import OF_MEMBER, Actions, Case, Derivative

_OF_CALL = ("x", "dy", *OF_MEMBER)


def like(actions: Actions, member: int) -> tuple[int, int]:
    """Return which members' parameters and x a member has in each call: the first of those that share them.

    >>> [like(Actions(members=4, mapped="nested"), member) for member in range(4)]
    [(0, 0), (0, 1), (2, 0), (2, 1)]
    """
    across = math.isqrt(actions.members)
    if actions.mapped == "nested":
        return member - member % across, member % across
    return member * (actions.mapped in ("parameters", "both")), member * (actions.mapped in ("x", "both"))


def wrong(case: Case) -> str:
    """Return why a case makes no sense as an ensemble; empty if it does, or is none."""
    return next(_wrong(case), "")


def _wrong(case: Case) -> Iterator[str]:
    members, mapped = case.actions.members, case.actions.mapped
    if members < 1 or (members > 1) != (mapped != "none"):
        yield f"actions.members is {members} and actions.mapped {mapped}; an ensemble has 2 members or more, and a map"
    elif members > 1:
        if mapped == "nested" and math.isqrt(members) ** 2 != members:
            yield f"actions.members is {members}; nested maps have as many within as outside, so give 4 or 9"
        if case.actions != Actions(members=members, mapped=mapped, replicas=case.actions.replicas):
            yield "an ensemble is of plain layers; leave out all of actions but members, mapped and replicas"
        if len(case.steps) % members:
            yield f"there are {len(case.steps)} steps; give each of {members} members as many"
        else:
            yield from (said for t in range(len(case.steps)) if (said := _unlike(case, t)))


def _unlike(case: Case, t: int) -> str:
    """Return what step t does not share with its call and should, or what no such call takes."""
    member = t % case.actions.members
    of_parameters, of_x = like(case.actions, member)
    first, x = t - member, t - member + of_x
    own = {name.partition(".")[2] for name in case.tensors if name.startswith(f"{t}.")}
    if own - {*_OF_CALL} or any(
        derivative != Derivative(wrt=derivative.wrt) for derivative in case.steps[t].derivatives
    ):
        return f"step {t} has or asks for more than x, dy and gradients; an ensemble takes no more"
    if case.steps[t] != case.steps[first] or case.x(t).shape != case.x(first).shape:
        return f"steps {first} and {t} are of one call; they must differ in values alone"
    if not _equal(case, f"{t}.x", f"{x}.x"):
        return f"{t}.x is not {x}.x, but actions.mapped is {case.actions.mapped}"
    pairs = [(f"{member}.{name}", f"{of_parameters}.{name}") for name in OF_MEMBER]
    return next(
        (f"{a} is not {b}, but actions.mapped is {case.actions.mapped}" for a, b in pairs if not _equal(case, a, b)), ""
    )


def _equal(case: Case, one: str, other: str) -> bool:
    """Return whether two tensors hold the same; a member's without its own is the layer's."""
    arrays = [case.tensors.get(name, case.tensor(name.partition(".")[2])) for name in (one, other)]
    return arrays[0] is arrays[1] or all(a is not None and np.array_equal(a, arrays[0], equal_nan=True) for a in arrays)
