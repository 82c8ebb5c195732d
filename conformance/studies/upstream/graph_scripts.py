"""Scripts for graphs and sessions: `tf.layers.batch_normalization` of TensorFlow 1, and what 2 still has of it."""

from __future__ import annotations

from typing import Any

from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.literals import packed, wrapped
from conformance.studies.upstream.program import Program

_VARIABLES = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "var": "moving_variance"}
_STATE = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")


def render(draft: Draft) -> Program:
    """Return the part of a script that asks a session."""
    program, fed = _imports(draft), "placeholder" in draft.variants
    fed = fed or (draft.entry.startswith("tf.compat") and "bool" not in draft.variants)
    _places(draft, program, fed=fed)
    program.lines += ["session = tf.Session()", "session.run(tf.global_variables_initializer())"]
    program.lines += _loaded(draft)
    _runs(draft, program, fed=fed)
    return program


def _imports(draft: Draft) -> Program:
    first = "import tensorflow as tf"
    if draft.entry.startswith("tf.compat"):
        imports = ["import tensorflow.compat.v1 as tf", "tf.disable_eager_execution()"]
        return Program(imports, {"tensorflow": "tf.__version__"}, environment={"TF_USE_LEGACY_KERAS": "1"})
    return Program([first], {"tensorflow": "tf.__version__"})


def _arguments(draft: Draft) -> list[str]:
    spec = draft.spec
    axis = list(spec.axis) if isinstance(spec.axis, tuple) else spec.axis
    epsilon = f"np.{draft.shown.case.dtypes.parameters}({draft.epsilon})" if spec.renorm else draft.epsilon
    words = [f"axis={axis}", f"momentum={draft.momentum}", f"epsilon={epsilon}"]
    words += draft.given(center="center", scale="scale", trainable="trainable")
    words += draft.special
    words += ["fused=False"] if "fused_false" in draft.variants else []
    return words


def _places(draft: Draft, program: Program, *, fed: bool) -> None:
    """Add each step's call to the graph; in one graph with a gradient of all, each waits for the one before."""
    together, lines = draft.actions.backward == "together", program.lines
    words = ", ".join(_arguments(draft))
    if len(draft.steps) > 1:
        lines.append(f'words = dict({words}, name="layer", reuse=tf.AUTO_REUSE)')
        words = "**words"
    for step in draft.steps:
        t, n = step.index, draft.name
        training = f"{n('training', t)}" if fed else str(step.training)
        pairs = [(f"{n('x', t)}_", f"tf.placeholder(tf.{draft.dtype}, {step.x.shape})")]
        pairs += [(n("training", t), "tf.placeholder(tf.bool, ())")] if fed else []
        lines += packed(pairs)
        waits = together and t > 0
        lines += [f"with tf.control_dependencies(updates{t - 1}):"] if waits else []
        flag = f"tf.constant({step.training})" if "tensor" in draft.variants else training
        made = f"tf.layers.batch_normalization({n('x', t)}_, training={flag}, {words})"
        lines += wrapped(f"{'    ' if waits else ''}{n('y', t)} = {made}")
        known = f"[{_sizes(t)}:]" if t else ""
        lines.append(f"{n('updates', t)} = tf.get_collection(tf.GraphKeys.UPDATE_OPS){known}")


def _sizes(t: int) -> str:
    return " + ".join(f"len(updates{s})" for s in range(t))


def _loaded(draft: Draft) -> list[str]:
    given = [name for name in _VARIABLES if name in draft.arrays]
    lines = ['variables = {v.op.name.split("/")[-1]: v for v in tf.global_variables()}']
    if not given:
        return lines
    pairs = ", ".join(f'("{_VARIABLES[name]}", {name})' for name in given)
    if draft.spec.renorm and draft.has("mean", "var") and "1.7" not in draft.shown.record.id:
        pairs += ', ("renorm_mean", mean), ("moving_stddev", np.sqrt(var)), ("renorm_stddev", np.sqrt(var))'
    pairs += "," if len(given) == 1 else ""
    return [*lines, *wrapped(f"for name, array in {pairs}:"), "    variables[name].load(array, session)"]


def _fetched(draft: Draft, step: Any) -> list[str]:
    """Add the gradients of the step that is shown; return what is fetched."""
    if not draft.derived(step):
        return []
    if step.forward or step.third:
        raise Untold("no script is written for these derivatives")
    t = step.index
    of = {"dx": f"{draft.name('x', t)}_", "dgamma": 'variables["gamma"]', "dbeta": 'variables["beta"]'}
    y, dy = draft.name("y", t), draft.name("dy", t)
    if draft.output not in ("dx_tangent", "dgamma_tangent"):
        name = draft.output if draft.output in of else "dx"
        return [f"{name}, = tf.gradients({y}, {of[name]}, {dy})"]
    name = draft.output.removesuffix("_tangent")
    along = draft.name("tangent", t)
    return [f"dx, = tf.gradients({y}, {of['dx']}, {dy})", f"{draft.output}, = tf.gradients(dx, {of[name]}, {along})"]


def _runs(draft: Draft, program: Program, *, fed: bool) -> None:
    together = draft.actions.backward == "together"
    program.lines += [line for step in draft.steps for line in _fetched(draft, step)]
    feeds: list[str] = []
    for step in draft.steps:
        t, n = step.index, draft.name
        feed = f"{n('x', t)}_: {n('x', t)}" + (f", {n('training', t)}: {step.training}" if fed else "")
        feeds.append(feed)
        updates = f"{n('updates', t)}" if step.training and step.update else "[]"
        if not together:
            shown = draft.output if draft.output not in (*_STATE, "y") and t == draft.step else n("y", t)
            if draft.shown.kind in ("refused", "crashed") and draft.derived(step):
                shown = "dx"
            name = "got" if t == draft.step and draft.output not in _STATE else "_"
            program.lines.append(f"{name}, _ = session.run([{shown}, {updates}], {{{feed}}})")
    if together:
        ys, updates = ([draft.name(kind, s.index) for s in draft.steps] for kind in ("y", "updates"))
        program.lines += wrapped(f"out = session.run([{', '.join(ys + updates)}], {{{', '.join(feeds)}}})")
    out = f"out[{draft.step}]" if together else "got"
    program.got = f'session.run(variables["{draft.output}"])' if draft.output in _STATE else out
