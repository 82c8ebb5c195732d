"""The function that TF 1 had, as TF 2 still offers it: `tf.compat.v1.layers.batch_normalization`, on tf_keras.

It needs TF_USE_LEGACY_KERAS=1 when the process starts. Graphs, sessions and calls are as in tf1.py.
https://www.tensorflow.org/api_docs/python/tf/compat/v1/layers/batch_normalization
"""

import collections
import importlib

from . import tensorflow_common as common
from . import tf1

_SOURCE = "https://github.com/keras-team/tf-keras/blob/v2.21.0/tf_keras/src/"
_LAYER = _SOURCE + "layers/normalization/batch_normalization.py"
_KERNEL = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/kernels/fused_batch_norm_op.cc"

_NO_OTHERS = common.no_integers(
    _LAYER + ": call, in the dtype of x, in which variables are made too", common.INPUTS[1:] + common.FLOAT8
)


def _statement(variant):
    return {
        "id": "tf.compat.v1.layers.batch_normalization" + variant,
        "packages": ["tf_keras", "tensorflow"],
        "keeps_inputs": True,
        "documentation": "https://www.tensorflow.org/api_docs/python/tf/compat/v1/layers/batch_normalization",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {
            "start": ["given", "own"],
            "input": common.INPUTS + ["complex64"] + common.FLOAT8,
            "scalars": common.SCALARS,
            "odd": common.ODD,
            "dtype": ["float32", "float64", "float16", "bfloat16"],
            "parameters": ["float32", "float64"],
            "statistics": ["float32", "float64"],
            "updates": [True, False],
            "sites": [1, 2, 3],
            "backward": ["each", "together"],  # its variables are resources, whose reads can wait
            "unknown_sizes": [False, "reduced", "kept"],
            "flag": ["bool", "int", "numpy"] if variant == "+bool" else ["bool"],
            "renorm": [False, True],
            "virtual": [False, True],
            "adjustment": [False, True],
            "misplaced": [False, True],
            "differentiation": ["none", "reverse", "reverse_over_reverse"],
        },
        "outputs": ["y", "dx", "dgamma", "dbeta", "dx_tangent", "dgamma_tangent"] + common.STATE,
        "lacks": dict(common.without("mask"), forward=common.NO_FORWARD),
        "compiled": True,
        "refusals": [common.unknown_axis(_LAYER), _NO_OTHERS, common.no_array(common.FUSED_OP, **common.FUSED)],
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
                "when": common.FUSED,
                "semantics": {"stored_variance": "unbiased"},
                "numerics": {"affine": "direct"},
                "cite": _LAYER + ": build and _fused_can_be_used; Bessel's correction in " + _KERNEL,
            },
            common.CUDA,
        ],
    }


class Placeholder(tf1.Function):
    """The function with `training` as a placeholder: one call serves both modes."""

    flag = "placeholder"
    statement = _statement("")

    def __init__(self, device):
        tf = common.tensorflow(device)
        importlib.import_module("tf_keras")  # says that it is missing; TensorFlow would say that "Keras" is
        self.tf, self.layers = tf.compat.v1, collections.OrderedDict()
        self.tf.layers.batch_normalization  # noqa: B018 - TensorFlow says what to do where this is Keras 3's


class Static(Placeholder):
    """The same with `training` as a Python bool."""

    flag = "bool"
    statement = _statement("+bool")


IMPLEMENTATIONS = [Placeholder, Static]
