"""tf_keras, the Keras 2 that TensorFlow had: `tf_keras.layers.BatchNormalization`, whose kept axes may be several.

https://github.com/keras-team/tf-keras
"""

import functools
import importlib

import numpy as np

_FOLDER = "https://github.com/keras-team/tf-keras/blob/v2.21.0/tf_keras/src/layers/normalization/"
_SOURCE = _FOLDER + "batch_normalization.py"
_KERNEL = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/kernels/fused_batch_norm_op.cc"
_FUSED = {
    "when": {"rank": [4, 5], "channel": ["second", "last"], "dtype": ["float32", "float16", "bfloat16"]},
    "semantics": {"stored_variance": "unbiased"},
    "numerics": {"affine": "direct"},
    "cite": _SOURCE + ": build and _raise_if_fused_cannot_be_used; Bessel's correction in " + _KERNEL,
}


def _statement(variant, *rules, **more):
    plain = {
        "semantics": {"stored_variance": "biased", "frozen": "infer", "fraction_dtype": "float32"},
        "numerics": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
        "cite": _SOURCE + ": call, and tf.convert_to_tensor(1.0 - momentum) in _assign_moving_average",
    }
    statement = {
        "id": "tf_keras.BatchNormalization" + variant,
        "packages": ["tf_keras", "tensorflow"],
        "documentation": "https://www.tensorflow.org/versions/r2.15/api_docs/python/tf/keras/layers/BatchNormalization",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {
            "dtype": ["float32", "float64", "float16", "bfloat16"],
            "parameters": ["float32", "float64"],
            "statistics": ["float32", "float64"],
            "cumulative": [False],
            "virtual": [False],
        },
        "rules": [plain] + list(rules),
    }
    statement.update(more)
    return statement


class BatchNormalization(object):
    """`tf_keras.layers.BatchNormalization` with TF 2 behavior, eager."""

    statement = _statement("", _FUSED)
    chosen = ()

    def __init__(self, device):
        self.tf = _tensorflow(device)
        self.keras = importlib.import_module("tf_keras")

    def layer(self):
        """Return the layer's class."""
        return self.keras.layers.BatchNormalization

    def build(self, case):
        """Return a layer with the case's parameters and moving statistics."""
        layer = self.layer()(
            axis=case.native["axis"],
            momentum=case.native["momentum"],
            epsilon=case.native["epsilon"],
            center=case.spec["center"],
            scale=case.spec["scale"],
            trainable=case.spec["trainable"],
            dtype=case.dtypes["x"],
            **dict(self.chosen),
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
        call = self.prepared(layer)
        for step in case.steps:
            x, dy = [None if a is None else self.tf.constant(a) for a in (step.x, step.dy)]
            out = call(x, dy, self.flag(step.training))
            out.update(moving_mean=layer.moving_mean, moving_variance=layer.moving_variance)
            yield {name: np.array(tensor) for name, tensor in out.items()}

    def prepared(self, layer):
        """Return the function of (x, dy, training) that makes a step."""
        return functools.partial(self.call, layer)

    def flag(self, training):
        """Return `training` as the layer is given it."""
        return training

    def call(self, layer, x, dy, training):
        """Return y, and the gradients where there is a dy; a frozen layer's variables are watched too."""
        sources = [(n, v) for n, v in (("dx", x), ("dgamma", layer.gamma), ("dbeta", layer.beta)) if v is not None]
        with self.tf.GradientTape() as tape:
            for _, source in sources:
                tape.watch(source)
            y = layer(x, training=training)
        if dy is None:
            return {"y": y}
        gradients = tape.gradient(y, [source for _, source in sources], dy)
        return dict(zip([name for name, _ in sources], gradients), y=y)


class NotFused(BatchNormalization):
    """The same layer with fused=False, whatever the rank."""

    statement = _statement("+fused_false")
    chosen = (("fused", False),)


class Synchronized(BatchNormalization):
    """The same layer with synchronized=True, in one process without a strategy; never fused."""

    statement = _statement(
        "+synchronized",
        {
            "numerics": {"variance": "fast", "clamped": True},
            "cite": _SOURCE + ": _sync_calculate_mean_and_var, E(x^2) - E(x)^2, kept at 0 or above",
        },
    )
    chosen = (("synchronized", True),)


class Version1(BatchNormalization):
    """The class with TF 1 behavior, eager: a frozen layer still normalizes by the batch, and updates nothing."""

    statement = _statement(
        "+v1",
        _FUSED,
        {
            "semantics": {"frozen": "batch"},
            "cite": _SOURCE + ": trainable matters to _USE_V2_BEHAVIOR only; add_update of base_layer.py",
        },
    )

    def layer(self):
        """Return the layer's class, which tf_keras itself no longer exports."""
        module = "tf_keras.src.layers.normalization.batch_normalization_v1"
        return importlib.import_module(module).BatchNormalization


class Graph(BatchNormalization):
    """The layer inside a `tf.function`, with `training` as a tensor: one trace serves both modes."""

    statement = _statement("+graph", _FUSED, compiled=True)

    def prepared(self, layer):
        """Return a function to be traced."""
        return self.tf.function(functools.partial(self.call, layer))

    def flag(self, training):
        """Return a tensor."""
        return self.tf.constant(training)


def _tensorflow(device):
    """Return TensorFlow, on the CPU and on one thread."""
    if device != "cpu":
        raise ValueError("this adapter runs TensorFlow on cpu, not on %s" % device)
    tf = importlib.import_module("tensorflow")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        pass  # already in use: another adapter of this process has set them
    return tf


IMPLEMENTATIONS = [BatchNormalization, NotFused, Synchronized, Version1, Graph]
