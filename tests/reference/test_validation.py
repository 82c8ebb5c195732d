"""Every refusal: it names the value, the rule and the fix; and what is not refused passes."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from reference import Clipping, Refusal, Semantics, Spec, validate
from reference.conventions import kept_axis, kept_momentum
from reference.paths import TF_1_15, TF_KERAS, Paths
from reference.validation import clipping, validate_semantics

REFUSED: list[tuple[Spec, tuple[int, ...], dict[str, Any], str]] = [
    (Spec(epsilon=float("inf")), (4, 3), {}, "epsilon=inf leaves nothing of any difference; use a number ≥ 0"),
    (Spec(epsilon=-float("inf")), (4, 3), {}, "epsilon=-inf leaves"),
    (Spec(momentum=float("nan")), (4, 3), {}, "momentum=nan is a fraction that is kept; use a number from 0 to 1, or"),
    (Spec(momentum=float("inf")), (4, 3), {}, "momentum=inf is a fraction"),
    (Spec(renorm_momentum=2.0), (4, 3), {}, "renorm_momentum=2.0 is a fraction that is kept; use a number from 0 to 1"),
    (Spec(renorm_momentum=-0.1), (4, 3), {}, "renorm_momentum=-0.1 is a fraction"),
    (Spec(renorm_clipping=Clipping(rmin=-1.0)), (4, 3), {}, "renorm_clipping rmin=-1.0 bounds a magnitude; use"),
    (Spec(renorm_clipping=Clipping(rmax=-2.0)), (4, 3), {}, "renorm_clipping rmax=-2.0 bounds a magnitude"),
    (Spec(renorm_clipping=Clipping(dmax=float("nan"))), (4, 3), {}, "renorm_clipping dmax=nan bounds a magnitude"),
    (Spec(axis=2), (4, 3), {}, "axis=2 names no axis of an input of shape (4, 3); use -2 to 1"),
    (Spec(axis=-3), (4, 3), {}, "axis=-3 names no axis of an input of shape (4, 3); use -2 to 1"),
    (Spec(axis=(1, 5)), (4, 3), {}, "axis=5 names no axis"),
    (Spec(axis=0), (), {}, "axis=0 names no axis of an input of shape ()"),
    (Spec(axis=(1, -1)), (4, 3), {}, "axis=(1, -1) must name at least one axis of (4, 3), and each one once"),
    (Spec(axis=()), (4, 3), {}, "axis=() must name at least one axis"),
    (Spec(virtual_batch_size=0), (4, 3), {}, "virtual_batch_size=0 is a number of rows; use a number ≥ 1, or None"),
    (Spec(virtual_batch_size=-2), (4, 3), {}, "virtual_batch_size=-2 is a number of rows"),
    (
        Spec(virtual_batch_size=3),
        (4, 3),
        {},
        "virtual_batch_size=3 does not divide the 4 rows of (4, 3); use a divisor",
    ),
    (Spec(virtual_batch_size=3), (4, 3), {"training": False}, "virtual_batch_size=3 does not divide"),
    (Spec(virtual_batch_size=3), (4, 3), {"training": False, "semantics": Semantics()}, "does not divide"),
    (
        Spec(virtual_batch_size=3),
        (4, 3),
        {"semantics": Semantics(indivisible_inference="accepted")},
        "does not divide",
    ),
    (Spec(axis=0, virtual_batch_size=2), (4, 3), {}, "virtual_batch_size=2 splits axis 0, which axis=0 keeps; keep"),
    (
        Spec(),
        (4, 3),
        {"kept": (4,)},
        "axis=-1 needs parameters and moving statistics of shape (3,), but they have (4,); axis names the axis that",
    ),
    (Spec(), (4, 3), {"mask": (3, 4)}, "a mask of shape (3, 4) does not say which values of (4, 3) count; give one"),
    (
        Spec(),
        (4, 3),
        {"mask": (4, 3), "semantics": Semantics(mask_offset=0.5, variance_mean="stopped")},
        "mask_offset=0.5 is not defined with variance_mean='stopped'; use mask_offset=0",
    ),
    (Spec(), (4, 3), {"mask": (3,)}, "give one of shape (4, 3) or (4,)"),
    (Spec(), (4, 3), {"mask": (4, 3, 1)}, "a mask of shape (4, 3, 1)"),
    (Spec(), (4, 3), {"mask": (4,), "semantics": Semantics(mask_rank="full")}, "a mask of shape (4,)"),
    (Spec(), (4, 3), {"mask": (4, 3), "semantics": Semantics(mask_rank="without_last")}, "a mask of shape (4, 3)"),
    (
        Spec(virtual_batch_size=2),
        (4, 3),
        {"adjustment": ((4, 1), (4, 1))},
        "virtual_batch_size=2 excludes an adjustment; leave one of them out",
    ),
    (Spec(), (4, 3), {"adjustment": ((4, 1), (2, 1))}, "an adjustment of shape (2, 1) does not fit (4, 3); give"),
    (Spec(), (4, 3), {"adjustment": ((1, 4, 3), (4, 3))}, "an adjustment of shape (1, 4, 3) does not fit"),
    (
        Spec(),
        (4, 3),
        {"adjustment": ((4, 1), (4, 1)), "semantics": Semantics(adjustment="refused")},
        "an adjustment of shapes ((4, 1), (4, 1)) is something this layer does not take; leave it out",
    ),
    (Spec(), (1, 3), {"semantics": Semantics(single_value="refused")}, "one value to average over; use more than 1"),
    (
        Spec(track=False),
        (1, 3),
        {"semantics": Semantics(single_value="identity")},
        "track=False is not defined with single_value='identity'; use track=True",
    ),
    (
        Spec(track=False),
        (4, 3),
        {"semantics": Semantics(training_statistics="moving")},
        "track=False is not defined with training_statistics='moving'; use track=True",
    ),
    (Spec(track=False, renorm=True), (4, 3), {"semantics": Semantics()}, "track=False is not defined with renorm=True"),
    (
        Spec(track=False, virtual_batch_size=2),
        (4, 3),
        {"semantics": Semantics()},
        "track=False is not defined with virtual_batch_size=2",
    ),
    (
        Spec(virtual_batch_size=1),
        (4, 3),
        {"semantics": Semantics(single_value="refused")},
        "an input of shape (4, 3) has one value to average over",
    ),
    (Spec(), (0, 3), {"semantics": Semantics(empty_batch="refused")}, "has no value to average over; use at least one"),
    (Spec(axis=1), (1, 3, 1), {"semantics": Semantics(single_value="refused")}, "one value to average over"),
    (Spec(virtual_batch_size=2), (0, 3), {"semantics": Semantics(empty_batch="refused")}, "no value to average over"),
    (Spec(epsilon=0.0), (4, 3), {"semantics": Semantics(zero_epsilon="refused")}, "epsilon=0 is refused in training"),
    (Spec(epsilon=-0.1), (4, 3), {"semantics": Semantics(zero_epsilon="refused")}, "epsilon=-0.1 is refused in"),
    (
        Spec(renorm_clipping=Clipping(rmin=2.0, rmax=1.5)),
        (4, 3),
        {"semantics": Semantics(reversed_clipping="refused")},
        "renorm_clipping rmax=1.5 is below rmin=2.0; swap them",
    ),
    (Spec(renorm=True), (4, 3), {"semantics": Semantics(average="zero_debiased")}, "is not defined with renorm=True"),
]

ACCEPTED: list[tuple[Spec, tuple[int, ...], dict[str, Any]]] = [
    (Spec(epsilon=0.0), (4, 3), {"semantics": Semantics()}),
    (Spec(epsilon=0.0), (4, 3), {"semantics": Semantics(zero_epsilon="refused"), "training": False}),
    (Spec(epsilon=1e-9), (4, 3), {"semantics": Semantics(zero_epsilon="refused")}),
    (Spec(epsilon=-1e-3), (4, 3), {"semantics": Semantics()}),
    (Spec(epsilon=-1e-3), (4, 3), {"semantics": Semantics(zero_epsilon="refused"), "training": False}),
    (Spec(epsilon=float("nan")), (4, 3), {}),
    (Spec(momentum=None), (4, 3), {}),
    (Spec(momentum=1.5), (4, 3), {}),
    (Spec(momentum=-0.1), (4, 3), {}),
    (Spec(momentum=0.0, renorm_momentum=1.0), (4, 3), {}),
    (Spec(momentum=1.0, renorm_momentum=0.0), (4, 3), {}),
    (Spec(axis=-2), (4, 3), {"kept": (4,)}),
    (Spec(axis=(0, 1)), (4, 3), {"kept": (4, 3)}),
    (Spec(virtual_batch_size=1), (4, 3), {"kept": (1, 1, 3)}),
    (Spec(virtual_batch_size=2), (0, 3), {"semantics": Semantics(empty_batch="keep")}),
    (Spec(virtual_batch_size=2), (4, 3), {"semantics": Semantics(single_value="refused")}),
    (Spec(virtual_batch_size=3), (4, 3), {"training": False, "semantics": Semantics(indivisible_inference="accepted")}),
    (Spec(), (1, 3), {"semantics": Semantics()}),
    (Spec(), (1, 3), {"semantics": Semantics(single_value="refused"), "training": False}),
    (Spec(), (2, 3), {"semantics": Semantics(single_value="refused")}),
    (Spec(), (1, 3), {"semantics": Semantics(single_value="identity")}),
    (Spec(track=False), (4, 3), {"semantics": Semantics()}),
    (Spec(), (1, 3, 2), {"semantics": Semantics(single_value="refused")}),
    (Spec(), (0, 3), {"semantics": Semantics()}),
    (Spec(), (1, 3), {"semantics": Semantics(empty_batch="refused")}),
    (Spec(), (4, 3), {"mask": (4,)}),
    (Spec(), (4, 3), {"mask": (4, 1)}),
    (Spec(), (4, 3), {"mask": (4, 3), "semantics": Semantics(mask_rank="full")}),
    (Spec(), (4, 3), {"mask": (4,), "semantics": Semantics(mask_rank="without_last")}),
    (Spec(), (4, 3), {"adjustment": ((3,), (4, 1)), "semantics": Semantics()}),
    (Spec(), (4, 3), {"adjustment": ((), (1, 1))}),
    (Spec(renorm_clipping=Clipping(rmin=2.0, rmax=1.5)), (4, 3), {"semantics": Semantics()}),
    (Spec(renorm_clipping=Clipping(2.0, 2.0, 0.0)), (4, 3), {"semantics": Semantics(reversed_clipping="refused")}),
    (Spec(renorm_clipping=Clipping(rmin=2.0)), (4, 3), {"semantics": Semantics(reversed_clipping="refused")}),
    (Spec(renorm_clipping=Clipping(rmax=0.0)), (4, 3), {"semantics": Semantics(reversed_clipping="refused")}),
    (Spec(renorm=True), (4, 3), {"semantics": Semantics()}),
    (Spec(), (4, 3), {"mask": (4, 3), "semantics": Semantics(variance_mean="stopped")}),
    (Spec(), (4, 3), {"mask": (4, 3), "semantics": Semantics(mask_offset=0.5)}),
    (Spec(), (4, 3), {"semantics": Semantics(mask_offset=0.5, variance_mean="stopped")}),
]


@pytest.mark.parametrize(("spec", "shape", "given", "message"), REFUSED)
def test_refused(spec: Spec, shape: tuple[int, ...], given: dict[str, Any], message: str) -> None:
    """What makes no sense is refused in one sentence with value, rule and fix."""
    with pytest.raises(Refusal, match=re.escape(message)):
        validate(spec, shape, **given)


@pytest.mark.parametrize(("spec", "shape", "given"), ACCEPTED)
def test_accepted(spec: Spec, shape: tuple[int, ...], given: dict[str, Any]) -> None:
    """What makes sense passes, to the edge of what is refused."""
    validate(spec, shape, **given)


FIX = r"; use \w+='(batch|exponential|inside|tf_1_15)'$"
UNDEFINED = [
    (Spec(renorm=True), Semantics(training_statistics="moving"), "training_statistics='moving'", "renorm=True"),
    (Spec(virtual_batch_size=2), Semantics(training_statistics="moving"), "'moving'", "virtual_batch_size=2"),
    (Spec(), Semantics(training_statistics="moving", moving_spread="stddev"), "'moving'", "moving_spread='stddev'"),
    (Spec(renorm=True), Semantics(average="zero_debiased"), "average='zero_debiased'", "renorm=True"),
    (Spec(renorm=True), Semantics(epsilon_placement="outside"), "epsilon_placement='outside'", "renorm=True"),
    (Spec(), Semantics(epsilon_placement="outside", moving_spread="stddev"), "'outside'", "moving_spread='stddev'"),
    (Spec(renorm=True, virtual_batch_size=2), Semantics(renorm="tf_1_7"), "renorm='tf_1_7'", "virtual_batch_size=2"),
]


@pytest.mark.parametrize(("spec", "semantics", "value", "other"), UNDEFINED)
def test_undefined_combinations(spec: Spec, semantics: Semantics, value: str, other: str) -> None:
    """Combinations that nobody defined are refused, each half alone is not."""
    with pytest.raises(Refusal, match=re.escape(value) + " is not defined with " + re.escape(other) + FIX):
        validate_semantics(spec, semantics)
    validate_semantics(Spec(), Semantics(renorm="tf_1_7", average="zero_debiased"))
    validate_semantics(Spec(), Semantics(training_statistics="moving", epsilon_placement="outside"))
    validate_semantics(Spec(virtual_batch_size=2), Semantics(renorm="tf_1_7"))
    validate_semantics(Spec(renorm=True, virtual_batch_size=2), Semantics(moving_spread="stddev"))
    validate_semantics(Spec(renorm=True), Semantics(renorm="tf_1_7"))


def test_clipping_knows_its_keys() -> None:
    """A dictionary of limits is read as Keras reads it, and an unknown key is refused by name."""
    assert clipping({"rmin": 0.5, "rmax": 2.0, "dmax": 1.0}) == Clipping(0.5, 2.0, 1.0)
    assert clipping({}) == Clipping()
    with pytest.raises(Refusal, match="the key 'rmaxx'; use only 'rmin', 'rmax' and 'dmax'"):
        clipping({"rmaxx": 2.0})


def test_defaults_are_those_of_tensorflow() -> None:
    """What is not said is what `tf.layers.batch_normalization` takes it to be."""
    said = Spec(-1, 1e-3, 0.99, True, True, True, None, False, None, 0.99)
    assert Spec() == said
    assert Semantics() == Semantics(
        "biased", "exponential", "batch", "batch", 0.0, 1.0, epsilon_floor=0.0, mask_offset=0
    )
    assert Clipping() == Clipping(None, None, None)


@pytest.mark.parametrize("promise", [Semantics(), TF_1_15, TF_1_15.fused, TF_KERAS, TF_KERAS.fused, TF_KERAS.plain])
def test_every_choice_is_a_listed_one(promise: Any) -> None:
    """Where a field names its values, what it is set to is one of them."""
    for name, hint in get_type_hints(type(promise)).items():
        if get_origin(hint) is Literal:
            assert getattr(promise, name) in get_args(hint), name


def test_conventions() -> None:
    """Updated fractions and reduced axes become kept ones; one that does not exist, or is there twice, is refused."""
    assert kept_momentum(0.1) == 0.9
    assert kept_momentum(None) is None
    assert kept_axis([0, -1], 4) == (1, 2)
    assert kept_axis([], 2) == (0, 1)
    assert kept_axis([-2, 1], 2) == ()
    for axis in (2, -3):
        with pytest.raises(Refusal, match=f"axis={axis} names no axis of an input of rank 2; use -2 to 1"):
            kept_axis([axis], 2)
    with pytest.raises(Refusal, match=r"axis=\[0, 1, -2\] names an axis of an input of rank 2 twice; name"):
        kept_axis([0, 1, -2], 2)


PLAIN = [
    (TF_1_15, Spec(), 3, "float32", {}),
    (TF_1_15, Spec(axis=2), 4, "float32", {}),
    (TF_1_15, Spec(axis=(1, 3)), 4, "float32", {}),
    (TF_1_15, Spec(renorm=True), 4, "float32", {"asked": True}),
    (TF_1_15, Spec(virtual_batch_size=2), 4, "float32", {"asked": True}),
    (TF_1_15, Spec(), 4, "float32", {"adjusted": True}),
    (TF_1_15, Spec(), 4, "float64", {"asked": False}),
    (TF_1_15, Spec(), 5, "float32", {}),
    (TF_KERAS, Spec(), 4, "float64", {}),
    (Paths(Semantics("unbiased"), Semantics(), channels="last"), Spec(axis=1), 4, "float32", {}),
]
FUSED = [
    (TF_1_15, Spec(), 4, "float32", {}),
    (TF_1_15, Spec(axis=(3,)), 4, "float16", {"asked": True}),
    (TF_1_15, Spec(axis=1), 4, "float32", {}),
    (TF_1_15, Spec(momentum=1.0), 4, "float32", {}),
    (TF_KERAS, Spec(axis=1), 4, "float32", {}),
    (TF_KERAS, Spec(axis=-1, momentum=0), 5, "float32", {"asked": True}),
    (Paths(Semantics("unbiased"), Semantics(), channels="last"), Spec(), 4, "float32", {}),
]


@pytest.mark.parametrize(("paths", "spec", "rank", "dtype", "given"), PLAIN + FUSED)
def test_paths(paths: Paths, spec: Spec, rank: int, dtype: str, given: dict[str, Any]) -> None:
    """The fused path stores the unbiased variance, and is taken by rank, axis and dtype."""
    expected = paths.fused if (paths, spec, rank, dtype, given) in FUSED else paths.plain
    assert paths.taken(spec, rank, dtype, **given) == expected
    assert (expected.stored_variance == "unbiased") == (expected == paths.fused)


@pytest.mark.parametrize(
    ("paths", "spec", "rank", "dtype", "asked", "message"),
    [
        (TF_1_15, Spec(), 4, "float64", None, "fused takes no float64; use fused=False"),
        (TF_1_15, Spec(momentum=1), 4, "float32", None, "momentum=1 is an integer, which fused does not take; use 1.0"),
        (TF_KERAS, Spec(), 3, "float32", True, "fused=True has no fused path for rank 3 with axis=-1; use fused=None"),
    ],
)
def test_paths_refuse(paths: Paths, spec: Spec, rank: int, dtype: str, asked: bool | None, message: str) -> None:
    """What a fused path cannot do is refused in one sentence."""
    with pytest.raises(Refusal, match=re.escape(message)):
        paths.taken(spec, rank, dtype, asked=asked)


def test_measured_layers() -> None:
    """TF 1.15 floors epsilon where fused, tf_keras does not; both round the fraction; frozen means what it does."""
    assert (TF_1_15.fused.epsilon_floor, TF_KERAS.fused.epsilon_floor) == (1.001e-5, 0)
    assert {p.fraction_dtype for t in (TF_1_15, TF_KERAS) for p in (t.fused, t.plain)} == {"float32"}
    assert {t.fused.fraction_rounded for t in (TF_1_15, TF_KERAS)} == {"momentum"}
    assert [t.plain.frozen for t in (TF_1_15, TF_KERAS)] == ["batch", "infer"]
    assert [t.fused.frozen for t in (TF_1_15, TF_KERAS)] == ["batch", "infer"]
