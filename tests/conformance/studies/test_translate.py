"""`bnconf translate`: arguments, weights, what is lost and its size, and the proof by asking both sides."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
from itertools import permutations

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from conformance.cli.main import main
from conformance.hosts import roster, worker
from conformance.model.case import content
from conformance.model.case_facts import step_facts
from conformance.model.errors import InvalidInput
from conformance.studies.translation import calls, files, layers, natives, translating
from conformance.studies.translation.sides import SCENARIOS, Shape, Side
from conformance.studies.translation.translating import Job
from conformance.studies.translation.weights import Weights, converted, settled, used
from reference import Spec
from reference.spec import kept_axes

NUMPY = ("numpy.two_pass", "numpy.folded")


def invoke(*arguments):
    """Run `bnconf translate` and return its result."""
    return CliRunner().invoke(main, ["translate", *map(str, arguments)])


def half(name, rank=4):
    """Return an implementation with how it is called."""
    return translating.half(natives.chosen("--from", name, rank, "cpu", sys.executable))


def job(source, target, *pairs, rank=4, n=16, weights=None):
    """Return a translation that nobody was asked about."""
    a, b = half(source, rank), half(target, rank)
    return Job(a, b, natives.values(a.layer, source, pairs), rank=rank, n=n, weights=weights)


def said(made):
    """Return the target's arguments."""
    side, network = made.target, made.call.channels
    return calls.written(side.layer, side.entry.statement, side.spec, side.shape.rank, network)


# --- the committed data -------------------------------------------------------------------------------------------


def signature(name):
    """Return the parameters of what a dotted name means, imported at the longest module that there is."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return inspect.signature(found).parameters
    raise LookupError(name)


SIGNED = [layer for layer in layers.read() if layer.signatures]
ROOTS = {"flax.linen": "flax"}


@pytest.mark.parametrize("layer", SIGNED, ids=lambda layer: layer.signatures[0])
def test_arguments_and_defaults_are_those_of_the_installed_package(layer, monkeypatch):
    """Each argument of the installed signature is listed, with its default, and nothing else is."""
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    for root in {name.split(".")[0] for name in layer.signatures}:
        pytest.importorskip(root)
    found = {}
    for name in layer.signatures:
        found |= {n: p for n, p in signature(name).items() if p.kind.name not in ("VAR_KEYWORD", "VAR_POSITIONAL")}
    found.pop("self", None)
    listed = {*layer.arguments, *layer.other}
    assert set(found) <= listed
    assert listed - set(found) <= {"trainable", "name", "dtype"}  # of every Keras layer, through **kwargs
    for name, argument in layer.arguments.items():
        if name in found and not argument.required and name != "axis":
            assert found[name].default == argument.default, name
        if name in found and argument.required:
            assert found[name].default is inspect.Parameter.empty, name


def test_onnx_defaults_are_those_of_the_schema():
    """The operator's attributes have the defaults that are listed."""
    onnx = pytest.importorskip("onnx")
    attributes = onnx.defs.get_schema("BatchNormalization", 15).attributes
    layer = layers.of("onnxruntime.BatchNormalization+opset15@cpu")
    for name, argument in layer.arguments.items():
        assert attributes[name].default_value.f == pytest.approx(argument.default)
    assert set(attributes) <= {*layer.arguments, *layer.other}


def test_every_implementation_of_the_roster_is_written_down():
    """Nothing but the subjects in NumPy is called as the reference is."""
    fallback = layers.read()[-1]
    unknown = [e.id for e in roster.built_in() if layers.of(e.id) is fallback]
    assert all(name.startswith("numpy.") for name in unknown)


def test_short_names_and_chosen_variants_are_in_the_roster():
    """Each id that the data names can be selected."""
    for layer in layers.read():
        chosen = [name for argument in layer.arguments.values() for name in argument.chooses.values()]
        assert all(roster.select((name,)) for name in [*layer.main, *chosen])


FAMILIES = [next(e for e in roster.built_in() if layers.of(e.id) is layer) for layer in layers.read()]


@pytest.mark.parametrize("entry", roster.built_in(), ids=lambda entry: entry.id)
def test_every_implementation_translates_to_every_other_in_words(entry):
    """From each one to one of each other kind there are a spec and arguments, and back."""
    for other in FAMILIES:
        ranks = [r for r in (4, 2, 3, 5) if all(e.statement.takes("rank", r) for e in (entry, other))]
        if not ranks:
            continue
        for pair in ((entry, other), (other, entry)):
            made = Job(*map(translating.half, pair), {}, rank=ranks[0], n=4)
            assert made.target.spec.epsilon == made.source.spec.epsilon
            assert set(said(made)) <= set(made.target.layer.arguments)


@pytest.mark.parametrize("entry", FAMILIES, ids=lambda entry: entry.id)
def test_adapters_are_given_what_a_user_reads(entry):
    """What the worker passes on of a side's case, by the conventions of its statement, is what is printed for it."""
    rank = next(r for r in (4, 3) if entry.statement.takes("rank", r))
    source = half("keras", rank)
    made = Job(source, translating.half(entry), {"momentum": 0.875, "epsilon": 0.01}, rank=rank, n=4)
    assert made.target.spec == dataclasses.replace(
        made.source.spec, axis=made.target.spec.axis, **{name: now for name, (_, now) in made._dropped.items()}
    )
    case, conventions = made.target.case(SCENARIOS[0]), entry.statement.conventions
    passed = worker.Case(content(case), case.tensors, {"conventions": conventions}).native
    by_meaning = {made.target.layer.arguments[name].meaning: value for name, value in said(made).items()}
    assert by_meaning["epsilon"] == passed["epsilon"]
    assert by_meaning.get("momentum", passed["momentum"]) == pytest.approx(passed["momentum"], rel=1e-15)
    assert by_meaning.get("axis", passed["axis"]) == passed["axis"]


@pytest.mark.parametrize("target", FAMILIES, ids=lambda entry: entry.id)
@pytest.mark.parametrize("rank", [2, 4])
def test_the_arguments_that_are_printed_ask_for_what_is_asked(target, rank):
    """Read back, a target's own arguments give the spec that its answers were verified for."""
    if not target.statement.takes("rank", rank):
        pytest.skip(f"{target.id} has no input of rank {rank}")
    given = ("momentum=0.875", "epsilon=0.01", "center=false", "scale=false", "axis=1")
    source = half("keras", rank)
    made = Job(source, translating.half(target), natives.values(source.layer, "keras", given), rank=rank, n=4)
    layer, statement = made.target.layer, made.target.entry.statement
    again = calls.read(layer, statement, said(made), rank).spec
    meanings = {argument.meaning for argument in layer.arguments.values()}
    assert kept_axes(again, rank) == kept_axes(made.target.spec, rank)
    assert again.epsilon == 0.01
    assert again.momentum == (0.875 if meanings & {"momentum", "kept momentum"} else 0.99)
    if meanings & {"center", "affine"}:
        assert (again.center, again.scale) == (made.target.spec.center, made.target.spec.scale)


# --- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "given", "expected"),
    [
        ("keras", "torch", "momentum=0.99 epsilon=1e-3", "eps=0.001 momentum=0.01 affine=True"),
        ("torch", "keras", "", "axis=-1 momentum=0.9 epsilon=1e-5 center=True scale=True"),
        ("torch", "flax", "affine=false", "axis=-1 momentum=0.9 epsilon=1e-5 use_bias=False use_scale=False"),
        (
            "haiku",
            "sonnet",
            "axis=[0,2,3] decay_rate=0.9",
            "create_scale=True create_offset=True decay_rate=0.9 eps=1e-5 data_format=channels_first",
        ),
        ("keras", "flax", "axis=1", "axis=1 momentum=0.99 epsilon=0.001 use_bias=True use_scale=True"),
        (
            "torch",
            "tf.raw_ops.FusedBatchNormV3",
            "",
            "epsilon=1e-5 exponential_avg_factor=0.1 data_format=NHWC",
        ),
        (
            "torch",
            "equinox",
            "num_features=8",
            "input_size=8 axis_name=batch eps=1e-5 channelwise_affine=True momentum=0.9 mode=ema",
        ),
        (
            "tf.layers",
            "tf_keras",
            "virtual_batch_size=2",
            "axis=-1 momentum=0.99 epsilon=0.001 center=True scale=True virtual_batch_size=2",
        ),
        (
            "keras",
            "tf_keras.BatchNormalization+fused_false",
            "",
            "axis=-1 momentum=0.99 epsilon=0.001 center=True scale=True fused=False",
        ),
    ],
)
def test_arguments_become_the_targets(source, target, given, expected):
    """The target's own arguments, in its conventions; defaults are the source's own."""
    pairs = (pair.split("=") for pair in expected.split())
    assert said(job(source, target, *given.split())) == {name: natives.value(text) for name, text in pairs}


def test_a_cumulative_average_becomes_the_targets_default():
    """What the target cannot be asked for is dropped, and said: torch's momentum=None."""
    made = job("torch", "haiku", "momentum=none")
    assert made.source.spec.momentum is None
    assert made._dropped["momentum"] == (None, 0.99)
    assert calls.written(made.source.layer, made.source.entry.statement, made.call.spec, 4, None)["momentum"] is None


def test_arguments_choose_a_variant():
    """use_fast_variance=False and fused=False are implementations of their own in the roster."""
    for name, pair, chosen in (
        ("flax", "use_fast_variance=false", "flax.linen.BatchNorm+two_pass+jit@cpu"),
        ("tf_keras", "fused=False", "tf_keras.BatchNormalization+fused_false@cpu"),
        ("equinox", "mode=batch", "equinox.BatchNorm+batch+jit@cpu"),
    ):
        one = half(name)
        given = natives.values(one.layer, name, (pair,))
        assert natives.variant(one.layer, one.entry, given, "cpu", sys.executable).id == chosen
        assert not calls.read(one.layer, one.entry.statement, given, 4).unread


def test_an_argument_without_a_meaning_is_listed():
    """A regularizer says nothing of what is computed, and is no error."""
    assert job("keras", "torch", "gamma_regularizer=l2").call.unread == {"gamma_regularizer": "l2"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "kera", "--to", "torch"], "--from kera: no such implementation; did you mean keras?"),
        (["--from", "torch.nn.*", "--to", "keras"], "names 11 implementations"),
        (["--from", "torch", "--to", "keras", "epsilon=1e-3"], "torch has no argument epsilon; did you mean eps?"),
        (["--from", "torch", "--to", "keras", "eps=small"], "eps of torch must be a number; give for example"),
        (["--from", "torch", "--to", "keras", "affine=1"], "affine of torch must be true or false"),
        (["--from", "torch", "--to", "keras", "eps"], "eps: must be NAME=VALUE"),
        (["--from", "torch", "--to", "keras", "eps=1", "eps=2"], "eps is given twice"),
        (["--from", "tf_keras", "--to", "torch", "axis=[1,2]"], "several axes, which torch.nn.BatchNorm2d cannot"),
        (["--from", "tf_keras", "--to", "torch", "axis=9"], "axis=9: names no axis of an input of rank 4"),
        (["--from", "tf_keras", "--to", "torch", "axis=[1,1]"], "twice"),
        (["--from", "haiku", "--to", "torch", "axis=[0,1,2,3]"], "averages over every axis"),
        (["--from", "torch.nn.BatchNorm3d", "--to", "torch.nn.BatchNorm1d"], "no input of that rank in common"),
        (["--from", "torch", "--to", "keras", "--out", "x.npz"], "there are no weights to write; give --weights"),
        (["--from", "torch", "--to", "keras", "--weights", "no.npz"], "no.npz: cannot be read as .npz"),
        (["--from", "tf_keras", "--to", "keras", "virtual_batch_size=3"], "does not divide 4 rows of --n 64"),
    ],
)  # fmt: skip
def test_bad_usage_exits_2_and_names_value_rule_and_fix(arguments, says):
    """Each mistake is one clear line."""
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert says in result.output


# --- weights ------------------------------------------------------------------------------------------------------


def test_a_settled_average_needs_no_debiasing():
    """After so many batches 1 - momentum**t is 1; a momentum of 1 never gets there."""
    assert [1 - m ** settled(m) for m in (0.99, 0.5, 0.0)] == [1, 1, 1]
    assert settled(1.0) == settled(None) == 0


def test_averages_are_converted_to_what_inference_uses():
    """A debiased average becomes the plain one that it infers with, and back it needs a counter that divides by 1."""
    hidden = Weights(mean=np.array([0.19]), variance=np.array([0.38]), batches=2)
    plain = converted(hidden, "zero_debiased", "exponential", (0.9, 0.9), cumulative=False)
    assert plain.mean == pytest.approx([1.0])
    assert plain.batches == 0
    again = converted(plain, "exponential", "zero_debiased", (0.9, 0.9), cumulative=False)
    assert used(again.mean, "zero_debiased", 0.9, again.batches) == pytest.approx([1.0])
    assert converted(hidden, "zero_debiased", "zero_debiased", (0.9, 0.9), cumulative=False) is hidden
    assert converted(plain, "exponential", "first_batch", (0.9, 0.9), cumulative=False).batches == 1


def torch_weights(path, prefixes=("conv1.bn", "head"), channels=4, **more):
    """Write a state_dict of batch normalization layers, beside a convolution's, and return the arrays."""
    rng, found = np.random.default_rng(1), {"conv1.conv.weight": np.ones((4, 3, 3, 3), np.float32)}
    for prefix in prefixes:
        for name in ("weight", "bias", "running_mean", "running_var"):
            found[f"{prefix}.{name}"] = rng.uniform(0.5, 2, channels).astype(np.float32)
        found[f"{prefix}.num_batches_tracked"] = np.array(7)
    found |= more
    np.savez(path, **{name: a for name, a in found.items() if a is not None})
    return found


def test_every_layer_of_a_file_is_translated_under_its_own_prefix(tmp_path):
    """Names, prefixes and shapes become the target's; what is of no batch normalization is left out and listed."""
    given = torch_weights(tmp_path / "in.npz")
    made = job("torch", "haiku", weights=tmp_path / "in.npz")
    found = made.arrays()
    assert made._network.others == ["conv1.conv.weight"]
    assert set(made._network.layers) == {"conv1.bn", "head"}
    assert found["conv1/bn/scale"].shape == found["conv1/bn/~/var_ema/average"].shape == (1, 1, 1, 4)
    assert found["head/~/mean_ema/hidden"].reshape(-1) == pytest.approx(given["head.running_mean"])
    assert found["head/~/mean_ema/counter"] == settled(0.9)
    assert len(found) == 2 * 8


@pytest.mark.parametrize(("source", "target"), list(permutations(("torch", "tf_keras", "flax", "haiku", "equinox"), 2)))
def test_weights_come_back_as_they_were(source, target, tmp_path):
    """There and back, every array has its name, shape and value again."""
    torch_weights(tmp_path / "torch.npz")
    same = {name: ("momentum=0.01",) if name == "torch" else () for name in (source, target)}  # 0.99 is kept everywhere
    if source != "torch":
        np.savez(tmp_path / "a.npz", **job("torch", source, "momentum=0.01", weights=tmp_path / "torch.npz").arrays())
    first = tmp_path / ("torch.npz" if source == "torch" else "a.npz")
    np.savez(tmp_path / "b.npz", **job(source, target, *same[source], weights=first).arrays())
    back = job(target, source, *same[target], weights=tmp_path / "b.npz").arrays()
    before = {n: a for n, a in files.load(first).items() if n != "conv1.conv.weight"}
    assert set(back) == set(before)
    for name, array in back.items():
        assert array.shape == before[name].shape
        if array.dtype.kind == "f":
            assert array == pytest.approx(before[name], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"head.running_var": None}, "head.running_var: is missing; add it"),
        ({"head.weight": None}, "head.weight: is missing; add it, or give affine=false"),
        ({"head.bias": np.ones(3, np.float32)}, "head.bias: has shape (3,), must have (4,)"),
        ({"head.bias": np.ones(4, int)}, "head.bias: has dtype int64, must have floats"),
    ],
)
def test_missing_and_misshaped_arrays_are_named(change, says, tmp_path):
    """Each mistake in a file is named with the array, the rule and the fix."""
    torch_weights(tmp_path / "in.npz", **change)
    with pytest.raises(InvalidInput) as caught:
        job("torch", "keras", weights=tmp_path / "in.npz")
    assert says in str(caught.value)


def test_a_file_without_batch_normalization_is_refused(tmp_path):
    """Weights under another framework's names are not found, and the message says which are looked for."""
    torch_weights(tmp_path / "in.npz")
    with pytest.raises(InvalidInput, match="holds no moving_mean, moving_variance"):
        job("keras", "torch", weights=tmp_path / "in.npz")


def test_a_gamma_that_the_target_must_have_is_1(tmp_path):
    """A layer without scale becomes an affine one whose weight is 1."""
    rng = np.random.default_rng(2)
    arrays = {n: rng.uniform(0.5, 2, 3).astype(np.float32) for n in ("beta", "moving_mean", "moving_variance")}
    np.savez(tmp_path / "in.npz", **arrays)
    made = job("keras", "torch", "scale=false", weights=tmp_path / "in.npz")
    assert made.arrays()["weight"].tolist() == [1, 1, 1]
    assert made._dropped == {"scale": (False, True)}


# --- the proof ----------------------------------------------------------------------------------------------------


def test_two_of_a_kind_agree():
    """Nothing is lost between two subjects in NumPy, and every answer agrees."""
    result = invoke("--from", NUMPY[0], "--to", NUMPY[1], "--json")
    found = json.loads(result.output)
    assert result.exit_code == 0
    assert found["differences"] == []
    assert {one["verdict"] for one in found["verified"]} == {"agree"}


def test_the_terminal_says_what_json_says():
    """The printed page names the arguments, the weights and the proof."""
    result = invoke("--from", NUMPY[0], "--to", NUMPY[1], "epsilon=0.01")
    assert result.exit_code == 0
    for word in ("epsilon=0.01", "moving_variance", "nothing beyond rounding", "worst ρ"):
        assert word in result.output


def test_what_was_not_predicted_exits_1(adapter):
    """An implementation that does not keep its promise is found out: its answers differ by more than the bounds."""
    result = invoke("--from", "numpy.two_pass", "--to", adapter("wrong:BiasedForUnbiased"))
    assert result.exit_code == 1
    assert "NOT as predicted: moving, step 1 train, moving_variance" in result.output


def test_what_is_not_here_exits_3():
    """A worker that cannot start is said, and nothing is claimed."""
    result = invoke("--from", NUMPY[0], "--to", "torch", "--env", "torch=/no/such/python")
    assert result.exit_code == 3
    assert "torch.nn.BatchNorm2d@cpu is not available" in result.output


@pytest.mark.framework("torch", "keras", "tensorflow")
def test_keras_to_torch_is_as_predicted():
    """The example of the README: the factor N/(N-1) is listed with its size, and the answers are as predicted."""
    result = invoke("--from", "keras", "--to", "torch", "momentum=0.99", "epsilon=1e-3", "--n", 32, "--json")
    found = json.loads(result.output)
    assert result.exit_code == 0
    assert found["transpose"] == [0, 3, 1, 2]
    variance = next(d for d in found["differences"] if d["field"] == "stored_variance")
    largest = next(size for size in variance["sizes"] if size["output"] == "moving_variance")
    assert largest["relative"] == pytest.approx(1 / 31, rel=0.01)
    assert {"agree", "differ as predicted"} <= {one["verdict"] for one in found["verified"]}


@pytest.mark.framework("torch", "haiku")
def test_translated_weights_are_asked_too(tmp_path):
    """Each layer of a file is compared with the weights that were written for it, its counter included."""
    torch_weights(tmp_path / "in.npz")
    out = tmp_path / "out.npz"
    result = invoke("--from", "torch", "--to", "haiku", "--weights", tmp_path / "in.npz", "--out", out, "--json")
    found = json.loads(result.output)
    assert result.exit_code == 0, result.output
    assert {one.get("layer", "") for one in found["verified"]} == {"", "conv1.bn", "head"}
    first = [o for o in found["verified"] if o.get("layer") == "head" and o["step"] == 0 and o["output"] == "y"]
    assert [one["verdict"] for one in first] == ["agree"]
    assert "head/~/mean_ema/counter" in files.load(out)


@pytest.mark.framework("torch", "haiku")
def test_a_haiku_layer_goes_on_from_torchs_statistics(tmp_path):
    """Without the counter that a translation writes, haiku's next average would be a hundred times too large."""
    import haiku as hk
    import jax

    given = torch_weights(tmp_path / "in.npz", prefixes=("bn",))
    found = job("torch", "haiku", "momentum=0.01", weights=tmp_path / "in.npz").arrays()

    def layer(x, training):
        return hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.99, name="bn")(x, training)

    net = hk.transform_with_state(layer)
    x = np.random.default_rng(3).normal(size=(8, 2, 2, 4)).astype(np.float32)
    parameters, state = net.init(jax.random.key(0), x, True)
    parameters = {"bn": {n: found[f"bn/{n}"] for n in parameters["bn"]}}
    state = {module: {n: found[f"{module}/{n}"] for n in leaves} for module, leaves in state.items()}
    _, state = net.apply(parameters, state, None, x, True)
    expected = 0.99 * given["bn.running_mean"] + 0.01 * x.mean((0, 1, 2))
    assert np.array(state["bn/~/mean_ema"]["average"]).reshape(-1) == pytest.approx(expected, rel=1e-5)


@pytest.mark.framework("torch", "equinox")
@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_an_equinox_layer_goes_on_from_torchs_statistics(mode, tmp_path):
    """Told that its first batch is past, or with its counter high, it moves the statistics that it was given."""
    import equinox as eqx
    import jax

    given = torch_weights(tmp_path / "in.npz", prefixes=("bn",))
    target = f"equinox.BatchNorm+{mode}+jit"
    found = job("torch", target, "momentum=0.01", weights=tmp_path / "in.npz").arrays()
    with jax.enable_x64(False):  # other tests of this process may have asked for more
        layer, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, "batch", eps=1e-5, momentum=0.99, mode=mode)
        layer = eqx.tree_at(lambda tree: (tree.weight, tree.bias), layer, (found["bn.weight"], found["bn.bias"]))
        index, counter = (("ema_state_index", "ema_first_time_index"), ("batch_state_index", "batch_counter"))[
            mode == "batch"
        ]
        statistics = tuple(jax.numpy.asarray(found[f"bn.{index}.{n}"]) for n in (0, 1))
        state = state.set(getattr(layer, index), statistics)
        state = state.set(
            getattr(layer, counter), jax.numpy.array(found[f"bn.{counter}"].item())
        )  # weakly typed, as its own
        x = np.random.default_rng(3).normal(size=(8, 4, 2, 2)).astype(np.float32)
        _, state = jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
        expected = 0.99 * given["bn.running_mean"] + 0.01 * x.mean((0, 2, 3))
        assert np.array(state.get(getattr(layer, index))[0]) == pytest.approx(expected, rel=1e-5)


# --- what is asked ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_both_sides_are_asked_the_same_numbers(rank):
    """Moved to the same axis, the inputs of a side with channels second and of one with channels last are equal."""
    entry = half("numpy.two_pass", rank)
    sides = [Side(entry.entry, entry.layer, Spec(axis=axis), Shape(rank, 3, 12)) for axis in (1, -1)]
    for scenario in SCENARIOS:
        one, two = (side.case(scenario) for side in sides)
        for t in range(len(one.steps)):
            assert np.array_equal(sides[0].canonical(one.x(t)), sides[1].canonical(two.x(t)))
        assert {n: a.tolist() for n, a in one.tensors.items() if a.ndim == 1} == {
            n: a.tolist() for n, a in two.tensors.items() if a.ndim == 1
        }


def test_given_statistics_may_have_batches_behind_them(adapter):
    """A case says how many batches entered its statistics; who does not count them is not asked such a case."""
    side = half("haiku")
    case = Side(side.entry, side.layer, Spec(), Shape(4, 3, 8)).case(SCENARIOS[0])
    assert case.batches == settled(0.99)
    assert "begun" in half("numpy.two_pass").entry.statement.unsupported(step_facts(case, 0))
    assert msgspec.structs.replace(case, batches=0) != case
