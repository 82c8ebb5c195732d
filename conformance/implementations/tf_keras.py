"""tf_keras, the Keras 2 that TensorFlow had: `tf_keras.layers.BatchNormalization`, whose kept axes may be several.

https://github.com/keras-team/tf-keras
"""

import importlib

import numpy as np

_SOURCE = "https://github.com/keras-team/tf-keras/blob/v2.21.0/tf_keras/src/layers/normalization/batch_normalization.py"
_FUSED = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/kernels/fused_batch_norm_op.cc"

_STATEMENT = {
    "id": "tf_keras.BatchNormalization",
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
    "rules": [
        {
            "semantics": {"stored_variance": "biased", "frozen": "infer", "fraction_dtype": "float32"},
            "numerics": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
            "cite": _SOURCE + ": call, and tf.convert_to_tensor(1.0 - momentum) in _assign_moving_average",
        },
        {
            "when": {"rank": [4, 5], "channel": ["second", "last"], "dtype": ["float32", "float16", "bfloat16"]},
            "semantics": {"stored_variance": "unbiased"},
            "numerics": {"affine": "direct"},
            "cite": _SOURCE + ": build and _raise_if_fused_cannot_be_used; Bessel's correction in " + _FUSED,
        },
    ],
}


class BatchNormalization(object):
    """`tf_keras.layers.BatchNormalization` with TF 2 behavior, eager."""

    statement = _STATEMENT

    def __init__(self, device):
        self.tf = _tensorflow(device)
        self.keras = importlib.import_module("tf_keras")

    def build(self, case):
        """Return a layer with the case's parameters and moving statistics."""
        layer = self.keras.layers.BatchNormalization(
            axis=case.native["axis"],
            momentum=case.native["momentum"],
            epsilon=case.native["epsilon"],
            center=case.spec["center"],
            scale=case.spec["scale"],
            trainable=case.spec["trainable"],
            dtype=case.dtypes["x"],
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
            yield {name: np.array(tensor) for name, tensor in out.items()}

    def call(self, layer, step):
        """Return y, and the gradients that the step asks for; a frozen layer's variables are watched too."""
        x = self.tf.constant(step.x)
        sources = [(n, v) for n, v in (("dx", x), ("dgamma", layer.gamma), ("dbeta", layer.beta)) if v is not None]
        with self.tf.GradientTape() as tape:
            for _, source in sources:
                tape.watch(source)
            y = layer(x, training=step.training)
        if step.dy is None:
            return {"y": y}
        gradients = tape.gradient(y, [source for _, source in sources], self.tf.constant(step.dy))
        return dict(zip([name for name, _ in sources], gradients), y=y)


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


IMPLEMENTATIONS = [BatchNormalization]
