"""The facts about a case and its steps, read off the case."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from conformance.model.case import OF_LAYER, Actions, Along, Case, Dtypes
from conformance.model.facts import (
    Affine,
    CaseFacts,
    Channel,
    Differentiation,
    Facts,
    Mask,
    Odd,
    Of,
    Replicas,
    Resized,
    Unknown,
)
from reference.precision import widened
from reference.spec import kept_axes, kept_shape, reduced_axes

_AFFINE: dict[tuple[bool, bool], Affine] = {
    (True, True): "both",
    (True, False): "center",
    (False, True): "scale",
    (False, False): "none",
}


def step_facts(case: Case, t: int) -> Facts:
    """Return the facts about one step."""
    return _of_step(_of_case(case), case, t)


def every_step(case: Case) -> list[Facts]:
    """Return the facts about each step in turn."""
    shared = _of_case(case)
    return [_of_step(shared, case, t) for t in range(len(case.steps))]


def _of_case(case: Case) -> CaseFacts:
    sizes = [channels(case, t) for t in range(len(case.steps))]
    return CaseFacts(
        dtype=case.dtypes.x,
        parameters=case.dtypes.parameters,
        statistics=case.dtypes.statistics,
        mixed=_mixed(case.dtypes),
        axis=case.spec.axis,
        layout=case.layout,
        dy_layout=case.dy_layout,
        layer_layout=case.layer_layout,
        center=case.spec.center,
        scale=case.spec.scale,
        affine=_AFFINE[case.spec.center, case.spec.scale],
        trainable=case.spec.trainable,
        start="given" if _is_given(case) else "own",
        begun=case.batches > 0,
        differentiation=differentiation(case),
        of=_of(case),
        along=_along(case),
        sites=case.actions.sites,
        init_mode=case.actions.init_mode,
        round_trip=case.actions.round_trip,
        flag=case.actions.flag,
        backward=case.actions.backward,
        input=case.actions.input,
        scalars=case.actions.scalars,
        mapped=case.actions.mapped,
        replicas=_replicas(case.actions.replicas),
        toggled=not all(step.trainable for step in case.steps),
        unknown_sizes=_unknown(case.actions, kept_axes(case.spec, len(case.shape))),
        updates=all(step.update for step in case.steps),
        cumulative=case.spec.momentum is None,
        virtual=case.spec.virtual_batch_size is not None,
        renorm=case.spec.renorm,
        weights=any(a.dtype != bool for name, a in case.tensors.items() if name.endswith(".mask")),
        adjustment=any(name.endswith(".adjustment_scale") for name in case.tensors),
        finite=all(bool(np.isfinite(array).all()) for array in case.tensors.values()),
        one_channel=1 in sizes,
        resized=_resized(sizes),
        no_rows=any(not case.x(t).size for t in range(len(case.steps))),
        tracked=case.spec.track,
        zero_epsilon=case.spec.epsilon == 0,
        odd=_odd(case),
    )


def _of_step(shared: CaseFacts, case: Case, t: int) -> Facts:
    step = case.steps[t]
    shape, rank = case.x(t).shape, case.x(t).ndim
    kept, reduced = kept_axes(case.spec, rank), reduced_axes(case.spec, rank)
    n = math.prod(shape[axis] for axis in reduced)
    return Facts(
        **msgspec.structs.asdict(shared),
        rank=rank,
        channel=channel(kept, rank),
        several_axes=len(kept) > 1,
        misplaced=rank > 0 and (len(set(kept)) < len(kept) or any(not 0 <= axis < rank for axis in kept)),
        reranked=rank != len(case.shape),
        mask=mask(case, t),
        mode=step.mode,
        update=step.update,
        trained=any(
            before.mode == "train" for before in case.steps[t % case.actions.members : t : case.actions.members]
        ),
        n="many" if n > 1 else "1" if n else "0",
        spatial=math.prod(shape[axis] for axis in reduced if axis) > 1,
    )


def _along(case: Case) -> Along:
    found: list[Along] = [d.along for step in case.steps for d in step.derivatives if d.along != "x"]
    return found[0] if found else "x"


def _of(case: Case) -> Of:
    asked = {name for step in case.steps for d in step.derivatives for name in d.of}
    return "state" if asked & {"moving_mean", "moving_variance"} else "statistics" if asked - {"y"} else "y"


def _mixed(dtypes: Dtypes) -> bool:
    """Return whether some dtype is neither that of the input nor, for a half-precision input, float32."""
    single = dtypes.x if dtypes.x in ("float32", "float64") else "float32"
    return (dtypes.parameters, dtypes.statistics) not in {(dtypes.x,) * 2, (single,) * 2}


def _resized(sizes: list[int]) -> Resized:
    if max(sizes) > sizes[0]:
        return "more"
    return "fewer" if min(sizes) < sizes[0] else False


def _replicas(pieces: tuple[int, ...]) -> Replicas:
    if len(set(pieces)) < 2:
        return "even" if pieces else False
    return "uneven" if min(pieces) else "empty"


def _odd(case: Case) -> Odd:
    """Return what is out of the ordinary: the first of these."""
    epsilon, momentum = case.spec.epsilon, case.spec.momentum
    mean, variance = (case.tensor(name) for name in ("moving_mean", "moving_variance"))
    found: dict[Odd, bool] = {
        "momentum": momentum is not None and not 0 <= momentum <= 1,
        "epsilon": epsilon < 0,
        "nan_epsilon": math.isnan(epsilon),
        "channels": bool(case.shape) and not channels(case, 0),
        "statistics": (mean is not None and not np.isfinite(widened(mean, np.float64)).all())
        or (variance is not None and not (widened(variance, np.float64) >= 0).all()),
        **_misfits(case),
    }
    said: list[Odd] = [what for what, there in found.items() if there]
    return said[0] if said else False


def _misfits(case: Case) -> dict[Odd, bool]:
    """Return whether a parameter or statistic has more or fewer values than the first batch needs, or another shape."""
    kept, rank = kept_axes(case.spec, len(case.shape)), len(case.shape)
    if not all(0 <= axis < rank for axis in kept):
        return {}
    needed = kept_shape(case.spec, case.shape)
    shapes = {array.shape for name in OF_LAYER if (array := case.tensor(name)) is not None}
    sizes = set(map(math.prod, shapes))
    return {"parameters": bool(sizes - {math.prod(needed)}), "shape": bool(shapes - {needed})}


def channels(case: Case, t: int) -> int:
    """Return how many channels the batch of a step has, or values of gamma where several axes are kept."""
    sizes = case.x(t).shape
    return math.prod(sizes[axis] for axis in kept_axes(case.spec, len(sizes)) if 0 <= axis < len(sizes))


def channel(kept: tuple[int, ...], rank: int) -> Channel:
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
    asked = {"gamma": case.spec.scale, "beta": case.spec.center}
    asked |= dict.fromkeys(("moving_mean", "moving_variance"), case.spec.track)
    return all(name in case.tensors for name, wanted in asked.items() if wanted)


_HARDEST: dict[tuple[int, str], Differentiation] = {
    (1, "reverse"): "reverse",
    (1, "forward"): "forward",
    (1, "forward_over_reverse"): "forward_over_reverse",
    (2, "reverse"): "reverse_over_reverse",
    (2, "forward"): "forward_over_forward",
    (2, "forward_over_reverse"): "forward_over_reverse",
    (3, "reverse"): "third",
    (3, "forward"): "third_forward",
    (3, "forward_over_reverse"): "third_forward_over_reverse",
}


def differentiation(case: Case) -> Differentiation:
    """Return the hardest derivative that a case asks for.

    `none`; `reverse`, the gradients; `forward`, the derivative of y along a tangent, and `forward_over_forward`, that
    of it; `reverse_over_reverse` and `forward_over_reverse`, those of the gradients; `third`, those of these once more
    in reverse, and `third_<mode>` in another mode.
    """
    derivatives = [d for step in case.steps for d in step.derivatives]
    last = max(derivatives, key=lambda d: (d.order, d.mode != "reverse"), default=None)
    if last is None:
        return "none"
    return _HARDEST[last.order, last.mode]


def mask(case: Case, t: int = 0) -> Mask:
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


def _unknown(actions: Actions, kept: tuple[int, ...]) -> Unknown:
    """Return which sizes are unknown when the layer is built: a `kept` axis's, or only `reduced` ones."""
    if not actions.unknown_sizes:
        return False
    return "kept" if set(actions.unknown_sizes) & set(kept) else "reduced"
