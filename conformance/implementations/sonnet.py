"""dm-sonnet: `sonnet.BatchNorm`, eager; fused by TensorFlow where the input has rank 4 and the channels come last.

https://sonnet.readthedocs.io/en/latest/api.html#batchnorm
"""

import importlib

import numpy as np

from . import later
from . import tensorflow_common as common

_SOURCE = "https://github.com/google-deepmind/sonnet/blob/v2.0.2/sonnet/src/"
_KERNEL = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/kernels/fused_batch_norm_op.cc"
_FUSED = {"rank": [4], "channel": ["last"]}
_LIKE_X = ("y", "dx", "y_tangent", "dx_tangent")
_STATEMENT = {
    "id": "sonnet.BatchNorm",
    "packages": ["sonnet", "tensorflow"],
    "keeps_inputs": True,
    "documentation": "https://sonnet.readthedocs.io/en/latest/api.html#batchnorm",
    "conventions": {"momentum": "kept", "axis": "fixed"},
    "supports": {
        "start": ["given", "own"],
        "input": common.INPUTS + ["complex64"] + common.FLOAT8,
        "scalars": common.SCALARS,
        "odd": common.ODD[:-2],
        "begun": [False, True],
        "channel": ["second", "last"],
        "dtype": ["float32", "float64"],
        "parameters": ["float32", "float64"],
        "statistics": ["float32", "float64"],
        "differentiation": common.DIFFERENTIATION,
        "backward": common.TOGETHER,
        "updates": [True, False],
    },
    "outputs": ["y", "moving_mean", "moving_variance"] + common.DERIVATIVES,
    "lacks": common.without(*common.LACKS),
    "rules": [
        {
            "semantics": {"average": "zero_debiased", "initial_variance": 0.0, "frozen": "train"},
            "numerics": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
            "cite": _SOURCE + "batch_norm.py: BaseBatchNorm; " + _SOURCE + "moving_averages.py: "
            "ExponentialMovingAverage; the layer has no trainable flag",
        },
        {
            "when": _FUSED,
            "semantics": {"stored_variance": "unbiased"},
            "numerics": {"affine": "direct"},
            "cite": _SOURCE + "batch_norm.py: _initialize; Bessel's correction in " + _KERNEL,
        },
        common.CUDA,
    ],
    "refusals": [
        common.no_integers(
            _SOURCE + "batch_norm.py: tf.nn.moments and tf.nn.batch_normalization in the dtype of x",
            common.INPUTS[1:] + common.FLOAT8,
        ),
        {
            "when": {"input": ["complex64"]},
            "error": ["ValueError"],
            "cite": _SOURCE + "initializers.py, _as_numerical_dtype: Expected integer or floating point type",
        },
        common.no_array("https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV2", **_FUSED),
        common.another_rank(
            _SOURCE + "batch_norm.py: _initialize, once: the axes of the first input",
            "InvalidArgumentError",
            "ValueError",
        ),
        {
            "when": dict(_FUSED, dtype=["float64"]),
            "error": ["InvalidArgumentError", "NotFoundError"],
            "cite": _SOURCE + "batch_norm.py: automatically uses the fused batch norm op, which has no float64: "
            "https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV2",
        },
    ],
}


class BatchNorm(object):
    """`sonnet.BatchNorm`; its moving statistics are the `hidden` of its two ExponentialMovingAverage."""

    statement = _STATEMENT

    def __init__(self, device):
        self.tf = common.tensorflow(device)
        self.sonnet = importlib.import_module("sonnet")

    def build(self, case):
        """Return a layer with the case's parameters, its statistics as hidden, and average as its batches make it."""
        layer = self.sonnet.BatchNorm(
            create_scale=case.spec["scale"],
            create_offset=case.spec["center"],
            decay_rate=case.native["momentum"],
            eps=case.native["epsilon"],
            data_format="channels_last" if case.axis == (case.rank - 1,) else "channels_first",
        )
        layer(self.tf.constant(case.steps[0].x), is_training=False)  # makes the variables
        averages = (layer.moving_mean, layer.moving_variance)
        variables = [layer.scale, layer.offset] + [_hidden(a) for a in averages] + [a.average for a in averages]
        weight = 1 - case.native["momentum"] ** case.batches if case.batches else 1
        used = [None if a is None else a / a.dtype.type(weight) for a in (case.mean, case.variance)]
        arrays = [case.gamma, case.beta, case.mean, case.variance] + used
        for variable, array in zip(variables, arrays):
            if array is not None:
                variable.assign(array.reshape(variable.shape))
        for average in averages:
            _named(average, "counter").assign(case.batches)
        return layer

    def run(self, case):
        """Return the outputs of each step."""
        return self.together(case) if case.together else later.answers(case, self.steps(case))

    def together(self, case):
        """Return the outputs of each step, with one gradient of all calls."""
        layer = self.build(case)
        named = (("dgamma", layer.scale, case.spec["scale"]), ("dbeta", layer.offset, case.spec["center"]))
        learned = {name: variable for name, variable, there in named if there}
        xs = [self.tf.constant(step.x) for step in case.steps]

        def call(xs):
            return [self.called(layer, x, step) for x, step in zip(xs, case.steps)]

        ys, dxs, found = common.in_one(self.tf, call, xs, learned, case.differentiated)
        outs = [_shaped(case, {"y": y}) for y in ys]
        outs[-1].update(_shaped(case, self.state(layer)))
        return later.together(case, outs, [np.array(dx) for dx in dxs], _shaped(case, found))

    def state(self, layer):
        """Return the moving statistics by name."""
        return {"moving_mean": _hidden(layer.moving_mean), "moving_variance": _hidden(layer.moving_variance)}

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        layer = self.build(case)
        absent = [] if case.spec["scale"] else ["dgamma", "dgamma_tangent"]
        absent += [] if case.spec["center"] else ["dbeta"]
        for step in case.steps:
            out = self.call(layer, step)
            out.update(self.state(layer))
            yield common.parted(out, lambda out: _shaped(case, {n: a for n, a in out.items() if n not in absent}))

    def call(self, layer, step):
        """Return y, and the derivatives that the step asks for."""
        x = self.tf.constant(step.x)
        sources = {"dx": x, "dgamma": layer.scale, "dbeta": layer.offset}
        return common.differentiated(
            self.tf, lambda: {"y": self.called(layer, x, step)}, sources, **common.asked(self.tf, step)
        )

    def called(self, layer, x, step):
        """Return y; a training step that is not to move the averages is inference by the batch's statistics."""
        return layer(x, is_training=step.training and step.update, test_local_stats=step.training)


def _shaped(case, out):
    """Return arrays, those of parameters and statistics as the case has them."""
    arrays = {name: np.array(tensor) for name, tensor in out.items()}
    return {name: a if name in _LIKE_X else a.reshape(case.kept) for name, a in arrays.items()}


def _hidden(average):
    """Return the variable of an ExponentialMovingAverage that is not debiased."""
    return _named(average, "hidden")


def _named(average, name):
    return next(variable for variable in average.variables if name in variable.name)


IMPLEMENTATIONS = [BatchNorm]
