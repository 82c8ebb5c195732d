"""Scripts for Keras 3, on each backend, and for tf_keras, whose layer takes the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.studies.upstream import taped
from conformance.studies.upstream.literals import packed, targets, wrapped
from conformance.studies.upstream.program import Program
from conformance.studies.upstream.question import Question, Untold

_ASSIGNED = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "var": "moving_variance"}
_BACKENDS = ("tensorflow", "torch", "jax", "numpy")
Call = Callable[[str, Any], str]
"""The expression of a call of a tensor's name, in a step."""
_V1 = "tf_keras.src.layers.normalization.batch_normalization_v1"


def render(question: Question) -> Program:
    """Return the part of a script that asks Keras."""
    program = imports(question)
    if backend(question) == "jax":
        return _stateless(question, program)
    module = question.entry.partition(".")[0]
    _layer(question, program, module)
    if "graph" in question.variants and question.differentiated and question.target.forward:
        return _forward(question, program)
    program.lines += _graph(question)
    if question.actions.backward == "together":
        _model(question, program, module)
    elif backend(question) == "torch":
        autograd(question, program, _call(question), _leaves(question))
    elif backend(question) == "numpy":
        program.lines += [
            f"{question.name('y', s.index)} = {_call(question)(_x(question, s), s)}" for s in question.steps
        ]
    else:
        taped.calls(question, program, _call(question), _leaves(question))
    program.got = _got(question)
    return program


def backend(question: Question) -> str:
    """Return the backend that Keras runs on."""
    return next((name for name in _BACKENDS if name in question.variants), "tensorflow")


def imports(question: Question) -> Program:
    """Return the imports of Keras and its backend."""
    on, module = backend(question), question.entry.partition(".")[0]
    versions = {module: f"{module}.__version__"}
    lines = [f"import {module}"]
    if on != "numpy":
        word = {"tensorflow": "import tensorflow as tf", "torch": "import torch", "jax": "import jax"}[on]
        lines.insert(0, word)
        versions[on] = f"{word.split()[-1]}.__version__"
    if on == "jax" and "float64" in (question.dtype, question.shown.case.dtypes.statistics):
        lines.append('jax.config.update("jax_enable_x64", True)')
    if "v1" in question.variants:
        lines.append(f"from {_V1} import BatchNormalization")
    return Program(lines, versions, environment={} if on == "tensorflow" else {"KERAS_BACKEND": on})


def _arguments(question: Question, *, legacy: bool) -> list[str]:
    spec, view = question.spec, question.view
    axis = list(spec.axis) if isinstance(spec.axis, tuple) else spec.axis
    if not legacy and isinstance(axis, list):
        axis = view.axis[0]
    words = [f"axis={axis}", f"momentum={question.momentum}", f"epsilon={question.epsilon}"]
    words += question.given(center="center", scale="scale", trainable="trainable")
    words += question.special
    same = question.dtype == question.shown.case.dtypes.parameters
    dtype = question.dtype if same or legacy else f"mixed_{question.dtype}"
    words += [] if dtype == "float32" else [f'dtype="{dtype}"']
    words += [
        f"{name}={value}" for name, value in (("fused", False), ("synchronized", True)) if name in _said(question)
    ]
    return words


def _said(question: Question) -> list[str]:
    return [{"fused_false": "fused"}.get(variant, variant) for variant in question.variants]


def _layer(question: Question, program: Program, module: str) -> None:
    """Add the lines that make a layer with the case's arrays."""
    make = "BatchNormalization" if "v1" in question.variants else f"{module}.layers.BatchNormalization"
    made = f"layer = {make}({', '.join(_arguments(question, legacy=module == 'tf_keras'))})"
    shape, rebuilt = tuple(question.view.steps[0].x.shape), question.actions.round_trip
    if question.actions.backward == "recomputed":
        program.lines += ['with keras.RematScope(mode="full"):', f"    {made}"]
    else:
        program.lines += wrapped(made)
    program.lines.append(f"layer.build({shape})")
    if rebuilt == "config":
        program.lines += ["layer = type(layer).from_config(layer.get_config())", f"layer.build({shape})"]
    program.lines += _assigned(question)


def _assigned(question: Question) -> list[str]:
    given = {name: variable for name, variable in _ASSIGNED.items() if name in question.arrays}
    own = len(given) - ("mean" in given) - ("var" in given)
    parameters = own == question.spec.center + question.spec.scale
    if question.spec.renorm or not (parameters and question.has("mean") == question.has("var")):
        return [f"layer.{variable}.assign({name})" for name, variable in given.items()] + _renormed(question)
    kept = [] if "mean" in given else [f"*layer.get_weights()[{own}:]"]
    return [f"layer.set_weights([{', '.join([*given, *kept])}])"] if given else []


def _renormed(question: Question) -> list[str]:
    """Return what renorm's own statistics begin with: the moving ones."""
    if not (question.spec.renorm and question.has("mean", "var")):
        return []
    pairs = ("renorm_mean", "mean"), ("moving_stddev", "np.sqrt(var)"), ("renorm_stddev", "np.sqrt(var)")
    return [f"layer.{variable}.assign({array})" for variable, array in pairs]


def _call(question: Question) -> Call:
    if "graph" in question.variants:
        return lambda x, step: f"call({', '.join([x, f'tf.constant({step.training})', *_mask(question, step)])})"

    def call(x: str, step: Any) -> str:
        mask = "".join(f", mask={name}" for name in _mask(question, step))
        return f"layer({x}, training={step.training}{mask})"

    return call


def _mask(question: Question, step: Any) -> list[str]:
    return [] if step.mask is None else [question.name("mask", step.index)]


def _leaves(question: Question) -> dict[str, str]:
    value = ".value" if question.entry.startswith("keras.") else ""
    return {"dgamma": f"layer.gamma{value}", "dbeta": f"layer.beta{value}"}


def _x(question: Question, step: Any) -> str:
    return question.name("x", step.index)


def _got(question: Question) -> str:
    output = question.output
    if output in ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"):
        array = f"layer.{output}"
    else:
        array = question.name(output, question.step) if output in ("y", "dx_tangent") else output
    if question.entry.startswith("tf_keras") or (output.startswith("d") and backend(question) == "tensorflow"):
        return f"{array}.numpy()"
    if backend(question) == "numpy" and output == "y":
        return array
    return f"keras.ops.convert_to_numpy({array})"


def _graph(question: Question) -> list[str]:
    """Return the lines of a function of TensorFlow with `training` as a tensor, where that is the variant."""
    if "graph" not in question.variants:
        return []
    mask = "" if question.target.mask is None else ", mask=None"
    handed = "" if question.target.mask is None else ", mask=mask"
    return ["@tf.function", f"def call(x, training{mask}):", f"    return layer(x, training=training{handed})"]


def _forward(question: Question, program: Program) -> Program:
    """Return a forward derivative, which is taken inside the graph."""
    x, dy, along = (question.name(kind, question.step) for kind in ("x", "dy", "tangent"))
    program.lines += [
        "@tf.function",
        "def forward(x, dy, along, training):",
        "    with tf.autodiff.ForwardAccumulator(x, along) as accumulator:",
        "        with tf.GradientTape() as tape:",
        "            tape.watch(x)",
        "            y = layer(x, training=training)",
        "        dx = tape.gradient(y, x, dy)",
        "    return accumulator.jvp(y), dx",
        f"x_, training = tf.constant({x}), tf.constant({question.target.training})",
        f"got = forward(x_, tf.constant({dy}), tf.constant({along}), training)[0].numpy()",
    ]
    program.got = "got"
    return program


def _model(question: Question, program: Program, module: str) -> None:
    """Add a functional model in which the layer has a place for each step, and one gradient of all."""
    inputs = [f"{module}.Input(batch_shape={tuple(step.x.shape)})" for step in question.steps]
    names = [f"in{step.index}" for step in question.steps]
    program.lines += packed(list(zip(names, inputs, strict=True)))
    flag = "tf.constant({})" if "graph" in question.variants else "{}"
    ys = [f"layer({n}, training={flag.format(s.training)})" for n, s in zip(names, question.steps, strict=True)]
    program.lines += wrapped(f"model = {module}.Model([{', '.join(names)}], [{', '.join(ys)}])")
    xs = ", ".join(_x(question, step) for step in question.steps)
    outs = ", ".join(question.name("y", step.index) for step in question.steps)
    if question.differentiated:
        raise Untold("no script is written for gradients of a functional model")
    program.lines.append(f"{outs} = model([{xs}])")


def autograd(question: Question, program: Program, call: Call, leaves: dict[str, str]) -> None:
    """Add the steps on the torch backend, with the gradients that are asked for."""
    for step in question.steps:
        x, y = f"{question.name('x', step.index)}_", question.name("y", step.index)
        leaf = ".requires_grad_()" if question.derived(step) and "dx" in question.free else ""
        program.lines += [f"{x} = keras.ops.convert_to_tensor({x[:-1]}){leaf}", f"{y} = {call(x, step)}"]
        if not question.derived(step):
            continue
        if step.second or step.forward:
            raise Untold("no script is written for these derivatives")
        sources = ", ".join(x if name == "dx" else leaves[name] for name in question.free)
        dy = f"torch.tensor({question.name('dy', step.index)})"
        program.lines.append(f"{targets(question.free)} = torch.autograd.grad({y}, [{sources}], {dy})")


def _stateless(question: Question, program: Program) -> Program:
    """Return the layer's pure function, as JAX takes it."""
    module = "keras"
    if question.differentiated or question.spec.renorm:
        raise Untold("no script is written for gradients on JAX")
    _layer(question, program, module)
    program.lines.append(
        "trained, state = ([v.value for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables))"
    )
    if question.actions.backward == "together":
        _model(question, program, module)
        call = program.lines.pop().partition(" = ")
        outs, xs = call[0], call[2].removeprefix("model(").removesuffix(")")
        program.lines.append(f"({outs}), state = model.stateless_call(trained, state, {xs})")
    else:
        for step in question.steps:
            mask = "".join(f", mask={m}" for m in _mask(question, step))
            made = f"layer.stateless_call(trained, state, {_x(question, step)}, training={step.training}{mask})"
            program.lines.append(f"{question.name('y', step.index)}, state = {made}")
    where = {"moving_mean": "state[0]", "moving_variance": "state[1]"}
    program.got = f"np.asarray({where.get(question.output, question.name('y', question.step))})"
    return program
