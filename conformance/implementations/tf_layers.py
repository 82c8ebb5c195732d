"""The function that TF 1 had, as TF 2 still offers it: `tf.compat.v1.layers.batch_normalization`, on tf_keras.

It needs TF_USE_LEGACY_KERAS=1 when the process starts. A graph and a session per case; `training` is a placeholder, and
the update ops run where the step says so.
https://www.tensorflow.org/api_docs/python/tf/compat/v1/layers/batch_normalization
"""

import importlib.util
import pathlib

import numpy as np


def _sibling(name):
    """Return the module of this folder with that name."""
    path = pathlib.Path(__file__).with_name(name + ".py")
    spec = importlib.util.spec_from_file_location(name + "_for_tf_layers", str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_COMMON = _sibling("tensorflow_common")
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
        "renorm": [False, True],
        "virtual": [False, True],
        "adjustment": [False, True],
        "differentiation": ["none", "reverse", "reverse_over_reverse"],
    },
    "outputs": ["y", "dx", "dgamma", "dbeta", "dx_tangent", "dgamma_tangent"] + _COMMON.STATE,
    "compiled": True,
    "rules": [
        {
            "semantics": {
                "stored_variance": "biased",
                "frozen": "batch",
                "fraction_dtype": "float32",
                "indivisible_inference": "accepted",
            },
            "numerics": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
            "cite": _SOURCE + "legacy_tf_layers/normalization.py; " + _LAYER + ": call, and "
            "tf.convert_to_tensor(1.0 - momentum) in _assign_moving_average",
        },
        {
            "when": {
                "rank": [4, 5],
                "channel": ["second", "last"],
                "dtype": ["float32", "float16", "bfloat16"],
                "renorm": [False],
                "virtual": [False],
                "adjustment": [False],
            },
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
        self.tf = _COMMON.tensorflow(device)
        importlib.import_module("tf_keras")  # says that it is missing; TensorFlow would say that "Keras" is
        self.v1 = self.tf.compat.v1
        self.function = self.v1.layers.batch_normalization  # TensorFlow says what to do where this is Keras 3's

    def run(self, case):
        """Yield the outputs of each step."""
        with self.tf.Graph().as_default(), self.v1.Session() as session:
            fed, asked, updates, variables = self.build(case)
            session.run(self.v1.global_variables_initializer())
            for name, array in _COMMON.initial(case).items():
                variables[name].load(array, session)
            state = {name: variable for name, variable in variables.items() if name in _COMMON.STATE}
            for step in case.steps:
                wanted = asked if step.dy is not None else {"y": asked["y"]}
                feed = {placeholder: self.values(case, step)[name] for name, placeholder in fed.items()}
                out = session.run((wanted, updates if step.update else []), feed)[0]
                arrays = dict(out, **session.run(state))  # read after the updates ran
                yield {name: np.array(array) for name, array in arrays.items()}

    def build(self, case):
        """Return the placeholders by name, the tensors by name, the update ops and the variables by name."""
        fed = self.placeholders(case)
        arguments = dict(_COMMON.arguments(case), training=fed["training"])
        if "scale" in fed:
            arguments["adjustment"] = lambda _shape: (fed["scale"], fed["bias"])
        y = self.function(fed["x"], **arguments)
        variables = {v.name.split("/")[-1].split(":")[0]: v for v in self.v1.global_variables()}
        named = (("dx", fed["x"]), ("dgamma", variables.get("gamma")), ("dbeta", variables.get("beta")))
        sources = {name: source for name, source in named if source is not None}
        asked = _COMMON.graph_gradients(self.tf, y, sources, fed["dy"], fed.get("tangent"))
        return fed, dict(asked, y=y), self.v1.get_collection(self.v1.GraphKeys.UPDATE_OPS), variables

    def placeholders(self, case):
        """Return what each step is fed, by name; sizes that differ between steps are unknown."""
        shapes = zip(*[step.x.shape for step in case.steps])
        shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in shapes]
        names = ["x", "dy"] + ["tangent"] * any(step.second for step in case.steps)
        fed = {name: self.v1.placeholder(case.dtypes["x"], shape) for name in names}
        for name, array in zip(("scale", "bias"), _COMMON.adjusted(case) or ()):
            fed[name] = self.v1.placeholder(case.dtypes["parameters"], array.shape)
        return dict(fed, training=self.v1.placeholder(self.tf.bool, ()))

    @staticmethod
    def values(case, step):
        """Return what a step is fed, by name; an array it does not have is not asked for either."""
        values = {"x": step.x, "training": step.training}
        for name, array in (("dy", step.dy), ("tangent", step.tangent)):
            values[name] = np.zeros_like(step.x) if array is None else array
        return dict(values, **dict(zip(("scale", "bias"), step.adjustment or _COMMON.adjusted(case) or ())))


IMPLEMENTATIONS = [BatchNormalization]
