"""Scripts for JAX and the libraries on it: flax, haiku, equinox, and the functions of jax itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from conformance.studies.upstream import jax_derivatives, replica_scripts
from conformance.studies.upstream.draft import Draft, Untold
from conformance.studies.upstream.jax_derivatives import Pure, array
from conformance.studies.upstream.literals import packed, wrapped
from conformance.studies.upstream.program import Program

_PAIR = {"dgamma": "[0]", "dbeta": "[1]"}


def render(draft: Draft) -> Program:
    """Return the part of a script that asks JAX."""
    name = next(start for start in _LIBRARIES if draft.entry.startswith(start))
    program = Program(["import jax"], {"jax": "jax.__version__"})
    if "float64" in (draft.dtype, draft.shown.case.dtypes.statistics):
        program.imports.append('jax.config.update("jax_enable_x64", True)')
    if draft.actions.backward == "together":
        raise Untold("no script is written for one gradient of all calls on JAX")
    if draft.actions.replicas:
        replica_scripts.devices(draft, program)
    _LIBRARIES[name](draft, program)
    return program


def _axis(draft: Draft) -> str:
    axis: Any = draft.view.native["axis"]
    return repr(axis).replace("[", "(").replace("]", ")")


def _steps(draft: Draft, program: Program, call: Callable[[str, str, Any], str], pure: Pure) -> None:
    """Add the steps: `call(p, x, step)` gives (y, state); pure: what is differentiated, but for its y."""
    if draft.actions.replicas:
        replica_scripts.mapped(draft, program, call, pure.parameters)
        return
    for step in draft.steps:
        if draft.derived(step):
            y = f"{call('p', 'x', step)}[0]"
            jax_derivatives.take(draft, program, step, dataclasses.replace(pure, y=y))
        else:
            x = array(draft, draft.name("x", step.index))
            made = call(pure.parameters, x, step)
            program.lines += wrapped(f"{draft.name('y', step.index)}, state = {made}")


def _got(draft: Draft, program: Program, mean: str, variance: str) -> None:
    """Say what is got, unless it is a derivative."""
    found = {"moving_mean": mean, "moving_variance": variance}
    of = found.get(draft.output, draft.name("y", draft.step))
    whole = replica_scripts.of_all(draft, of) if draft.actions.replicas else f"np.asarray({of})"
    program.got = program.got or whole


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
    words += [f"axis_name={replica_scripts.AXIS}"] if draft.actions.replicas else []
    program.lines += wrapped(f"layer = flax.linen.BatchNorm({', '.join(words)})")
    named = {"scale": "gamma", "bias": "beta"}
    params = ", ".join(f'"{key}": {array(draft, n)}' for key, n in named.items() if draft.has(n))
    if draft.own:
        first = array(draft, draft.x)
        program.lines.append(f"variables = layer.init(jax.random.key(0), {first}, use_running_average=False)")
        program.lines.append('state = {"batch_stats": variables["batch_stats"]}')
        kept = 'variables.get("params", {})'
        program.lines.append(f"params = {f'{{{params}}}' if params else kept}")
    else:
        program.lines.append(f"params = {{{params}}}")
        given = f'{{"mean": {array(draft, "mean")}, "var": {array(draft, "var")}}}'
        program.lines.append(f'state = {{"batch_stats": {given}}}')
    jit = "jax.jit(" if "jit" in draft.variants and not draft.differentiated else ""

    def call(p: str, x: str, step: Any) -> str:
        mask = "" if step.mask is None else f", mask={draft.name('mask', step.index)}"
        rest = f'use_running_average={not step.training}{mask}, mutable=["batch_stats"])'
        function = f'lambda s, x: layer.apply({{"params": {p}, **s}}, x, {rest}'
        return f"{jit}{function})(state, {x})" if jit else f'layer.apply({{"params": {p}, **state}}, {x}, {rest}'

    _steps(draft, program, call, Pure("", "params", {"dgamma": '["scale"]', "dbeta": '["bias"]'}))
    _got(draft, program, 'state["batch_stats"]["mean"]', 'state["batch_stats"]["var"]')


def _nnx(draft: Draft, program: Program, words: list[str]) -> None:
    view = draft.view
    features = view.shape[view.axis[0] % view.rank] if view.shape else 1
    program.lines += wrapped(f"layer = nnx.BatchNorm({features}, {', '.join(words)}, rngs=nnx.Rngs(0))")
    for name, variable in {"gamma": "scale", "beta": "bias", "mean": "mean", "var": "var"}.items():
        if draft.has(name):
            program.lines.append(f"layer.{variable}.set_value(jax.numpy.asarray({array(draft, name)}))")
    jit = "jit" in draft.variants
    if jit:
        program.lines += ["@nnx.jit(static_argnums=2)", "def call(layer, x, average, mask=None):"]
        program.lines.append("    return layer(x, use_running_average=average, mask=mask)")
    for step in draft.steps:
        if draft.derived(step):
            _nnx_derivatives(draft, program, step)
            continue
        x = array(draft, draft.name("x", step.index))
        x = x if x.startswith("jax.") else f"jax.numpy.asarray({x})"
        mask = [] if step.mask is None else [draft.name("mask", step.index)]
        y = draft.name("y", step.index)
        if jit:
            program.lines.append(f"{y} = call({', '.join(['layer', x, str(not step.training), *mask])})")
        else:
            handed = "".join(f", mask={m}" for m in mask)
            program.lines.append(f"{y} = layer({x}, use_running_average={not step.training}{handed})")
    _got(draft, program, "layer.mean.get_value()", "layer.var.get_value()")


def _nnx_derivatives(draft: Draft, program: Program, step: Any) -> None:
    """Add the derivative of a call, of a layer that is put together anew within it: its variables are of a trace."""
    program.lines.append("graph, params, rest = nnx.split(layer, nnx.Param, ...)")
    mask = "" if step.mask is None else f", mask={draft.name('mask', step.index)}"
    y = f"nnx.merge(graph, p, rest, copy=True)(x, use_running_average={not step.training}{mask})"
    named = {"dgamma": "scale", "dbeta": "bias"}
    at = {name: f'["{named[name]}"].get_value()' for name in draft.learned}
    jax_derivatives.take(draft, program, step, Pure(y, "params", at))


def _haiku(draft: Draft, program: Program) -> None:
    program.imports.append("import haiku as hk")
    program.versions["haiku"] = "hk.__version__"
    spec, axes = draft.spec, list(draft.view.native["axis"])
    made = f"hk.BatchNorm({spec.scale}, {spec.center}, {draft.momentum}, {draft.epsilon}, axis={axes})"
    called = "(x, training, test_local_stats=local)"
    program.lines += wrapped(f"layer = hk.transform_with_state(lambda x, training, local: {made}{called})")
    first, init = array(draft, draft.x), draft.actions.init_mode == "train"
    program.lines.append(f"params, state = layer.init(None, {first}, {init}, {init})")
    shape = tuple(n if i in draft.view.axis else 1 for i, n in enumerate(draft.view.shape))
    named = {"gamma": "scale", "beta": "offset"}
    given = ", ".join(f'"{key}": {array(draft, n)}.reshape{shape}' for n, key in named.items() if draft.has(n))
    program.lines += [f'params = {{"batch_norm": {{{given}}}}}'] if given else []
    if draft.has("mean", "var"):
        program.lines += ['for name, array in ("mean", mean), ("var", var):', f"    array = array.reshape{shape}"]
        ema = '{"hidden": array, "average": array, "counter": np.array(0, "int32")}'
        program.lines.append(f'    state[f"batch_norm/~/{{name}}_ema"] = {ema}')
    jit = "jit" in draft.variants and not draft.differentiated
    apply = "jax.jit(layer.apply, static_argnums=(4, 5))" if jit else "layer.apply"

    def call(p: str, x: str, step: Any) -> str:
        return f"{apply}({p}, state, None, {x}, {step.training and step.update}, {step.training})"

    at = {"dgamma": '["batch_norm"]["scale"]', "dbeta": '["batch_norm"]["offset"]'}
    _steps(draft, program, call, Pure("", "params", at))
    _got(draft, program, *(f'state["batch_norm/~/{n}_ema"]["hidden"].ravel()' for n in ("mean", "var")))


_EQUINOX = "lambda tree: (tree.weight, tree.bias)"


def _equinox(draft: Draft, program: Program) -> None:
    program.imports.append("import equinox as eqx")
    program.versions["equinox"] = "eqx.__version__"
    spec, kind = draft.spec, "ema" if "ema" in draft.variants else "batch"
    axes = f'("batch", {replica_scripts.AXIS})' if draft.actions.replicas else '"batch"'
    words = [str(draft.view.kept[0]), axes, f"eps={draft.epsilon}", f"momentum={draft.momentum}"]
    words += [] if spec.scale else ["channelwise_affine=False"]
    dtype = "complex64" if draft.shown.complex else draft.shown.case.dtypes.statistics
    words += ([] if dtype == "float32" else [f'dtype="{dtype}"']) + [f'mode="{kind}"']
    program.lines += wrapped(f"layer, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)({', '.join(words)})")
    if draft.has("gamma", "beta"):
        values = f"({array(draft, 'gamma')}, {array(draft, 'beta')})"
        program.lines.append(f"layer = eqx.tree_at({_EQUINOX}, layer, {values})")
    index = f"layer.{kind}_state_index"
    if draft.has("mean", "var"):
        values = ", ".join(f"jax.numpy.asarray({array(draft, n)})" for n in ("mean", "var"))
        program.lines.append(f"state = state.set({index}, ({values}))")

    def call(p: str, x: str, step: Any) -> str:
        made = f"eqx.tree_at({_EQUINOX}, layer, p)" if p == "p" and spec.scale else "layer"
        function = f"lambda x, s: {made}(x, s, inference={not step.training})"
        return f'jax.vmap({function}, axis_name="batch", in_axes=(0, None), out_axes=(0, None))({x}, state)'

    parameters = "(layer.weight, layer.bias)" if spec.scale else "()"
    _steps(draft, program, call, Pure("", parameters, _PAIR))
    _got(draft, program, f"state.get({index})[0]", f"state.get({index})[1]")


def _functions(draft: Draft, program: Program) -> None:
    """Add `jax.nn.standardize`, or stax, which calls it."""
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

    def call(gamma: str, beta: str, x: str, step: Any) -> str:
        used = "" if step.training else ", mean=mean_, variance=var_"
        used += "" if step.mask is None else f", where={draft.name('mask', step.index)}"
        made = f"jax.nn.standardize({x}, {axes}, epsilon={draft.epsilon}{used}{stable}) * {gamma} + {beta}"
        return f"apply(({beta}, {gamma}), {x})" if stax else made

    for step in draft.steps:
        if draft.derived(step):
            pure = Pure(call("p[0]", "p[1]", "x", step), "(gamma_, beta_)", _PAIR)
            jax_derivatives.take(draft, program, step, pure)
        else:
            made = call("gamma_", "beta_", array(draft, draft.name("x", step.index)), step)
            program.lines += wrapped(f"{draft.name('y', step.index)} = {made}")
    _got(draft, program, "", "")


_LIBRARIES: dict[str, Callable[[Draft, Program], None]] = {
    "flax.": _flax,
    "haiku.": _haiku,
    "equinox.": _equinox,
    "jax.": _functions,
}
