"""Scripts for Keras 3, on each backend, and for tf_keras, whose layer takes the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.studies.upstream import jax_derivatives, replica_scripts, taped
from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.jax_derivatives import Pure, array
from conformance.studies.upstream.literals import packed, targets, wrapped
from conformance.studies.upstream.program import Program

_ASSIGNED = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "var": "moving_variance"}
_BACKENDS = ("tensorflow", "torch", "jax", "numpy")
Call = Callable[[str, Any], str]
"""The expression of a call of a tensor's name, in a step."""
_V1 = "tf_keras.src.layers.normalization.batch_normalization_v1"


def render(draft: Draft) -> Program:
    """Return the part of a script that asks Keras."""
    program = imports(draft)
    if backend(draft) == "jax":
        return _stateless(draft, program)
    module = draft.entry.partition(".")[0]
    _layer(draft, program, module)
    if draft.actions.replicas:
        return replica_scripts.mirrored(draft, program, _call(draft))
    if "graph" in draft.variants and draft.differentiated and draft.target.forward:
        return _forward(draft, program)
    program.lines += _graph(draft)
    if draft.actions.backward == "together":
        _model(draft, program, module)
    elif backend(draft) == "torch":
        autograd(draft, program, _call(draft), _leaves(draft))
    elif backend(draft) == "numpy":
        program.lines += [f"{draft.name('y', s.index)} = {_call(draft)(_x(draft, s), s)}" for s in draft.steps]
    else:
        taped.calls(draft, program, _call(draft), _leaves(draft))
    program.got = _got(draft)
    return program


def backend(draft: Draft) -> str:
    """Return the backend that Keras runs on."""
    return next((name for name in _BACKENDS if name in draft.variants), "tensorflow")


def imports(draft: Draft) -> Program:
    """Return the imports of Keras and its backend."""
    on, module = backend(draft), draft.entry.partition(".")[0]
    versions = {module: f"{module}.__version__"}
    lines = [f"import {module}"]
    if on != "numpy":
        word = {"tensorflow": "import tensorflow as tf", "torch": "import torch", "jax": "import jax"}[on]
        lines.insert(0, word)
        versions[on] = f"{word.split()[-1]}.__version__"
    if on == "jax" and "float64" in (draft.dtype, draft.shown.case.dtypes.statistics):
        lines.append('jax.config.update("jax_enable_x64", True)')
    if "v1" in draft.variants:
        lines.append(f"from {_V1} import BatchNormalization")
    return Program(lines, versions, environment={} if on == "tensorflow" else {"KERAS_BACKEND": on})


def _arguments(draft: Draft, *, legacy: bool) -> list[str]:
    spec, view = draft.spec, draft.view
    axis = list(spec.axis) if isinstance(spec.axis, tuple) else spec.axis
    if not legacy and isinstance(axis, list):
        axis = view.axis[0]
    words = [f"axis={axis}", f"momentum={draft.momentum}", f"epsilon={draft.epsilon}"]
    words += draft.given(center="center", scale="scale", trainable="trainable")
    words += draft.special
    same = draft.dtype == draft.shown.case.dtypes.parameters
    dtype = "complex64" if draft.shown.complex else draft.dtype if same or legacy else f"mixed_{draft.dtype}"
    words += [] if dtype == "float32" else [f'dtype="{dtype}"']
    words += [f"{name}={value}" for name, value in (("fused", False), ("synchronized", True)) if name in _said(draft)]
    return words


def _said(draft: Draft) -> list[str]:
    return [{"fused_false": "fused"}.get(variant, variant) for variant in draft.variants]


def _layer(draft: Draft, program: Program, module: str) -> None:
    """Add the lines that make a layer with the case's arrays."""
    make = "BatchNormalization" if "v1" in draft.variants else f"{module}.layers.BatchNormalization"
    made = f"layer = {make}({', '.join(_arguments(draft, legacy=module == 'tf_keras'))})"
    shape, rebuilt = tuple(draft.view.steps[0].x.shape), draft.actions.round_trip
    if draft.actions.backward == "recomputed":
        program.lines += ['with keras.RematScope(mode="full"):', f"    {made}"]
    else:
        program.lines += wrapped(made)
    program.lines.append(f"layer.build({shape})")
    if rebuilt == "config":
        program.lines += ["layer = type(layer).from_config(layer.get_config())", f"layer.build({shape})"]
    program.lines += _assigned(draft)


def _assigned(draft: Draft) -> list[str]:
    given = {name: variable for name, variable in _ASSIGNED.items() if name in draft.arrays}
    own = len(given) - ("mean" in given) - ("var" in given)
    parameters = own == draft.spec.center + draft.spec.scale
    if draft.spec.renorm or not (parameters and draft.has("mean") == draft.has("var")):
        return [f"layer.{variable}.assign({name})" for name, variable in given.items()] + _renormed(draft)
    kept = [] if "mean" in given else [f"*layer.get_weights()[{own}:]"]
    return [f"layer.set_weights([{', '.join([*given, *kept])}])"] if given else []


def _renormed(draft: Draft) -> list[str]:
    """Return what renorm's own statistics begin with: the moving ones."""
    if not (draft.spec.renorm and draft.has("mean", "var")):
        return []
    pairs = ("renorm_mean", "mean"), ("moving_stddev", "np.sqrt(var)"), ("renorm_stddev", "np.sqrt(var)")
    return [f"layer.{variable}.assign({array})" for variable, array in pairs]


def _call(draft: Draft) -> Call:
    if "graph" in draft.variants:
        return lambda x, step: f"call({', '.join([x, f'tf.constant({step.training})', *_mask(draft, step)])})"

    def call(x: str, step: Any) -> str:
        mask = "".join(f", mask={name}" for name in _mask(draft, step))
        return f"layer({x}, training={step.training}{mask})"

    return call


def _mask(draft: Draft, step: Any) -> list[str]:
    return [] if step.mask is None else [draft.name("mask", step.index)]


def _leaves(draft: Draft) -> dict[str, str]:
    value = ".value" if draft.entry.startswith("keras.") else ""
    return {"dgamma": f"layer.gamma{value}", "dbeta": f"layer.beta{value}"}


def _x(draft: Draft, step: Any) -> str:
    return draft.name("x", step.index)


def _got(draft: Draft) -> str:
    output = draft.output
    if output in ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"):
        array = f"layer.{output}"
    else:
        array = draft.name(output, draft.step) if output in ("y", "dx_tangent") else output
    if draft.entry.startswith("tf_keras") or (output.startswith("d") and backend(draft) == "tensorflow"):
        return f"{array}.numpy()"
    if backend(draft) == "numpy" and output == "y":
        return array
    return f"keras.ops.convert_to_numpy({array})"


def _graph(draft: Draft) -> list[str]:
    """Return the lines of a function of TensorFlow with `training` as a tensor, where that is the variant."""
    if "graph" not in draft.variants:
        return []
    mask = "" if draft.target.mask is None else ", mask=None"
    handed = "" if draft.target.mask is None else ", mask=mask"
    return ["@tf.function", f"def call(x, training{mask}):", f"    return layer(x, training=training{handed})"]


def _forward(draft: Draft, program: Program) -> Program:
    """Return a forward derivative, which is taken inside the graph."""
    x, dy, along = (draft.name(kind, draft.step) for kind in ("x", "dy", "tangent"))
    program.lines += [
        "@tf.function",
        "def forward(x, dy, along, training):",
        "    with tf.autodiff.ForwardAccumulator(x, along) as accumulator:",
        "        with tf.GradientTape() as tape:",
        "            tape.watch(x)",
        "            y = layer(x, training=training)",
        "        dx = tape.gradient(y, x, dy)",
        "    return accumulator.jvp(y), dx",
        f"x_, training = tf.constant({x}), tf.constant({draft.target.training})",
        f"got = forward(x_, tf.constant({dy}), tf.constant({along}), training)[0].numpy()",
    ]
    program.got = "got"
    return program


def _model(draft: Draft, program: Program, module: str) -> None:
    """Add a functional model in which the layer has a place for each step, and one gradient of all."""
    inputs = [f"{module}.Input(batch_shape={tuple(step.x.shape)})" for step in draft.steps]
    names = [f"in{step.index}" for step in draft.steps]
    program.lines += packed(list(zip(names, inputs, strict=True)))
    flag = "tf.constant({})" if "graph" in draft.variants else "{}"
    ys = [f"layer({n}, training={flag.format(s.training)})" for n, s in zip(names, draft.steps, strict=True)]
    program.lines += wrapped(f"model = {module}.Model([{', '.join(names)}], [{', '.join(ys)}])")
    xs = ", ".join(_x(draft, step) for step in draft.steps)
    outs = ", ".join(draft.name("y", step.index) for step in draft.steps)
    if draft.differentiated:
        raise Untold("no script is written for gradients of a functional model")
    program.lines.append(f"{outs} = model([{xs}])")


def autograd(draft: Draft, program: Program, call: Call, leaves: dict[str, str]) -> None:
    """Add the steps on the torch backend, with the gradients that are asked for."""
    for step in draft.steps:
        x, y = f"{draft.name('x', step.index)}_", draft.name("y", step.index)
        leaf = ".requires_grad_()" if draft.derived(step) and "dx" in draft.free else ""
        program.lines += [f"{x} = keras.ops.convert_to_tensor({x[:-1]}){leaf}", f"{y} = {call(x, step)}"]
        if not draft.derived(step):
            continue
        if step.second or step.forward:
            raise Untold("no script is written for these derivatives")
        sources = ", ".join(x if name == "dx" else leaves[name] for name in draft.free)
        dy = f"torch.tensor({draft.name('dy', step.index)})"
        program.lines.append(f"{targets(draft.free)} = torch.autograd.grad({y}, [{sources}], {dy})")


def _stateless(draft: Draft, program: Program) -> Program:
    """Return the layer's pure function, as JAX takes it."""
    module = "keras"
    if draft.spec.renorm or (draft.differentiated and not draft.spec.trainable):
        raise Untold("no script is written for renorm on JAX, nor for gradients of what is frozen")
    _layer(draft, program, module)
    program.lines.append(
        "trained, state = ([v.value for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables))"
    )
    if draft.actions.backward == "together":
        _model(draft, program, module)
        call = program.lines.pop().partition(" = ")
        outs, xs = call[0], call[2].removeprefix("model(").removesuffix(")")
        program.lines.append(f"({outs}), state = model.stateless_call(trained, state, {xs})")
    else:
        _stateless_steps(draft, program)
    where = {"moving_mean": "state[-2]", "moving_variance": "state[-1]"}
    program.got = program.got or f"np.asarray({where.get(draft.output, draft.name('y', draft.step))})"
    return program


def _stateless_steps(draft: Draft, program: Program) -> None:
    """Add the calls of the pure function, and the derivative that is shown."""
    at = {name: f"[{i}]" for i, name in enumerate(draft.learned)}

    def call(p: str, x: str, step: Any) -> str:
        mask = "".join(f", mask={m}" for m in _mask(draft, step))
        return f"layer.stateless_call({p}, state, {x}, training={step.training}{mask})"

    for step in draft.steps:
        if draft.derived(step):
            jax_derivatives.take(draft, program, step, Pure(f"{call('p', 'x', step)}[0]", "trained", at))
        else:
            made = call("trained", array(draft, _x(draft, step)), step)
            program.lines += wrapped(f"{draft.name('y', step.index)}, state = {made}")
