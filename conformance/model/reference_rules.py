"""Which rule of the reference each field of `Semantics` belongs to, as data; its docstring says the same."""

from __future__ import annotations

_FIELDS = {
    "BN-4": ("epsilon_placement", "epsilon_floor", "epsilon_dtype", "zero_epsilon"),
    "BN-9": ("average",),
    "BN-10": ("fraction_dtype", "fraction_rounded"),
    "BN-11": ("stored_variance",),
    "BN-12": ("moving_spread",),
    "BN-13": ("initial_mean", "initial_variance"),
    "BN-14": ("frozen", "updates"),
    "BN-15": ("training_statistics",),
    "BN-16": ("renorm",),
    "BN-17": ("reversed_clipping",),
    "BN-20": ("virtual_batches", "indivisible_inference"),
    "BN-21": ("virtual_statistics",),
    "BN-22": ("adjustment",),
    "BN-23": ("mask", "mask_rank", "mask_offset", "all_masked"),
    "BN-24": ("single_value",),
    "BN-25": ("empty_batch",),
    "BN-26": ("parameter_dtype", "statistics_dtype", "output_dtype"),
    "BN-28": ("new_state",),
    "BN-29": ("variance_mean",),
    "BN-37": ("activation",),
}
RULES = {field: rule for rule, fields in _FIELDS.items() for field in fields}
