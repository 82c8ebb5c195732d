"""`bnconf explain --upstream`: short scripts that need no bnconf, run, print what is wrong beside what is right."""

from __future__ import annotations

import dataclasses
import json
import sys

import ml_dtypes
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from conformance.cases import corpus
from conformance.cli.main import main
from conformance.hosts.participants import Participants
from conformance.hosts.roster import select
from conformance.judging.exact_case import ExactCase
from conformance.judging.promise import Promise
from conformance.model.outcome import Refused
from conformance.model.results import ImplementationRecord
from conformance.runs import recording, replaying
from conformance.studies.recall import Instead
from conformance.studies.upstream import issue, literals, right, running, scripts, shown, telling
from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.program import Program
from conformance.studies.upstream.running import Ran
from conformance.studies.upstream.shorter import seeded
from conformance.studies.upstream.shown import Shown, SuspectAnswer

CASES = {named.name: named.case for named in corpus.read()}
SCENARIOS = corpus.FOLDER
DERIVATIVES = [
    ("jax", "jax.nn.standardize+jit", "second-derivative-along-a-shift", "dx_tangent"),
    *(pytest.param(*one, marks=pytest.mark.proof) for one in (
        ("flax", "flax.linen.BatchNorm+jit", "second-derivative-along-a-shift", "dgamma"),
        ("flax", "flax.linen.BatchNorm", "forward-in-rank-4", "y_tangent"),
        ("flax", "flax.nnx.BatchNorm", "second-derivative-along-a-shift", "dgamma"),
        ("flax", "flax.nnx.BatchNorm+jit", "r16-third-directional-derivative", "dx_tangent2"),
        ("haiku", "haiku.BatchNorm", "second-derivative-along-a-shift", "dx"),
        ("haiku", "haiku.BatchNorm+jit", "r16-third-directional-derivative", "dx_tangent2"),
        ("equinox", "equinox.BatchNorm+batch", "r17-forward-over-forward", "y_tangent2"),
        ("equinox", "equinox.BatchNorm+batch+jit", "second-derivative-along-a-shift", "dgamma"),
        ("jax", "jax.example_libraries.stax.BatchNorm", "second-derivative-along-a-shift", "dx"),
        ("keras", "keras.BatchNormalization+jax+jit", "second-derivative-along-a-shift", "dx_tangent"),
        ("keras", "keras.ops.batch_normalization+jax+jit", "second-derivative-along-a-shift", "dgamma"),
    )),
]  # fmt: skip
REPLICAS = [
    ("flax", "flax.linen.BatchNorm+axis_name+pmap", "replicas-then-inference", "y"),
    *(pytest.param(*one, marks=pytest.mark.proof) for one in (
        ("flax", "flax.linen.BatchNorm+axis_name+pmap", "replicas-on-two-processors", "moving_variance"),
        ("equinox", "equinox.BatchNorm+batch+axis_name+pmap", "replicas-on-two-processors", "moving_mean"),
        ("tf_keras", "tf_keras.BatchNormalization+synchronized+mirrored", "replicas-of-uneven-batches", "y"),
        ("tf_keras", "tf_keras.BatchNormalization+synchronized+mirrored",
         "replicas-whose-rows-are-masked-unevenly", "moving_variance"),
        ("keras", "keras.BatchNormalization+tensorflow+synchronized+mirrored",
         "replicas-of-uneven-batches", "moving_mean"),
    )),
]  # fmt: skip
ONE_EACH = [
    ("torch", "torch.nn.BatchNorm1d", "torch-half-not-contiguous"),
    ("flax", "flax.nnx.BatchNorm", "axis-before-the-first"),
    ("onnx", "onnx.reference.BatchNormalization+opset9", "r09-frozen-but-training"),
    *(pytest.param(*one, marks=pytest.mark.proof) for one in (
        ("tf_keras", "tf_keras.BatchNormalization+fused_false", "rebuilt-where-it-was-not-fused"),
        ("keras", "keras.BatchNormalization+numpy", "mask-of-one-channel"),
        ("haiku", "haiku.BatchNorm", "i-times-x"),
        ("flax", "flax.linen.BatchNorm+axis_name+pmap", "replicas-masked-unevenly"),
        ("equinox", "equinox.BatchNorm+ema+axis_name+pmap", "replicas-then-inference"),
        ("keras", "keras.BatchNormalization+tensorflow+synchronized+mirrored",
         "replicas-whose-rows-are-masked-unevenly"),
        ("tf_keras", "tf_keras.BatchNormalization+synchronized+mirrored", "a-replica-without-rows"),
        ("keras", "keras.ops.batch_normalization+tensorflow", "i-times-x"),
        ("keras", "keras.BatchNormalization+jax+jit", "eight-bits"),
    )),
]  # fmt: skip


def explain(*arguments):
    """Run `bnconf explain`."""
    return CliRunner().invoke(main, ["explain", *map(str, arguments)])


def answered(name, identity, case=None):
    """Return what an implementation answers to a case."""
    who = Participants(select((identity,)))
    return replaying.ask([case or CASES[name]], who)[0].answers[0], who


@pytest.fixture
def told(monkeypatch):
    """Return a case told of a subject in NumPy, as if a script could ask it: the script says what was answered."""

    def tell(name, identity, instead=None):
        answer, who = answered(name, identity)
        wrong = telling._wrong(CASES[name], answer, instead)
        outcome = answer.reply.outcomes[0]

        def render(draft):
            array = outcome.tensors.get(draft.output)
            return Program([], {"bnconf": '"-"'}, [], literals.literal(array))

        monkeypatch.setitem(scripts._RENDERERS, "numpy.", render)
        return telling.told(CASES[name], wrong, [answer], who, 60)

    return tell


@settings(max_examples=60, deadline=None)
@example(np.array([0.0, -0.0]))
@example(np.array([-np.nan, np.nan]))
@given(arrays.arrays(st.sampled_from([np.float32, np.float64, np.int32]), arrays.array_shapes(max_side=4)))
def test_a_literal_is_the_array_bit_for_bit(array):
    """What is written of an array evaluates to the same bits, infinities and signed zeros included."""
    found = eval(literals.literal(array), {"np": np})
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(array))


def test_half_precision_is_written_wider():
    """NumPy has no bfloat16: its values are written in float32, which has them all."""
    array = np.array([0.1, -3], ml_dtypes.bfloat16)
    found = eval(literals.literal(array), {"np": np})
    assert found.dtype == np.float32
    assert (found == array.astype(np.float32)).all()


def test_long_lines_are_broken_after_commas():
    """An assignment of many numbers is lines of at most the width, and still the same array."""
    array = np.arange(100, dtype=np.float32) / 3
    lines = literals.packed([("x", literals.literal(array))])
    assert len(lines) > 1
    assert max(map(len, lines)) <= literals.WIDTH
    named = {"np": np}
    exec("\n".join(lines), named)
    assert (named["x"] == array).all()


def _shown(case, output, identity="numpy.two_pass", step=-1):
    """Return a step's output as if it were off by one, of a subject that conforms."""
    entry = select((identity,))[0]
    promise = Promise.of(ExactCase(case), entry.statement)
    expected = shown.expectation.trajectory(promise)[step]
    array = np.asarray(expected[output].value, np.float64)
    index = (0,) * array.ndim
    record = ImplementationRecord(entry.id, "numpy", "cpu", available=True)
    about = SuspectAnswer(record, entry.statement, promise)
    value, t = float(array[index]), range(len(case.steps))[step]
    return Shown(about, "value", t, output, index, value + 1, value, 1e-6, array)


@pytest.mark.parametrize("output", ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance", "dx_tangent"])
@pytest.mark.parametrize(
    "name", ["r06-drifting-mean", "r16-third-directional-derivative", "second-derivative-along-a-shift",
             "gradient-of-nan-in-inference", "mask-of-weights", "r09-frozen-but-training"]
)  # fmt: skip
def test_the_right_value_is_the_definition_written_out(name, output):
    """In training, inference, with a mask and along a tangent the lines compute the value, and name no other source."""
    try:
        one = _shown(CASES[name], output)
    except KeyError:
        pytest.skip("the case does not ask for it")
    if np.isnan(one.right):
        pytest.skip("NaN is no number to be off from")
    lines = right.lines(Draft(one))
    assert "definition" in lines[0]
    assert 2 <= len(lines) <= 11


@pytest.mark.parametrize("output", ["y", "moving_mean", "moving_variance"])
def test_complex_numbers_are_written_as_they_are_handed_over(output):
    """Of i x the lines give i times the value, or the variance as it is, and the script prints both parts."""
    one = _shown(CASES["i-times-x"], output, step=0)
    draft = Draft(one)
    lines = right.lines(draft)
    assert "definition" in lines[0]
    named = {"np": np}
    exec("\n".join([f"{name} = {draft.literal(name)}" for name in draft.arrays] + lines), named)
    assert draft.literal("x").startswith("1j * np.array(")
    times = 1 if output == "moving_variance" else 1j
    np.testing.assert_allclose(named["right"], times * one.array, rtol=1e-6)
    program = Program([], {"bnconf": '"-"'}, [], "right")
    assert '", complex(got[' in scripts._said(draft, program, lines)[-1]


def test_an_issue_about_complex_numbers_has_both_parts():
    """What is right is i times a number, and what was got stands as it was printed: a part may be lost."""
    one = _shown(CASES["i-times-x"], "y", step=0)
    text = issue.text(one, "import numpy\n", Ran("y[0, 0]: got (nan+nanj) right 2j allowed error 0.1\n", "", 0), [], [])
    for said in (
        "wrong y in training of complex numbers",
        "`y[0, 0]` = i · ",
        "`y[0, 0]` = (nan+nanj)",
        "input complex64",
    ):
        assert said in text


@pytest.mark.parametrize(("package", "identity", "name", "output"), DERIVATIVES)
def test_a_derivative_on_jax_is_what_the_definition_gives(package, identity, name, output):
    """Of an implementation that conforms the script prints the right value twice: what it takes is what it says."""
    pytest.importorskip(package)
    script = scripts.script(_shown(CASES[name], output, identity, step=0))
    got, value = running.numbers(running.run(script, sys.executable, {}, 120))
    assert abs(got - value) <= 1e-5 * max(abs(value), 1)


@pytest.mark.parametrize(("package", "identity", "name", "output"), REPLICAS)
def test_a_batch_that_replicas_share_is_what_the_definition_gives(package, identity, name, output):
    """Of replicas that conform the script prints the right value twice: they are asked for the whole batch together."""
    pytest.importorskip(package)
    one = _shown(CASES[name], output, identity)
    got, value = running.numbers(running.run(scripts.script(one), sys.executable, {}, 120))
    assert abs(got - value) <= 1e-5 * max(abs(value), 1)


def test_the_last_line_of_what_jax_raises_is_the_exception():
    """A reader of the issue sees what was raised, and not that JAX has left out lines of its traceback."""
    pytest.importorskip("jax")
    ran = running.run("import jax\njax.lax.rsqrt(1)\n", sys.executable, {}, 60)
    assert ran.output.strip().startswith("TypeError: rsqrt")


@pytest.mark.parametrize(
    ("identity", "output", "said"),
    [
        ("flax.linen.BatchNorm+axis_name+pmap", "dx", "gradients of replicas"),
        ("flax.linen.BatchNorm+sharded+jit", "y", "replicas of flax.linen.BatchNorm+sharded+jit"),
        ("haiku.BatchNorm+cross_replica_axis+pmap", "y", "replicas of haiku"),
        ("keras.BatchNormalization+tensorflow+synchronized+mirrored", "dgamma", "gradients of replicas"),
    ],
)
def test_other_replicas_are_not_told(identity, output, said):
    """Gradients, and replicas that no script asks together, are refused: no script asks one layer in their place."""
    with pytest.raises(Untold) as raised:
        scripts.script(_shown(CASES["replicas-then-inference"], output, identity))
    assert said in str(raised.value)


def test_an_issue_about_replicas_says_so():
    """Whether replicas have as many rows each, or some has none, stands with what is out of the ordinary."""
    one = _shown(CASES["a-replica-without-rows"], "y")
    assert "replicas empty" in issue.text(one, "import numpy\n", None, [], [])
    assert "replicas" not in issue.text(_shown(CASES["r05-two-rows"], "y"), "import numpy\n", None, [], [])


def test_a_step_that_was_refused_is_left_out():
    """A refused call changed nothing and would end the script: the next is the first that it makes."""
    case = CASES["half-with-numpy-scalars"]
    one = dataclasses.replace(_shown(case, "y"), refused=frozenset({0}))
    assert [step.index for step in Draft(one).steps] == [1]
    assert len(Draft(_shown(case, "y")).steps) == 2


def test_what_was_raised_is_told_without_colors():
    """A message that is colored for a terminal is plain text in a title."""
    raised = Refused("IndexError", "\x1b[1mtuple index\x1b[0m out of range\nmore")
    assert shown._raised(raised) == "IndexError: tuple index out of range"


def test_eight_bits_are_written_wider_and_handed_over_as_such():
    """x is written in float32, and made an array of eight bits for the framework."""
    draft = Draft(_shown(CASES["eight-bits"], "y"))
    assert draft.literal("x0").endswith('"float32")')
    assert (draft.half("x0"), draft.half("gamma")) == ("float8_e4m3fn", "")


def test_a_tangent_that_is_too_long_is_a_number():
    """Where differences make the script too long, the right value stands there: the question is the same."""
    one = _shown(CASES["r16-third-directional-derivative"], "dx_tangent2", "haiku.BatchNorm+jit", step=0)
    assert "certified reference" in scripts.script(one)


def test_what_no_formula_gives_is_a_number():
    """Of renorm the right value stands there as a number, which says where it is from."""
    lines = right.lines(Draft(_shown(CASES["renorm-float64-floor"], "y")))
    assert lines[1].startswith("right = np.float64(")
    assert "certified" in lines[0]


def test_a_wrong_formula_is_not_shown(monkeypatch):
    """Where the lines would give another value than the reference, the number stands there instead."""
    monkeypatch.setattr(right, "_mean_and_variance", lambda _, x, axes: f"m, v = {x}.max({axes}), {x}.var({axes})")
    one = _shown(CASES["r05-two-rows"], "y")
    assert "certified" in right.lines(Draft(one))[0]


def test_a_script_that_is_told_is_run(told):
    """What is expected otherwise is told: the script prints both numbers, runs without bnconf, and the issue has it."""
    one = told("r05-two-rows", "numpy.two_pass", Instead(semantics={"stored_variance": "unbiased"}))
    assert one.shows
    assert "conformance" not in one.script
    assert len(one.script.splitlines()) <= scripts.MOST
    for part in (
        "## To reproduce",
        "## Expected",
        "## Got",
        "## Versions",
        "## Who agrees",
        one.script,
        one.ran.output,
    ):
        assert part in one.issue
    assert "moving_variance[" in one.title or "moving_variance" in one.title


def test_a_long_case_is_drawn_from_a_seed():
    """128 numbers about 10000 fill many lines: others like them are one expression, which gives the same bits."""
    answer, _ = answered("r01-mean-of-10000", "numpy.fast")
    one = telling._shown(CASES["r01-mean-of-10000"], answer, _off(answer))
    assert len(scripts._data(Draft(one), ["x"])) > 8
    shorter, formulas = next(seeded(one.case))
    assert shorter.tensors["0.x"].shape == one.case.tensors["0.x"].shape
    assert (eval(formulas["0.x"], {"np": np}) == shorter.tensors["0.x"]).all()
    assert abs(float(shorter.tensors["0.x"].mean()) - 10000) < 1


def _off(answer):
    return telling.of_expected(
        CASES["r01-mean-of-10000"], answer, Instead(numerics={"variance": "two_pass"}), "whoever", ("y",)
    )


@pytest.mark.parametrize(
    ("kind", "ran", "shows"),
    [
        ("value", Ran("y[0]: got 1.5 right 1.0 allowed error 0.1\n", "", 0), True),
        ("value", Ran("y[0]: got 1.05 right 1.0 allowed error 0.1\n", "", 0), False),
        ("value", Ran("y[0]: got nan right 1.0 allowed error 0.1\n", "", 0), True),
        ("value", Ran("y[0]: got nan right nan allowed error 0.1\n", "", 0), False),
        ("value", Ran("y[0]: got (1+2j) right (1+2.05j) allowed error 0.1\n", "", 0), False),
        ("value", Ran("y[0]: got (nan+nanj) right 2j allowed error 0.1\n", "", 0), True),
        ("value", Ran("y[0]: got 1.5 right 1.0 allowed error 0.1\n", "ValueError: no", 1), False),
        ("refused", Ran("y: right [1.0]\n", "Traceback\nValueError: no", 1), True),
        ("refused", Ran("y: right [1.0]\n", "Traceback\nNameError: x", 1), False),
        ("refused", Ran("y: right [1.0]\ny: got 1\n", "", 0), False),
        ("crashed", Ran("y: right [1.0]\n", "", -8), True),
        ("crashed", Ran("y: right [1.0]\n", "ValueError: no", 1), False),
        ("answered", Ran("y: got [1.0] right an error\n", "", 0), True),
        ("dtype", Ran("y: got float64 right float32\n", "", 0), True),
        ("dtype", Ran("y: got float32 right float32\n", "", 0), False),
    ],
)
def test_a_script_is_held_to_what_it_prints(kind, ran, shows):
    """A difference within what is allowed, another exception, or none, does not show what is to be shown."""
    one = _shown(CASES["r05-two-rows"], "y")
    told = "ValueError: no" if kind == "refused" else "the worker died: Floating point exception (8)"
    changed = Shown(one.about, kind, 0, "y", (0,), 1.5, 1.0, 0.1, told=told)
    assert running.shows(changed, ran) is shows


@pytest.mark.parametrize(("package", "identity", "name"), ONE_EACH)
def test_one_of_each_family_is_told_and_shows_it(package, identity, name):
    """A known departure of each framework, as a script that was run: it shows what was judged."""
    pytest.importorskip(package)
    part = next(recording.read(SCENARIOS / f"{name}.json"))
    one = telling.tell(part, Participants(select((identity,))), None, 120)
    assert one.shows, one.ran
    assert len(one.script.splitlines()) <= scripts.MOST
    assert "import conformance" not in one.script


def test_options_are_for_a_report():
    """--script-only without --upstream, and --upstream of nobody, are refused with what to add."""
    file = SCENARIOS / "r05-two-rows.json"
    assert "add --upstream" in explain(file, "--script-only").output
    assert "name the implementation" in explain(file, "--upstream").output


def test_what_cannot_be_told_names_the_hunt():
    """Of an implementation that no script is written for exit 2, with the command that finds smaller cases."""
    file = SCENARIOS / "r05-two-rows.json"
    result = explain(file, "--upstream", "-i", "numpy.two_pass", "--instead", "stored_variance=unbiased")
    assert result.exit_code == 2
    assert "no script is written for numpy.two_pass" in result.output
    assert "bnconf hunt -i numpy.two_pass" in result.output


def test_where_nothing_is_wrong_it_asks_what_was_expected():
    """An implementation that conforms has nothing to report, unless something else was expected."""
    file = SCENARIOS / "r05-two-rows.json"
    result = explain(file, "--upstream", "-i", "numpy.two_pass")
    assert result.exit_code == 2
    assert "--instead FIELD=VALUE" in result.output
    assert "no word of a statement" in explain(file, "--upstream", "-i", "numpy.two_pass", "--instead", "a=b").output


def test_a_report_is_written_as_json(told, tmp_path, monkeypatch):
    """--json gives the script, the issue and whether it shows it; --out writes it to a file, and says the title."""
    one = told("r05-two-rows", "numpy.two_pass", Instead(semantics={"stored_variance": "unbiased"}))
    monkeypatch.setattr(telling, "tell", lambda *_: one)
    out = tmp_path / "report.json"
    options = ("--upstream", "-i", "numpy.two_pass", "--json", "--out", out)
    result = explain(SCENARIOS / "r05-two-rows.json", *options)
    assert result.exit_code == 0
    assert one.title in result.output
    assert json.loads(out.read_text()) == json.loads(msgspec.json.encode(one))
