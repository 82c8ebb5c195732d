"""What shipped divergences predict of wrong values: that value is explained, and another wrong one is not."""

from __future__ import annotations

import functools

import msgspec
import numpy as np
import pytest

from conformance.cases import corpus
from conformance.gate import divergences, predicted
from conformance.gate.explanation import FailedAnswer
from conformance.hosts.roster import select
from conformance.judging.exact_case import ExactCase
from conformance.judging.judgment import judge
from conformance.model.case import Actions, Case, Derivative, Step
from conformance.model.outcome import Outputs, Refused, Reply
from conformance.model.results import ImplementationRecord
from reference import Spec

EPSILON, KEPT = 1e-3, 0.5
ROWS = np.array([[1.0, -2.0], [2.0, 0.5], [4.0, 3.0], [-3.0, 7.0]], np.float32)
WAYS = {
    "forward": Derivative(2, "forward"),
    "third": Derivative(3),
    "reverse": Derivative(),
}


@functools.cache
def known(name):
    """Return the divergence of that name that comes with the suite."""
    return next(divergence for divergence in divergences.read() if divergence.id == name)


def case(*modes, x=ROWS, axis=1, given=True, derivative="", **tensors):
    """Return a case of these steps on one input, with dy and a tangent where a derivative is asked for."""
    wanted = (WAYS[derivative],) if derivative else ()
    found = dict(tensors)
    for t in range(len(modes)):
        found[f"{t}.x"] = x
        if derivative:
            found |= {f"{t}.dy": np.sin(x), f"{t}.tangent": np.cos(x)}
        if derivative == "reverse":
            del found[f"{t}.tangent"]
    if given:
        found = {
            "moving_mean": np.array([0.5, 0.25], x.dtype),
            "moving_variance": np.array([1.5, 2.0], x.dtype),
        } | found
    steps = tuple(Step(mode=mode, derivatives=wanted) for mode in modes)
    affine = {"center": "beta" in found, "scale": "gamma" in found}
    return Case(spec=Spec(axis=axis, epsilon=EPSILON, momentum=KEPT, **affine), steps=steps, tensors=found)


def kinds(name, implementation, asked, *outputs):
    """Return what the divergence says of each failure, by step and output, of an answer with these outputs."""
    (entry,) = select((implementation,))
    statement = msgspec.to_builtins(entry.statement)
    versions = {package: wanted.split(",")[0].lstrip(">=") for package, wanted in known(name).versions.items()}
    record = ImplementationRecord(entry.id, entry.statement.framework, "", True, statement=statement, versions=versions)
    exact_case, answers = ExactCase(asked), tuple(Outputs(arrays) for arrays in outputs)
    reply = Reply(0, entry.id, answers)
    failures = [
        r for r in judge("", exact_case, entry.statement, reply) if r.failed and r.reason != "the output is missing"
    ]
    explained = FailedAnswer(record, exact_case, reply).explained(failures, [known(name)])
    return {(e.result.step, e.result.output): e.kind for e in explained}


def normalized(x, mean, variance):
    """Return (x - mean) / sqrt(variance + epsilon)."""
    return ((x - mean) / np.sqrt(variance + np.float32(EPSILON))).astype(x.dtype)


def only(name, implementation, asked, output, wrong, *, step=0, before=(), other=1.01):
    """Check that this wrong value is explained, and that the same times `other` is not."""
    for value, kind in ((wrong, "explained"), (wrong * np.asarray(other, wrong.dtype), "changed")):
        assert kinds(name, implementation, asked, *before, {output: value})[step, output] == kind


def test_inference_by_what_init_saw_is_explained_and_no_other_inference():
    """haiku infers before its first step by the statistics of the batch that init saw; not by others."""
    asked = case("infer", given=False)
    wrong = normalized(ROWS, ROWS.mean(0), ROWS.var(0))
    only("haiku-infers-by-what-init-saw", "haiku.BatchNorm", asked, "y", wrong)


def test_inference_blended_with_its_own_batch_is_explained_and_no_other():
    """The evaluator of opset 9 normalizes by half the moving statistics and half its batch's, as momentum says."""
    asked = case("infer")
    mean, variance = (KEPT * asked.tensors[f"moving_{n}"] + KEPT * f(0) for n, f in
                      (("mean", ROWS.mean), ("variance", ROWS.var)))  # fmt: skip
    only("onnx-evaluator-opset-9-blends", "onnx.reference.BatchNormalization+opset9", asked, "y",
         normalized(ROWS, mean, variance))  # fmt: skip


def test_a_constant_overwritten_by_the_moving_variance_is_explained_and_no_other():
    """A gamma that equals the moving variance becomes the new one; the right y times anything else is not that."""
    gamma = np.array([1.5, 2.0], np.float32)
    asked = case("train", gamma=gamma, beta=np.array([3.0, -1.0], np.float32))
    z, new = normalized(ROWS, ROWS.mean(0), ROWS.var(0)), KEPT * gamma + KEPT * ROWS.var(0)
    name, implementation = "onnxruntime-only-y-requested", "onnxruntime.BatchNormalization+opset15+y_only"
    only(name, implementation, asked, "y", z * new.astype(np.float32) + asked.tensors["beta"])
    apart = case("train", gamma=gamma + 1, beta=asked.tensors["beta"])
    y = z * new.astype(np.float32) + asked.tensors["beta"]
    assert kinds(name, implementation, apart, {"y": y}) == {(0, "y"): "changed"}


def test_statistics_of_all_channels_of_a_vector_are_explained_and_no_others():
    """One mean and one variance of all in rank 1 is what Keras on torch takes; another is not explained."""
    x = np.array([1.0, -2.0, 4.0], np.float32)
    moving = {"moving_mean": np.zeros(3, np.float32), "moving_variance": np.ones(3, np.float32)}
    asked = case("train", x=x, axis=0, given=False, **moving)
    name, implementation = "keras-torch-rank-1-without-parameters", "keras.BatchNormalization+torch"
    only(name, implementation, asked, "y", normalized(x, x.mean(), x.var()))
    moved = np.full(3, KEPT * x.mean(), np.float32)
    only(name, implementation, asked, "moving_mean", moved)


def test_a_variance_of_squared_weights_is_explained_and_no_other():
    """tf_keras +synchronized has sum((w x)²) / sum(w) - mean²; its y, moving variance and dx are that one's, or red."""
    weights = np.array([1.0, 0.5, 2.0, 0.25], np.float32)
    asked = case("train", derivative="reverse", **{"0.mask": weights})
    w, dy, n = weights[:, None], asked.tensors["0.dy"], weights.sum()
    mean = (w * ROWS).sum(0) / n
    variance = ((w * ROWS) ** 2).sum(0) / n - mean**2
    assert (variance > 0).all()
    name, implementation = "tf-keras-synchronized-squares-weights", "tf_keras.BatchNormalization+synchronized"
    only(name, implementation, asked, "y", normalized(ROWS, mean, variance))
    only(name, implementation, asked, "moving_variance",
         (KEPT * asked.tensors["moving_variance"] + KEPT * variance).astype(np.float32))  # fmt: skip
    r, d = 1 / np.sqrt(variance + EPSILON), ROWS - mean
    of_variance = r**2 * (dy * d).sum(0) * (w**2 * ROWS - w * mean) / n
    only(name, implementation, asked, "dx", (r * (dy - w * dy.sum(0) / n - of_variance)).astype(np.float32))


def test_nan_from_zero_times_what_is_not_finite_is_explained_and_no_number():
    """A gradient of inference is NaN where the batch's variance is; a wrong number, or NaN elsewhere, is red."""
    x = ROWS.copy()
    x[1, 0] = np.nan
    asked = case("infer", x=x, derivative="reverse", **{"0.dy": np.ones_like(x)})
    asked.tensors["0.dy"] = np.ones_like(x)
    name, implementation = "tf-cond-multiplies-nan-by-zero", "tf_keras.BatchNormalization+graph"
    right = np.ones_like(x) / np.sqrt(asked.tensors["moving_variance"] + np.float32(EPSILON))
    wrong = right.copy()
    wrong[:, 0] = np.nan
    assert set(kinds(name, implementation, asked, {"dx": wrong}).values()) == {"explained"}
    for at, value in (((2, 1), np.nan), ((2, 0), 7.0), ((2, 1), 7.0)):
        other = wrong.copy()
        other[at] = value
        assert kinds(name, implementation, asked, {"dx": other})[0, "dx"] == "changed"


def _of_constants(asked, which):
    """Return what torch's formulas give at x + t X, mean and r being those of x: their derivative by difference."""
    x, along = asked.x(0).astype(np.float64), asked.tensors["0.tangent"].astype(np.float64)
    dy, n = asked.tensors["0.dy"].astype(np.float64), len(x)
    mean, r = x.mean(0), 1 / np.sqrt(x.var(0) + EPSILON)

    def jvp(x):
        d, away = x - mean, along - along.mean(0)
        return away * r - d * r**3 * (away * d).mean(0)

    def twice(x):
        """The double backward, contracted with the tangent."""
        d = x - mean
        c, b = (dy * d).sum(0), (along * d).sum(0)
        inner = along.sum(0) * dy.sum(0) / n - (dy * along).sum(0) + 3 * r**2 * c * b / n
        parts = d * inner + b * (dy.mean(0) - dy) + c * (along.mean(0) - along)
        return (r**3 / n * parts * along).sum(0)

    h = 1e-4
    if which == "forward":
        return ((jvp(x + h * along) - jvp(x - h * along)) / (2 * h)).astype(np.float32)
    found = np.zeros_like(x)
    for i in range(n):
        step = h * (np.arange(n) == i)[:, None]
        found[i] = (twice(x + step) - twice(x - step)) / (2 * h)
    return found.astype(np.float32)


@pytest.mark.parametrize(
    ("name", "which", "output"),
    [
        ("torch-third-derivative", "third", "dx_tangent2"),
        ("torch-forward-over-forward", "forward", "y_tangent2"),
    ],
)
def test_a_derivative_with_constant_statistics_is_explained_and_no_other(name, which, output):
    """torch takes the saved mean and r for constants there: that derivative, by differences, is explained alone."""
    asked = case("train", derivative=which)
    only(name, "torch.F.batch_norm+func", asked, output, _of_constants(asked, which))


def test_an_indivisible_batch_is_one_batch_where_virtual_batches_are_ignored():
    """With training as a tensor 3 rows are accepted for a virtual batch of 2, and are one batch; the rest follows."""
    (named,) = (found for found in corpus.read() if found.name == "virtual-batches-and-three-rows")
    answers, mean, variance = [], np.zeros((1, 1, 2)), np.ones((1, 1, 2))
    for t, step in enumerate(named.case.steps):
        x = named.case.x(t).astype(np.float64)
        used = mean, variance
        if step.mode == "train":
            used = x.mean(0), x.var(0)
            mean, variance = (KEPT * old + KEPT * new for old, new in zip((mean, variance), used, strict=True))
        z = (x - used[0].reshape(2)) / np.sqrt(used[1].reshape(2) + named.case.spec.epsilon)
        y = z * named.case.tensors["gamma"].reshape(2) + named.case.tensors["beta"].reshape(2)
        arrays = {"y": y, "moving_mean": mean, "moving_variance": variance}
        answers.append({name: array.astype(np.float32) for name, array in arrays.items()})
    asked = "tf-keras-virtual-batches-with-a-training-tensor", "tf_keras.BatchNormalization+graph", named.case
    found = kinds(*asked, *answers)
    assert (1, "outcome") in found
    assert set(found.values()) == {"explained"}
    answers[2]["y"] = answers[2]["y"] * np.float32(1.01)
    assert kinds(*asked, *answers)[2, "y"] == "changed"
    answers[1]["moving_mean"] = answers[1]["moving_mean"] + np.float32(0.1)
    assert kinds(*asked, *answers)[1, "outcome"] == "changed"


def test_nan_from_inference_on_no_rows_is_explained_and_no_number():
    """tf_keras with training as a tensor has NaN from then on; numbers there are red, and so is NaN before."""
    (named,) = (found for found in corpus.read() if found.name == "no-rows-in-inference-of-rank-4")
    x, none = named.case.x(0), np.full(3, np.nan, np.float32)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    mean = (mean + named.case.tensors["moving_mean"]) * np.float32(KEPT)
    y = normalized(x, x.mean((0, 1, 2)), variance) * named.case.tensors["gamma"] + named.case.tensors["beta"]
    stored = (variance * 8 / 7 + named.case.tensors["moving_variance"]) * np.float32(KEPT)
    first = {"y": y, "moving_mean": mean, "moving_variance": stored}
    nothing = {"y": named.case.x(1), "moving_mean": none, "moving_variance": none}
    after = nothing | {"y": y * np.nan}
    asked = "tf-keras-no-rows-in-inference-with-a-training-tensor", "tf_keras.BatchNormalization+graph", named.case
    found = kinds(*asked, first, nothing, after)
    assert {key for key, kind in found.items() if kind == "explained"} == set(found)
    assert len(found) == 5
    assert kinds(*asked, first, nothing, after | {"y": y})[2, "y"] == "changed"
    assert kinds(*asked, first, nothing | {"moving_mean": 2 * mean}, after)[1, "moving_mean"] == "changed"
    assert kinds(*asked, first | {"moving_mean": none}, nothing, after)[0, "moving_mean"] == "changed"


@pytest.mark.parametrize(("times", "kind"), [(2, "explained"), (3, "changed")])
def test_a_state_that_moves_with_the_call_made_once_more_is_that_of_two_calls(times, kind):
    """Moved by half, from 0 and 0.5, towards the batch's 2 and 1, and inferred by: twice is known, and not thrice."""
    (named,) = (one for one in corpus.read() if one.name == "training-call-made-once-more")
    kept, x = 0.5**times, named.case.tensors
    mean, variance = (np.float32([m * kept + b * (1 - kept)]) for m, b in ((0, 2), (0.5, 2)))  # torch's is unbiased
    state = {"moving_mean": mean, "moving_variance": variance}
    first, after = (
        {"y": ((x[f"{t}.x"] - m) / np.sqrt(v + np.float32(0.5))).astype(np.float32), **state}
        for t, m, v in ((0, 2, 1), (1, mean, variance))
    )
    said = kinds("torch-checkpoint-moves-twice", "torch.F.batch_norm", named.case, first, after)
    assert {said[0, "moving_mean"], said[0, "moving_variance"], said[1, "y"], said[1, "moving_mean"]} == {kind}
    assert (0, "y") not in said


def named(name):
    """Return a case of the corpus."""
    return next(one.case for one in corpus.read() if one.name == name)


def test_a_variance_without_conjugation_is_explained_and_no_other():
    """Of i x it is less than 0, and y, which is real then, is handed back as NaN."""
    name, asked = "haiku-squares-complex-numbers", named("i-times-x")
    only(name, "haiku.BatchNorm", asked, "moving_variance", np.float32([0.875, -1.0]))
    for value, kind in ((np.nan, "explained"), (0.5, "changed")):
        y = np.float32([[np.nan, value], [np.nan, value]])
        assert kinds(name, "haiku.BatchNorm", asked, {"y": y})[0, "y"] == kind


@pytest.mark.parametrize(("row", "kind"), [(0, "explained"), (1, "changed")])
def test_a_zero_of_complex_inference_is_where_x_is_the_mean_that_inference_uses(row, kind):
    """haiku's is zero-debiased: 1 after one batch of mean 1, not the 0.5 that it keeps. The others are NaN."""
    name = "haiku-squares-complex-numbers"
    asked = msgspec.structs.replace(case("train", "infer", given=False), actions=Actions(input="complex64"))
    state = {"moving_mean": ROWS.mean(0) / 2, "moving_variance": -ROWS.var(0) / 2}
    y = np.full_like(ROWS, np.nan)
    y[row, 0] = 0
    assert kinds(name, "haiku.BatchNorm", asked, state, {"y": y})[1, "y"] == kind


@pytest.mark.parametrize(("value", "kind"), [(0.0, "explained"), (0.25, "changed")])
def test_a_moving_mean_without_its_imaginary_part_is_explained_and_no_other(value, kind):
    """The real part of the mean of i x is 0."""
    answer = {"moving_mean": np.float32([value, 0.0])}
    name = "nnx-keeps-the-real-part-of-the-mean"
    assert kinds(name, "flax.nnx.BatchNorm", named("i-times-x"), answer)[0, "moving_mean"] == kind


@pytest.mark.parametrize(("dtype", "value", "kind"), [("int32", 0, "explained"), ("int32", 2, "changed")])
def test_y_cut_to_whole_numbers_is_explained_and_no_other(dtype, value, kind):
    """Compiled inference on x of 1 and 2, by a variance of 2.25, is below 1 where x is 1."""
    y = np.array([[value, 1], [1, value]], dtype)
    name = "compiled-inference-cuts-whole-numbers"
    assert kinds(name, "torch.F.batch_norm+compile", named("whole-numbers"), {"y": y})[0, "y"] == kind


def test_only_what_nobody_wrote_has_no_formula():
    """Every shipped divergence predicts a value, a refusal, an answer that makes no sense or a crash, but for one."""
    found = divergences.read()
    assert {d.predicts.formula for d in found if d.predicts.formula} == set(predicted.FORMULAS)
    (memory,) = (divergence for divergence in found if divergence.predicts.wrong)
    assert "never written" in memory.predicts.no_formula
    (named,) = (one for one in corpus.read() if one.name == memory.witness)
    for value in (0.0, 7.0, np.inf):
        answer = {"mean": np.full(3, value, np.float32), "moving_mean": np.zeros(3, np.float32)}
        said = kinds(memory.id, "tf.raw_ops.FusedBatchNormV3", named.case, answer)
        assert said == {(0, "mean"): "explained", (0, "moving_mean"): "unexplained"}


def test_nan_is_explained_where_the_sum_of_a_batch_overflows_and_nowhere_else():
    """With a tensor for the mode a NaN of inference's dx is known in the channel of 1e38, and in no other."""
    (named,) = (one for one in corpus.read() if one.name == "inference-whose-batch-sum-overflows")
    right = (np.array([0.5, 1.5]) / np.sqrt([4.0 + EPSILON, 1.0 + EPSILON]) * named.case.tensors["0.dy"]).astype("f4")
    in_one = {channel: np.where(np.arange(2) == channel, np.float32("nan"), right) for channel in (0, 1)}
    for wrong, said in ((in_one[0], "explained"), (in_one[1], "changed"), (1.01 * right, "changed")):
        found = kinds("tf-cond-multiplies-nan-by-zero", "tf_keras.BatchNormalization+graph", named.case, {"dx": wrong})
        assert found[0, "dx"] == said


def test_wrong_without_a_reason_is_refused(manifest):
    """`wrong` explains any value, so an entry must say why there is no formula; that of another kind must not."""
    for predicts in ("{ wrong = true }", '{ wrong = true, no_formula = " " }', '{ accepts = true, no_formula = "x" }'):
        with pytest.raises(divergences.InvalidInput, match="no_formula"):
            divergences.read(manifest(predicts=predicts))
    assert divergences.read(manifest(predicts='{ wrong = true, no_formula = "it reads uninitialized memory" }'))


def test_an_unknown_formula_is_refused_with_those_there_are(manifest):
    """A name that no formula has would explain nothing, and nobody would know."""
    with pytest.raises(
        divergences.InvalidInput, match=r'no formula is called "of nothing"; use one of .*squared weights'
    ):
        divergences.read(manifest(predicts='{ formula = "of nothing" }'))


def test_what_init_saw_is_the_first_step_that_was_not_refused():
    """A first step that is refused is asked again without, so that init saw the next one's input."""
    asked = case("infer", "infer", given=False)
    asked.tensors["0.x"] = np.ones((4, 0), np.float32)
    wrong = normalized(ROWS, ROWS.mean(0), ROWS.var(0))
    (entry,) = select(("haiku.BatchNorm",))
    for refused, kind in ((True, True), (False, False)):
        outcomes = (Refused("ValueError", "of no channels") if refused else Outputs({}), Outputs({"y": wrong}))
        of = predicted.WrongValue(ExactCase(asked), entry.statement, Reply(0, entry.id, outcomes), 1, "y")
        assert predicted.explains("of what init saw", of) == kind
