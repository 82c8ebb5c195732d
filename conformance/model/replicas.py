"""Replicas: several copies of a layer that share one batch, each of them a piece of it along axis 0 (BN-36).

Their statistics are those of the whole batch, and so is everything that follows from these. Each group of an ensemble's
replicas shares a batch of its own: what frameworks call groups.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.model.case import Actions, Case, Derivative
from reference.spec import kept_axes


def wrong(case: Case) -> str:
    """Return why a case makes no sense with its replicas; empty if it does, or has none."""
    return next(_wrong(case), "") if case.actions.replicas else ""


def _wrong(case: Case) -> Iterator[str]:
    actions, pieces = case.actions, list(case.actions.replicas)
    if len(pieces) < 2 or min(pieces) < 0:
        yield f"actions.replicas is {pieces}; give 2 sizes or more, none below 0"
    shared = Actions(replicas=actions.replicas, members=actions.members, mapped=actions.mapped)
    if actions != shared or actions.mapped not in ("none", "x"):
        yield "replicas are of a plain layer; leave out all actions but replicas, and members mapped over x"
    if case.spec.virtual_batch_size is not None:
        yield "replicas share one batch; leave out virtual_batch_size"
    for t in range(len(case.steps)):
        shape = case.x(t).shape
        if 0 in kept_axes(case.spec, len(shape)):
            yield f"axis 0 of {t}.x is kept, and it is what replicas divide; choose another axis"
        if sum(pieces) != (shape[0] if shape else 0):
            yield f"actions.replicas is {pieces}, and {t}.x has shape {shape}; give each of its rows to one replica"
    if any(d != Derivative(wrt=d.wrt) for step in case.steps for d in step.derivatives):
        yield "replicas take gradients of y alone; leave out other derivatives"
