"""The facts that statements and divergences may speak of: of a case, of a step of it, and the values each may have."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np

from conformance.model.case import Actions, Case, Dtype, Dtypes, Layout, Step
from reference.spec import kept_axes, reduced_axes

_DTYPES, _MODES, _FLAGS = get_args(Dtype), ("train", "infer"), (False, True)
DIFFERENTIATIONS = (
    *("none", "reverse", "forward", "forward_over_forward", "reverse_over_reverse", "forward_over_reverse"),
    *("third", "third_forward", "third_forward_over_reverse"),
)
OUTPUTS = (
    *("y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance", "mean", "variance"),
    *("moving_stddev", "renorm_mean", "renorm_stddev"),
    *("y_tangent", "dx_tangent", "dgamma_tangent", "y_tangent2", "dx_tangent2", "dgamma_tangent2"),
)
DEVICES = ("cpu", "cuda")

WHOLE: dict[str, str] = {"rank": "a whole number", "sites": "a whole number ≥ 1", "axis": "an axis, or a list of them"}
"""Facts that are numbers, and what is right of them."""

VALUES: dict[str, tuple[Any, ...]] = {
    "channel": ("second", "last", "several", "other"),
    "several_axes": _FLAGS,
    "misplaced": _FLAGS,
    "reranked": _FLAGS,
    "dtype": _DTYPES,
    "parameters": _DTYPES,
    "statistics": _DTYPES,
    "mixed": _FLAGS,
    "layout": get_args(Layout),
    "center": _FLAGS,
    "scale": _FLAGS,
    "affine": ("both", "center", "scale", "none"),
    "trainable": _FLAGS,
    "start": ("given", "own"),
    "begun": _FLAGS,
    "differentiation": DIFFERENTIATIONS,
    "init_mode": _MODES,
    "round_trip": ("none", "config", "state"),
    "flag": ("bool", "int", "numpy"),
    "toggled": _FLAGS,
    "unknown_sizes": (False, "kept", "reduced"),
    "updates": _FLAGS,
    "cumulative": _FLAGS,
    "virtual": _FLAGS,
    "renorm": _FLAGS,
    "mask": (False, "full", "without_last", "spread"),
    "weights": _FLAGS,
    "adjustment": _FLAGS,
    "finite": _FLAGS,
    "one_channel": _FLAGS,
    "resized": (False, "more", "fewer"),
    "no_rows": _FLAGS,
    "mode": _MODES,
    "update": _FLAGS,
    "trained": _FLAGS,
    "n": ("0", "1", "many"),
    "device": DEVICES,
    "output": OUTPUTS,
}
"""Every other fact, and the values that it may have; `output` is one of numerics and divergences alone."""

_AFFINE = {(True, True): "both", (True, False): "center", (False, True): "scale", (False, False): "none"}


def facts(case: Case) -> dict[str, Any]:
    """Return the facts about a case, those of a step as its first step has them."""
    return _of_case(case) | _placed(case, 0)


def step_facts(case: Case, t: int) -> dict[str, Any]:
    """Return the facts about one step: those of the case, and of its own, as listed below.

    Of the case. start: whether parameters and statistics are `given`, or some are the implementation's `own`. begun:
    whether batches have entered those given. differentiation: see the function of that name. weights: whether a mask's
    values are numbers. mixed: whether the dtypes are several, in another way than usual for half precision. updates:
    whether the update ops run in every step. finite: whether all values are. no_rows: whether some batch is empty.
    one_channel: whether some batch has one. resized: whether a batch has `more` channels than the first, or else
    `fewer`.

    Of the step. rank. channel: where the kept axis is (`second` before `last` for rank 2, where both hold), or
    `several`. misplaced: whether the axis is out of range, or named twice. reranked: whether the first step had another
    rank. mask: see the function of that name. mode. update: whether its update ops run. n: how many values there are
    per channel, 0, 1 or many. trained: whether a training step came before.
    """
    return _of_case(case) | _of_step(case, t)


def every_step(case: Case) -> list[dict[str, Any]]:
    """Return the facts about each step in turn."""
    shared = _of_case(case)
    return [shared | _of_step(case, t) for t in range(len(case.steps))]


def _of_case(case: Case) -> dict[str, Any]:
    sizes = [channels(case, t) for t in range(len(case.steps))]
    return {
        "dtype": case.dtypes.x,
        "parameters": case.dtypes.parameters,
        "statistics": case.dtypes.statistics,
        "mixed": _mixed(case.dtypes),
        "axis": list(case.spec.axis) if isinstance(case.spec.axis, tuple) else case.spec.axis,
        "layout": case.layout,
        "center": case.spec.center,
        "scale": case.spec.scale,
        "affine": _AFFINE[case.spec.center, case.spec.scale],
        "trainable": case.spec.trainable,
        "start": "given" if _is_given(case) else "own",
        "begun": case.batches > 0,
        "differentiation": differentiation(case),
        "sites": case.actions.sites,
        "init_mode": case.actions.init_mode,
        "round_trip": case.actions.round_trip,
        "flag": case.actions.flag,
        "toggled": not all(step.trainable for step in case.steps),
        "unknown_sizes": _unknown(case.actions, kept_axes(case.spec, len(case.shape))),
        "updates": all(step.update for step in case.steps),
        "cumulative": case.spec.momentum is None,
        "virtual": case.spec.virtual_batch_size is not None,
        "renorm": case.spec.renorm,
        "weights": any(a.dtype != bool for name, a in case.tensors.items() if name.endswith(".mask")),
        "adjustment": any(name.endswith(".adjustment_scale") for name in case.tensors),
        "finite": all(bool(np.isfinite(array).all()) for array in case.tensors.values()),
        "one_channel": 1 in sizes,
        "resized": _resized(sizes),
        "no_rows": any(not case.x(t).size for t in range(len(case.steps))),
    }


def _placed(case: Case, t: int) -> dict[str, Any]:
    """Return where the axes of a step's input are, and of what shape its mask is."""
    rank = case.x(t).ndim
    kept = kept_axes(case.spec, rank)
    return {
        "rank": rank,
        "channel": channel(kept, rank),
        "several_axes": len(kept) > 1,
        "misplaced": rank > 0 and (len(set(kept)) < len(kept) or any(not 0 <= axis < rank for axis in kept)),
        "reranked": rank != len(case.shape),
        "mask": mask(case, t),
    }


def _of_step(case: Case, t: int) -> dict[str, Any]:
    step: Step = case.steps[t]
    n = math.prod(case.x(t).shape[axis] for axis in reduced_axes(case.spec, case.x(t).ndim))
    trained = any(before.mode == "train" for before in case.steps[:t])
    about = {"mode": step.mode, "update": step.update, "trained": trained, "n": "many" if n > 1 else str(n)}
    return _placed(case, t) | about


def _mixed(dtypes: Dtypes) -> bool:
    """Return whether some dtype is neither the input's nor, for an input of half precision, float32."""
    single = dtypes.x if dtypes.x in ("float32", "float64") else "float32"
    return (dtypes.parameters, dtypes.statistics) not in {(dtypes.x,) * 2, (single,) * 2}


def _resized(sizes: list[int]) -> str | bool:
    if max(sizes) > sizes[0]:
        return "more"
    return "fewer" if min(sizes) < sizes[0] else False


def channels(case: Case, t: int) -> int:
    """Return how many channels the batch of a step has, or values of gamma where several axes are kept."""
    sizes = case.x(t).shape
    return math.prod(sizes[axis] for axis in kept_axes(case.spec, len(sizes)) if 0 <= axis < len(sizes))


def channel(kept: tuple[int, ...], rank: int) -> str:
    """Return where the kept axis is.

    >>> channel((1,), 2), channel((3,), 4), channel((1, 3), 4), channel((0,), 2)
    ('second', 'last', 'several', 'other')
    """
    if len(kept) > 1:
        return "several"
    if kept == (1,):
        return "second"
    return "last" if kept == (rank - 1,) else "other"


def _is_given(case: Case) -> bool:
    asked = {"gamma": case.spec.scale, "beta": case.spec.center, "moving_mean": True, "moving_variance": True}
    return all(name in case.tensors for name, wanted in asked.items() if wanted)


def differentiation(case: Case) -> str:
    """Return the hardest derivative that a case asks for.

    `none`; `reverse`, the gradients; `forward`, the derivative of y along a tangent, and `forward_over_forward`, that
    of it; `reverse_over_reverse` and `forward_over_reverse`, those of the gradients; `third`, those of these once more
    in reverse, and `third_<mode>` in another mode.
    """
    derivatives = [d for step in case.steps for d in step.derivatives]
    last = max(derivatives, key=lambda d: (d.order, d.mode != "reverse"), default=None)
    if last is None:
        return "none"
    names = {(2, "reverse"): "reverse_over_reverse", (2, "forward"): "forward_over_forward", (3, "reverse"): "third"}
    return names.get((last.order, last.mode), f"third_{last.mode}" if last.order == 3 else last.mode)


def mask(case: Case, t: int = 0) -> str | bool:
    """Return the shape of a step's mask, that of the first mask where it has none: `full` is the input's.

    `without_last`: that of all but its last axis. `spread` has the input's rank, and size 1 where one value stands for
    a whole axis. False: no step has a mask.
    """
    for s in (t, *range(len(case.steps))):
        values = case.tensor(f"{s}.mask")
        if values is not None:
            shape = case.x(s).shape
            return "full" if values.shape == shape else "without_last" if values.shape == shape[:-1] else "spread"
    return False


def _unknown(actions: Actions, kept: tuple[int, ...]) -> str | bool:
    """Return which sizes are unknown when the layer is built: a `kept` axis's, or only `reduced` ones."""
    return bool(actions.unknown_sizes) and ("kept" if set(actions.unknown_sizes) & set(kept) else "reduced")
