"""Scripts for TensorFlow 2: functions, raw operators, and Sonnet's layer, which is made of them."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream import taped
from conformance.studies.upstream.literals import packed, targets, wrapped
from conformance.studies.upstream.program import Program
from conformance.studies.upstream.question import Question, Untold

_FORMATS = {(4, 3): "NHWC", (4, 1): "NCHW", (5, 4): "NDHWC", (5, 1): "NCDHW"}
_PARTS = ("y", "moving_mean", "moving_variance", "mean", "variance")


def render(question: Question) -> Program:
    """Return the part of a script that asks TensorFlow."""
    program = Program(["import tensorflow as tf"], {"tensorflow": "tf.__version__"})
    if question.actions.backward == "together":
        raise Untold("no script is written for one gradient of all calls")
    if question.entry == "sonnet.BatchNorm":
        return _sonnet(question, program)
    return _moments(question, program) if question.entry.startswith("tf.nn.") else _fused(question, program)


def _compiled(question: Question) -> list[str]:
    options = {"graph": "", "xla": "jit_compile=True"}
    return [f"@tf.function({options[v]})".replace("()", "") for v in question.variants if v in options]


def _parameters(question: Question, shape: tuple[int, ...]) -> list[str]:
    """Return the lines that make tensors of parameters and statistics, neutral ones where the case has none."""
    pairs: list[tuple[str, str]] = []
    for name in ("gamma", "beta", "mean", "var"):
        reshaped = f".reshape{shape}" if len(shape) > 1 else ""
        if name in question.arrays:
            made = taped.tensor(question, name)
            pairs.append((f"{name}_", made.replace(name, f"{name}{reshaped}", 1) if reshaped else made))
        else:
            pairs.append((f"{name}_", f"tf.{'ones' if name in ('gamma', 'var') else 'zeros'}({list(shape)})"))
    return packed(pairs)


def _moments(question: Question, program: Program) -> Program:
    """Return `tf.nn.moments` and `tf.nn.batch_normalization`."""
    view, axes = question.view, list(question.view.native["axis"])
    shape = tuple(n if i in view.axis else 1 for i, n in enumerate(view.steps[0].x.shape))
    last = view.axis == (view.rank - 1,)
    program.lines += _parameters(question, (shape[-1],) if last else shape)
    program.lines += [*_compiled(question), "def call(x, training):"]
    keep = "" if last else ", keepdims=True"
    program.lines.append(f"    mean, var = tf.nn.moments(x, {axes}{keep}) if training else (mean_, var_)")
    made = f"tf.nn.batch_normalization(x, mean, var, beta_, gamma_, {question.epsilon})"
    if question.output in ("mean", "variance"):
        made = {"mean": "mean", "variance": "var"}[question.output]
    program.lines.append(f"    return {made}")
    leaves = {"dgamma": "gamma_", "dbeta": "beta_"}
    taped.calls(question, program, lambda x, step: f"call({x}, {step.training})", leaves)
    program.got = _got(question)
    return program


def _got(question: Question) -> str:
    name = question.output
    array = question.name(name, question.step) if name in ("y", "dx_tangent") else name
    array = question.name("y", question.step) if name in ("mean", "variance") else array
    return f"{array}.numpy()"


def _fused(question: Question, program: Program) -> Program:
    """Return the fused operator, or the function of TensorFlow 1 that calls it."""
    view, shown = question.view, question.shown
    if any(step.second or step.forward for step in question.steps) and "_tangent" in question.output:
        raise Untold("no script is written for derivatives of the fused operator's gradient")
    raw, shape = question.entry.startswith("tf.raw_ops"), tuple(view.kept)
    program.lines += _parameters(question, shape)
    words = f'epsilon={question.epsilon}, exponential_avg_factor={question.momentum}, data_format="{_format(view)}"'
    program.lines += [*_compiled(question), "def call(x, mean, var, training):"]
    function = question.entry if raw else "tf.compat.v1.nn.fused_batch_norm"
    named = "x=x, scale=gamma_, offset=beta_, mean=mean, variance=var" if raw else "x, gamma_, beta_, mean, var"
    program.lines += [f"    return {function}({named},", f"        is_training=training, {words})"]
    program.lines += _fused_steps(question)
    at = _PARTS.index(shown.output) if shown.output in _PARTS else 0
    program.got = f"{shown.output}.numpy()" if shown.output not in _PARTS else f"out[{at}].numpy()"
    return program


def _format(view: Any) -> str:
    return _FORMATS[view.rank, view.axis[0]]


def _fused_steps(question: Question) -> list[str]:
    lines: list[str] = []
    for step in question.steps:
        t, x = step.index, question.name("x", step.index)
        lines.append(f"{x}_ = {taped.tensor(question, x)}")
        made = f"out = call({x}_, mean_, var_, {step.training})"
        if not question.derived(step):
            lines.append(made)
        else:
            sources = [{"dx": f"{x}_", "dgamma": "gamma_", "dbeta": "beta_"}[name] for name in question.free]
            names = {"y": (0, "dy"), "mean": (3, "dmean"), "variance": (4, "dvariance")}
            asked = [names[output] for output in step.cotangents]
            outs = ", ".join(f"out[{i}]" for i, _ in asked)
            given = ", ".join(taped.tensor(question, question.name(kind, t)) for _, kind in asked)
            lines += ["with tf.GradientTape() as tape:", f"    tape.watch([{', '.join(sources)}])", f"    {made}"]
            found = f"tape.gradient([{outs}], [{', '.join(sources)}], [{given}])"
            lines += wrapped(f"{targets(question.free)} = {found}")
        if step.training and (t < question.step):
            lines.append("mean_, var_ = out[1], out[2]")
    return lines


def _sonnet(question: Question, program: Program) -> Program:
    """Return `sonnet.BatchNorm`; its statistics are two moving averages."""
    program.imports.append("import sonnet as snt")
    program.versions["sonnet"] = "snt.__version__"
    spec, view = question.spec, question.view
    last = "channels_last" if view.axis == (view.rank - 1,) else "channels_first"
    words = f'{spec.scale}, {spec.center}, decay_rate={question.momentum}, eps={question.epsilon}, data_format="{last}"'
    program.lines.append(f"layer = snt.BatchNorm({words})")
    program.lines.append(f"layer({question.name('x', 0)}, is_training=False)  # makes its variables")
    given = {"gamma": "layer.scale", "beta": "layer.offset"}
    shaped = "{0}.assign({1}.reshape({0}.shape))"
    program.lines += [shaped.format(given[n], n) for n in given if n in question.arrays]
    if question.has("mean", "var"):
        program.lines.append("for average, array in (layer.moving_mean, mean), (layer.moving_variance, var):")
        program.lines.append("    average._hidden.assign(array.reshape(average._hidden.shape))")
        program.lines.append("    average.average.assign(array.reshape(average.average.shape))")
    leaves = {"dgamma": "layer.scale", "dbeta": "layer.offset"}

    def call(x: str, step: Any) -> str:
        update = step.training and step.update
        return f"layer({x}, is_training={update}" + (f", test_local_stats={step.training})" if not update else ")")

    taped.calls(question, program, call, leaves)
    where = {"moving_mean": "layer.moving_mean._hidden", "moving_variance": "layer.moving_variance._hidden"}
    program.got = f"np.ravel({where[question.output]})" if question.output in where else _got(question)
    return program
