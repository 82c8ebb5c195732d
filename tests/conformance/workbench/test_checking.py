"""Arrays of one's own: right ones pass, wrong ones are told with the output, the element and what they look like."""

from __future__ import annotations

import inspect
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import conformance
from conformance import assert_conforms, check, expected
from reference import Semantics

RNG = np.random.default_rng(7)
X = (RNG.normal(size=(64, 3)) * [1.0, 2.0, 0.5] + [0.0, 3.0, -1.0]).astype(np.float32)
DY = RNG.normal(size=X.shape).astype(np.float32)
LAYER = {
    "gamma": np.array([1.5, -0.5, 2.0], np.float32),
    "beta": np.array([0.25, 1.0, -3.0], np.float32),
    "moving_mean": np.array([0.5, 2.0, 0.0], np.float32),
    "moving_variance": np.array([1.0, 3.0, 0.5], np.float32),
}
WORDS = {"axis": 1, "epsilon": 1e-3, "momentum": 0.9, **LAYER}
N = len(X)


def layer(x=X, *, epsilon=1e-3, kept=0.9, training=True, of=LAYER, unbiased=False):
    """Return what a layer gives: y, gradients and statistics, computed in double and rounded once."""
    x, dy, one = x.astype(float), DY.astype(float), {name: array.astype(float) for name, array in of.items()}
    mean, variance = (x.mean(0), x.var(0)) if training else (one["moving_mean"], one["moving_variance"])
    r = 1 / np.sqrt(variance + epsilon)
    z = (x - mean) * r
    found = {"y": one["gamma"] * z + one["beta"], "dgamma": (dy * z).sum(0), "dbeta": dy.sum(0)}
    centered = dy - dy.mean(0) - z * (dy * z).mean(0) if training else dy
    found["dx"] = one["gamma"] * r * centered
    if training:
        stored = variance * (N / (N - 1) if unbiased else 1)
        found |= {"mean": mean, "variance": variance}
        found["moving_mean"] = kept * one["moving_mean"] + (1 - kept) * mean
        found["moving_variance"] = kept * one["moving_variance"] + (1 - kept) * stored
    return {name: array.astype(np.float32) for name, array in found.items()}


def report(outputs, **words):
    """Return the report on outputs of the layer."""
    return check(outputs, X, **{**WORDS, "dy": DY, **words})


@pytest.mark.parametrize("training", [True, False])
def test_a_right_layer_conforms(training):
    """Of a training step and of inference every output conforms, and all of them are told."""
    outputs = layer(training=training)
    found = report(outputs, training=training)
    assert found.ok, str(found)
    assert set(found.rho) == set(outputs)
    assert str(found).startswith("all outputs conform; held to numpy.two_pass")
    assert_conforms(outputs, X, **WORDS, dy=DY, training=training)


def test_several_steps_are_checked_by_passing_the_state_on():
    """What a step returned is what the next begins with; a step that began elsewhere is wrong."""
    first = layer()
    moved = {**LAYER, **{name: first[name] for name in ("moving_mean", "moving_variance")}}
    second = layer(of=moved)
    assert check(second, X, **{**WORDS, **moved}, dy=DY).ok
    assert not check(second, X, **WORDS, dy=DY).ok


def test_torch_keeps_the_unbiased_variance():
    """Semantics by a family's name, by an implementation's, and as they are."""
    outputs = layer(unbiased=True)
    for semantics in ("torch", "torch.nn.BatchNorm1d", Semantics(stored_variance="unbiased")):
        assert report(outputs, semantics=semantics).ok
    found = report(outputs)
    assert [name for name, one in found.outputs.items() if one.verdict == "FAIL"] == ["moving_variance"]
    assert "as if the moving variance stores the unbiased variance, of N - 1" in str(found)


def put(name, index, value):
    """Return the layer's outputs with a value put somewhere."""
    outputs = layer()
    outputs[name] = outputs[name].copy()
    outputs[name][index] = value
    return outputs


def only(name, array):
    """Return the layer's outputs with another array."""
    return {**layer(), name: np.asarray(array, np.float32)}


def _rounded(array):
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


RIGHT = layer()
LEFT_OUT = {**LAYER, "gamma": np.ones(3)}, {**LAYER, "beta": np.zeros(3)}, {**LAYER, "gamma": 1 + LAYER["gamma"]}
EXCHANGED = {**LAYER, "gamma": LAYER["beta"], "beta": LAYER["gamma"]}
R = 1 / np.sqrt(X.astype(float).var(0) + 1e-3)
BY_N_1 = LAYER["gamma"] * (X - X.mean(0)) / np.sqrt(X.astype(float).var(0, ddof=1) + 1e-3) + LAYER["beta"]
OUTSIDE = LAYER["gamma"] * (X - X.mean(0)) / (X.astype(float).std(0) + 1e-3) + LAYER["beta"]

WRONG = {
    "no epsilon": (only("y", layer(epsilon=0.0)["y"]), "y", "epsilon is left out (in y alone)"),
    "another epsilon": (
        only("y", layer(epsilon=1e-5)["y"]),
        "y",
        "epsilon is 1e-05, whatever is asked for (in y alone)",
    ),
    "epsilon outside": (only("y", OUTSIDE), "y", "epsilon is added outside the root (in y alone)"),
    "momentum": (layer(kept=0.1), "moving_mean", "momentum is inverted: what should be kept enters"),
    "not moved": (layer(kept=1.0), "moving_variance", "the moving statistics are not moved"),
    "by n - 1": (only("y", BY_N_1), "y", "it normalizes by the variance of N - 1 (in y alone)"),
    "no gamma": (only("y", layer(of=LEFT_OUT[0])["y"]), "y", "gamma is left out (in y alone)"),
    "no beta": (only("y", layer(of=LEFT_OUT[1])["y"]), "y", "beta is left out"),
    "1 + gamma": (only("y", layer(of=LEFT_OUT[2])["y"]), "y", "gamma is taken for 1 + gamma (in y alone)"),
    "exchanged": (only("y", layer(of=EXCHANGED)["y"]), "y", "gamma and beta are exchanged (in y alone)"),
    "moving": (only("y", layer(training=False)["y"]), "y", "training normalizes by the moving statistics (in y alone)"),
    "a mean": (only("dgamma", RIGHT["dgamma"] / N), "dgamma", "dgamma is a mean, not a sum"),
    "reversed": (only("dbeta", -RIGHT["dbeta"]), "dbeta", "dbeta has the other sign"),
    "half": (only("dx", RIGHT["dx"] / 2), "dx", "dx is half of what is right"),
    "constants": (
        only("dx", LAYER["gamma"] * R * DY),
        "dx",
        "mean and variance are stopped: the gradient takes them for constants",
    ),
    "unbiased": (
        only("variance", X.astype(float).var(0, ddof=1)),
        "variance",
        "the variance is that of N - 1 (in variance alone)",
    ),
    "zeros": (only("dx", 0 * DY), "dx", "dx is not computed: it is 0 everywhere"),
    "bfloat16": (only("y", _rounded(RIGHT["y"])), "y", "y is rounded to bfloat16"),
    "the tail": (put("y", np.s_[60:], 0.0), "y", "in every channel, from its value 60 on"),
    "one element": (put("y", (63, 2), 7.0), "y", "in channel 2 alone, at its value 63 of 64"),
    "one channel": (put("dx", np.s_[:, 1], 9.0), "dx", "in channel 1 alone, at every value"),
    "every 32nd": (put("dx", np.s_[::32], 9.0), "dx", "in every channel, at every 32th value, from 0 on"),
    "NaN": (put("mean", 1, np.nan), "mean", "in 1 of 3 channels: 1"),
}


@pytest.mark.parametrize(("outputs", "name", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_output_is_told_with_its_element_and_its_cause(outputs, name, said):
    """The text names the output, the worst element, what it is and should be, and what it looks like."""
    found = report(outputs)
    assert not found.ok
    assert found.outputs[name].verdict == "FAIL"
    text, worst = str(found), found.outputs[name].worst
    assert f"{name}: WRONG" in text
    assert f"{name}[{', '.join(map(str, worst.index))}] is {worst.got}, expected {worst.expected} ± " in text
    assert said in text
    with pytest.raises(AssertionError, match=f"{name}: WRONG"):
        assert_conforms(outputs, X, **WORDS, dy=DY)


def test_the_wrong_axis_is_told():
    """A square batch normalized over the wrong axis looks as if the other one were kept."""
    x = RNG.normal(size=(5, 5)).astype(np.float32)
    y = ((x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + np.float32(1e-3))).astype(np.float32)
    assert "as if it normalizes over the wrong axis: it keeps axis 0" in str(check({"y": y}, x, axis=1, epsilon=1e-3))


def test_a_fast_variance_is_wrong_where_it_cancels_unless_it_was_said():
    """E[x²] - E[x]² of values far from 0 conforms if numerics say so; if not, the text says what it looks like."""
    x = (X + 100).astype(np.float32)
    mean = x.mean(0)
    variance = (x * x).mean(0) - mean * mean
    y = (x - mean) / np.sqrt(variance + np.float32(1e-3))
    found = check({"y": y}, x, axis=1, epsilon=1e-3)
    assert "as if the variance is E[x²] - E[x]² (variance: fast)" in str(found)
    assert check({"y": y}, x, axis=1, epsilon=1e-3, numerics={"variance": "fast"}).ok


def test_two_faults_are_told_one_by_one():
    """Where no single change explains all that is wrong, each output has its own."""
    outputs = {**only("y", layer(epsilon=0.0)["y"]), "dbeta": -RIGHT["dbeta"]}
    text = str(report(outputs))
    assert "as if epsilon is left out (in y alone) (of y)" in text
    assert "as if dbeta has the other sign (of dbeta)" in text


def test_what_is_expected_is_what_conforms():
    """The values of `expected`, rounded, conform; a bound more than what is allowed does not."""
    wanted = expected(X, **WORDS, dy=DY)
    assert set(wanted) == set(layer())
    rounded = {name: one.value.astype(one.dtype) for name, one in wanted.items()}
    assert report(rounded).ok
    for name, one in wanted.items():
        off = {**rounded, name: (one.value + 2 * one.allowed).astype(one.dtype)}
        assert report(off).outputs[name].verdict == "FAIL", name


def test_what_was_not_given_is_said():
    """An output that was left out is named, and an empty answer is no answer."""
    found = report({"y": RIGHT["y"]})
    assert found.ok
    assert found.not_compared == ("dx", "dgamma", "dbeta", "mean", "variance", "moving_mean", "moving_variance")
    assert "Not given, and not compared: dx, " in str(found)


def test_a_mask_and_a_cumulative_mean_are_words_too():
    """What a mask leaves out counts for nothing, and momentum None means the mean of all batches."""
    mask = np.arange(N) % 3 != 0
    kept = X[mask].astype(float)
    mean = (LAYER["moving_mean"].astype(float) * 2 + kept.mean(0)) / 3
    words = {**WORDS, "momentum": None, "batches": 2, "mask": mask[:, None]}
    assert check({"moving_mean": mean.astype(np.float32)}, X, **words).ok
    assert not check({"moving_mean": mean.astype(np.float32)}, X, **{**words, "batches": 1}).ok


BAD = {
    "no output": ({"z": RIGHT["y"]}, {}, "'z' is no output; did you mean"),
    "nothing": ({}, {}, "outputs is empty; give what the layer returned"),
    "gamma's shape": (
        {"y": RIGHT["y"]},
        {"gamma": np.ones(4, np.float32)},
        r"gamma has the shape \(4,\); .* must be \(3,\)",
    ),
    "axis": ({"y": RIGHT["y"]}, {"axis": 2}, "axis=2 names no axis of an input of shape"),
    "axis of words": ({"y": RIGHT["y"]}, {"axis": "channels"}, "axis='channels' is no integer"),
    "epsilon": ({"y": RIGHT["y"]}, {"epsilon": "small"}, "epsilon='small' is no number"),
    "integers": ({"y": np.ones((64, 3), int)}, {}, r"outputs\['y'\] is of int64; give one of float16, "),
    "objects": ({"y": np.array([[None]])}, {}, "numpy.ndarray, which is no array of numbers"),
    "float8": ({"y": RIGHT["y"].astype(ml_dtypes.float8_e4m3fn)}, {}, "is of float8_e4m3fn; give one of"),
    "no dy": ({"dx": RIGHT["dx"]}, {"dy": None}, "dx is a gradient; give dy"),
    "dy's shape": ({"y": RIGHT["y"]}, {"dy": DY[:5]}, r"dy has the shape \(5, 3\), and x \(64, 3\)"),
    "no gamma": ({"dgamma": RIGHT["dgamma"]}, {"gamma": None}, "dgamma is the gradient of gamma; give gamma"),
    "half a state": ({"y": RIGHT["y"]}, {"moving_mean": None}, "moving_mean and moving_variance belong together"),
    "no state": (
        {"y": RIGHT["y"]},
        {"training": False, "moving_mean": None, "moving_variance": None},
        "give moving_mean",
    ),
    "a batch's mean": ({"mean": RIGHT["mean"]}, {"training": False}, "mean is of a training step's batch"),
    "a tangent": ({"y_tangent": RIGHT["y"]}, {}, "y_tangent is a derivative along a tangent"),
    "two dtypes": ({"y": RIGHT["y"]}, {"beta": np.ones(3)}, "gamma and beta are of float32 and float64"),
    "a stranger": (
        {"y": RIGHT["y"]},
        {"semantics": "pytorch"},
        "semantics='pytorch' is neither .* did you mean 'torch'",
    ),
    "numerics": ({"y": RIGHT["y"]}, {"numerics": {"variance": "quick"}}, "numerics: .*quick"),
}


@pytest.mark.parametrize(("outputs", "words", "said"), BAD.values(), ids=BAD.keys())
def test_what_makes_no_sense_is_said_in_one_sentence(outputs, words, said):
    """A ValueError names the value, the rule and the fix."""
    with pytest.raises(ValueError, match=said) as caught:
        report(outputs, **words)
    assert "\n" not in str(caught.value)


def test_momentum_is_asked_for_where_it_matters():
    """A moving mean without momentum is refused, as frameworks disagree about what it means."""
    with pytest.raises(ValueError, match=r"moved by momentum; give momentum, the fraction that is kept \(torch's 0.1"):
        check({"moving_mean": RIGHT["moving_mean"]}, X, axis=1, epsilon=1e-3)


def test_a_misspelt_word_is_told_the_nearest():
    """As Python does for its own functions, with all the words there are."""
    with pytest.raises(
        TypeError, match=r"check\(\) takes no 'eps'; did you mean 'epsilon'\? all of them: axis, epsilon"
    ):
        check({"y": RIGHT["y"]}, X, axis=1, eps=1e-3)
    assert list(inspect.signature(assert_conforms).parameters)[:4] == ["outputs", "x", "axis", "epsilon"]


def test_nothing_is_written_to():
    """Arrays that cannot be written to are read as well, and none has changed."""
    outputs, given = layer(), {name: array.copy() for name, array in LAYER.items()}
    for array in (*outputs.values(), *given.values()):
        array.flags.writeable = False
    assert check(outputs, X, **{**WORDS, **given}, dy=DY).ok


def test_a_notebook_gets_a_table():
    """With every output in a row, what is wrong, and nothing unescaped."""
    page = report(WRONG["no epsilon"][0])._repr_html_()
    assert page.count("<tr>") == len(RIGHT) + 1
    assert "epsilon is left out (in y alone)" in page
    assert "FAIL" in page


def test_the_package_stays_light():
    """Neither `import conformance` nor its three names load a framework, Hypothesis or what commands need."""
    heavy = {"torch", "jax", "tensorflow", "hypothesis", "rich", "click", "jinja2"}
    code = (
        "import sys, conformance; light = set(sys.modules); from conformance import check, expected, assert_conforms;"
        f"print(sorted(({heavy} | {{'numpy'}}) & light), sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] []"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = conformance.nothing
