"""Scripts for graphs and sessions: `tf.layers.batch_normalization` of TensorFlow 1, and what 2 still has of it."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream.literals import packed, wrapped
from conformance.studies.upstream.program import Program
from conformance.studies.upstream.question import Question, Untold

_VARIABLES = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "var": "moving_variance"}
_STATE = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")


def render(question: Question) -> Program:
    """Return the part of a script that asks a session."""
    program, fed = _imports(question), "placeholder" in question.variants
    fed = fed or (question.entry.startswith("tf.compat") and "bool" not in question.variants)
    _places(question, program, fed=fed)
    program.lines += ["session = tf.Session()", "session.run(tf.global_variables_initializer())"]
    program.lines += _loaded(question)
    _runs(question, program, fed=fed)
    return program


def _imports(question: Question) -> Program:
    first = "import tensorflow as tf"
    if question.entry.startswith("tf.compat"):
        imports = ["import tensorflow.compat.v1 as tf", "tf.disable_eager_execution()"]
        return Program(imports, {"tensorflow": "tf.__version__"}, environment={"TF_USE_LEGACY_KERAS": "1"})
    return Program([first], {"tensorflow": "tf.__version__"})


def _arguments(question: Question) -> list[str]:
    spec = question.spec
    axis = list(spec.axis) if isinstance(spec.axis, tuple) else spec.axis
    epsilon = f"np.{question.shown.case.dtypes.parameters}({question.epsilon})" if spec.renorm else question.epsilon
    words = [f"axis={axis}", f"momentum={question.momentum}", f"epsilon={epsilon}"]
    words += question.given(center="center", scale="scale", trainable="trainable")
    words += question.special
    words += ["fused=False"] if "fused_false" in question.variants else []
    return words


def _places(question: Question, program: Program, *, fed: bool) -> None:
    """Add each step's call to the graph; in one graph with a gradient of all, each waits for the one before."""
    together, lines = question.actions.backward == "together", program.lines
    words = ", ".join(_arguments(question))
    if len(question.steps) > 1:
        lines.append(f'words = dict({words}, name="layer", reuse=tf.AUTO_REUSE)')
        words = "**words"
    for step in question.steps:
        t, n = step.index, question.name
        training = f"{n('training', t)}" if fed else str(step.training)
        pairs = [(f"{n('x', t)}_", f"tf.placeholder(tf.{question.dtype}, {step.x.shape})")]
        pairs += [(n("training", t), "tf.placeholder(tf.bool, ())")] if fed else []
        lines += packed(pairs)
        waits = together and t > 0
        lines += [f"with tf.control_dependencies(updates{t - 1}):"] if waits else []
        flag = f"tf.constant({step.training})" if "tensor" in question.variants else training
        made = f"tf.layers.batch_normalization({n('x', t)}_, training={flag}, {words})"
        lines += wrapped(f"{'    ' if waits else ''}{n('y', t)} = {made}")
        known = f"[{_sizes(t)}:]" if t else ""
        lines.append(f"{n('updates', t)} = tf.get_collection(tf.GraphKeys.UPDATE_OPS){known}")


def _sizes(t: int) -> str:
    return " + ".join(f"len(updates{s})" for s in range(t))


def _loaded(question: Question) -> list[str]:
    given = [name for name in _VARIABLES if name in question.arrays]
    lines = ['variables = {v.op.name.split("/")[-1]: v for v in tf.global_variables()}']
    if not given:
        return lines
    pairs = ", ".join(f'("{_VARIABLES[name]}", {name})' for name in given)
    if question.spec.renorm and question.has("mean", "var") and "1.7" not in question.shown.record.id:
        pairs += ', ("renorm_mean", mean), ("moving_stddev", np.sqrt(var)), ("renorm_stddev", np.sqrt(var))'
    pairs += "," if len(given) == 1 else ""
    return [*lines, *wrapped(f"for name, array in {pairs}:"), "    variables[name].load(array, session)"]


def _fetched(question: Question, step: Any) -> list[str]:
    """Add the gradients of the step that is shown; return what is fetched."""
    if not question.derived(step):
        return []
    if step.forward or step.third:
        raise Untold("no script is written for these derivatives")
    t = step.index
    of = {"dx": f"{question.name('x', t)}_", "dgamma": 'variables["gamma"]', "dbeta": 'variables["beta"]'}
    y, dy = question.name("y", t), question.name("dy", t)
    if question.output not in ("dx_tangent", "dgamma_tangent"):
        name = question.output if question.output in of else "dx"
        return [f"{name}, = tf.gradients({y}, {of[name]}, {dy})"]
    name = question.output.removesuffix("_tangent")
    along = question.name("tangent", t)
    return [f"dx, = tf.gradients({y}, {of['dx']}, {dy})", f"{question.output}, = tf.gradients(dx, {of[name]}, {along})"]


def _runs(question: Question, program: Program, *, fed: bool) -> None:
    together = question.actions.backward == "together"
    program.lines += [line for step in question.steps for line in _fetched(question, step)]
    feeds: list[str] = []
    for step in question.steps:
        t, n = step.index, question.name
        feed = f"{n('x', t)}_: {n('x', t)}" + (f", {n('training', t)}: {step.training}" if fed else "")
        feeds.append(feed)
        updates = f"{n('updates', t)}" if step.training and step.update else "[]"
        if not together:
            shown = question.output if question.output not in (*_STATE, "y") and t == question.step else n("y", t)
            if question.shown.kind in ("refused", "crashed") and question.derived(step):
                shown = "dx"
            name = "got" if t == question.step and question.output not in _STATE else "_"
            program.lines.append(f"{name}, _ = session.run([{shown}, {updates}], {{{feed}}})")
    if together:
        ys, updates = ([question.name(kind, s.index) for s in question.steps] for kind in ("y", "updates"))
        program.lines += wrapped(f"out = session.run([{', '.join(ys + updates)}], {{{', '.join(feeds)}}})")
    out = f"out[{question.step}]" if together else "got"
    program.got = f'session.run(variables["{question.output}"])' if question.output in _STATE else out
