"""Keras 3: the layer and the functions below it, on the backend that KERAS_BACKEND names when the process starts.

TensorFlow and PyTorch are eager, NumPy has no gradients; for JAX see keras_jax.py.
https://keras.io/api/layers/normalization_layers/batch_normalization/
"""

import importlib
import os

import numpy as np

_DOCS = "https://keras.io/api/layers/normalization_layers/batch_normalization/"
_OPS = "https://keras.io/api/ops/nn/#batchnormalization-function"
_SOURCE = "https://github.com/keras-team/keras/blob/v3.15.1/keras/src/"
_LAYER = _SOURCE + "layers/normalization/batch_normalization.py: call"
_NN = _SOURCE + "backend/%s/nn.py: moments, batch_normalization"
_NUMERICS = {
    "tensorflow": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
    "torch": {"variance": "fast", "affine": "direct", "sums": "serial"},
    "numpy": {"variance": "fast", "affine": "folded", "sums": "serial"},
}
_GRADIENTS = ["dx", "dgamma", "dbeta"]


def _layer(backend):
    return {
        "id": "keras.BatchNormalization+" + backend,
        "packages": ["keras"] + [backend] * (backend != "numpy"),
        "documentation": _DOCS,
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {
            "dtype": ["float32", "float64", "float16", "bfloat16"],
            "parameters": ["float32", "float64", "float16", "bfloat16"],
            "statistics": ["float32", "float64", "float16", "bfloat16"],
            "several_axes": [False],
            "cumulative": [False],
            "virtual": [False],
        },
        "outputs": ["y"] + _GRADIENTS * (backend != "numpy") + ["moving_mean", "moving_variance"],
        "rules": [
            {"semantics": {"stored_variance": "biased", "frozen": "infer"}, "cite": _LAYER},
            {"numerics": _NUMERICS[backend], "cite": _NN % backend},
        ],
    }


def _functions(backend):
    return {
        "id": "keras.ops.batch_normalization+" + backend,
        "packages": ["keras"] + [backend] * (backend != "numpy"),
        "documentation": _OPS,
        "conventions": {"axis": "reduced"},
        "supports": {
            "dtype": ["float32", "float64"],
            "parameters": ["float32", "float64"],
            "statistics": ["float32", "float64"],
            "several_axes": [False],
            "virtual": [False],
        },
        "outputs": ["y"] + _GRADIENTS * (backend != "numpy") + ["mean", "variance"],
        "rules": [
            {
                "semantics": {"average": "none", "frozen": "train"},
                "numerics": _NUMERICS[backend],
                "cite": _NN % backend,
            }
        ],
    }


class _Keras(object):
    """Keras on one backend; a mixin per backend has `backend`, `prepare(device)` and `derived(call, sources, dy)`."""

    def __init__(self, device):
        os.environ.setdefault("KERAS_BACKEND", self.backend)
        self.prepare(device)
        self.keras = importlib.import_module("keras")
        found = self.keras.backend.backend()
        if found != self.backend:
            raise RuntimeError("keras runs on %s here; set KERAS_BACKEND=%s before it starts" % (found, self.backend))

    def tensor(self, array):
        """Return the backend's tensor."""
        return None if array is None else self.keras.ops.convert_to_tensor(array, dtype=array.dtype.name)

    def answered(self, call, x, gamma, beta, dy):
        """Return y and the gradients of what there is of x, gamma and beta, by name."""
        named = [(n, a) for n, a in (("dx", x), ("dgamma", gamma), ("dbeta", beta)) if a is not None]
        y, gradients = self.derived(call, [a for _, a in named], self.tensor(dy))
        return dict(zip([n for n, _ in named], gradients), y=y)

    def arrays(self, out):
        """Return NumPy copies."""
        return {name: np.array(self.keras.ops.convert_to_numpy(a)) for name, a in out.items()}


class _Layer(_Keras):
    """`keras.layers.BatchNormalization`."""

    def build(self, case):
        """Return a layer with the case's parameters and moving statistics."""
        same = case.dtypes["x"] == case.dtypes["parameters"]
        layer = self.keras.layers.BatchNormalization(
            axis=case.spec["axis"] if isinstance(case.spec["axis"], int) else case.axis[0],
            momentum=case.native["momentum"],
            epsilon=case.native["epsilon"],
            center=case.spec["center"],
            scale=case.spec["scale"],
            trainable=case.spec["trainable"],
            dtype=case.dtypes["x"] if same else "mixed_" + case.dtypes["x"],
        )
        layer.build(case.steps[0].x.shape)
        variables = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        for variable, array in zip(variables, (case.gamma, case.beta, case.mean, case.variance)):
            if array is not None:
                variable.assign(array)
        return layer

    def run(self, case):
        """Yield the outputs of each step; gradients of a frozen layer's variables too."""
        layer = self.build(case)
        gamma, beta = [None if v is None else v.value for v in (layer.gamma, layer.beta)]
        for step in case.steps:
            out = self.step(layer, step, self.tensor(step.x), gamma, beta)
            yield self.arrays(dict(out, moving_mean=layer.moving_mean, moving_variance=layer.moving_variance))

    def step(self, layer, step, x, gamma, beta):
        """Return what one call gives."""
        return self.answered(lambda: layer(x, training=step.training), x, gamma, beta, step.dy)


class _Functions(_Keras):
    """`keras.ops.moments` and `keras.ops.batch_normalization`; inference by the case's own statistics."""

    def run(self, case):
        """Yield the outputs of each step."""
        gamma, beta = self.tensor(case.gamma), self.tensor(case.beta)
        one = np.ones(case.kept, case.dtypes["statistics"])
        mean = self.tensor(0 * one if case.mean is None else case.mean)
        variance = self.tensor(one if case.variance is None else case.variance)
        for step in case.steps:
            yield self.arrays(self.step(case, step, gamma, beta, (mean, variance)))

    def step(self, case, step, gamma, beta, used):
        """Return what one call gives."""
        ops, x, found = self.keras.ops, self.tensor(step.x), {}

        def call():
            mean, variance = ops.moments(x, case.native["axis"]) if step.training else used
            found.update({"mean": mean, "variance": variance} if step.training else {})
            return ops.batch_normalization(x, mean, variance, case.axis[0], beta, gamma, case.native["epsilon"])

        return dict(self.answered(call, x, gamma, beta, step.dy), **found)


# --- backends -----------------------------------------------------------------------------------------------------


class _TensorFlow(object):
    """Eager TensorFlow, on the CPU and on one thread."""

    backend = "tensorflow"

    def prepare(self, device):
        """Import TensorFlow."""
        if device != "cpu":
            raise ValueError("this adapter runs TensorFlow on cpu, not on %s" % device)
        self.tf = importlib.import_module("tensorflow")
        try:
            self.tf.config.threading.set_intra_op_parallelism_threads(1)
            self.tf.config.threading.set_inter_op_parallelism_threads(1)
            self.tf.config.set_visible_devices([], "GPU")
        except RuntimeError:
            pass  # already in use: another adapter of this process has set them

    def derived(self, call, sources, dy):
        """Return the call's output and its gradients."""
        with self.tf.GradientTape() as tape:
            tape.watch(sources)
            y = call()
        return y, () if dy is None else tape.gradient(y, sources, dy)


class _Torch(object):
    """Eager PyTorch, on one thread."""

    backend = "torch"

    def prepare(self, device):
        """Import PyTorch; Keras takes the CPU where no CUDA device is visible."""
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(1)
        if device != ("cuda" if self.torch.cuda.is_available() else "cpu"):
            raise RuntimeError("torch %s makes Keras run on another device than %s" % (self.torch.__version__, device))

    def derived(self, call, sources, dy):
        """Return the call's output and its gradients."""
        for source in sources:
            source.requires_grad_()
        y = call()
        return y, () if dy is None else self.torch.autograd.grad(y, sources, dy)


class _NumPy(object):
    """NumPy, which has no gradients."""

    backend = "numpy"

    def prepare(self, device):
        """Refuse any other device."""
        if device != "cpu":
            raise ValueError("NumPy has no device %s" % device)

    def derived(self, call, _sources, _dy):
        """Return the call's output."""
        return call(), ()


def _made(name, backend, kind, statement):
    return type(name, (backend, kind), {"statement": statement(backend.backend), "__doc__": kind.__doc__})


TensorFlow = _made("TensorFlow", _TensorFlow, _Layer, _layer)
TensorFlowFunctions = _made("TensorFlowFunctions", _TensorFlow, _Functions, _functions)
Torch = _made("Torch", _Torch, _Layer, _layer)
TorchFunctions = _made("TorchFunctions", _Torch, _Functions, _functions)
NumPy = _made("NumPy", _NumPy, _Layer, _layer)
NumPyFunctions = _made("NumPyFunctions", _NumPy, _Functions, _functions)

IMPLEMENTATIONS = [TensorFlow, TensorFlowFunctions]  # in the process that has KERAS_BACKEND=tensorflow
