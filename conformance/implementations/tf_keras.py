"""tf_keras, TensorFlow's former Keras 2: `tf_keras.layers.BatchNormalization`, which may keep several axes.

https://github.com/keras-team/tf-keras
"""

import functools
import importlib

import numpy as np

from . import later
from . import tensorflow_common as common

_FOLDER = "https://github.com/keras-team/tf-keras/blob/v2.21.0/tf_keras/src/layers/normalization/"
_SOURCE = _FOLDER + "batch_normalization.py"
_KERNEL = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/kernels/fused_batch_norm_op.cc"
_FUSED = {
    "when": common.FUSED,
    "semantics": {"stored_variance": "unbiased", "mask": "ignored"},
    "numerics": {"affine": "direct"},
    "cite": _SOURCE + ": build, _raise_if_fused_cannot_be_used, and the warning in _fused_batch_norm that the mask is "
    "ignored; Bessel's correction in " + _KERNEL,
}

_NO_ARRAY = common.no_array(common.FUSED_OP, **common.FUSED)


_NO_MAXIMUM = {
    "when": {"input": ["complex64"], "mode": ["train"]},
    "error": ["InvalidArgumentError"],
    "cite": _SOURCE
    + ": _no_sync_calculate_mean_and_var, tf.maximum(variance, 0.0), of which complex numbers have none",
}


def _statement(variant, *rules, **more):
    plain = {
        "semantics": {
            "stored_variance": "biased",
            "frozen": "infer",
            "fraction_dtype": "float32",
            "indivisible_inference": "accepted",
        },
        "numerics": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
        "cite": _SOURCE + ": call, and tf.convert_to_tensor(1.0 - momentum) in _assign_moving_average",
    }
    statement = {
        "id": "tf_keras.BatchNormalization" + variant,
        "packages": ["tf_keras", "tensorflow"],
        "keeps_inputs": True,
        "documentation": "https://www.tensorflow.org/versions/r2.15/api_docs/python/tf/keras/layers/BatchNormalization",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {
            "start": ["given", "own"],
            "input": common.INPUTS + ["complex64"] + common.FLOAT8,
            "scalars": common.SCALARS,
            "odd": common.ODD,
            "dtype": ["float32", "float64", "float16", "bfloat16"],
            "parameters": ["float32", "float64"],
            "statistics": ["float32", "float64"],
            "mask": [False, "full", "spread", "without_last"],
            "weights": [False, True],
            "renorm": [False, True],
            "virtual": [False, True],
            "adjustment": [False, True],
            "misplaced": [False, True],
            "round_trip": ["none", "config", "state"],
            "flag": ["bool", "int", "numpy"],
            "toggled": [False, True],
            "backward": common.TOGETHER,
            "differentiation": common.DIFFERENTIATION,
        },
        "outputs": ["y"] + common.STATE + common.DERIVATIVES,
        "rules": [plain] + list(rules) + [common.CUDA],
        "refusals": [common.another_rank(_SOURCE + ": build, InputSpec(ndim=rank)")]
        + [_NO_ARRAY] * (_FUSED in rules)
        + more.pop("refused", []),
    }
    statement.update(more)
    return statement


class BatchNormalization(object):
    """`tf_keras.layers.BatchNormalization` with TF 2 behavior, eager."""

    statement = _statement("", _FUSED)
    chosen = ()

    def __init__(self, device):
        self.tf = common.tensorflow(device)
        self.keras = importlib.import_module("tf_keras")

    def layer(self):
        """Return the layer's class."""
        return self.keras.layers.BatchNormalization

    def build(self, case):
        """Return a layer with the case's parameters and moving statistics."""
        arguments = dict(
            common.arguments(case),
            dtype="complex64" if case.complex else case.dtypes["x"],
            name="layer",
            **dict(self.chosen),
        )
        if common.adjusted(case):
            arguments["adjustment"] = lambda _shape: self.adjustment
        make = functools.partial(self.layer(), **arguments)
        layer = make()
        layer.build(case.steps[0].x.shape)
        for name, array in common.initial(case).items():
            getattr(layer, name).assign(array)
        return common.round_trip(case, layer, make)

    def run(self, case):
        """Return the outputs of each step."""
        return self.together(case) if case.together else later.answers(case, self.steps(case))

    def together(self, case):
        """Return the outputs of each step: of a functional model in which the layer has a place for each."""
        layer, state = self.build(case), common.STATE[: 5 if case.spec["renorm"] else 2]
        inputs = [self.keras.Input(batch_shape=step.x.shape, dtype=step.x.dtype.name) for step in case.steps]
        masks = [None if step.mask is None else self.tf.constant(step.mask) for step in case.steps]
        places = zip(inputs, case.steps, masks)
        model = self.keras.Model(inputs, [layer(x, training=step.flag, mask=mask) for x, step, mask in places])
        learned = {n: v for n, v in (("dgamma", layer.gamma), ("dbeta", layer.beta)) if v is not None}
        xs = [self.tf.constant(step.x) for step in case.steps]
        ys, dxs, found = self.whole(functools.partial(common.in_one, self.tf, model, learned=learned), case)(xs)
        outs = [{"y": np.array(y)} for y in ys]
        outs[-1].update((name, np.array(getattr(layer, name))) for name in state)
        return later.together(case, outs, map(np.array, dxs), {name: np.array(a) for name, a in found.items()})

    def whole(self, call, case):
        """Return the function of all inputs that makes all calls and takes their gradient."""
        return functools.partial(call, asked=case.differentiated)

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        layer = self.build(case)
        call, state = self.prepared(layer), common.STATE[: 5 if case.spec["renorm"] else 2]
        for step in case.steps:
            if case.spec["trainable"] and layer.trainable != step.trainable:
                layer.trainable = step.trainable
            named = (("x", step.x), ("mask", step.mask), ("adjustment", step.adjustment or common.adjusted(case)))
            tensors = {name: self.tf.nest.map_structure(self.tf.constant, a) for name, a in named if a is not None}
            out = call(common.asked(self.tf, step), self.flag(step), **tensors)
            out.update((name, getattr(layer, name)) for name in state)
            yield common.parted(out, lambda out: {name: np.array(tensor) for name, tensor in out.items()})

    def prepared(self, layer):
        """Return the function of (derivatives, training, tensors by name) that makes a step."""
        return functools.partial(self.call, layer)

    def flag(self, step):
        """Return `training` in the form that the layer gets."""
        return step.flag

    def call(self, layer, derivatives, training, x, mask=None, adjustment=None):
        """Return the outputs of a step by name; a frozen layer's variables are differentiated too."""
        self.adjustment = adjustment
        named = (("dx", x), ("dgamma", layer.gamma), ("dbeta", layer.beta))
        sources = {name: source for name, source in named if source is not None}
        return common.differentiated(
            self.tf, lambda: {"y": layer(x, training=training, mask=mask)}, sources, **derivatives
        )


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
            "semantics": {"empty_batch": "zero"},
            "cite": _SOURCE + ": _sync_calculate_mean_and_var, E(x^2) - E(x)^2, kept at 0 or above, by divide_no_nan",
        },
        refused=[_NO_MAXIMUM],
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
    # what a trace was made with stays in it
    statement["supports"].update(flag=["bool"], toggled=[False], backward=["each", "together"])

    def prepared(self, layer):
        """Return a function to be traced."""
        return self.tf.function(functools.partial(self.call, layer))

    def whole(self, call, case):
        """Return a function to be traced."""
        return self.tf.function(BatchNormalization.whole(self, call, case))

    def flag(self, step):
        """Return `training` as a tensor."""
        return self.tf.constant(step.training)


IMPLEMENTATIONS = [BatchNormalization, NotFused, Synchronized, Version1, Graph]
