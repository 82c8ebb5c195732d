"""TensorFlow: the fused op, and the functions that stand for it elsewhere; eager, in a graph, compiled by XLA.

https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3
"""

import importlib

import numpy as np

_DOCS = "https://www.tensorflow.org/api_docs/python/tf/"
_SOURCE = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/"
_KERNEL = _SOURCE + "core/kernels/fused_batch_norm_op.cc"
_EXPANDER = "https://github.com/openxla/xla/blob/main/xla/service/batchnorm_expander.cc"
_FORMATS = {(4, (1,)): "NCHW", (4, (3,)): "NHWC", (5, (1,)): "NCDHW", (5, (4,)): "NDHWC"}


def _fused(identity, outputs, *numerics):
    return {
        "id": identity,
        "packages": ["tensorflow"],
        "documentation": _DOCS + identity[len("tf.") :].split("+")[0].replace(".", "/"),
        "conventions": {"momentum": "updated", "axis": "fixed"},
        "supports": {
            "rank": [4, 5],
            "channel": ["second", "last"],
            "dtype": ["float32", "float16", "bfloat16"],
            "parameters": ["float32"],
            "statistics": ["float32"],
            "cumulative": [False],
            "virtual": [False],
        },
        "outputs": ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance"] + outputs,
        "compiled": "+" in identity,
        "rules": [
            {
                "semantics": {"stored_variance": "unbiased", "frozen": "train"},
                "cite": _KERNEL + ": rest_size_adjust; nothing here is frozen",
            }
        ]
        + list(numerics),
    }


_CENTERED = {
    "numerics": {"variance": "two_pass", "affine": "direct", "sums": "serial"},
    "cite": _KERNEL + ": FusedBatchNorm, x_centered",
}


class FusedBatchNormV3(object):
    """`tf.raw_ops.FusedBatchNormV3`, eager; the caller keeps the moving statistics."""

    statement = _fused("tf.raw_ops.FusedBatchNormV3", ["mean", "variance"], _CENTERED)

    def __init__(self, device):
        self.tf = _tensorflow(device)

    def run(self, case):
        """Yield the outputs of each step; on CPU the reserve spaces are the batch's mean and biased variance."""
        scale, offset = self.given(case, "gamma", 1), self.given(case, "beta", 0)
        mean, variance = self.given(case, "mean", 0), self.given(case, "variance", 1)
        absent = [n for n, a in (("dgamma", case.gamma), ("dbeta", case.beta)) if a is None]
        asked = [name for name in self.statement["outputs"] if name not in absent]
        attributes = {"epsilon": case.native["epsilon"], "exponential_avg_factor": case.native["momentum"]}
        attributes["data_format"] = _FORMATS[case.rank, case.axis]
        for step in case.steps:
            x, dy = [None if a is None else self.tf.constant(a) for a in (step.x, step.dy)]
            outputs, gradients = self.call(x, dy, scale, offset, mean, variance, training=step.training, **attributes)
            out = dict(zip(("dx", "dgamma", "dbeta"), gradients), y=outputs[0])
            if step.training:
                mean, variance = outputs[1:3]
                out.update(zip(("mean", "variance"), outputs[3:]))
            out.update(moving_mean=mean, moving_variance=variance)
            yield {name: np.array(tensor) for name, tensor in out.items() if name in asked}

    def given(self, case, name, default):
        """Return an array of the case; the op requires all of them, so its neutral value where the case has none."""
        array = getattr(case, name)
        return self.tf.constant(np.full(case.kept, default, np.float32) if array is None else array)

    def call(self, x, dy, scale, offset, mean, variance, training, **attributes):
        """Return y, the new moving statistics and the batch's, and the gradients of x, scale and offset."""
        with self.tf.GradientTape() as tape:
            tape.watch([x, scale, offset])
            outputs = self.op(
                x=x, scale=scale, offset=offset, mean=mean, variance=variance, is_training=training, **attributes
            )
        gradients = () if dy is None else tape.gradient(outputs[0], (x, scale, offset), dy)
        return outputs[:5], gradients

    def op(self, **arguments):
        """Return y, the new moving statistics and the batch's."""
        return self.tf.raw_ops.FusedBatchNormV3(**arguments)


class Compiled(FusedBatchNormV3):
    """The same op under `tf.function(jit_compile=True)`: its attributes, epsilon among them, are static.

    Its batch statistics are left out: XLA contracts x - sum/n to one rounding, so y is not that of the rounded mean.
    """

    statement = _fused(
        "tf.raw_ops.FusedBatchNormV3+xla",
        [],
        {
            "numerics": {"variance": "fast", "affine": "direct", "sums": "serial"},
            "cite": _EXPANDER + ": HandleBatchNormTraining, E[X^2] - E^2[X], which may be negative",
        },
        {
            "when": {"mode": ["infer"], "output": ["y"]},
            "numerics": {"affine": "folded"},
            "cite": _EXPANDER + ": HandleBatchNormInference, true_scale and true_shift",
        },
    )

    def __init__(self, device):
        FusedBatchNormV3.__init__(self, device)
        self.call = self.tf.function(self.call, jit_compile=True)


class Graph(FusedBatchNormV3):
    """The same op in a `tf.function`."""

    statement = _fused("tf.raw_ops.FusedBatchNormV3+graph", ["mean", "variance"], _CENTERED)

    def __init__(self, device):
        FusedBatchNormV3.__init__(self, device)
        self.call = self.tf.function(self.call)


class FunctionV1(FusedBatchNormV3):
    """`tf.compat.v1.nn.fused_batch_norm`, eager; it wants no moving statistics where none of the old ones is kept."""

    statement = _fused("tf.compat.v1.nn.fused_batch_norm", [], _CENTERED)

    def op(self, x, scale, offset, mean, variance, is_training, exponential_avg_factor, **attributes):
        """Return y and the moving statistics."""
        kept = {"exponential_avg_factor": exponential_avg_factor} if is_training else {}
        if kept and exponential_avg_factor == 1.0:
            mean = variance = None
        function = self.tf.compat.v1.nn.fused_batch_norm
        return function(x, scale, offset, mean, variance, is_training=is_training, **dict(attributes, **kept))


def _moments(variant):
    return {
        "id": "tf.nn.batch_normalization" + variant,
        "packages": ["tensorflow"],
        "documentation": _DOCS + "nn/batch_normalization",
        "conventions": {"axis": "reduced"},
        "supports": {
            "dtype": ["float32", "float64"],
            "parameters": ["float32", "float64"],
            "statistics": ["float32", "float64"],
            "virtual": [False],
        },
        "outputs": ["y", "dx", "dgamma", "dbeta", "mean", "variance"],
        "compiled": bool(variant),
        "rules": [
            {
                "semantics": {"average": "none", "frozen": "train"},
                "numerics": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
                "cite": _SOURCE + "python/ops/nn_impl.py: moments, batch_normalization",
            }
        ],
    }


class Moments(object):
    """`tf.nn.batch_normalization` by `tf.nn.moments` in training, by the case's own statistics in inference."""

    statement = _moments("")

    def __init__(self, device):
        self.tf = _tensorflow(device)

    def run(self, case):
        """Yield the outputs of each step; what the case keeps has the averaged axes too, with size 1."""
        spread = [size if i in case.axis else 1 for i, size in enumerate(case.steps[0].x.shape)]
        named = (("gamma", case.gamma), ("beta", case.beta), ("mean", case.mean), ("variance", case.variance))
        given = {n: self.tf.constant(a.reshape(spread)) for n, a in named if a is not None}
        given.setdefault("mean", self.tf.zeros(spread, case.dtypes["statistics"]))
        given.setdefault("variance", self.tf.ones(spread, case.dtypes["statistics"]))
        epsilon = self.tf.constant(case.native["epsilon"], case.dtypes["x"])
        for step in case.steps:
            x, dy = [None if a is None else self.tf.constant(a) for a in (step.x, step.dy)]
            out = self.call(x, dy, given, epsilon, tuple(case.native["axis"]), step.training)
            whole = ["y", "dx"] if len(case.axis) == 1 else list(out)
            yield {n: np.array(a) if n in whole else np.ravel(a) for n, a in out.items()}

    def call(self, x, dy, given, epsilon, axes, training):
        """Return the outputs of a step."""
        gamma, beta, used, out = given.get("gamma"), given.get("beta"), (given["mean"], given["variance"]), {}
        sources = [(n, v) for n, v in (("dx", x), ("dgamma", gamma), ("dbeta", beta)) if v is not None]
        with self.tf.GradientTape() as tape:
            tape.watch([tensor for _, tensor in sources])
            if training:
                used = out["mean"], out["variance"] = self.tf.nn.moments(x, axes, keepdims=True)
            out["y"] = self.tf.nn.batch_normalization(x, used[0], used[1], beta, gamma, epsilon)
        if dy is not None:
            gradients = tape.gradient(out["y"], [tensor for _, tensor in sources], dy)
            out.update(zip([name for name, _ in sources], gradients))
        return out


class GraphMoments(Moments):
    """The same functions in a `tf.function`."""

    statement = _moments("+graph")

    def __init__(self, device):
        Moments.__init__(self, device)
        self.call = self.tf.function(self.call)


class CompiledMoments(Moments):
    """The same functions under `tf.function(jit_compile=True)`."""

    statement = _moments("+xla")

    def __init__(self, device):
        Moments.__init__(self, device)
        self.call = self.tf.function(self.call, jit_compile=True)


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


IMPLEMENTATIONS = [FusedBatchNormV3, Graph, Compiled, FunctionV1, Moments, GraphMoments, CompiledMoments]
