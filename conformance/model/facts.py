"""The facts that statements and divergences may speak of, of a case and of a step of it, and which values each has."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_type_hints

import msgspec

from conformance.model import outputs
from conformance.model.case import Along, Dtype, Input, Layout, Scalars

DEVICES = ("cpu", "cuda")

Mode = Literal["train", "infer"]
Affine = Literal["both", "center", "scale", "none"]
Channel = Literal["second", "last", "several", "other"]
Mask = Literal[False, "full", "without_last", "spread"]
Resized = Literal[False, "more", "fewer"]
Unknown = Literal[False, "kept", "reduced"]
Of = Literal["y", "statistics", "state"]
Replicas = Literal[False, "even", "uneven", "empty"]
Odd = Literal[False, "momentum", "epsilon", "nan_epsilon", "channels", "statistics", "parameters", "shape"]
Differentiation = Literal[
    "none",
    "reverse",
    "forward",
    "forward_over_forward",
    "reverse_over_reverse",
    "forward_over_reverse",
    "third",
    "third_forward",
    "third_forward_over_reverse",
]


class CaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about a case.

    dtype, parameters, statistics: what the input, gamma and beta, and the moving statistics are stored in.
    mixed: whether these are several, in another way than usual for half precision.
    affine: which of center and scale there are.
    start: whether parameters and statistics are `given`, or some are the implementation's `own`.
    begun: whether batches have entered the statistics given.
    differentiation: the hardest derivative asked for (see `case_facts.differentiation`).
    of: whether derivatives of y alone are asked for, or of the returned `statistics` of a batch too, or of the new
        `state`: the moving statistics after a step.
    along: whether some derivative is along a tangent of gamma and beta, the `parameters`, or of `all` inputs.
    replicas: whether copies of the layer share each batch, as many rows each (`even`) or not, and whether some has none
        (`empty`).
    toggled: whether the layer is frozen for some of the steps.
    unknown_sizes: which sizes are unknown when the layer is built, a `kept` axis's, or only `reduced` ones.
    updates: whether every step may move the statistics (`Step.update`).
    cumulative: whether the average counts the batches.
    weights: whether a mask's values are numbers.
    finite: whether all values are finite.
    one_channel: whether some batch has one channel.
    resized: whether a batch has `more` channels than the first, or else `fewer`.
    no_rows: whether some batch is empty.
    tracked: whether the layer keeps moving statistics.
    zero_epsilon: whether epsilon is 0, so that only the variance keeps a channel finite.
    odd: what is out of the ordinary, so that to refuse it is as right as to answer by the formula (BN-32): a `momentum`
        outside 0 to 1, a negative `epsilon` or NaN for one, no `channels`, given `statistics` that no batch can have;
        or, to be refused, `parameters` of another number of values, or of as many in another shape (`shape`).
    The others are what the case has by that name.
    """

    dtype: Dtype
    parameters: Dtype
    statistics: Dtype
    mixed: bool
    axis: int | tuple[int, ...]
    layout: Layout
    dy_layout: Layout
    layer_layout: Layout
    center: bool
    scale: bool
    affine: Affine
    trainable: bool
    start: Literal["given", "own"]
    begun: bool
    differentiation: Differentiation
    of: Of
    along: Along
    sites: int
    init_mode: Mode
    round_trip: Literal["none", "config", "state"]
    flag: Literal["bool", "int", "numpy"]
    backward: Literal["each", "after_all", "twice", "together", "recomputed"]
    input: Input
    scalars: Scalars
    mapped: Literal["none", "dy", "x", "parameters", "both", "nested"]
    replicas: Replicas
    toggled: bool
    unknown_sizes: Unknown
    updates: bool
    cumulative: bool
    virtual: bool
    renorm: bool
    weights: bool
    adjustment: bool
    finite: bool
    one_channel: bool
    resized: Resized
    no_rows: bool
    tracked: bool
    zero_epsilon: bool
    odd: Odd


class Facts(CaseFacts, frozen=True, kw_only=True):
    """The facts about one step: those of its case, and its own.

    channel: where the kept axis is, `second` where it is `last` too, as for rank 2; or `several`.
    misplaced: whether the axis is out of range, or named twice.
    reranked: whether the first step had another rank.
    mask: the shape of its mask (see `case_facts.mask`).
    update: whether it may move the statistics.
    trained: whether a training step came before.
    n: how many values there are per channel, 0, 1 or many.
    spatial: whether several of them are along other axes than the first.
    device: where it is asked; empty where that is not said.
    output: which output is meant; empty where that is not said.
    """

    rank: int
    channel: Channel
    several_axes: bool
    misplaced: bool
    reranked: bool
    mask: Mask
    mode: Mode
    update: bool
    trained: bool
    n: Literal["0", "1", "many"]
    spatial: bool
    device: str = ""
    output: str = ""

    def said(self, fact: str) -> Any:
        """Return a fact as a `when` says it: several axes are a list there."""
        return list(self.axis) if fact == "axis" and isinstance(self.axis, tuple) else getattr(self, fact)


WHOLE: dict[str, str] = {"rank": "a whole number", "sites": "a whole number ≥ 1", "axis": "an axis, or a list of them"}
"""Facts that are numbers, and what is right of them."""


def _values(hint: Any) -> tuple[Any, ...]:
    return (False, True) if hint is bool else get_args(hint)


VALUES: dict[str, tuple[Any, ...]] = {
    **{fact: _values(hint) for fact, hint in get_type_hints(Facts).items() if fact not in WHOLE},
    "device": DEVICES,
    "output": outputs.NAMES,
}
"""Every other fact, and the values that it may have; `output` is one of numerics and divergences alone."""
