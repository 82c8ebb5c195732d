"""Keras 3: `keras.layers.BatchNormalization`, on the backend that KERAS_BACKEND names when the process starts.

https://keras.io/api/layers/normalization_layers/batch_normalization/
"""

import importlib
import os

import numpy as np

_DOCS = "https://keras.io/api/layers/normalization_layers/batch_normalization/"
_SOURCE = "https://github.com/keras-team/keras/blob/v3.15.1/keras/src/"
_LAYER = _SOURCE + "layers/normalization/batch_normalization.py: call"


def _statement(backend, packages, numerics, cite):
    return {
        "id": "keras.BatchNormalization+" + backend,
        "packages": ["keras"] + packages,
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
        "rules": [
            {"semantics": {"stored_variance": "biased", "frozen": "infer"}, "cite": _LAYER},
            {"numerics": numerics, "cite": cite},
        ],
    }


class _Keras(object):
    """The layer on any backend; a subclass per backend says how to prepare it and how to take gradients."""

    backend = ""

    def __init__(self, device):
        os.environ.setdefault("KERAS_BACKEND", self.backend)
        self.prepare(device)
        self.keras = importlib.import_module("keras")
        found = self.keras.backend.backend()
        if found != self.backend:
            raise RuntimeError("keras runs on %s here; set KERAS_BACKEND=%s before it starts" % (found, self.backend))

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
        """Yield the outputs of each step."""
        layer = self.build(case)
        for step in case.steps:
            out = self.call(layer, step)
            out.update(moving_mean=layer.moving_mean, moving_variance=layer.moving_variance)
            yield {name: np.array(self.keras.ops.convert_to_numpy(a)) for name, a in out.items()}


class TensorFlow(_Keras):
    """Keras on TensorFlow, eager."""

    backend = "tensorflow"
    statement = _statement(
        backend,
        ["tensorflow"],
        {"variance": "two_pass", "affine": "folded", "sums": "serial"},
        _SOURCE + "backend/tensorflow/nn.py: moments, batch_normalization",
    )

    def prepare(self, device):
        """Import TensorFlow, on the CPU and on one thread."""
        if device != "cpu":
            raise ValueError("this adapter runs TensorFlow on cpu, not on %s" % device)
        self.tf = importlib.import_module("tensorflow")
        try:
            self.tf.config.threading.set_intra_op_parallelism_threads(1)
            self.tf.config.threading.set_inter_op_parallelism_threads(1)
            self.tf.config.set_visible_devices([], "GPU")
        except RuntimeError:
            pass  # already in use: another adapter of this process has set them

    def call(self, layer, step):
        """Return y, and the gradients that the step asks for; a frozen layer's variables are watched too."""
        x = self.tf.constant(step.x)
        parameters = [(n, v.value) for n, v in (("dgamma", layer.gamma), ("dbeta", layer.beta)) if v is not None]
        sources = [("dx", x)] + parameters
        with self.tf.GradientTape() as tape:
            for _, source in sources:
                tape.watch(source)
            y = layer(x, training=step.training)
        if step.dy is None:
            return {"y": y}
        gradients = tape.gradient(y, [source for _, source in sources], self.tf.constant(step.dy))
        return dict(zip([name for name, _ in sources], gradients), y=y)


IMPLEMENTATIONS = [TensorFlow]
