"""Scripts for JAX and the libraries on it: flax, haiku, equinox, and the functions of jax itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.literals import packed, wrapped
from conformance.studies.upstream.program import Program


def render(draft: Draft) -> Program:
    """Return the part of a script that asks JAX."""
    name = next(start for start in _LIBRARIES if draft.entry.startswith(start))
    program = Program(["import jax"], {"jax": "jax.__version__"})
    if "float64" in (draft.dtype, draft.shown.case.dtypes.statistics):
        program.imports.append('jax.config.update("jax_enable_x64", True)')
    if draft.actions.backward == "together" or "_tangent" in draft.output:
        raise Untold("no script is written for such derivatives on JAX")
    _LIBRARIES[name](draft, program)
    return program


def _array(draft: Draft, name: str) -> str:
    half = draft.half(name)
    return f'jax.numpy.asarray({name}, "{half}")' if half else name


def _axis(draft: Draft) -> str:
    axis: Any = draft.view.native["axis"]
    return repr(axis).replace("[", "(").replace("]", ")")


def _steps(draft: Draft, program: Program, call: Callable[[str, Any], str]) -> None:
    """Add the steps: `call(x, step)` gives (y, state)."""
    for step in draft.steps:
        x, y = draft.name("x", step.index), draft.name("y", step.index)
        made = call(_array(draft, x), step)
        if not draft.derived(step):
            program.lines += wrapped(f"{y}, state = {made}")
            continue
        if draft.output not in ("y", "dx"):
            raise Untold(f"no script is written that shows {draft.output} of {draft.entry}")
        dy = _array(draft, draft.name("dy", step.index))
        program.lines += wrapped(f"{y}, pull = jax.vjp(lambda x: {call('x', step)}[0], {_array(draft, x)})")
        program.lines.append(f"dx, = pull({dy})")


def _got(draft: Draft, mean: str, variance: str) -> str:
    found = {"moving_mean": mean, "moving_variance": variance, "dx": "dx"}
    return f"np.asarray({found.get(draft.output, draft.name('y', draft.step))})"


def _dtypes(draft: Draft) -> list[str]:
    dtypes = draft.shown.case.dtypes
    words = [] if dtypes.x == "float32" else [f'dtype="{dtypes.x}"']
    return words + ([] if dtypes.parameters == "float32" else [f'param_dtype="{dtypes.parameters}"'])


def _flax(draft: Draft, program: Program) -> None:
    program.imports.append("import flax" if "linen" in draft.entry else "from flax import nnx")
    program.versions["flax"] = "flax.__version__"
    if "linen" not in draft.entry:
        program.imports.insert(1, "import flax")
    words = [f"axis={_axis(draft)}", f"momentum={draft.momentum}", f"epsilon={draft.epsilon}"]
    words += [*draft.given(center="use_bias", scale="use_scale"), *_dtypes(draft)]
    words += ["use_fast_variance=False"] if "two_pass" in draft.variants else []
    words += ["force_float32_reductions=False"] if "native_half" in draft.variants else []
    (_linen if "linen" in draft.entry else _nnx)(draft, program, words)


def _linen(draft: Draft, program: Program, words: list[str]) -> None:
    program.lines += wrapped(f"layer = flax.linen.BatchNorm({', '.join(words)})")
    named = {"scale": "gamma", "bias": "beta"}
    params = ", ".join(f'"{key}": {_array(draft, n)}' for key, n in named.items() if draft.has(n))
    if draft.own:
        x = _array(draft, draft.name("x", 0))
        program.lines.append(f"variables = layer.init(jax.random.key(0), {x}, use_running_average=False)")
        program.lines.append('state = {"batch_stats": variables["batch_stats"]}')
        kept = 'variables.get("params", {})'
        program.lines.append(f"params = {f'{{{params}}}' if params else kept}")
    else:
        program.lines.append(f"params = {{{params}}}")
        given = f'{{"mean": {_array(draft, "mean")}, "var": {_array(draft, "var")}}}'
        program.lines.append(f'state = {{"batch_stats": {given}}}')
    jit = "jax.jit(" if "jit" in draft.variants else ""

    def call(x: str, step: Any) -> str:
        mask = "" if step.mask is None else f", mask={draft.name('mask', step.index)}"
        rest = f'use_running_average={not step.training}{mask}, mutable=["batch_stats"])'
        function = f'lambda s, x: layer.apply({{"params": params, **s}}, x, {rest}'
        return f"{jit}{function})(state, {x})" if jit else f'layer.apply({{"params": params, **state}}, {x}, {rest}'

    _steps(draft, program, call)
    program.got = _got(draft, 'state["batch_stats"]["mean"]', 'state["batch_stats"]["var"]')


def _nnx(draft: Draft, program: Program, words: list[str]) -> None:
    view = draft.view
    features = view.shape[view.axis[0] % view.rank] if view.shape else 1
    program.lines += wrapped(f"layer = nnx.BatchNorm({features}, {', '.join(words)}, rngs=nnx.Rngs(0))")
    for name, variable in {"gamma": "scale", "beta": "bias", "mean": "mean", "var": "var"}.items():
        if draft.has(name):
            program.lines.append(f"layer.{variable}.set_value(jax.numpy.asarray({_array(draft, name)}))")
    jit = "jit" in draft.variants
    if jit:
        program.lines += ["@nnx.jit(static_argnums=2)", "def call(layer, x, average, mask=None):"]
        program.lines.append("    return layer(x, use_running_average=average, mask=mask)")
    for step in draft.steps:
        if draft.derived(step):
            raise Untold("no script is written for gradients of nnx")
        x = _array(draft, draft.name("x", step.index))
        x = x if x.startswith("jax.") else f"jax.numpy.asarray({x})"
        mask = [] if step.mask is None else [draft.name("mask", step.index)]
        y = draft.name("y", step.index)
        if jit:
            program.lines.append(f"{y} = call({', '.join(['layer', x, str(not step.training), *mask])})")
        else:
            handed = "".join(f", mask={m}" for m in mask)
            program.lines.append(f"{y} = layer({x}, use_running_average={not step.training}{handed})")
    program.got = _got(draft, "layer.mean.get_value()", "layer.var.get_value()")


def _haiku(draft: Draft, program: Program) -> None:
    program.imports.append("import haiku as hk")
    program.versions["haiku"] = "hk.__version__"
    spec, axes = draft.spec, list(draft.view.native["axis"])
    made = f"hk.BatchNorm({spec.scale}, {spec.center}, {draft.momentum}, {draft.epsilon}, axis={axes})"
    called = "(x, training, test_local_stats=local)"
    program.lines += wrapped(f"layer = hk.transform_with_state(lambda x, training, local: {made}{called})")
    x, init = _array(draft, draft.name("x", 0)), draft.actions.init_mode == "train"
    program.lines.append(f"params, state = layer.init(None, {x}, {init}, {init})")
    shape = tuple(n if i in draft.view.axis else 1 for i, n in enumerate(draft.view.shape))
    named = {"gamma": "scale", "beta": "offset"}
    given = ", ".join(f'"{key}": {_array(draft, n)}.reshape{shape}' for n, key in named.items() if draft.has(n))
    program.lines += [f'params = {{"batch_norm": {{{given}}}}}'] if given else []
    if draft.has("mean", "var"):
        program.lines += ['for name, array in ("mean", mean), ("var", var):', f"    array = array.reshape{shape}"]
        ema = '{"hidden": array, "average": array, "counter": np.array(0, "int32")}'
        program.lines.append(f'    state[f"batch_norm/~/{{name}}_ema"] = {ema}')
    apply = "jax.jit(layer.apply, static_argnums=(4, 5))" if "jit" in draft.variants else "layer.apply"

    def call(x: str, step: Any) -> str:
        return f"{apply}(params, state, None, {x}, {step.training and step.update}, {step.training})"

    _steps(draft, program, call)
    program.got = _got(draft, *(f'state["batch_norm/~/{n}_ema"]["hidden"].ravel()' for n in ("mean", "var")))


def _equinox(draft: Draft, program: Program) -> None:
    program.imports.append("import equinox as eqx")
    program.versions["equinox"] = "eqx.__version__"
    spec, kind = draft.spec, "ema" if "ema" in draft.variants else "batch"
    words = [str(draft.view.kept[0]), '"batch"', f"eps={draft.epsilon}", f"momentum={draft.momentum}"]
    words += [] if spec.scale else ["channelwise_affine=False"]
    dtype = draft.shown.case.dtypes.statistics
    words += ([] if dtype == "float32" else [f'dtype="{dtype}"']) + [f'mode="{kind}"']
    program.lines += wrapped(f"layer, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)({', '.join(words)})")
    if draft.has("gamma", "beta"):
        values = f"({_array(draft, 'gamma')}, {_array(draft, 'beta')})"
        program.lines.append(f"layer = eqx.tree_at(lambda tree: (tree.weight, tree.bias), layer, {values})")
    index = f"layer.{kind}_state_index"
    if draft.has("mean", "var"):
        values = ", ".join(f"jax.numpy.asarray({_array(draft, n)})" for n in ("mean", "var"))
        program.lines.append(f"state = state.set({index}, ({values}))")

    def call(x: str, step: Any) -> str:
        function = f"lambda x, s: layer(x, s, inference={not step.training})"
        return f'jax.vmap({function}, axis_name="batch", in_axes=(0, None), out_axes=(0, None))({x}, state)'

    _steps(draft, program, call)
    program.got = _got(draft, f"state.get({index})[0]", f"state.get({index})[1]")


def _functions(draft: Draft, program: Program) -> None:
    """Return `jax.nn.standardize`, or stax, which calls it."""
    axes, shape = tuple(draft.view.native["axis"]), tuple(draft.view.kept)
    whole = tuple(n if i in draft.view.axis else 1 for i, n in enumerate(draft.view.shape))
    stax, same = "stax" in draft.entry, len(shape) == 1 and whole[-1] == shape[0]
    pairs: list[tuple[str, str]] = []
    for name in ("gamma", "beta", "mean", "var"):
        needed = name in ("gamma", "beta") or any(not step.training for step in draft.steps)
        given = draft.has(name)
        made = f"{name}" if given else f'np.full({shape}, {int(name in ("gamma", "var"))}, "{draft.dtype}")'
        pairs += [(f"{name}_", made if same or stax else f"{made}.reshape{whole}")] if needed else []
    program.lines += packed(pairs)
    if stax:
        program.imports.append("from jax.example_libraries import stax")
        options = f"{axes}, {draft.epsilon}, {draft.spec.center}, {draft.spec.scale}"
        program.lines.append(f"_, apply = stax.BatchNorm({options})")
    stable = ', algorithm="stable"' if "two_pass" in draft.variants else ""
    for step in draft.steps:
        x, y = _array(draft, draft.name("x", step.index)), draft.name("y", step.index)
        if draft.derived(step):
            raise Untold("no script is written for gradients of these functions")
        used = "" if step.training else ", mean=mean_, variance=var_"
        used += "" if step.mask is None else f", where={draft.name('mask', step.index)}"
        made = f"jax.nn.standardize({x}, {axes}, epsilon={draft.epsilon}{used}{stable}) * gamma_ + beta_"
        program.lines += wrapped(f"{y} = " + (f"apply((beta_, gamma_), {x})" if stax else made))
    program.got = _got(draft, "", "")


_LIBRARIES: dict[str, Callable[[Draft, Program], None]] = {
    "flax.": _flax,
    "haiku.": _haiku,
    "equinox.": _equinox,
    "jax.": _functions,
}
