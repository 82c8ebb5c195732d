"""Scripts for TensorFlow 2: functions, raw operators, and Sonnet's layer, which is made of them."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream import taped
from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.literals import packed, targets, wrapped
from conformance.studies.upstream.program import Program

_FORMATS = {(4, 3): "NHWC", (4, 1): "NCHW", (5, 4): "NDHWC", (5, 1): "NCDHW"}
_PARTS = ("y", "moving_mean", "moving_variance", "mean", "variance")


def render(draft: Draft) -> Program:
    """Return the part of a script that asks TensorFlow."""
    program = Program(["import tensorflow as tf"], {"tensorflow": "tf.__version__"})
    if draft.actions.backward == "together":
        raise Untold("no script is written for one gradient of all calls")
    if draft.entry == "sonnet.BatchNorm":
        return _sonnet(draft, program)
    return _moments(draft, program) if draft.entry.startswith("tf.nn.") else _fused(draft, program)


def _compiled(draft: Draft) -> list[str]:
    options = {"graph": "", "xla": "jit_compile=True"}
    return [f"@tf.function({options[v]})".replace("()", "") for v in draft.variants if v in options]


def _parameters(draft: Draft, shape: tuple[int, ...]) -> list[str]:
    """Return the lines that make tensors of parameters and statistics, neutral ones where the case has none."""
    pairs: list[tuple[str, str]] = []
    for name in ("gamma", "beta", "mean", "var"):
        reshaped = f".reshape{shape}" if len(shape) > 1 else ""
        if name in draft.arrays:
            made = taped.tensor(draft, name)
            pairs.append((f"{name}_", made.replace(name, f"{name}{reshaped}", 1) if reshaped else made))
        else:
            pairs.append((f"{name}_", f"tf.{'ones' if name in ('gamma', 'var') else 'zeros'}({list(shape)})"))
    return packed(pairs)


def _moments(draft: Draft, program: Program) -> Program:
    """Return `tf.nn.moments` and `tf.nn.batch_normalization`."""
    view, axes = draft.view, list(draft.view.native["axis"])
    shape = tuple(n if i in view.axis else 1 for i, n in enumerate(view.steps[0].x.shape))
    last = view.axis == (view.rank - 1,)
    program.lines += _parameters(draft, (shape[-1],) if last else shape)
    program.lines += [*_compiled(draft), "def call(x, training):"]
    keep = "" if last else ", keepdims=True"
    program.lines.append(f"    mean, var = tf.nn.moments(x, {axes}{keep}) if training else (mean_, var_)")
    made = f"tf.nn.batch_normalization(x, mean, var, beta_, gamma_, {draft.epsilon})"
    if draft.output in ("mean", "variance"):
        made = {"mean": "mean", "variance": "var"}[draft.output]
    program.lines.append(f"    return {made}")
    leaves = {"dgamma": "gamma_", "dbeta": "beta_"}
    taped.calls(draft, program, lambda x, step: f"call({x}, {step.training})", leaves)
    program.got = _got(draft)
    return program


def _got(draft: Draft) -> str:
    name = draft.output
    array = draft.name(name, draft.step) if name in ("y", "dx_tangent") else name
    array = draft.name("y", draft.step) if name in ("mean", "variance") else array
    return f"{array}.numpy()"


def _fused(draft: Draft, program: Program) -> Program:
    """Return the fused operator, or the function of TensorFlow 1 that calls it."""
    view, shown = draft.view, draft.shown
    if any(step.second or step.forward for step in draft.steps) and "_tangent" in draft.output:
        raise Untold("no script is written for derivatives of the fused operator's gradient")
    raw, shape = draft.entry.startswith("tf.raw_ops"), tuple(view.kept)
    program.lines += _parameters(draft, shape)
    words = f'epsilon={draft.epsilon}, exponential_avg_factor={draft.momentum}, data_format="{_format(view)}"'
    program.lines += [*_compiled(draft), "def call(x, mean, var, training):"]
    function = draft.entry if raw else "tf.compat.v1.nn.fused_batch_norm"
    named = "x=x, scale=gamma_, offset=beta_, mean=mean, variance=var" if raw else "x, gamma_, beta_, mean, var"
    program.lines += [f"    return {function}({named},", f"        is_training=training, {words})"]
    program.lines += _fused_steps(draft)
    at = _PARTS.index(shown.output) if shown.output in _PARTS else 0
    program.got = f"{shown.output}.numpy()" if shown.output not in _PARTS else f"out[{at}].numpy()"
    return program


def _format(view: Any) -> str:
    return _FORMATS[view.rank, view.axis[0]]


def _fused_steps(draft: Draft) -> list[str]:
    lines: list[str] = []
    for step in draft.steps:
        t, x = step.index, draft.name("x", step.index)
        lines.append(f"{x}_ = {taped.tensor(draft, x)}")
        made = f"out = call({x}_, mean_, var_, {step.training})"
        if not draft.derived(step):
            lines.append(made)
        else:
            sources = [{"dx": f"{x}_", "dgamma": "gamma_", "dbeta": "beta_"}[name] for name in draft.free]
            names = {"y": (0, "dy"), "mean": (3, "dmean"), "variance": (4, "dvariance")}
            asked = [names[output] for output in step.cotangents]
            outs = ", ".join(f"out[{i}]" for i, _ in asked)
            given = ", ".join(taped.tensor(draft, draft.name(kind, t)) for _, kind in asked)
            lines += ["with tf.GradientTape() as tape:", f"    tape.watch([{', '.join(sources)}])", f"    {made}"]
            found = f"tape.gradient([{outs}], [{', '.join(sources)}], [{given}])"
            lines += wrapped(f"{targets(draft.free)} = {found}")
        if step.training and (t < draft.step):
            lines.append("mean_, var_ = out[1], out[2]")
    return lines


def _sonnet(draft: Draft, program: Program) -> Program:
    """Return `sonnet.BatchNorm`; its statistics are two moving averages."""
    program.imports.append("import sonnet as snt")
    program.versions["sonnet"] = "snt.__version__"
    spec, view = draft.spec, draft.view
    last = "channels_last" if view.axis == (view.rank - 1,) else "channels_first"
    words = f'{spec.scale}, {spec.center}, decay_rate={draft.momentum}, eps={draft.epsilon}, data_format="{last}"'
    program.lines.append(f"layer = snt.BatchNorm({words})")
    program.lines.append(f"layer({draft.name('x', 0)}, is_training=False)  # makes its variables")
    given = {"gamma": "layer.scale", "beta": "layer.offset"}
    shaped = "{0}.assign({1}.reshape({0}.shape))"
    program.lines += [shaped.format(given[n], n) for n in given if n in draft.arrays]
    if draft.has("mean", "var"):
        program.lines.append("for average, array in (layer.moving_mean, mean), (layer.moving_variance, var):")
        program.lines.append("    average._hidden.assign(array.reshape(average._hidden.shape))")
        program.lines.append("    average.average.assign(array.reshape(average.average.shape))")
    leaves = {"dgamma": "layer.scale", "dbeta": "layer.offset"}

    def call(x: str, step: Any) -> str:
        update = step.training and step.update
        return f"layer({x}, is_training={update}" + (f", test_local_stats={step.training})" if not update else ")")

    taped.calls(draft, program, call, leaves)
    where = {"moving_mean": "layer.moving_mean._hidden", "moving_variance": "layer.moving_variance._hidden"}
    program.got = f"np.ravel({where[draft.output]})" if draft.output in where else _got(draft)
    return program
