"""TensorFlow: the fused op, and the functions that replace it elsewhere; eager, in a graph, compiled by XLA.

https://www.tensorflow.org/api_docs/python/tf/raw_ops/FusedBatchNormV3
"""

import functools

import numpy as np

from . import ensembles, later
from . import tensorflow_common as common

_DOCS = "https://www.tensorflow.org/api_docs/python/tf/"
_SOURCE = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/"
_KERNEL = _SOURCE + "core/kernels/fused_batch_norm_op.cc"
_EXPANDER = "https://github.com/openxla/xla/blob/main/xla/service/batchnorm_expander.cc"


_FORMATS = {(4, (1,)): "NCHW", (4, (3,)): "NHWC", (5, (1,)): "NCDHW", (5, (4,)): "NDHWC"}


def _fused(identity, outputs, *numerics):
    return {
        "id": identity,
        "packages": ["tensorflow"],
        "keeps_inputs": True,
        "documentation": _DOCS + identity[len("tf.") :].split("+")[0].replace(".", "/"),
        "conventions": {"momentum": "updated", "axis": "fixed"},
        "supports": {
            "start": ["given", "own"],
            "input": ["stored"] if "+" in identity else common.INPUTS,
            "scalars": ["number"] if "+" in identity else common.SCALARS,  # no arguments of a tf.function
            "odd": common.ODD,
            "rank": [4, 5],
            "channel": ["second", "last"],
            "dtype": ["float32", "float16", "bfloat16"],
            "parameters": ["float32"],
            "statistics": ["float32"],
            "differentiation": common.DIFFERENTIATION,
            "backward": ["each"] if "+" in identity else common.BACKWARD,
            "of": ["y", "statistics"] if outputs else ["y"],
            "mapped": ["none"] if "+" in identity or "v1" in identity else ensembles.MAPPED,
            "along": ["x"] if "+" in identity or "v1" in identity else ["x", "parameters"],
        },
        "outputs": ["y", "moving_mean", "moving_variance"] + common.DERIVATIVES + outputs,
        "lacks": common.without(*common.LACKS),
        "refusals": [
            common.no_integers(_DOCS + "raw_ops/FusedBatchNormV3: x is of half, bfloat16 or float32"),
            common.no_array(_DOCS + "raw_ops/FusedBatchNormV3"),
        ],
        "compiled": "+" in identity,
        "rules": [
            {
                "semantics": {"stored_variance": "unbiased", "frozen": "train"},
                "cite": _KERNEL + ": rest_size_adjust; nothing here is frozen",
            }
        ]
        + list(numerics)
        + [common.CUDA],
    }


_CENTERED = {
    "numerics": {"variance": "two_pass", "affine": "direct", "sums": "serial"},
    "cite": _KERNEL + ": FusedBatchNorm, x_centered",
}


class FusedBatchNormV3(object):
    """`tf.raw_ops.FusedBatchNormV3`, eager; the caller keeps the moving statistics."""

    statement = _fused("tf.raw_ops.FusedBatchNormV3", ["mean", "variance"], _CENTERED)

    def __init__(self, device):
        self.tf = common.tensorflow(device)

    def run(self, case):
        """Return the outputs of each step."""
        return self.ensemble(case) if case.members > 1 else later.answers(case, self.steps(case))

    def ensemble(self, case):
        """Yield the outputs of each member in each call."""
        mean, variance = self.given(case, "mean", 0), self.given(case, "variance", 1)
        named = {
            "dgamma": self.given(case, "gamma", 1),
            "dbeta": self.given(case, "beta", 0),
            "state": (mean, variance),
        }
        attributes = {"epsilon": case.native["epsilon"], "exponential_avg_factor": case.native["momentum"]}

        def call(derivatives, step, named):
            state, format_ = named["state"], _FORMATS[step.x.ndim, case.axis]
            args = [named[name] for name in ("dx", "dgamma", "dbeta")] + list(state)
            out = self.call(derivatives, *args, training=step.training, data_format=format_, **attributes)
            new = (out["moving_mean"], out["moving_variance"]) if step.training else state
            state = tuple(self.tf.identity(tensor) for tensor in new)  # a map gives nothing back that is not made in it
            return dict(out, moving_mean=state[0], moving_variance=state[1]), state

        return self.asked(case, common.members(self.tf, call, case, named))

    def asked(self, case, answers):
        """Yield of each answer what a layer with the case's parameters has."""
        absent = [] if case.spec["scale"] else ["dgamma", "dgamma_tangent"]
        absent += [] if case.spec["center"] else ["dbeta"]
        names = [name for name in self.statement["outputs"] if name not in absent]
        for out in answers:
            yield {name: array for name, array in out.items() if name in names}

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients.

        On CPU the reserve spaces are the batch's mean and biased variance.
        """
        scale, offset = self.given(case, "gamma", 1), self.given(case, "beta", 0)
        mean, variance = self.given(case, "mean", 0), self.given(case, "variance", 1)
        absent = [] if case.spec["scale"] else ["dgamma", "dgamma_tangent"]
        absent += [] if case.spec["center"] else ["dbeta"]
        asked = [name for name in self.statement["outputs"] if name not in absent]
        attributes = {"epsilon": case.native["epsilon"], "exponential_avg_factor": case.native["momentum"]}
        for step in case.steps:
            attributes["data_format"] = _FORMATS[step.x.ndim, case.axis]
            x, derivatives = self.tf.constant(step.x), common.asked(self.tf, step)
            out = self.call(derivatives, x, scale, offset, mean, variance, training=step.training, **attributes)
            if step.training:
                mean, variance = out["moving_mean"], out["moving_variance"]
            out.update(moving_mean=mean, moving_variance=variance)
            yield common.parted(out, lambda out: {n: np.array(tensor) for n, tensor in out.items() if n in asked})

    def given(self, case, name, default):
        """Return an array of the case. The op requires all of them, so that a neutral value replaces a missing one."""
        array = getattr(case, name)
        return self.tf.constant(np.full(case.kept, default, np.float32) if array is None else array)

    def call(self, derivatives, x, scale, offset, mean, variance, training, **attributes):
        """Return the outputs of a step by name; in training also the new moving statistics, and the batch's."""

        def forward():
            outputs = self.op(
                x=x, scale=scale, offset=offset, mean=mean, variance=variance, is_training=training, **attributes
            )
            names = ("y", "moving_mean", "moving_variance", "mean", "variance")
            return dict(zip(names if training else names[:1], outputs))

        sources = {"dx": x, "dgamma": scale, "dbeta": offset}
        return common.differentiated(self.tf, forward, sources, **derivatives)

    def op(self, **arguments):
        """Return y, the new moving statistics and the batch's."""
        return self.tf.raw_ops.FusedBatchNormV3(**arguments)


_ONE_PASS = (
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


class Compiled(FusedBatchNormV3):
    """The same op under `tf.function(jit_compile=True)`: its attributes, epsilon among them, are static.

    Its batch statistics are left out: XLA contracts x - sum/n to one rounding, so y is not that of the rounded mean.
    """

    statement = _fused("tf.raw_ops.FusedBatchNormV3+xla", [], *_ONE_PASS)

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
    """`tf.compat.v1.nn.fused_batch_norm`, eager; it takes no moving statistics if none of the old ones is kept."""

    statement = _fused("tf.compat.v1.nn.fused_batch_norm", [], _CENTERED)

    def op(self, x, scale, offset, mean, variance, is_training, exponential_avg_factor, **attributes):
        """Return y and the moving statistics."""
        kept = {"exponential_avg_factor": exponential_avg_factor} if is_training else {}
        if kept and exponential_avg_factor == 1.0:
            mean = variance = None
        function = self.tf.compat.v1.nn.fused_batch_norm
        return function(x, scale, offset, mean, variance, is_training=is_training, **dict(attributes, **kept))


class GraphV1(FunctionV1):
    """The same function in a `tf.function`."""

    statement = _fused("tf.compat.v1.nn.fused_batch_norm+graph", [], _CENTERED)

    def __init__(self, device):
        FunctionV1.__init__(self, device)
        self.call = self.tf.function(self.call)


class CompiledV1(FunctionV1):
    """The same function under `tf.function(jit_compile=True)`."""

    statement = _fused("tf.compat.v1.nn.fused_batch_norm+xla", [], *_ONE_PASS)

    def __init__(self, device):
        FunctionV1.__init__(self, device)
        self.call = self.tf.function(self.call, jit_compile=True)


_MOMENTS = _SOURCE + "python/ops/nn_impl.py: moments, batch_normalization"


def _moments(variant):
    return {
        "id": "tf.nn.batch_normalization" + variant,
        "packages": ["tensorflow"],
        "keeps_inputs": True,
        "documentation": _DOCS + "nn/batch_normalization",
        "conventions": {"axis": "reduced"},
        "supports": {
            "start": ["given", "own"],
            "input": ["stored"] if variant else ["stored", "int32", "bool", "complex64"],
            "scalars": ["number"] if variant else common.SCALARS,
            "odd": common.ODD[:-2],
            "dtype": ["float32", "float64"],
            "parameters": ["float32", "float64"],
            "statistics": ["float32", "float64"],
            "cumulative": [False, True],
            "updates": [True, False],
            "differentiation": common.DIFFERENTIATION,
            "mask": [False, "full", "spread"],
            "reranked": [False],
            "backward": ["each"] if variant else common.BACKWARD,
            "mapped": ["none"] if variant else ensembles.MAPPED,
            "along": ["x"] if variant else ["x", "parameters"],
            "of": ["y", "statistics"],
        },
        "outputs": ["y", "mean", "variance"] + common.DERIVATIVES,
        "refusals": [
            common.no_integers(_MOMENTS + ": epsilon is added to a variance of the dtype of x", mode=["train"]),
            common.no_integers(_MOMENTS + ": x is multiplied, and of truth values there is no product", ["bool"]),
        ],
        "lacks": common.without(*common.LACKS[1:]),
        "compiled": bool(variant),
        "rules": [
            {
                "semantics": {"average": "none", "frozen": "train", "mask_rank": "full"},
                "numerics": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
                "cite": _SOURCE + "python/ops/nn_impl.py: moments, weighted_moments (of a mask), batch_normalization",
            },
            common.CUDA,
        ],
    }


class Moments(object):
    """`tf.nn.batch_normalization` by `tf.nn.moments`, or `tf.nn.weighted_moments`; inference by the case's own."""

    statement = _moments("")

    def __init__(self, device):
        self.tf = common.tensorflow(device)

    def run(self, case):
        """Return the outputs of each step."""
        return self.ensemble(case) if case.members > 1 else later.answers(case, self.steps(case))

    def ensemble(self, case):
        """Yield the outputs of each member in each call."""
        given, spread = self.given(case)
        named = {"d" + name: tensor for name, tensor in given.items() if name in ("gamma", "beta")}
        epsilon = self.tf.constant(case.native["epsilon"], case.dtypes["x"])

        def call(derivatives, step, named):
            own = {n[1:]: self.tf.reshape(named[n], spread) for n in ensembles.PARAMETERS if n in named}
            args = named["dx"], None, dict(given, **own), epsilon, tuple(case.native["axis"]), step.training
            return self.call(derivatives, *args), ()

        for out in common.members(self.tf, call, case, dict(named, state=())):
            yield _shaped(len(case.axis) > 1, out)

    def given(self, case):
        """Return parameters and statistics by name, and their shape, which has the averaged axes too, with size 1."""
        spread = [size if i in case.axis else 1 for i, size in enumerate(case.steps[0].x.shape)]
        parameters = tuple((name, case.neutral(name)) for name in ("gamma", "beta"))
        named = parameters + (("mean", case.mean), ("variance", case.variance))
        dtype = "complex64" if case.complex else None  # nothing is promoted
        given = {n: self.tf.constant(a.reshape(spread), dtype) for n, a in named if a is not None}
        given.setdefault("mean", self.tf.zeros(spread, case.dtypes["statistics"]))
        given.setdefault("variance", self.tf.ones(spread, case.dtypes["statistics"]))
        return given, spread

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        given, _ = self.given(case)
        epsilon = case.native["epsilon"]
        if case.scalars == "number":  # a tensor, of which a graph is made for all epsilons
            epsilon = self.tf.constant(epsilon, "complex64" if case.complex else case.dtypes["x"])
        for step in case.steps:
            x, derivatives = self.tf.constant(step.x), common.asked(self.tf, step)
            weights = None if step.mask is None else self.tf.constant(step.mask, x.dtype)
            out = self.call(derivatives, x, weights, given, epsilon, tuple(case.native["axis"]), step.training)
            yield common.parted(out, functools.partial(_shaped, len(case.axis) > 1))

    def call(self, derivatives, x, weights, given, epsilon, axes, training):
        """Return the outputs of a step by name."""
        gamma, beta = given.get("gamma"), given.get("beta")

        def forward():
            used, found = (given["mean"], given["variance"]), {}
            if training:
                used = found["mean"], found["variance"] = self.moments(x, axes, weights)
            return dict(found, y=self.tf.nn.batch_normalization(x, used[0], used[1], beta, gamma, epsilon))

        named = (("dx", x), ("dgamma", gamma), ("dbeta", beta))
        sources = {name: tensor for name, tensor in named if tensor is not None}
        return common.differentiated(self.tf, forward, sources, **derivatives)

    def moments(self, x, axes, weights):
        """Return the batch's statistics."""
        if weights is None:
            return self.tf.nn.moments(x, axes, keepdims=True)
        return self.tf.nn.weighted_moments(x, axes, weights, keepdims=True)


def _shaped(as_they_are, out):
    """Return arrays; of one kept axis, what is kept is a vector."""
    whole = list(out) if as_they_are else ["y", "dx", "y_tangent", "dx_tangent"]
    return {n: np.array(a) if n in whole else np.ravel(a) for n, a in out.items()}


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


IMPLEMENTATIONS = [FusedBatchNormV3, Graph, Compiled, FunctionV1, GraphV1, CompiledV1]
IMPLEMENTATIONS += [Moments, GraphMoments, CompiledMoments]
