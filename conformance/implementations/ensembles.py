"""Ensembles: what each member has of its own in a call, and how adapters map a call over it."""

import numpy as np

PARAMETERS = ("dgamma", "dbeta")
MAPPED = ["none", "dy", "x", "parameters", "both", "nested"]


def across(case):
    """Return how many members the inner of two nested maps has; 0 where there is one map."""
    return round(case.members**0.5) if case.mapped == "nested" else 0


def parameters(case):
    """Return what is given of gamma and beta by the names of their gradients, members' own along a first axis."""
    own = case.mapped in ("parameters", "both", "nested")
    members = range(0, case.members, across(case) or 1) if own else [0]
    given = [("d" + name, [case.of_member(name, member) for member in members]) for name in ("gamma", "beta")]
    return {name: np.stack(arrays) if own else arrays[0] for name, arrays in given if arrays[0] is not None}


def batches(case, steps):
    """Return x by the name of its gradient, and the dy of all members, if there is one; along two axes where nested."""
    own = case.mapped in ("x", "both", "nested")
    found = {"dx": np.stack([step.x for step in steps[: across(case) or None]]) if own else steps[0].x}
    if steps[0].dy is not None:
        found["dy"] = np.stack([step.dy for step in steps])
        if across(case):
            found["dy"] = found["dy"].reshape((across(case), -1) + found["dy"].shape[1:])
    return found


def maps(case, has_state):
    """Return the names of what each map goes over, the outer map first.

    has_state: whether members have a `state` of their own already.
    """
    own, always = list(parameters(case)), ["dy"] + ["state"] * has_state
    if across(case):
        return [own + always, ["dx"] + always]
    return [own * (case.mapped in ("parameters", "both")) + ["dx"] * (case.mapped in ("x", "both")) + always]


def over(vmap, function, maps):
    """Return a function of a dictionary, mapped over the first axis of what the maps name; the rest is for all.

    vmap: gives for a function of a dictionary the one that takes each array in it with a first axis.
    """
    for own in reversed(maps):
        function = _over(vmap, function, own)
    return function


def _over(vmap, function, own):
    def call(named):
        each = {name: named[name] for name in own if name in named}
        return vmap(lambda one: function(dict(named, **one)))(each)

    return call


def members(case, named):
    """Return the arrays of each member, out of named arrays of all of them."""
    if across(case):
        named = {name: a.reshape((case.members,) + a.shape[2:]) for name, a in named.items()}
    return [{name: array[member] for name, array in named.items()} for member in range(case.members)]
