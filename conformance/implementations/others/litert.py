"""LiteRT, TensorFlow Lite before: what TensorFlow's converter makes of batch normalization, run by the interpreter.

The format has no such operator: the converter folds parameters and statistics into one product and one sum.
https://ai.google.dev/edge/litert/conversion/tensorflow/convert_tf
"""

import importlib

import numpy as np

from . import said

_DOCS = "https://ai.google.dev/edge/litert/conversion/tensorflow/convert_tf"
_FOLDED = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/compiler/mlir/lite/transforms/"
_LAYER = "https://keras.io/api/layers/normalization_layers/batch_normalization/"


def _stated(identity, packages, page, ranks, channels):
    rule = {
        "cite": _FOLDED + "prepare_tf.cc, optimize.cc: x * multiplier + (offset - mean * multiplier)",
        "semantics": {"frozen": "train", "average": "none"},
        "numerics": {"affine": "folded", "sums": "serial"},
    }
    supports = {"dtype": ["float32"], "rank": ranks, "channel": channels, "start": ["given", "own"], "n": ["1", "many"]}
    return said.stated(identity, packages, page, "kept", [rule], supports, ["y"], axis="kept", modes=["infer"])


class _Converted(object):
    """A model for each step. Subclasses make the converter of one."""

    def __init__(self, device):
        said.check(device)
        self.tensorflow = importlib.import_module("tensorflow")
        self.interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter

    def run(self, case):
        """Yield y of each inference step."""
        one, start = np.ones(case.kept, np.float32), (case.gamma, case.beta, case.mean, case.variance)
        arrays = [own if array is None else array for array, own in zip(start, (one, 0 * one, 0 * one, one))]
        for step in case.steps:
            yield {} if step.training else {"y": self.infer(self.converter(case, step, *arrays).convert(), step.x)}

    def infer(self, model, x):
        """Return what the interpreter makes of x, with one thread."""
        interpreter = self.interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(x))
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


class Layer(_Converted):
    """A model of one Keras layer."""

    statement = _stated(
        "litert.Interpreter+keras_layer",
        ["ai_edge_litert", "tensorflow", "keras"],
        _LAYER,
        [2, 3, 4, 5],
        ["second", "last", "other"],
    )

    def converter(self, case, step, gamma, beta, mean, variance):
        """Return the converter of a model of this step's shape."""
        keras, spec = self.tensorflow.keras, case.spec
        given = {"center": spec["center"], "scale": spec["scale"], "epsilon": case.native["epsilon"]}
        layer = keras.layers.BatchNormalization(axis=step.axis[0], **given)
        x = keras.Input(step.x.shape[1:], batch_size=step.x.shape[0])
        model = keras.Model(x, layer(x, training=False))
        layer.set_weights([gamma] * spec["scale"] + [beta] * spec["center"] + [mean, variance])
        return self.tensorflow.lite.TFLiteConverter.from_keras_model(model)


class Fused(_Converted):
    """A function that calls TensorFlow's fused operator on constants."""

    statement = _stated(
        "litert.Interpreter+fused_op",
        ["ai_edge_litert", "tensorflow"],
        "https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3",
        [4],
        ["second", "last"],
    )

    def converter(self, case, step, gamma, beta, mean, variance):
        """Return the converter of a function of this step's shape."""
        tf, place = self.tensorflow, "NCHW" if step.axis == (1,) else "NHWC"
        constants = {"scale": gamma, "offset": beta, "mean": mean, "variance": variance}

        def infer(x):
            options = {"epsilon": case.native["epsilon"], "is_training": False, "data_format": place}
            return tf.raw_ops.FusedBatchNormV3(x=x, **dict(constants, **options)).y

        traced = tf.function(infer).get_concrete_function(tf.TensorSpec(step.x.shape, tf.float32))
        return tf.lite.TFLiteConverter.from_concrete_functions([traced])


IMPLEMENTATIONS = [Layer, Fused]
