"""`synchronized=True` of tf_keras and Keras 3 under `tf.distribute.MirroredStrategy`, on logical devices of the CPU.

https://www.tensorflow.org/api_docs/python/tf/distribute/MirroredStrategy
https://keras.io/api/layers/normalization_layers/batch_normalization/
"""

import functools

from . import keras, replicas, tf_keras
from . import tensorflow_common as common

_STRATEGY = "https://www.tensorflow.org/api_docs/python/tf/distribute/MirroredStrategy"
_SUPPORTS = {
    "dtype": ["float32", "float64", "float16", "bfloat16"],
    "parameters": ["float32", "float64"],
    "statistics": ["float32", "float64"],
    "replicas": ["even", "uneven", "empty"],
    "mask": [False, "without_last"],
}
_LACKS = {
    "forward": "not asked of replicas",
    "second order": "not asked of replicas",
    "renorm": "not asked of replicas",
    "virtual batch": "replicas share one batch",
    "adjustment": "not asked of replicas",
}
_SUMS = {
    "numerics": {"variance": "fast", "clamped": True},
    "semantics": {"empty_batch": "zero"},
    "cite": "https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/tensorflow/nn.py: "
    "_compute_moments_sync, E(x^2) - E(x)^2, kept at 0 or above, by divide_no_nan",
}


def _stated(statement, identity, *rules):
    return dict(
        statement,
        id=identity,
        documentation=_STRATEGY,
        supports=dict(_SUPPORTS),
        outputs=["y", "dx", "dgamma", "dbeta"] + common.STATE[:2],
        lacks=dict(_LACKS),
        rules=statement["rules"] + list(rules),
    )


class _Mirrored(object):
    """A layer that a strategy keeps on several devices, each of which gets its piece of the batch."""

    def __init__(self, device):
        _divide(common.tensorflow(device))
        super(_Mirrored, self).__init__(device)
        self.strategies = {}

    def run(self, case):
        """Yield the outputs of each step."""
        strategy = self.strategy(len(case.replicas))
        with strategy.scope():
            layer = self.build(case)
        for step in case.steps:
            named = (("x", step.x), ("dy", step.dy), ("mask", step.mask))
            given = {name: replicas.pieces(case.replicas, array) for name, array in named if array is not None}
            out = strategy.run(functools.partial(self.replica, layer, step, given))
            out.update((name, self.held(getattr(layer, name))) for name in common.STATE[:2])
            local = {name: strategy.experimental_local_results(value) for name, value in out.items()}
            yield replicas.joined({name: [value.numpy() for value in values] for name, values in local.items()})

    def strategy(self, number):
        """Return the strategy of so many replicas."""
        if number not in self.strategies:
            distribute, devices = self.tf.distribute, ["CPU:%d" % i for i in range(number)]
            sums = distribute.ReductionToOneDevice()  # collectives take a device into one group of one size alone
            self.strategies[number] = distribute.MirroredStrategy(devices, cross_device_ops=sums)
        return self.strategies[number]

    def replica(self, layer, step, given):
        """Return what the replica that this is called in answers about its piece."""
        number = int(self.tf.distribute.get_replica_context().replica_id_in_sync_group)
        own = {name: self.tf.constant(arrays[number]) for name, arrays in given.items()}
        named = (("dx", own["x"]), ("dgamma", layer.gamma), ("dbeta", layer.beta))
        sources = {name: self.held(source) for name, source in named if source is not None}
        cotangents = {"y": own["dy"]} if "dy" in own else {}

        def call():
            return {"y": layer(own["x"], training=step.flag, mask=own.get("mask"))}

        return common.differentiated(self.tf, call, sources, step.gradients, cotangents, None, False, "", False)

    def held(self, variable):
        """Return TensorFlow's own variable."""
        return variable


class TfKeras(_Mirrored, tf_keras.Synchronized):
    """`tf_keras.layers.BatchNormalization(synchronized=True)`."""

    statement = _stated(tf_keras.Synchronized.statement, "tf_keras.BatchNormalization+synchronized+mirrored")


class Keras(_Mirrored, keras.TensorFlow):
    """`keras.layers.BatchNormalization(synchronized=True)`."""

    statement = _stated(keras.TensorFlow.statement, "keras.BatchNormalization+tensorflow+synchronized+mirrored", _SUMS)
    chosen = (("synchronized", True),)

    def held(self, variable):
        """Return TensorFlow's own variable."""
        return getattr(variable, "value", variable)


def _divide(tf):
    """Make several logical devices of the CPU, before TensorFlow uses it."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    if not tf.config.get_logical_device_configuration(cpu):
        logical = [tf.config.LogicalDeviceConfiguration()] * replicas.HOSTS
        tf.config.set_logical_device_configuration(cpu, logical)


IMPLEMENTATIONS = [TfKeras, Keras]
