"""The function that TF 1 had, as TF 2 still offers it: `tf.compat.v1.layers.batch_normalization`, on tf_keras.

It needs TF_USE_LEGACY_KERAS=1 when the process starts. A graph and a session per case; `training` is a placeholder, and
the update ops run where the step says so.
https://www.tensorflow.org/api_docs/python/tf/compat/v1/layers/batch_normalization
"""

import importlib

import numpy as np

_SOURCE = "https://github.com/keras-team/tf-keras/blob/v2.21.0/tf_keras/src/"
_LAYER = _SOURCE + "layers/normalization/batch_normalization.py"
_KERNEL = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/kernels/fused_batch_norm_op.cc"
_STATEMENT = {
    "id": "tf.compat.v1.layers.batch_normalization",
    "packages": ["tf_keras", "tensorflow"],
    "documentation": "https://www.tensorflow.org/api_docs/python/tf/compat/v1/layers/batch_normalization",
    "conventions": {"momentum": "kept", "axis": "kept"},
    "supports": {
        "dtype": ["float32", "float64", "float16", "bfloat16"],
        "parameters": ["float32", "float64"],
        "statistics": ["float32", "float64"],
        "updates": [True, False],
        "cumulative": [False],
        "virtual": [False],
    },
    "compiled": True,
    "rules": [
        {
            "semantics": {"stored_variance": "biased", "frozen": "batch", "fraction_dtype": "float32"},
            "numerics": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
            "cite": _SOURCE + "legacy_tf_layers/normalization.py; " + _LAYER + ": call, and "
            "tf.convert_to_tensor(1.0 - momentum) in _assign_moving_average",
        },
        {
            "when": {"rank": [4, 5], "channel": ["second", "last"], "dtype": ["float32", "float16", "bfloat16"]},
            "semantics": {"stored_variance": "unbiased"},
            "numerics": {"affine": "direct"},
            "cite": _LAYER + ": build and _fused_can_be_used; Bessel's correction in " + _KERNEL,
        },
    ],
}


class BatchNormalization(object):
    """`tf.compat.v1.layers.batch_normalization` in a graph."""

    statement = _STATEMENT

    def __init__(self, device):
        self.tf = _tensorflow(device)
        self.v1 = self.tf.compat.v1
        self.function = self.v1.layers.batch_normalization  # TensorFlow says what to do where this is Keras 3's

    def run(self, case):
        """Yield the outputs of each step."""
        with self.tf.Graph().as_default(), self.v1.Session() as session:
            fed, asked, updates, variables = self.build(case)
            session.run(self.v1.global_variables_initializer())
            for name, array in (("gamma", case.gamma), ("beta", case.beta)):
                self.load(session, variables, name, array)
            self.load(session, variables, "moving_mean", case.mean)
            self.load(session, variables, "moving_variance", case.variance)
            for step in case.steps:
                yield self.step(session, step, fed, asked, updates, variables)

    def build(self, case):
        """Return the placeholders by name, the tensors by name, the update ops and the variables by name."""
        shapes = zip(*[step.x.shape for step in case.steps])
        shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in shapes]
        x, dy = [self.v1.placeholder(case.dtypes["x"], shape) for _ in "xy"]
        fed = {"x": x, "dy": dy, "training": self.v1.placeholder(self.tf.bool, ())}
        y = self.function(
            x,
            axis=case.native["axis"],
            momentum=case.native["momentum"],
            epsilon=case.native["epsilon"],
            center=case.spec["center"],
            scale=case.spec["scale"],
            trainable=case.spec["trainable"],
            training=fed["training"],
        )
        variables = {v.name.split("/")[-1].split(":")[0]: v for v in self.v1.global_variables()}
        named = [("dx", x)] + [("d" + name, variables[name]) for name in ("gamma", "beta") if name in variables]
        gradients = self.tf.gradients(y, [source for _, source in named], dy)
        asked = dict(zip([name for name, _ in named], gradients), y=y)
        return fed, asked, self.v1.get_collection(self.v1.GraphKeys.UPDATE_OPS), variables

    @staticmethod
    def load(session, variables, name, array):
        """Set a variable."""
        if array is not None:
            variables[name].load(array, session)

    @staticmethod
    def step(session, step, fed, asked, updates, variables):
        """Return the arrays of one step; the statistics are read after the updates ran."""
        wanted = asked if step.dy is not None else {"y": asked["y"]}
        feed = {fed["x"]: step.x, fed["training"]: step.training}
        if step.dy is not None:
            feed[fed["dy"]] = step.dy
        out = session.run((wanted, updates if step.update else []), feed)[0]
        moving = {name: variables[name] for name in ("moving_mean", "moving_variance")}
        return {name: np.array(array) for name, array in dict(out, **session.run(moving)).items()}


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
