"""Things handed over as another type: the same value and dtype, and a fault that nothing else finds."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from plain_numpy import TwoPass, asked, judged

from conformance.cases.handed import HANDED
from conformance.hosts import worker
from conformance.model.case import Actions, Case, Derivative, Step, case_id, content
from conformance.model.case_facts import every_step
from conformance.model.codec import case_from_json, case_to_json, check
from conformance.model.statement import stated
from reference import Spec

OLD = stated({"id": "old.bn", "packages": [], "documentation": "", "conventions": {}}, "old")


class WidenedByEpsilon(TwoPass):
    """Adds epsilon as it is: NumPy promotes what a float64 scalar meets, and no Python number."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        for out, take in TwoPass.steps(self, case):
            wide = np.result_type(out["y"], case.native["epsilon"])
            yield dict(out, y=out["y"].astype(wide)), take


class MeanInTheDtypeOfX(TwoPass):
    """Cuts the mean to a whole number where x is one, as TensorFlow's moments do."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        self.given = case.steps[0].x.dtype
        return TwoPass.steps(self, case)

    def mean(self, array):
        """Return the mean over the averaged axes."""
        mean = TwoPass.mean(self, array)
        return mean if self.given.kind == "c" else mean.astype(self.given).astype(array.dtype)


class SquaresOfBytes(MeanInTheDtypeOfX):
    """Squares bytes before they are floats, as JAX's standardize does."""

    def mean(self, array):
        """Return the mean over the averaged axes."""
        return TwoPass.mean(self, array)

    def moments(self, x):
        """Return mean and variance."""
        mean, variance = TwoPass.moments(self, x)
        squares = np.square(x.astype(self.given)).astype(x.dtype)
        return mean, self.mean(squares) - mean * mean if self.given == np.uint8 else variance


class SquaresOfEightBits(SquaresOfBytes):
    """Squares eight bits in these, as jax.numpy does."""

    def moments(self, x):
        """Return mean and variance."""
        mean, variance = TwoPass.moments(self, x)
        if not self.given.name.startswith("float8"):
            return mean, variance
        return mean, self.mean(np.square(x.astype(self.given)).astype(x.dtype)) - mean * mean


class Unconjugated(TwoPass):
    """Squares complex deviations, as dm-haiku does."""

    def moments(self, x):
        """Return mean and variance."""
        mean = self.mean(x)
        return mean, self.mean(np.square(x - mean))


class RealMovingMean(TwoPass):
    """Keeps the real part of the mean, as nnx does."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        for out, take in TwoPass.steps(self, case):
            yield dict(out, moving_mean=out["moving_mean"].real), take


FOUND = [
    (WidenedByEpsilon, ["float64 scalars"]),
    (MeanInTheDtypeOfX, ["integer input", "uint8 input", "float8 input", "bool input"]),
    (SquaresOfBytes, ["uint8 input"]),
    (SquaresOfEightBits, ["float8 input"]),
    (Unconjugated, ["complex input"]),
    (RealMovingMean, ["complex input"]),
]


@pytest.mark.parametrize(("kind", "found_by"), FOUND)
def test_faults_that_nothing_else_finds(kind, found_by):
    """Who lets the dtype of epsilon into y, or that of x into a mean or square, fails where these differ alone."""
    others = ("", "mixed dtypes", "constants", "own start", "many steps")
    failing = [f for f in (*HANDED, *others) if any(r.verdict == "FAIL" for e in asked(f) for r in judged(kind, e))]
    assert failing == found_by


@pytest.mark.parametrize("feature", HANDED)
def test_plain_numpy_passes(feature):
    """The calibration subject takes each number for what it is."""
    found = [r for e in asked(feature) for r in judged(TwoPass, e)]
    assert found
    assert {r.verdict for r in found} == {"PASS"}


def plain():
    """Return a case of one step."""
    x = np.float32([[1, 2], [4, 3]])
    one = np.ones(2, np.float32)
    layer = {"gamma": one, "beta": 0 * one, "moving_mean": 0 * one, "moving_variance": one}
    return Case(Spec(axis=1, epsilon=0.25, momentum=0.75), (Step("train"),), tensors={"0.x": x, **layer})


@pytest.mark.parametrize(
    ("scalars", "kind"),
    [("number", float), ("float64", np.float64), ("float32", np.float32), ("array", np.ndarray)],
)
@pytest.mark.parametrize("convention", ["kept", "updated"])
def test_numbers_come_as_the_type_asked_for(scalars, kind, convention):
    """Both constants have that type and the value of the case, by either convention, and no others share a program."""
    case = msgspec.structs.replace(plain(), actions=Actions(scalars=scalars))
    statement = {"conventions": {"momentum": convention}}
    seen = worker.Case(content(case), case.tensors, statement)
    numbers = [seen.native[name] for name in ("momentum", "epsilon")]
    assert [type(number) for number in numbers] == [kind, kind]
    assert [float(number) for number in numbers] == [0.75 if convention == "kept" else 0.25, 0.25]
    assert all(np.ndim(number) == 0 for number in numbers)
    keys = {worker.Case(content(c), c.tensors, statement).static(traced=("actions",)).key for c in (plain(), case)}
    assert len(keys) == (1 if scalars == "number" else 2)


@pytest.mark.parametrize(
    ("dtype", "values"), [("int32", [-3, 7]), ("uint8", [0, 255]), ("bool", [0, 1]), ("float8_e5m2", [-0.25, 448])]
)
def test_x_comes_in_the_dtype_asked_for(dtype, values):
    """It has the values of the case, is laid out as it says, and is kept as it was unless someone writes to it."""
    case = whole(dtype, values)
    check(case)
    seen = worker.Case(content(case), case.tensors, TwoPass.statement)
    x = seen.steps[0].x
    assert (x.dtype.name, x.tolist(), x.strides) == (dtype, [values], (2 * x.itemsize * 2, 2 * x.itemsize))
    assert not seen.spoiled(0)
    x[0, 0] = not values[0]
    assert seen.spoiled(0) == ["0.x"]


@pytest.mark.parametrize(
    ("dtype", "values"), [("int32", [0.5, 1]), ("uint8", [-1, 1]), ("bool", [0, 2]), ("float8_e4m3fn", [1, 17])]
)
def test_what_a_dtype_cannot_hold_is_no_case(dtype, values):
    """It would be asked something else than what is judged."""
    with pytest.raises(ValueError, match=f"0.x has values that {dtype} has not"):
        check(whole(dtype, values))


def test_i_x_is_handed_over_and_what_is_answered_turned_back():
    """The real part of x is 0, y and means are turned by -i, variances are not, and NaN stands where a part is left."""
    case = whole("complex64", [-3, 7])
    check(case)
    seen = worker.Case(content(case), case.tensors, TwoPass.statement)
    assert seen.steps[0].x.tolist() == [[-3j, 7j]]
    assert not seen.spoiled(0)
    answers = {"y": [2j, 1 + 2j, 1], "moving_mean": [0j, -1j, 3], "moving_variance": [2, 2 + 1j, 1j]}
    turned = {name: seen.turned(name, np.complex64(array)) for name, array in answers.items()}
    assert {name: str(array.dtype) for name, array in turned.items()} == dict.fromkeys(answers, "float32")
    np.testing.assert_equal(turned["y"], np.float32([2, np.nan, np.nan]))
    np.testing.assert_equal(turned["moving_mean"], np.float32([0, -1, np.nan]))
    np.testing.assert_equal(turned["moving_variance"], np.float32([2, np.nan, np.nan]))
    assert seen.turned("y", np.float32([0, 1])).tolist()[0] == 0  # the imaginary part is gone, and no error shows it


@pytest.mark.parametrize(("name", "said"), [("beta", "beta is not 0"), ("moving_mean", "moving_mean is not 0")])
def test_what_does_not_turn_with_x_is_no_case(name, said):
    """Nothing that is added to x may be given; and gradients have no convention that all share."""
    case = whole("complex64", [-3, 7])
    with pytest.raises(ValueError, match=said):
        check(msgspec.structs.replace(case, tensors=case.tensors | {name: np.ones(2, np.float32)}))
    tensors = case.tensors | {"0.dy": case.x(0)}
    with pytest.raises(ValueError, match="gradients are asked for"):
        check(msgspec.structs.replace(case, tensors=tensors, steps=(Step("train", derivatives=(Derivative(),)),)))


def whole(dtype, values):
    """Return a case of one row, handed over in a dtype and by every second place of memory."""
    x = np.float32([values])
    return msgspec.structs.replace(
        plain(), tensors=plain().tensors | {"0.x": x}, layout="strided", actions=Actions(input=dtype)
    )


def test_old_adapters_are_not_asked_and_old_cases_are_as_they_were():
    """The field is spelled out only where it says something, and read again."""
    told = msgspec.structs.replace(plain(), actions=Actions(scalars="float64"))
    assert "scalars" not in content(plain())["actions"]
    assert content(told)["actions"]["scalars"] == "float64"
    assert case_from_json(case_to_json(told)).actions == told.actions
    assert case_id(told) != case_id(plain())
    assert OLD.unsupported(*every_step(whole("bool", [0, 1]))) == "input is bool; supported: stored"
    assert OLD.unsupported(*every_step(told)) == "scalars is float64; supported: number"
    assert not OLD.unsupported(*every_step(plain()))
