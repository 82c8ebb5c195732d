"""Probes: cases that tell the values of `Semantics` fields apart. They are small, and exact in half precision.

A probe makes a case for each layout of the input, as implementations choose their path by where the kept axis is and by
dtype. It names the fields that it is for; it may settle others too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from conformance.model.case import Case, Dtype
from conformance.model.case_facts import every_step
from conformance.model.statement import Statement
from conformance.studies.audit import making
from conformance.studies.audit.making import InputLayout
from reference.spec import Clipping


class Probe(NamedTuple):
    """A way to make a case for a layout of the input.

    fields: what it is for.
    make: makes the case.
    dtypes: those of the input.
    beyond_masks: it may ask for shapes of masks that a statement does not support, since these are what it finds out.
    """

    name: str
    fields: tuple[str, ...]
    make: Callable[[InputLayout], Case]
    dtypes: tuple[Dtype, ...] = ("float32",)
    beyond_masks: bool = False

    def case(self, place: InputLayout, statement: Statement) -> Case | None:
        """Return the case for a layout, adapted to what this implementation can be asked; None if it cannot be.

        An implementation that takes half precision alone is asked everything in it.
        """
        taken = statement.supports.get("dtype", ["float32"])
        only_half = not {"float32", "float64"} & set(taken)
        return self.in_place(place, statement) if place.dtype in self.dtypes or only_half else None

    def in_place(self, place: InputLayout, statement: Statement) -> Case | None:
        """Return the case for a layout, whatever the dtype of its input."""
        case = _derived(self.make(place), statement)
        besides: dict[str, Any] = {"weights": False} | ({"mask": False} if self.beyond_masks else {})
        about = (msgspec.structs.replace(facts, **besides) for facts in every_step(case))
        return None if statement.unsupported(*about) else case


def _derived(case: Case, statement: Statement) -> Case:
    """Return the case with second derivatives asked for, if an implementation gives nothing else."""
    wanted = statement.supports.get("differentiation", ["none"])
    if "none" in wanted or case.steps[0].derivatives:
        return case
    return making.second(case)


_ALL: tuple[Dtype, ...] = ("float32", "float64")
PROBES = (
    Probe(
        "plain",
        ("average", "training_statistics", "stored_variance", "moving_spread", "epsilon_placement", "activation"),
        making.asking("train train infer"),
    ),
    Probe("inference alone", ("activation",), making.asking("infer")),  # whose y is below 0 in some elements
    Probe("tiny epsilon", ("epsilon_floor",), making.tiny_epsilon),
    Probe("epsilon that float32 rounds", ("epsilon_dtype",), making.asking("train infer", epsilon=0.1), ("float64",)),
    Probe("own start, train first", ("initial_mean", "initial_variance"), making.asking("train infer", own=True)),
    Probe("own start, infer first", ("initial_mean", "initial_variance"), making.asking("infer train", own=True)),
    Probe("momentum near 1", ("fraction_dtype", "fraction_rounded"), making.near_one, _ALL),
    Probe("frozen", ("frozen",), making.asking("train infer", trainable=False)),
    Probe("update ops left out", ("updates",), making.without_updates),
    Probe("one value", ("single_value",), making.one_value),
    Probe("no rows", ("empty_batch",), making.no_rows),
    Probe("epsilon 0", ("zero_epsilon",), making.asking("train infer", epsilon=0.0)),
    Probe("renorm", ("renorm",), making.asking("train train infer", renorm=True, renorm_momentum=0.5)),
    Probe(
        "rmax below rmin",
        ("reversed_clipping",),
        making.asking("train infer", renorm=True, renorm_momentum=0.5, renorm_clipping=Clipping(rmin=0.5, rmax=0.25)),
    ),
    Probe(
        "virtual batches",
        ("virtual_batches", "virtual_statistics"),
        making.asking("train train infer", virtual_batch_size=2),
    ),
    Probe(
        "inference on 3 rows of virtual batches of 2",
        ("indivisible_inference",),
        making.three_rows,
    ),
    Probe("adjustment", ("adjustment",), making.adjusted),
    Probe("mask of weights", ("mask",), making.masked("weights", "full")),
    Probe("mask", ("mask", "mask_rank", "mask_offset"), making.masked("bool", "full"), _ALL, True),
    Probe("mask without the last axis", ("mask_rank", "mask_offset"), making.masked("bool", "short"), _ALL, True),
    Probe("mask of weights without the last axis", ("mask",), making.masked("weights", "short")),
    Probe("mask of nothing", ("all_masked",), making.masked("none", "full")),
    Probe("mask of nothing without the last axis", ("all_masked",), making.masked("none", "short")),
    Probe(
        "second derivative",
        ("variance_mean",),
        making.second_derivative,
    ),
    Probe("gradient of the new state", ("new_state",), making.of_new_state),
    Probe("dtypes", ("output_dtype",), making.asking("train infer"), ("float16", "bfloat16", "float64")),
)
