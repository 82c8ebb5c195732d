"""The JAX libraries dm-haiku and equinox, and what flax.py and jax_functions.py take from here.

A jitted step is the forward pass, its gradients and the new state. Only shapes, dtypes, axes, flags and momentum are
compiled in; epsilon, parameters, state and data are arguments. The 64-bit mode is on for float64 cases alone, because
it changes more than dtypes (equinox debiases in float64 under it).
"""

import contextlib
import functools
import importlib
import warnings

import numpy as np

_SIGNATURES = 64  # compiled programs are kept for this many; JAX itself never lets go of one
_HAIKU = "https://dm-haiku.readthedocs.io/en/latest/api.html#batchnorm"
_EQUINOX = "https://docs.kidger.site/equinox/api/nn/normalisation/#equinox.nn.BatchNorm"


_CUDA = {
    "when": {"device": ["cuda"]},
    "numerics": {"sums": "serial"},
    "cite": "not measured yet. XLA's GPU reductions add many values in each thread before they merge threads in a tree "
    "(xla/backends/gpu/codegen/emitters/reduction.cc), so that none is promised to be as shallow as a tree",
}


def stated(identity, page, axis, cite, supports, semantics, **numerics):
    """Return a jitted implementation's statement: biased, never frozen, direct, tree sums, but for what is said."""
    semantics = dict({"stored_variance": "biased", "frozen": "train"}, **semantics)
    numerics = dict({"affine": "direct", "sums": "tree"}, **numerics)
    return {
        "id": identity,
        "packages": ["jax", "jaxlib", identity.split(".")[0]],
        "documentation": page,
        "conventions": {"momentum": "kept", "axis": axis},
        "supports": dict({"cumulative": [False], "virtual": [False]}, **supports),
        "rules": [{"cite": cite, "semantics": semantics, "numerics": numerics}, _CUDA],
        "compiled": True,
    }


class Jitted(object):
    """One jitted function per signature.

    Subclasses have `package` and `statement`, and define
    `layer(case, training)`, a function of (parameters, state, x, epsilon) that gives (y, state);
    `initial(case)`, the library's own initial state with the case's moving statistics put in;
    `moving(state)`, the mean and variance in it, as stored; nothing where nothing is kept.
    """

    def __init__(self, device):
        self.jax = importlib.import_module("jax")
        self.library = importlib.import_module(self.package)
        try:
            self.device = self.jax.devices({"cuda": "gpu"}.get(device, device))[0]
        except RuntimeError as error:
            raise RuntimeError("jax %s finds no device %s: %s" % (self.jax.__version__, device, error)) from error
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
        """Yield the outputs of each step."""
        named = {"dgamma": case.gamma, "dbeta": case.beta}
        parameters = {name: a.reshape(self.shape(case)) for name, a in named.items() if a is not None}
        kept, epsilon = case.kept if len(case.kept) == 1 else full(case), case.native["epsilon"]
        with self.mode(case):
            state = self.initial(case)
        for step in case.steps:
            with self.mode(case):
                y, state, out = self.compiled(case, step)(parameters, state, step.x, step.dy, epsilon)
                out = dict(zip(("moving_mean", "moving_variance"), self.moving(state)), y=y, **out)
                out = {name: np.array(a) for name, a in out.items()}
            yield {name: a if name in ("y", "dx") else a.reshape(kept) for name, a in out.items()}

    @contextlib.contextmanager
    def mode(self, case):
        """Compute on the device, with 64-bit values where the case has them."""
        with self.jax.enable_x64("float64" in case.dtypes.values()), self.jax.default_device(self.device):
            yield

    def compiled(self, case, step):
        """Return the jitted function for the step's signature."""
        signature = case.signature(step)
        if signature not in self.jitted:
            if len(self.jitted) >= _SIGNATURES:
                self.jitted.clear()
                self.jax.clear_caches()
            self.jitted[signature] = self.jax.jit(self.differentiated(self.layer(case, step.training)))
        return self.jitted[signature]

    def differentiated(self, layer):
        """Return a function that gives (y, state, gradients); no gradients where dy is None."""

        def call(parameters, state, x, dy, epsilon):
            def forward(parameters, x):
                return layer(parameters, state, x, epsilon)

            if dy is None:
                return forward(parameters, x) + ({},)
            y, pullback, new = self.jax.vjp(forward, parameters, x, has_aux=True)
            gradients, dx = pullback(dy)
            return y, new, dict(gradients, dx=dx)

        return call


def full(case):
    """Return the shape that has the kept axes among axes of size 1."""
    return tuple(size if i in case.axis else 1 for i, size in enumerate(case.steps[0].x.shape))


def present(**arrays):
    """Return the arrays that there are."""
    return {name: array for name, array in arrays.items() if array is not None}


# --- haiku --------------------------------------------------------------------------------------------------------


class Haiku(Jitted):
    """`haiku.BatchNorm`; its moving statistics are the `hidden` of its two ExponentialMovingAverage."""

    package = "haiku"
    statement = stated(
        "haiku.BatchNorm+jit",
        _HAIKU,
        "reduced",
        "haiku/_src/batch_norm.py, BatchNorm; haiku/_src/moving_averages.py, ExponentialMovingAverage",
        {"dtype": ["float32", "float64"]},
        {"average": "zero_debiased", "initial_variance": 0.0},
        variance="fast",
    )

    def shape(self, case):
        """Return the shape in which the library keeps parameters and statistics."""
        return full(case)

    def transformed(self, case, training):
        """Return the layer as a pair of pure functions of x and epsilon."""
        axis, decay = case.native["axis"], case.native["momentum"]
        scale, offset = case.gamma is not None, case.beta is not None

        def call(x, epsilon):
            return self.library.BatchNorm(scale, offset, decay, epsilon, axis=axis, name="layer")(x, training)

        return self.library.transform_with_state(call)

    def layer(self, case, training):
        """Return the function to jit."""
        transformed = self.transformed(case, training)

        def call(parameters, state, x, epsilon):
            named = present(scale=parameters.get("dgamma"), offset=parameters.get("dbeta"))
            return transformed.apply({"layer": named}, state, None, x, epsilon)

        return call

    def initial(self, case):
        """Return the state of a training-mode init; statistics of the case become hidden and average, counter 0."""
        state, given = {}, present(mean=case.mean, var=case.variance)
        if len(given) < 2:
            _, state = self.transformed(case, True).init(None, case.steps[0].x, case.native["epsilon"])
        for name, array in given.items():
            values = dict.fromkeys(("hidden", "average"), array.reshape(full(case)))
            state["layer/~/%s_ema" % name] = dict(values, counter=np.zeros((), np.int32))
        return state

    def moving(self, state):
        """Return the moving mean and variance."""
        return [state["layer/~/%s_ema" % name]["hidden"] for name in ("mean", "var")]


# --- equinox ------------------------------------------------------------------------------------------------------


def _equinox(kind, cite, **semantics):
    identity, cite = "equinox.BatchNorm+%s+jit" % kind, "equinox/nn/_batch_norm.py, BatchNorm.__call__: " + cite
    supports = {"channel": ["second"], "affine": ["both", "none"], "dtype": ["float32", "float64"]}
    return stated(identity, _EQUINOX, "fixed", cite, supports, semantics, variance="two_pass")


class EquinoxEma(Jitted):
    """`equinox.nn.BatchNorm(mode="ema")`, the examples under `jax.vmap`."""

    package, kind = "equinox", "ema"
    statement = _equinox(
        "ema",
        "training uses the running statistics too; the first batch is copied; initial values are uninitialized zeros",
        average="first_batch",
        training_statistics="moving",
        initial_variance=0.0,
    )

    def __init__(self, device):
        super(EquinoxEma, self).__init__(device)
        warnings.filterwarnings("ignore", "A JAX array is being set as static")  # epsilon, and it stays inside a trace

    def made(self, case, training):
        """Return a function of epsilon that makes (layer, state)."""
        return functools.partial(
            self.library.nn.make_with_state(self.library.nn.BatchNorm),
            case.kept[0],
            "batch",
            channelwise_affine=case.gamma is not None,
            momentum=case.native["momentum"],
            inference=not training,
            dtype=case.dtypes["statistics"],
            mode=self.kind,
        )

    def layer(self, case, training):
        """Return the function to jit."""
        made = self.made(case, training)

        def call(parameters, state, x, epsilon):
            layer, _ = made(epsilon)
            if parameters:
                values = parameters["dgamma"], parameters["dbeta"]
                layer = self.library.tree_at(lambda tree: (tree.weight, tree.bias), layer, values)
            return self.jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

        return call

    def initial(self, case):
        """Return the State."""
        layer, state = self.made(case, True)()
        self.index = getattr(layer, self.kind + "_state_index")
        own = zip((case.mean, case.variance), state.get(self.index))
        return state.set(self.index, tuple(b if a is None else a for a, b in own))

    def moving(self, state):
        """Return the moving mean and variance."""
        return state.get(self.index)


class EquinoxBatch(EquinoxEma):
    """`equinox.nn.BatchNorm(mode="batch")`, the examples under `jax.vmap`."""

    kind = "batch"
    statement = _equinox(
        "batch", "debiased by 1 - momentum**t; biased, though documented as unbiased", average="zero_debiased"
    )


IMPLEMENTATIONS = [Haiku, EquinoxEma, EquinoxBatch]
