"""Keras 3 on JAX: the layer and the functions below it, jitted. KERAS_BACKEND must be jax when the process starts.

A jitted step is the forward pass, its gradients and the new state; only shapes, dtypes, axis, flags and momentum are
compiled in. The 64-bit mode is on for float64 cases alone.
https://keras.io/api/layers/normalization_layers/batch_normalization/
"""

import contextlib
import importlib
import os

import numpy as np

from . import ensembles, later
from . import jax as of_jax
from . import keras as eager
from . import tensorflow_common as common

_SIGNATURES = 64  # compiled programs are kept for this many; JAX itself never lets go of one
_JITTED = {"packages": ["keras", "jax", "jaxlib"], "compiled": True}


class _Jitted(object):
    """One jitted function for all that is static.

    Subclasses define `function(static)`, which returns one of (sources, state, mask, epsilon) that gives (the outputs
    by name, the new state).
    """

    traced = ("epsilon", "layout", "batches", "actions", "update", "site", "adjustment")

    def __init__(self, device):
        os.environ.setdefault("KERAS_BACKEND", "jax")
        self.jax, self.keras = importlib.import_module("jax"), importlib.import_module("keras")
        found = self.keras.backend.backend()
        if found != "jax":
            raise RuntimeError("keras runs on %s here; set KERAS_BACKEND=jax before it starts" % found)
        self.device = of_jax.device_of(self.jax, device)
        self.jitted = {}

    @contextlib.contextmanager
    def mode(self, case):
        """Compute on the device, with 64-bit values where the case has them."""
        with of_jax.wide(self.jax)("float64" in case.dtypes.values()), self.jax.default_device(self.device):
            yield

    def run(self, case):
        """Return the outputs of each step."""
        return self.ensemble(case) if case.members > 1 else self.steps(case)

    def ensemble(self, case):
        """Yield the outputs of each member in each call, which `vmap` makes for all of them."""
        with self.mode(case):
            parameters, state = self.initial(case)
        parameters = dict(parameters, **ensembles.parameters(case))
        for number, steps in enumerate(case.calls()):
            named = dict(parameters, state=state, epsilon=case.native["epsilon"], **ensembles.batches(case, steps))
            with self.mode(case):
                out, state = self.compiled(case, steps[0], ensembles.maps(case, number > 0))(named)
                out = {name: np.array(array) for name, array in out.items()}
            yield from ensembles.members(case, out)

    def steps(self, case):
        """Yield the outputs of each step."""
        with self.mode(case):
            parameters, state = self.initial(case)
        for step in case.steps:
            with self.mode(case):
                sources, call = dict(parameters, dx=step.x), self.compiled(case, step)
                out, state = call(sources, state, step.mask, case.native["epsilon"], step.cotangents, step.tangent)
                out = {name: np.array(array) for name, array in out.items()}
            yield out

    def initial(self, case):
        """Return gamma and beta by the names of their gradients, and the first state."""
        given, one = common.initial(case), np.ones(case.kept, case.dtypes["statistics"])
        named = (("dgamma", case.neutral("gamma")), ("dbeta", case.neutral("beta")))
        parameters = {name: array for name, array in named if array is not None}
        return parameters, [given.get("moving_mean", 0 * one), given.get("moving_variance", one)]

    def compiled(self, case, step, maps=()):
        """Return the jitted function for what is static about the step."""
        static = case.static(step, self.traced)
        function = self.differentiated(self.function(static), static)
        return self.kept(static.key + repr(maps), lambda: self.mapped(function, maps) if maps else function)

    def kept(self, key, make):
        """Return the jitted function that is kept by this key, or else is made."""
        if key not in self.jitted:
            if len(self.jitted) >= _SIGNATURES:
                self.jitted.clear()
                self.jax.clear_caches()
            self.jitted[key] = self.jax.jit(make())
        return self.jitted[key]

    def mapped(self, function, maps):
        """Return the function of a step as that of all members of an ensemble, of named arguments."""

        def call(named):
            sources = {name: named[name] for name in ensembles.PARAMETERS + ("dx",) if name in named}
            cotangents = {"y": named["dy"]} if "dy" in named else {}
            return function(sources, named["state"], None, named["epsilon"], cotangents, None)

        return ensembles.over(self.jax.vmap, call, maps)

    def differentiated(self, function, step):
        """Return a function that gives (outputs, the new state), with the derivatives that the step asks for."""
        along = ["y"] * step.forward + ["dx", "dgamma"] * (step.second == "forward_over_reverse")

        def call(sources, state, mask, epsilon, cotangents, tangent):
            def reverse(sources):
                asked = {name: source for name, source in sources.items() if cotangents and name in step.gradients}
                return _reverse(
                    self.jax, lambda a: function(dict(sources, **a), state, mask, epsilon), asked, cotangents
                )

            if along:
                return _along(self.jax, reverse, sources, tangent, along)
            return _reverse_again(self.jax, reverse, sources, tangent) if step.second else reverse(sources)

        return call


def _reverse(jax, function, asked, cotangents):
    """Return the function's outputs and, where there is a cotangent, the gradients asked for; and the new state."""

    def differentiated(asked):
        out, new = function(asked)
        return {name: out[name] for name in cotangents}, (out, new)

    _, pullback, (out, new) = jax.vjp(differentiated, asked, has_aux=True)
    return dict(out, **pullback(cotangents)[0]), new


def _along(jax, function, sources, tangent, names):
    """Return the outputs of the function, and their derivatives along a tangent of x."""

    def of_x(x):
        return function(dict(sources, dx=x))

    out, rates, new = jax.jvp(of_x, (sources["dx"],), (tangent,), has_aux=True)
    return dict(out, **{name + "_tangent": rates[name] for name in names if name in out}), new


def _reverse_again(jax, function, sources, tangent):
    """Return the outputs of the function, and the gradients of <dx, tangent>."""

    def of_dx(sources):
        out, new = function(sources)
        return out["dx"], (out, new)

    _, pullback, (out, new) = jax.vjp(of_dx, sources, has_aux=True)
    twice = pullback(tangent)[0]
    return dict(out, **{name + "_tangent": twice[name] for name in ("dx", "dgamma") if name in twice}), new


class Layer(_Jitted):
    """`keras.layers.BatchNormalization` by `stateless_call`."""

    statement = eager.layer("jax", id="keras.BatchNormalization+jax+jit", **_JITTED)

    def narrower(self):
        """Return what older versions do not have."""
        return eager.older(self.keras, self.statement["supports"])

    def run(self, case):
        """Return the outputs of each step."""
        return self.together(case) if case.together else _Jitted.run(self, case)

    def together(self, case):
        """Return the outputs of each step: of a jitted functional model in which the layer has a place for each."""
        with self.mode(case):
            parameters, state = self.initial(case)
            fixed = [case.static(step, self.traced) for step in case.steps]
            asked = [step.index for step in case.differentiated]
            program = self.kept(repr([s.key for s in fixed] + asked), lambda: self.in_one(fixed, asked))
            xs, dys = [step.x for step in case.steps], [case.steps[t].dy for t in asked]
            masks = [step.mask for step in case.steps if step.mask is not None]
            ys, state, found = program(parameters, state, xs, masks, case.native["epsilon"], dys)
            outs = [{"y": np.array(y)} for y in ys]
            outs[-1].update(zip(self.state(case), map(np.array, state)))
            dxs = [np.array(dx) for dx in found.pop("dx", [])]
        return later.together(case, outs, dxs, {name: np.array(a) for name, a in found.items()})

    def in_one(self, fixed, asked):
        """Return a function that gives (the y of each call, the state, the gradients of those that are asked for)."""
        layer, names = self.layer(fixed[0]), fixed[asked[0]].gradients if asked else []
        model = eager.functional(self.keras, layer, fixed)

        def call(parameters, state, xs, masks, epsilon, cotangents):
            layer.epsilon = epsilon

            def of(free):
                given = dict(enumerate(xs))
                given.update(zip(asked, free.get("dx", [])))
                values = [dict(parameters, **free)[name] for name in ("dgamma", "dbeta") if name in parameters]
                trainable, others = (values, state) if fixed[0].spec["trainable"] else ([], values + state)
                ys, others = model.stateless_call(trainable, others, [given[t] for t in sorted(given)] + masks)
                return [ys[t] for t in asked], (ys, others[-len(state) :])

            free = dict(parameters, dx=[xs[t] for t in asked])
            free = {name: value for name, value in free.items() if name in names}
            _, pullback, (ys, new) = self.jax.vjp(of, free, has_aux=True)
            return ys, new, pullback(cotangents)[0]

        return call

    def initial(self, case):
        """Return gamma and beta, and the first state in the order in which the layer keeps it: the layer's own."""
        layer, given = self.layer(case), common.initial(case)
        start = {name: given.get(name, getattr(layer, name).value) for name in self.state(case)}
        own = (("dgamma", "gamma", layer.gamma), ("dbeta", "beta", layer.beta))
        parameters = {name: given.get(its, v.value) for name, its, v in own if v is not None}
        return parameters, list(start.values())

    def state(self, case):
        """Return the names of what the layer keeps."""
        return common.STATE[: 5 if case.spec["renorm"] else 2]

    def layer(self, case):
        """Return a layer that was built."""
        layer = self.keras.layers.BatchNormalization(**eager.arguments(case))
        layer.build(case.shape)
        return layer

    def function(self, static):
        """Return the function to jit; a frozen layer's gamma and beta are among what is not trainable."""
        layer = self.layer(static)

        def call(sources, state, mask, epsilon):
            layer.epsilon = epsilon
            parameters = [sources[name] for name in ("dgamma", "dbeta") if name in sources]
            trainable, others = (parameters, state) if static.spec["trainable"] else ([], parameters + state)
            y, others = layer.stateless_call(trainable, others, sources["dx"], training=static.training, mask=mask)
            new = others[-len(state) :]
            return dict(zip(common.STATE, new), y=y), new

        return call


class Functions(_Jitted):
    """`keras.ops.moments` and `keras.ops.batch_normalization`; inference by the case's own statistics."""

    statement = eager.functions("jax", id="keras.ops.batch_normalization+jax+jit", **_JITTED)

    def function(self, static):
        """Return the function to jit."""
        ops, axes, axis = self.keras.ops, static.native["axis"], static.axis[0]

        def call(sources, state, _mask, epsilon):
            x, gamma, beta = [sources.get(name) for name in ("dx", "dgamma", "dbeta")]
            mean, variance = ops.moments(x, axes) if static.training else state
            y = ops.batch_normalization(x, mean, variance, axis, beta, gamma, epsilon)
            return dict({"mean": mean, "variance": variance} if static.training else {}, y=y), state

        return call


IMPLEMENTATIONS = [Layer, Functions]
