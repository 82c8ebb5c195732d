"""What the adapters of JAX libraries share: a jitted step, and how it is differentiated.

A jitted step is the forward pass, its gradients and the new state. Only shapes, dtypes, axes, flags and momentum are
compiled in. Epsilon, parameters, state and data are arguments, whether the case gives them or the layer starts with
its own. The 64-bit mode is on for float64 cases alone, because it changes more than dtypes: equinox debiases in
float64 under it.
"""

import contextlib
import functools
import importlib
import pkgutil

import numpy as np

from . import ensembles, later

_SIGNATURES = 64  # compiled programs are kept for this many; JAX itself never lets go of one
HALF = ["float16", "bfloat16"]
DTYPES = ["float32", "float64"] + HALF
_MODES = ["none", "reverse", "forward", "reverse_over_reverse", "forward_over_reverse", "forward_over_forward", "third"]
WEAK = (
    "https://docs.jax.dev/en/latest/type_promotion.html: Python scalars alone are weak; with NumPy's a half is float32"
)
FLOAT8 = ["float8_e4m3fn", "float8_e5m2"]
INPUTS = ["stored", "int32", "uint8", "bool", "complex64"]
SCALARS = ["number", "float64", "float32", "array"]
_SUPPORTS = {
    "dtype": ["float32", "float64", "float16", "bfloat16"],
    "differentiation": _MODES,
    "start": ["given", "own"],
    "input": INPUTS,
    "scalars": SCALARS,
    "odd": [False, "momentum", "epsilon", "nan_epsilon", "channels", "statistics"],
    "backward": ["each", "together"],
}
GRADIENTS = ["y", "dx", "dgamma", "dbeta"]
STATE = ["moving_mean", "moving_variance"]
MOVED = ["moving_mean_tangent", "moving_variance_tangent"]
TANGENTS = ["y_tangent", "dx_tangent", "dgamma_tangent", "y_tangent2", "dx_tangent2", "dgamma_tangent2"]
ONCE = ["none", "reverse"]
_NONE = "this library's batch normalization has no such argument"
MASKS = {"mask": [False, "full", "spread"]}
# said of one of each library's, since others are transformed by the same rules
TRANSFORMED = {"mapped": ensembles.MAPPED, "along": ["x", "parameters", "all"], "of": ["y", "state"]}
# of who computes in float32 at least; in eight bits themselves there is no accuracy to promise
NO_FLOAT8 = {
    "when": {"input": FLOAT8},
    "error": ["TypePromotionError"],
    "cite": "jax/_src/dtypes.py: 8-bit floats do not support implicit promotion",
}
_LIKE_X = ("y", "dx", "y_tangent", "dx_tangent", "y_tangent2", "dx_tangent2")


_CUDA = {
    "when": {"device": ["cuda"]},
    "numerics": {"sums": "serial"},
    "cite": "not measured yet. XLA's GPU reductions add many values in each thread before they merge threads in a tree "
    "(xla/backends/gpu/codegen/emitters/reduction.cc), so that none is promised to be as shallow as a tree",
}


def stated(identity, page, axis, cite, supports, semantics, **numerics):
    """Return a jitted one's statement: biased, never frozen, direct, any order of sums, but for what is said."""
    semantics = dict({"stored_variance": "biased", "frozen": "train"}, **semantics)
    cite += "; https://openxla.org/xla/operation_semantics#reduce: a reduction adds in any order"
    numerics = dict({"affine": "direct", "sums": "serial"}, **numerics)
    lacks = ("renorm", "virtual batch", "adjustment") + (() if "mask" in supports else ("mask",))
    return {
        "id": identity,
        "packages": ["jax", "jaxlib", identity.split(".")[0]],
        "documentation": page,
        "conventions": {"momentum": "kept", "axis": axis},
        "supports": dict(_SUPPORTS, **supports),
        "outputs": GRADIENTS + TANGENTS + ["moving_mean", "moving_variance"] + MOVED,
        "rules": [{"cite": cite, "semantics": semantics, "numerics": numerics}, _CUDA],
        "lacks": dict.fromkeys(lacks, _NONE),
        "compiled": True,
        "keeps_inputs": True,
    }


WIDENED = "jax/_src/numpy/reductions.py, mean: upcast_f16_for_computation"


def halves(cite, **more):
    """Return the rules of a library that computes in the dtype of x, where a wider operand makes the result as wide.

    more: other numerics of its halves. `jnp.mean` adds them in float32; `lax.reduce`, its gradient, does not.
    """
    promotion = "https://docs.jax.dev/en/latest/type_promotion.html: of a half and float32 the result is float32"
    mixed = {"dtype": HALF, "parameters": ["float32"], "output": ["y"]}
    widened = [dict(mixed, affine=["both", "scale", "center"]), dict(mixed, mode=["infer"])]
    rules = [{"when": {"dtype": HALF}, "numerics": dict({"accumulate": "input"}, **more), "cite": cite}]
    return rules + [{"when": when, "numerics": {"stored": "float32"}, "cite": promotion} for when in widened]


def device_of(jax, device):
    """Return the first device of a kind; raise if JAX finds none, `NoDevice` if there is no plug-in for it."""
    try:
        return jax.devices({"cuda": "gpu"}.get(device, device))[0]
    except RuntimeError as error:
        plugged = any(module.name.startswith("jax_%s" % device) for module in pkgutil.iter_modules())
        reason = "jax %s finds no device %s: %s" % (jax.__version__, device, error)
        raise (RuntimeError if plugged else later.NoDevice)(reason) from error


class Jitted(object):
    """One jitted function for all that is static.

    Subclasses have `package` and `statement`, and define
    `layer(static, training)`, a function of (parameters, state, x, epsilon), and a mask if it takes one, that gives
    (y, state);
    `initial(case)`, the library's own parameters by the names of their gradients, where the case leaves some to it, and
    its initial state with the case's moving statistics put in;
    `moving(state)`, the mean and variance in it, as stored; nothing where nothing is kept;
    `put(case, state, mean, variance)`, the state with these in their place, so that it may be differentiated by them.
    """

    traced = ("epsilon", "layout", "batches", "actions", "trainable", "update", "site", "flag", "adjustment")

    def __init__(self, device):
        self.jax = importlib.import_module("jax")
        self.library = importlib.import_module(self.package)
        self.device = device_of(self.jax, device)
        self.jitted = {}

    def about(self):
        """Return the GPU, and what XLA runs on there."""
        if self.device.platform == "cpu":
            return {}
        return {"gpu": self.device.device_kind, "platform": self.device.client.platform_version}

    def shape(self, case):
        """Return the shape in which the library keeps parameters and statistics."""
        return case.kept

    def run(self, case):
        """Return the outputs of each step."""
        if case.members > 1:
            return self.ensemble(case)
        return self.together(case) if case.together else later.answers(case, self.steps(case))

    def together(self, case):
        """Return the outputs of each step, of one function that makes all calls and takes one gradient."""
        with self.mode(case):
            parameters, state = self.begun(case)
            fixed = [case.static(step, self.traced) for step in case.steps]
            asked = [step.index for step in case.differentiated]
            calls = [(step.x, step.mask) for step in case.steps]
            cotangents = [case.steps[t].dy for t in asked]
            program = self.kept(repr([s.key for s in fixed] + asked), lambda: self.in_one(fixed, asked))
            ys, state, found = program(parameters, state, calls, case.native["epsilon"], cotangents)
            outs = [self.arrays(case, {"y": y}) for y in ys]
            dxs = [self.arrays(case, {"dx": dx})["dx"] for dx in found.pop("dx", [])]
            outs[-1].update(self.arrays(case, dict(zip(("moving_mean", "moving_variance"), self.moving(state)))))
            learned = self.arrays(case, found)
        return later.together(case, outs, dxs, learned)

    def begun(self, case):
        """Return the parameters by the names of their gradients, the case's where it gives them, and the state."""
        given = present(dgamma=case.gamma, dbeta=case.beta)
        parameters, state = self.initial(case)
        return dict(parameters, **{name: a.reshape(self.shape(case)) for name, a in given.items()}), state

    def in_one(self, fixed, asked):
        """Return a function that gives (the y of each call, the state, the gradients of those that are asked for)."""
        layer, names = self.places(fixed), fixed[asked[0]].gradients if asked else []

        def call(parameters, state, calls, epsilon, cotangents):
            def of(free):
                values = [(x, mask) for x, mask in calls]
                for t, x in zip(asked, free.get("dx", [])):
                    values[t] = x, calls[t][1]
                ys, new = layer({name: free.get(name, a) for name, a in parameters.items()}, state, values, epsilon)
                return [ys[t] for t in asked], (ys, new)

            free = dict(parameters, dx=[calls[t][0] for t in asked])
            free = {name: value for name, value in free.items() if name in names}
            of_asked, pullback, (ys, new) = self.jax.vjp(of, free, has_aux=True)
            return ys, new, pullback([dy.astype(y.dtype) for dy, y in zip(cotangents, of_asked)])[0]

        return call

    def places(self, fixed):
        """Return a function of (parameters, state, calls, epsilon) that gives (the y of each call, the state).

        calls: of each its input and its mask. A library with layers makes all calls of one of them.
        """
        layers = [self.layer(static, static.training) for static in fixed]

        def call(parameters, state, calls, epsilon):
            ys = []
            for layer, (x, mask) in zip(layers, calls):
                y, state = layer(parameters, state, x, epsilon, *([] if mask is None else [mask]))
                ys.append(y)
            return ys, state

        return call

    def ensemble(self, case):
        """Yield the outputs of each member in each call, which `vmap` makes for all of them."""
        with self.mode(case):
            parameters, state = self.initial(case)
        for name, a in ensembles.parameters(case).items():
            parameters[name] = a.reshape(a.shape[: a.ndim - len(case.kept)] + tuple(self.shape(case)))
        for number, steps in enumerate(case.calls()):
            named = dict(parameters, state=state, epsilon=case.native["epsilon"], **ensembles.batches(case, steps))
            with self.mode(case):
                y, state, out = self.compiled(case, steps[0], ensembles.maps(case, number > 0))(named)
                out = dict(zip(("moving_mean", "moving_variance"), self.moving(state)), y=y, **out)
                out = {name: np.array(a) for name, a in out.items()}
            for arrays in ensembles.members(case, out):
                yield self.arrays(case, arrays)

    def steps(self, case):
        """Yield what each call gives, and a function that takes the gradients that are postponed."""
        epsilon = case.native["epsilon"]
        with self.mode(case):
            parameters, state = self.begun(case)
        for step in case.steps:
            with self.mode(case):
                given = present(dy=step.dy, tangent=step.tangent, mask=step.mask)
                given.update({"along_" + name: a.reshape(self.shape(case)) for name, a in step.direction.items()})
                given.update(("d" + n, a.reshape(self.shape(case))) for n, a in step.cotangents.items() if n in STATE)
                given["directions"] = [a.reshape(self.shape(case)) for a in step.directions]
                y, state, out = self.compiled(case, step)(parameters, state, step.x, epsilon, given)
                take = out.pop("take", dict)
                out = dict(zip(("moving_mean", "moving_variance"), self.moving(state)), y=y, **out)
                out = self.arrays(case, out)
            yield out, functools.partial(self.taken, case, take)

    def taken(self, case, take):
        """Return the gradients of an earlier call."""
        with self.mode(case):
            return self.arrays(case, take())

    def arrays(self, case, out):
        """Return arrays, those of parameters and statistics in the case's shape."""
        out = {name: np.array(a) for name, a in out.items()}
        kept = case.kept if len(case.kept) == 1 else full(case)
        return {name: a if name in _LIKE_X or not case.kept else a.reshape(kept) for name, a in out.items()}

    @contextlib.contextmanager
    def mode(self, case):
        """Compute on the device, with 64-bit values where the case has them."""
        with wide(self.jax)("float64" in case.dtypes.values()), self.jax.default_device(self.device):
            yield

    def compiled(self, case, step, maps=()):
        """Return the jitted function for what is static about the step; a library may ask what dtypes there are."""
        static = case.static(step, self.traced)
        function = self.differentiated(self.layer(static, static.training), static)
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
            parameters = {name: named[name] for name in ensembles.PARAMETERS if name in named}
            return function(parameters, named["state"], named["dx"], named["epsilon"], present(dy=named.get("dy")))

        return ensembles.over(self.jax.vmap, call, maps)

    def differentiated(self, layer, step):
        """Return a function that gives (y, state, derivatives), of those that the step asks for."""

        def call(parameters, state, x, epsilon, given):
            masks = [given["mask"]] if "mask" in given else []

            def forward(parameters, x):
                return layer(parameters, state, x, epsilon, *masks)

            if "dy" not in given:
                return forward(parameters, x) + ({},)
            y, new, out = self.derivatives(forward, parameters, x, given, step)
            if step.everywhere:
                out = dict(out, **self.everywhere(layer, step, parameters, state, x, epsilon, given))
            return y, new, {name: out[name] for name in out if step.moves or name not in MOVED}

        return call

    def derivatives(self, forward, parameters, x, given, step):
        """Return (y, state, derivatives) of `forward`, a function of the parameters and x."""
        jax, tangent = self.jax, given.get("tangent")

        def gradients(parameters, x):
            sources = dict(parameters, dx=x)

            def of(asked):
                values = dict(sources, **asked)
                y, new = forward({name: values[name] for name in parameters}, values["dx"])
                return [y] + list(self.moving(new)) * (len(cotangents) > 1), (y, new)

            cotangents = [given["dy"]] + [given["d" + name] for name in STATE if "d" + name in given]
            asked = {name: source for name, source in sources.items() if name in step.gradients}
            outs, pullback, (y, new) = jax.vjp(jax.checkpoint(of) if step.recomputed else of, asked, has_aux=True)

            def take():
                return pullback([c.astype(out.dtype) for c, out in zip(cotangents, outs)])[0]

            return {"take": take} if step.later else take(), (y, new)

        def slope(parameters, x):
            return (gradients(parameters, x)[0]["dx"] * tangent).sum()

        (out, (y, new)), along = gradients(parameters, x), {}
        if step.along and not step.everywhere:
            return y, new, dict(out, **self.along(forward, parameters, x, given, step))
        if step.forward:
            _, along["y"], _ = jax.jvp(lambda x: forward(parameters, x), (x,), (tangent,), has_aux=True)
        if step.second == "reverse":
            along, along["dx"] = jax.grad(slope, (0, 1))(parameters, x)
        if step.second == "forward_over_reverse":
            _, along, _ = jax.jvp(lambda x: gradients(parameters, x), (x,), (tangent,), has_aux=True)
        out.update((name + "_tangent", array) for name, array in along.items())
        return y, new, dict(out, **self.twice(forward, slope, parameters, x, given, step))

    def along(self, forward, parameters, x, given, step):
        """Return the derivatives of y and dx along the direction of the parameters."""
        jax, direction = self.jax, {name: given["along_" + name] for name in step.along}

        def gradients(parameters, x, dy):
            y, pullback = jax.vjp(lambda parameters, x: forward(parameters, x)[0], parameters, x)
            found, dx = pullback(dy.astype(y.dtype))
            return found, dx, y

        def slope(x, dy):
            return sum((gradients(parameters, x, dy)[0][name] * direction[name]).sum() for name in direction)

        if step.second == "reverse":
            found = jax.grad(slope, (0, 1))(x, given["dy"])
        else:
            _, rates = jax.jvp(
                lambda parameters: gradients(parameters, x, given["dy"])[1:], (parameters,), (direction,)
            )
            found = rates
        return dict(zip(("dx_tangent", "y_tangent"), found))

    def everywhere(self, layer, case, parameters, state, x, epsilon, given):
        """Return the derivatives of y and of the new statistics along a tangent of all inputs at once."""
        values = [parameters, x] + (self.used(state) if given["directions"] else [])
        rates = [{name: given["along_" + name] for name in parameters}, given["tangent"]] + given["directions"]

        def of(parameters, x, *statistics):
            y, new = layer(parameters, self.put(case, state, *statistics) if statistics else state, x, epsilon)
            return [y] + list(self.moving(new))

        _, found = self.jax.jvp(of, values, rates)
        return dict(zip(["y_tangent"] + MOVED, found))

    def used(self, state):
        """Return the mean and variance that inference is given."""
        return list(self.moving(state))

    def twice(self, forward, slope, parameters, x, given, step):
        """Return what a step asks for twice along the tangent; slope: the sum of dx times the tangent."""
        jax = self.jax

        def along(function):
            return lambda x: jax.jvp(function, (x,), (given["tangent"],))[1]

        def bend(parameters, x):
            return (jax.grad(slope, 1)(parameters, x) * given["tangent"]).sum()

        out = {}
        if step.forward_twice:
            out["y_tangent2"] = along(along(lambda x: forward(parameters, x)[0]))(x)
        if step.third:
            found, out["dx_tangent2"] = jax.grad(bend, (0, 1))(parameters, x)
            out.update((name + "_tangent2", array) for name, array in found.items())
        return out


class _Eager(object):
    def compiled(self, case, step):
        """Return the function for the step as it is."""
        static = case.static(step, self.traced)
        return self.differentiated(self.layer(static, static.training), static)

    def kept(self, _key, make):
        """Return the function as it is made."""
        return make()


def eager(cls):
    """Return a `Jitted` class not jitted: JAX compiles each operation for each shape, so it gets fewer signatures."""
    later = cls.statement["supports"]["backward"] + ["after_all", "twice", "recomputed"]
    supports = dict(cls.statement["supports"], trainable=[True], backward=later, mapped=["none"])
    supports.update(along=["x"], of=["y"])
    statement = dict(cls.statement, id=cls.statement["id"].replace("+jit", ""), supports=supports, signatures=4)
    return type(cls.__name__ + "Eager", (_Eager, cls), {"statement": statement})


def wide(jax):
    """Return what turns the 64-bit mode on and off; an older jax has it among what is experimental."""
    return (jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")).enable_x64


def full(case):
    """Return the shape that has the kept axes among axes of size 1."""
    return tuple(size if i in case.axis else 1 for i, size in enumerate(case.shape))


def axis(case):
    """Return the case's own axis, hashable."""
    given = case.native["axis"]
    return tuple(given) if isinstance(given, list) else given


def begins(case):
    """Return whether the layer starts with parameters or statistics of its own."""
    asked = (case.gamma, case.spec["scale"]), (case.beta, case.spec["center"]), (case.mean, True), (case.variance, True)
    return any(wanted and array is None for array, wanted in asked)


def present(**arrays):
    """Return the arrays that are not None."""
    return {name: array for name, array in arrays.items() if array is not None}
