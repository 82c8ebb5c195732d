"""Scripts for JAX and the libraries on it: flax, haiku, equinox, and the functions of jax itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.studies.upstream.literals import packed, wrapped
from conformance.studies.upstream.program import Program
from conformance.studies.upstream.question import Question, Untold


def render(question: Question) -> Program:
    """Return the part of a script that asks JAX."""
    name = next(start for start in _LIBRARIES if question.entry.startswith(start))
    program = Program(["import jax"], {"jax": "jax.__version__"})
    if "float64" in (question.dtype, question.shown.case.dtypes.statistics):
        program.imports.append('jax.config.update("jax_enable_x64", True)')
    if question.actions.backward == "together" or "_tangent" in question.output:
        raise Untold("no script is written for such derivatives on JAX")
    _LIBRARIES[name](question, program)
    return program


def _array(question: Question, name: str) -> str:
    half = question.half(name)
    return f'jax.numpy.asarray({name}, "{half}")' if half else name


def _axis(question: Question) -> str:
    axis: Any = question.view.native["axis"]
    return repr(axis).replace("[", "(").replace("]", ")")


def _steps(question: Question, program: Program, call: Callable[[str, Any], str]) -> None:
    """Add the steps: `call(x, step)` gives (y, state)."""
    for step in question.steps:
        x, y = question.name("x", step.index), question.name("y", step.index)
        made = call(_array(question, x), step)
        if not question.derived(step):
            program.lines += wrapped(f"{y}, state = {made}")
            continue
        if question.output not in ("y", "dx"):
            raise Untold(f"no script is written that shows {question.output} of {question.entry}")
        dy = _array(question, question.name("dy", step.index))
        program.lines += wrapped(f"{y}, pull = jax.vjp(lambda x: {call('x', step)}[0], {_array(question, x)})")
        program.lines.append(f"dx, = pull({dy})")


def _got(question: Question, mean: str, variance: str) -> str:
    found = {"moving_mean": mean, "moving_variance": variance, "dx": "dx"}
    return f"np.asarray({found.get(question.output, question.name('y', question.step))})"


def _dtypes(question: Question) -> list[str]:
    dtypes = question.shown.case.dtypes
    words = [] if dtypes.x == "float32" else [f'dtype="{dtypes.x}"']
    return words + ([] if dtypes.parameters == "float32" else [f'param_dtype="{dtypes.parameters}"'])


def _flax(question: Question, program: Program) -> None:
    program.imports.append("import flax" if "linen" in question.entry else "from flax import nnx")
    program.versions["flax"] = "flax.__version__"
    if "linen" not in question.entry:
        program.imports.insert(1, "import flax")
    words = [f"axis={_axis(question)}", f"momentum={question.momentum}", f"epsilon={question.epsilon}"]
    words += [*question.given(center="use_bias", scale="use_scale"), *_dtypes(question)]
    words += ["use_fast_variance=False"] if "two_pass" in question.variants else []
    words += ["force_float32_reductions=False"] if "native_half" in question.variants else []
    (_linen if "linen" in question.entry else _nnx)(question, program, words)


def _linen(question: Question, program: Program, words: list[str]) -> None:
    program.lines += wrapped(f"layer = flax.linen.BatchNorm({', '.join(words)})")
    named = {"scale": "gamma", "bias": "beta"}
    params = ", ".join(f'"{key}": {_array(question, n)}' for key, n in named.items() if question.has(n))
    if question.own:
        x = _array(question, question.name("x", 0))
        program.lines.append(f"variables = layer.init(jax.random.key(0), {x}, use_running_average=False)")
        program.lines.append('state = {"batch_stats": variables["batch_stats"]}')
        kept = 'variables.get("params", {})'
        program.lines.append(f"params = {f'{{{params}}}' if params else kept}")
    else:
        program.lines.append(f"params = {{{params}}}")
        given = f'{{"mean": {_array(question, "mean")}, "var": {_array(question, "var")}}}'
        program.lines.append(f'state = {{"batch_stats": {given}}}')
    jit = "jax.jit(" if "jit" in question.variants else ""

    def call(x: str, step: Any) -> str:
        mask = "" if step.mask is None else f", mask={question.name('mask', step.index)}"
        rest = f'use_running_average={not step.training}{mask}, mutable=["batch_stats"])'
        function = f'lambda s, x: layer.apply({{"params": params, **s}}, x, {rest}'
        return f"{jit}{function})(state, {x})" if jit else f'layer.apply({{"params": params, **state}}, {x}, {rest}'

    _steps(question, program, call)
    program.got = _got(question, 'state["batch_stats"]["mean"]', 'state["batch_stats"]["var"]')


def _nnx(question: Question, program: Program, words: list[str]) -> None:
    view = question.view
    features = view.shape[view.axis[0] % view.rank] if view.shape else 1
    program.lines += wrapped(f"layer = nnx.BatchNorm({features}, {', '.join(words)}, rngs=nnx.Rngs(0))")
    for name, variable in {"gamma": "scale", "beta": "bias", "mean": "mean", "var": "var"}.items():
        if question.has(name):
            program.lines.append(f"layer.{variable}.set_value(jax.numpy.asarray({_array(question, name)}))")
    jit = "jit" in question.variants
    if jit:
        program.lines += ["@nnx.jit(static_argnums=2)", "def call(layer, x, average, mask=None):"]
        program.lines.append("    return layer(x, use_running_average=average, mask=mask)")
    for step in question.steps:
        if question.derived(step):
            raise Untold("no script is written for gradients of nnx")
        x = _array(question, question.name("x", step.index))
        x = x if x.startswith("jax.") else f"jax.numpy.asarray({x})"
        mask = [] if step.mask is None else [question.name("mask", step.index)]
        y = question.name("y", step.index)
        if jit:
            program.lines.append(f"{y} = call({', '.join(['layer', x, str(not step.training), *mask])})")
        else:
            handed = "".join(f", mask={m}" for m in mask)
            program.lines.append(f"{y} = layer({x}, use_running_average={not step.training}{handed})")
    program.got = _got(question, "layer.mean.get_value()", "layer.var.get_value()")


def _haiku(question: Question, program: Program) -> None:
    program.imports.append("import haiku as hk")
    program.versions["haiku"] = "hk.__version__"
    spec, axes = question.spec, list(question.view.native["axis"])
    made = f"hk.BatchNorm({spec.scale}, {spec.center}, {question.momentum}, {question.epsilon}, axis={axes})"
    called = "(x, training, test_local_stats=local)"
    program.lines += wrapped(f"layer = hk.transform_with_state(lambda x, training, local: {made}{called})")
    x, init = _array(question, question.name("x", 0)), question.actions.init_mode == "train"
    program.lines.append(f"params, state = layer.init(None, {x}, {init}, {init})")
    shape = tuple(n if i in question.view.axis else 1 for i, n in enumerate(question.view.shape))
    named = {"gamma": "scale", "beta": "offset"}
    given = ", ".join(f'"{key}": {_array(question, n)}.reshape{shape}' for n, key in named.items() if question.has(n))
    program.lines += [f'params = {{"batch_norm": {{{given}}}}}'] if given else []
    if question.has("mean", "var"):
        program.lines += ['for name, array in ("mean", mean), ("var", var):', f"    array = array.reshape{shape}"]
        ema = '{"hidden": array, "average": array, "counter": np.array(0, "int32")}'
        program.lines.append(f'    state[f"batch_norm/~/{{name}}_ema"] = {ema}')
    apply = "jax.jit(layer.apply, static_argnums=(4, 5))" if "jit" in question.variants else "layer.apply"

    def call(x: str, step: Any) -> str:
        return f"{apply}(params, state, None, {x}, {step.training and step.update}, {step.training})"

    _steps(question, program, call)
    program.got = _got(question, *(f'state["batch_norm/~/{n}_ema"]["hidden"].ravel()' for n in ("mean", "var")))


def _equinox(question: Question, program: Program) -> None:
    program.imports.append("import equinox as eqx")
    program.versions["equinox"] = "eqx.__version__"
    spec, kind = question.spec, "ema" if "ema" in question.variants else "batch"
    words = [str(question.view.kept[0]), '"batch"', f"eps={question.epsilon}", f"momentum={question.momentum}"]
    words += [] if spec.scale else ["channelwise_affine=False"]
    dtype = question.shown.case.dtypes.statistics
    words += ([] if dtype == "float32" else [f'dtype="{dtype}"']) + [f'mode="{kind}"']
    program.lines += wrapped(f"layer, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)({', '.join(words)})")
    if question.has("gamma", "beta"):
        values = f"({_array(question, 'gamma')}, {_array(question, 'beta')})"
        program.lines.append(f"layer = eqx.tree_at(lambda tree: (tree.weight, tree.bias), layer, {values})")
    index = f"layer.{kind}_state_index"
    if question.has("mean", "var"):
        values = ", ".join(f"jax.numpy.asarray({_array(question, n)})" for n in ("mean", "var"))
        program.lines.append(f"state = state.set({index}, ({values}))")

    def call(x: str, step: Any) -> str:
        function = f"lambda x, s: layer(x, s, inference={not step.training})"
        return f'jax.vmap({function}, axis_name="batch", in_axes=(0, None), out_axes=(0, None))({x}, state)'

    _steps(question, program, call)
    program.got = _got(question, f"state.get({index})[0]", f"state.get({index})[1]")


def _functions(question: Question, program: Program) -> None:
    """Return `jax.nn.standardize`, or stax, which calls it."""
    axes, shape = tuple(question.view.native["axis"]), tuple(question.view.kept)
    whole = tuple(n if i in question.view.axis else 1 for i, n in enumerate(question.view.shape))
    stax, same = "stax" in question.entry, len(shape) == 1 and whole[-1] == shape[0]
    pairs: list[tuple[str, str]] = []
    for name in ("gamma", "beta", "mean", "var"):
        needed = name in ("gamma", "beta") or any(not step.training for step in question.steps)
        given = question.has(name)
        made = f"{name}" if given else f'np.full({shape}, {int(name in ("gamma", "var"))}, "{question.dtype}")'
        pairs += [(f"{name}_", made if same or stax else f"{made}.reshape{whole}")] if needed else []
    program.lines += packed(pairs)
    if stax:
        program.imports.append("from jax.example_libraries import stax")
        options = f"{axes}, {question.epsilon}, {question.spec.center}, {question.spec.scale}"
        program.lines.append(f"_, apply = stax.BatchNorm({options})")
    stable = ', algorithm="stable"' if "two_pass" in question.variants else ""
    for step in question.steps:
        x, y = _array(question, question.name("x", step.index)), question.name("y", step.index)
        if question.derived(step):
            raise Untold("no script is written for gradients of these functions")
        used = "" if step.training else ", mean=mean_, variance=var_"
        used += "" if step.mask is None else f", where={question.name('mask', step.index)}"
        made = f"jax.nn.standardize({x}, {axes}, epsilon={question.epsilon}{used}{stable}) * gamma_ + beta_"
        program.lines += wrapped(f"{y} = " + (f"apply((beta_, gamma_), {x})" if stax else made))
    program.got = _got(question, "", "")


_LIBRARIES: dict[str, Callable[[Question, Program], None]] = {
    "flax.": _flax,
    "haiku.": _haiku,
    "equinox.": _equinox,
    "jax.": _functions,
}
