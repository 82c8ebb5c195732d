"""flax: `flax.linen.BatchNorm`, jitted and not, and `flax.nnx.BatchNorm`.

https://flax-linen.readthedocs.io/en/latest/api_reference/flax.linen/layers.html#flax.linen.BatchNorm
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html#flax.nnx.BatchNorm
"""

import functools

import numpy as np

from . import jax as common

LINEN = "https://flax-linen.readthedocs.io/en/latest/api_reference/flax.linen/layers.html#flax.linen.BatchNorm"
NNX = "https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html#flax.nnx.BatchNorm"
_STATS = "flax/linen/normalization.py, _compute_stats and _normalize"
_WHERE = {"mask": "boolean", "mask_rank": "full", "all_masked": "nan"}


_SUPPORTS = dict(common.MASKS, misplaced=[False, True], mixed=[False, True], input=common.INPUTS + common.FLOAT8)
_PROMOTION = "https://docs.jax.dev/en/latest/type_promotion.html: of float32 and float64 the result is float64"


# --- linen --------------------------------------------------------------------------------------------------------


def _linen(variant, cite, **numerics):
    supports = dict(_SUPPORTS, **(common.TRANSFORMED if variant == "+jit" else {}))
    made = common.stated("flax.linen.BatchNorm" + variant, LINEN, "kept", cite, supports, _WHERE, **numerics)
    made["refusals"] = [common.NO_FLOAT8]
    halves = {"dtype": common.HALF, "mode": ["train"], "output": ["dx"]}
    cite = "measured, and the jaxpr: x is widened twice, and the two halves of dx are added in the dtype of x"
    made["rules"].append({"when": halves, "numerics": {"accumulate": "input", "widened": "all"}, "cite": cite})
    made["rules"].append(_float32_statistics("flax/linen/normalization.py: batch_stats are float32"))
    made["rules"].append(
        _wider_input("flax/linen/normalization.py: ra_mean.value is the sum; " + _PROMOTION, stored="float64")
    )
    return made


def _native_half():
    cite = LINEN + ": force_float32_reductions; " + common.WIDENED
    made = _linen("+native_half+jit", cite, variance="fast", clamped=True, accumulate="input", widened="statistics")
    supports = {"dtype": common.HALF, "differentiation": common.ONCE, "scalars": common.SCALARS}
    lacks = dict(
        made["lacks"], **dict.fromkeys(("forward", "second order", "mask"), "no case of a half input asks for it")
    )
    told = {"statistics": common.HALF, "scalars": common.SCALARS[1:], "output": ["moving_mean", "moving_variance"]}
    moved = [dict(told, mode=["train"]), dict(told, trained=[True])]
    wider = [{"when": when, "numerics": {"stored": "float32"}, "cite": common.WEAK} for when in moved]
    return dict(made, supports=supports, rules=made["rules"][:2] + wider, lacks=lacks)


def _float32_statistics(cite):
    """Return the rule that statistics of half precision are kept in float32."""
    when = {"statistics": common.HALF, "output": ["moving_mean"]}
    return {"when": when, "numerics": {"stored": "float32"}, "cite": cite}


def _wider_input(cite, **numerics):
    """Return the rule for float64 batches that enter statistics kept in float32."""
    when = {"dtype": ["float64"], "statistics": ["float32"], "output": ["moving_mean", "moving_variance"]}
    return {"when": when, "numerics": numerics, "cite": cite}


def _at_least_float32(array):
    return array.astype(np.promote_types(array.dtype, np.float32))


class Linen(common.Jitted):
    """`flax.linen.BatchNorm` with its defaults: the variance as E[x²] - E[x]², kept at 0 or above."""

    package = "flax.linen"
    statement = _linen("+jit", _STATS, variance="fast", clamped=True)
    chosen = ()  # the default of neither, which older versions do not have

    def module(self, case, training=None):
        """Return a function of epsilon that makes the module; its dtype is that of y, and halves compute in float32.

        training: None where each call says it.
        """
        return functools.partial(
            self.library.BatchNorm,
            use_running_average=None if training is None else not training,
            axis=common.axis(case),
            momentum=case.native["momentum"],
            dtype=None if case.complex else case.dtypes["x"],
            param_dtype=case.dtypes["parameters"],
            use_bias=case.spec["center"],
            use_scale=case.spec["scale"],
            **dict(self.chosen),
        )

    def layer(self, case, training):
        """Return the function to jit."""
        module = self.module(case, training)

        def call(parameters, state, x, epsilon, mask=None):
            named = common.present(scale=parameters.get("dgamma"), bias=parameters.get("dbeta"))
            variables = {"params": named, "batch_stats": state}
            y, new = module(epsilon=epsilon).apply(variables, x, mutable=["batch_stats"], **common.present(mask=mask))
            return y, new["batch_stats"]

        return call

    def places(self, fixed):
        """Return the function that makes all calls of one module."""
        module = self.module(fixed[0])

        def called(layer, calls):
            flags = [not static.training for static in fixed]
            given = [common.present(mask=mask) for _, mask in calls]
            return [layer(x, use_running_average=f, **more) for f, (x, _), more in zip(flags, calls, given)]

        def call(parameters, state, calls, epsilon):
            named = common.present(scale=parameters.get("dgamma"), bias=parameters.get("dbeta"))
            bound = self.library.apply(called, module(epsilon=epsilon), mutable=["batch_stats"])
            ys, new = bound({"params": named, "batch_stats": state}, calls)
            return ys, new["batch_stats"]

        return call

    def initial(self, case):
        """Return the layer's own parameters, and the batch_stats collection."""
        given, own = common.present(mean=case.mean, var=case.variance), {}
        if common.begins(case):
            own = self.module(case, True)().init(self.jax.random.PRNGKey(0), case.steps[0].x)
        named, state = own.get("params", {}), dict(own.get("batch_stats", {}), **given)
        kept = _at_least_float32 if dict(self.chosen).get("force_float32_reductions", True) else np.asarray
        state = {name: kept(array).reshape(case.kept) for name, array in state.items()}
        return common.present(dgamma=named.get("scale"), dbeta=named.get("bias")), state

    def moving(self, state):
        """Return the moving mean and variance."""
        return state["mean"], state["var"]

    def put(self, _case, _state, mean, variance):
        """Return the state with this mean and variance."""
        return {"mean": mean, "var": variance}


class LinenTwoPass(Linen):
    """`flax.linen.BatchNorm` with use_fast_variance=False."""

    statement = _linen("+two_pass+jit", LINEN + ": use_fast_variance", variance="two_pass")
    chosen = (("use_fast_variance", False),)


class LinenNativeHalf(Linen):
    """`flax.linen.BatchNorm` with force_float32_reductions=False: a half input's statistics are of its dtype."""

    statement = _native_half()
    chosen = (("force_float32_reductions", False),)


# --- nnx ----------------------------------------------------------------------------------------------------------


def _nnx(variant, cite, **numerics):
    supports = dict(_SUPPORTS, several_axes=[False], **(common.TRANSFORMED if variant == "+jit" else {}))
    cite += "; the same, BatchNorm.__call__: stop_gradient of the new mean and var"
    semantics = dict(_WHERE, new_state="stopped")
    made = common.stated("flax.nnx.BatchNorm" + variant, NNX, "kept", cite, supports, semantics, **numerics)
    halves = {"dtype": common.HALF, "output": ["y", "dx", "dgamma", "dbeta"]}
    cite = NNX + ": promote_dtype takes (inputs, mean, var, scale, bias) to the dtype of the result"
    numerics = {"accumulate": "input", "widened": "statistics"}
    made["rules"].append({"when": halves, "numerics": numerics, "cite": cite})
    made["rules"].append(_float32_statistics("flax/nnx/nn/normalization.py: mean and var are float32"))
    made["rules"].append(_wider_input("measured: the running averages stay float32", accumulate="float32"))
    return made


def _features(case):
    """Return the size of the axis; an axis out of range wraps round, and without axes the size is 1."""
    return case.shape[case.axis[0] % case.rank] if case.shape else 1


def _value(variable):
    """Return what a variable holds; older ones have no `get_value`."""
    return variable.get_value() if hasattr(variable, "get_value") else variable.value


def _set(variable, value):
    if hasattr(variable, "set_value"):
        variable.set_value(value)
    else:
        variable.value = value


class Nnx(common.Jitted):
    """`flax.nnx.BatchNorm` with its defaults: the variance as E[x²] - E[x]², kept at 0 or above."""

    package = "flax.nnx"
    statement = _nnx(
        "+jit", "flax/nnx/nn/normalization.py, _compute_stats and _normalize", variance="fast", clamped=True
    )
    chosen = ()

    def module(self, case, **more):
        """Return a module."""
        return self.library.BatchNorm(
            _features(case),
            axis=common.axis(case),
            momentum=case.native["momentum"],
            dtype=None if case.complex else case.dtypes["x"],
            param_dtype=case.dtypes["parameters"],
            use_bias=case.spec["center"],
            use_scale=case.spec["scale"],
            rngs=self.library.Rngs(0),
            **dict(self.chosen, **more),
        )

    def layer(self, case, training):
        """Return the function to jit."""

        def call(parameters, state, x, epsilon, mask=None):
            (y,), state = self.called(case, [training], parameters, state, [(x, mask)], epsilon)
            return y, state

        return call

    def places(self, fixed):
        """Return the function that makes all calls of one module."""
        return functools.partial(self.called, fixed[0], [static.training for static in fixed])

    def called(self, case, modes, parameters, state, calls, epsilon):
        """Return the y of each call, and the state after all of them; the module lives inside the trace."""
        module = self.module(case, epsilon=epsilon)
        variables = {"dgamma": module.scale, "dbeta": module.bias, "mean": module.mean, "var": module.var}
        for name, array in list(parameters.items()) + list(state.items()):
            _set(variables[name], self.jax.numpy.asarray(array))  # a NumPy array would be updated in place
        given = [common.present(mask=mask) for _, mask in calls]
        ys = [module(x, use_running_average=not t, **more) for t, (x, _), more in zip(modes, calls, given)]
        return ys, {"mean": _value(module.mean), "var": _value(module.var)}

    def initial(self, case):
        """Return the layer's own parameters, and the moving statistics."""
        parameters, state = {}, common.present(mean=case.mean, var=case.variance)
        if common.begins(case):
            module = self.module(case)
            named = common.present(dgamma=module.scale, dbeta=module.bias)
            parameters = {name: _value(variable) for name, variable in named.items()}
            state = dict({"mean": _value(module.mean), "var": _value(module.var)}, **state)
        return parameters, {name: _at_least_float32(array) for name, array in state.items()}

    def moving(self, state):
        """Return the moving mean and variance."""
        return state["mean"], state["var"]

    def put(self, _case, _state, mean, variance):
        """Return the state with this mean and variance."""
        return {"mean": mean, "var": variance}


class NnxTwoPass(Nnx):
    """`flax.nnx.BatchNorm` with use_fast_variance=False."""

    statement = _nnx("+two_pass+jit", NNX + ": use_fast_variance", variance="two_pass")
    chosen = (("use_fast_variance", False),)


IMPLEMENTATIONS = [Linen, LinenTwoPass, LinenNativeHalf, Nnx, NnxTwoPass, common.eager(Linen), common.eager(Nnx)]
