"""Keras 3 on JAX: the layer and the functions below it, jitted. KERAS_BACKEND must be jax when the process starts.

A jitted step is the forward pass, its gradients and the new state; only shapes, dtypes, axis, flags and momentum are
compiled in. The 64-bit mode is on for float64 cases alone.
https://keras.io/api/layers/normalization_layers/batch_normalization/
"""

import contextlib
import importlib
import os

import numpy as np

_SIGNATURES = 64  # compiled programs are kept for this many; JAX itself never lets go of one
_SOURCE = "https://github.com/keras-team/keras/blob/v3.15.1/keras/src/"
_LAYER = _SOURCE + "layers/normalization/batch_normalization.py: call"
_NN = _SOURCE + "backend/jax/nn.py: moments, batch_normalization"
_DTYPES = ["float32", "float64"]


def _statement(entry, page, axis, dtypes, semantics, outputs, cite):
    return {
        "id": "keras.%s+jax+jit" % entry,
        "packages": ["keras", "jax", "jaxlib"],
        "documentation": page,
        "conventions": {"momentum": "kept", "axis": axis},
        "supports": {
            "dtype": dtypes,
            "parameters": dtypes,
            "statistics": dtypes,
            "several_axes": [False],
            "cumulative": [False],
            "virtual": [False],
        },
        "outputs": ["y", "dx", "dgamma", "dbeta"] + outputs,
        "compiled": True,
        "rules": [
            {"semantics": semantics, "cite": cite},
            {"numerics": {"variance": "two_pass", "affine": "folded", "sums": "tree"}, "cite": _NN},
        ],
    }


class _Jitted(object):
    """One jitted function per signature. Subclasses define `function(case, step)` of (sources, state, epsilon).

    It gives (y, the new state, the other outputs by name).
    """

    def __init__(self, device):
        os.environ.setdefault("KERAS_BACKEND", "jax")
        self.jax, self.keras = importlib.import_module("jax"), importlib.import_module("keras")
        found = self.keras.backend.backend()
        if found != "jax":
            raise RuntimeError("keras runs on %s here; set KERAS_BACKEND=jax before it starts" % found)
        try:
            self.device = self.jax.devices({"cuda": "gpu"}.get(device, device))[0]
        except RuntimeError as error:
            raise RuntimeError("jax %s finds no device %s: %s" % (self.jax.__version__, device, error)) from error
        self.jitted = {}

    @contextlib.contextmanager
    def mode(self, case):
        """Compute on the device, with 64-bit values where the case has them."""
        with self.jax.enable_x64("float64" in case.dtypes.values()), self.jax.default_device(self.device):
            yield

    def run(self, case):
        """Yield the outputs of each step."""
        named = (("dgamma", case.gamma), ("dbeta", case.beta))
        parameters = {name: array for name, array in named if array is not None}
        one = np.ones(case.kept, case.dtypes["statistics"])
        state = [0 * one if case.mean is None else case.mean, one if case.variance is None else case.variance]
        for step in case.steps:
            with self.mode(case):
                sources, call = dict(parameters, dx=step.x), self.compiled(case, step)
                state, out = call(sources, state, step.dy, case.native["epsilon"])
                yield {name: np.array(array) for name, array in out.items()}

    def compiled(self, case, step):
        """Return the jitted function for the step's signature."""
        signature = case.signature(step)
        if signature not in self.jitted:
            if len(self.jitted) >= _SIGNATURES:
                self.jitted.clear()
                self.jax.clear_caches()
            self.jitted[signature] = self.jax.jit(self.differentiated(self.function(case, step)))
        return self.jitted[signature]

    def differentiated(self, function):
        """Return a function that gives (state, outputs); no gradients where dy is None."""

        def call(sources, state, dy, epsilon):
            def forward(sources):
                y, new, out = function(sources, state, epsilon)
                return y, (new, out)

            y, pullback, (new, out) = self.jax.vjp(forward, sources, has_aux=True)
            return new, dict({} if dy is None else pullback(dy)[0], y=y, **out)

        return call


class Layer(_Jitted):
    """`keras.layers.BatchNormalization` by `stateless_call`."""

    statement = _statement(
        "BatchNormalization",
        "https://keras.io/api/layers/normalization_layers/batch_normalization/",
        "kept",
        _DTYPES + ["float16", "bfloat16"],
        {"stored_variance": "biased", "frozen": "infer"},
        ["moving_mean", "moving_variance"],
        _LAYER,
    )

    def layer(self, case):
        """Return a built layer."""
        same = case.dtypes["x"] == case.dtypes["parameters"]
        layer = self.keras.layers.BatchNormalization(
            axis=case.spec["axis"] if isinstance(case.spec["axis"], int) else case.axis[0],
            momentum=case.native["momentum"],
            center=case.spec["center"],
            scale=case.spec["scale"],
            trainable=case.spec["trainable"],
            dtype=case.dtypes["x"] if same else "mixed_" + case.dtypes["x"],
        )
        layer.build(case.steps[0].x.shape)
        return layer

    def function(self, case, step):
        """Return the function to jit; a frozen layer's gamma and beta are among what is not trainable."""
        layer = self.layer(case)

        def call(sources, state, epsilon):
            layer.epsilon = epsilon
            parameters = [sources[name] for name in ("dgamma", "dbeta") if name in sources]
            trainable, others = (parameters, state) if case.spec["trainable"] else ([], parameters + state)
            y, others = layer.stateless_call(trainable, others, sources["dx"], training=step.training)
            state = others[-2:]
            return y, state, {"moving_mean": state[0], "moving_variance": state[1]}

        return call


class Functions(_Jitted):
    """`keras.ops.moments` and `keras.ops.batch_normalization`; inference by the case's own statistics."""

    statement = _statement(
        "ops.batch_normalization",
        "https://keras.io/api/ops/nn/#batchnormalization-function",
        "reduced",
        _DTYPES,
        {"average": "none", "frozen": "train"},
        ["mean", "variance"],
        _NN,
    )

    def function(self, case, step):
        """Return the function to jit."""
        ops, axes, axis = self.keras.ops, case.native["axis"], case.axis[0]

        def call(sources, state, epsilon):
            x, gamma, beta = [sources.get(name) for name in ("dx", "dgamma", "dbeta")]
            mean, variance = ops.moments(x, axes) if step.training else state
            y = ops.batch_normalization(x, mean, variance, axis, beta, gamma, epsilon)
            return y, state, {"mean": mean, "variance": variance} if step.training else {}

        return call


IMPLEMENTATIONS = [Layer, Functions]
