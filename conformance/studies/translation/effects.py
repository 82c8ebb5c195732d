"""How much each difference in semantics is worth in a plain layer, against how many values a channel has.

Two layers that differ in one thing alone are asked the scenarios of a translation, both by the reference. Kept in
`effects.json`, since it depends on nothing that is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

VALUES = (2, 8, 32, 128, 1_024, 16_384)
"""Values per channel."""
OF_SPEC: dict[str, tuple[float, ...]] = {"epsilon": (0.001, 0.0001, 1e-5), "momentum": (0.99, 0.999, 0.9, 0.0)}
"""The defaults that frameworks have, as kept momentum."""
OF_SEMANTICS: dict[str, tuple[Any, ...]] = {
    "stored_variance": ("biased", "unbiased"),
    "average": ("exponential", "first_batch", "zero_debiased", "none"),
    "training_statistics": ("batch", "moving"),
    "frozen": ("batch", "infer", "train"),
    "initial_variance": (1.0, 0.0),
}
"""The fields that show in a plain layer in float32, with the values that some implementation has."""
ELSEWHERE = {
    **dict.fromkeys(("renorm", "reversed_clipping"), "renorm is asked for"),
    **dict.fromkeys(
        ("virtual_batches", "virtual_statistics", "indivisible_inference"), "a virtual batch size is given"
    ),
    **dict.fromkeys(("mask", "mask_rank", "mask_offset", "all_masked"), "a mask is given"),
    **dict.fromkeys(("parameter_dtype", "statistics_dtype", "output_dtype"), "half precision is used"),
    **dict.fromkeys(("fraction_dtype", "fraction_rounded"), "statistics are kept in float64"),
    "adjustment": "an adjustment is given",
    "single_value": "a channel has one value",
    "empty_batch": "a batch is empty",
    "zero_epsilon": "epsilon is 0",
    "epsilon_floor": "epsilon is below 1e-5",
    "new_state": "the new statistics are differentiated",
    "variance_mean": "a second derivative is taken",
    "updates": "update ops are left out",
}
"""Where the other fields show."""
MEASURED = Path(__file__).with_name("effects.json")


class EffectSize(msgspec.Struct, frozen=True):
    """The largest effects of one difference with n values per channel, by output; relative to the largest value there.

    field: of `Semantics`, or of `Spec` where `OF_SPEC` has it.
    """

    field: str
    one: Any
    other: Any
    n: int
    sizes: dict[str, float]


def measured() -> list[EffectSize]:
    """Return the effects of every difference and size."""
    return msgspec.json.decode(MEASURED.read_bytes(), type=list[EffectSize])
