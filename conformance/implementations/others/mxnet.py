"""Apache MXNet 1.9: `mxnet.nd.BatchNorm`, differentiated by `mxnet.autograd`.

A training step is a forward and a backward pass, as only the latter moves the statistics; without a gradient to pass
back, zeros are.
https://mxnet.apache.org/versions/1.9.1/api/python/docs/api/ndarray/op/index.html#mxnet.ndarray.op.BatchNorm
"""

import importlib

import numpy as np

from . import said

_DOCS = "https://mxnet.apache.org/versions/1.9.1/api/python/docs/api/ndarray/op/index.html#mxnet.ndarray.op.BatchNorm"
_UNKNOWN = "https://mxnet.apache.org/versions/1.9.1/api/python/docs/api/util/index.html#mxnet.util.set_np_shape"
_KERNEL = "https://github.com/apache/mxnet/blob/1.9.1/src/operator/nn/batch_norm.cc"


class BatchNorm(object):
    """The operator, with fix_gamma=False."""

    statement = said.stated(
        "mxnet.nd.BatchNorm",
        ["mxnet"],
        _DOCS,
        "kept",
        [
            {
                "cite": _KERNEL + ": BatchNormForwardImpl, two passes; momentum and eps are a float and a double",
                "semantics": {
                    "stored_variance": "biased",
                    "frozen": "train",
                    "fraction_dtype": "float32",
                    "fraction_rounded": "momentum",
                },
                "numerics": {"variance": "two_pass", "affine": "direct", "sums": "serial"},
            }
        ],
        {
            "dtype": ["float32", "float64"],
            "rank": [2, 3, 4, 5],
            "channel": ["second", "last", "other"],
            "start": ["given", "own"],
        },
        axis="kept",
        refusals=[
            {
                "when": {"n": ["0"]},
                "error": ["MXNetError"],
                "cite": _UNKNOWN + ": unless it is on, a size of 0 means one that is not known",
            }
        ],
    )

    def __init__(self, device):
        said.check(device)
        if not hasattr(np, "bool"):
            np.bool = bool  # which NumPy 1.24 took away, and MXNet names
        self.mxnet = importlib.import_module("mxnet")

    def tensor(self, array):
        """Return an NDArray of the array's own dtype."""
        return self.mxnet.nd.array(np.ascontiguousarray(array), dtype=array.dtype)

    def run(self, case):
        """Yield the outputs of each step."""
        one = np.ones(case.kept, case.dtypes["parameters"])
        given = {"dgamma": (case.gamma, one), "dbeta": (case.beta, 0 * one)}
        learned = {name: self.tensor(other if a is None else a) for name, (a, other) in given.items()}
        mean = self.tensor(0 * one if case.mean is None else case.mean)
        variance = self.tensor(one if case.variance is None else case.variance)
        options = {"eps": case.native["epsilon"], "momentum": case.native["momentum"], "fix_gamma": False}
        for step in case.steps:
            named = dict(learned, dx=self.tensor(step.x))
            for tensor in named.values():
                tensor.attach_grad()
            with self.mxnet.autograd.record(train_mode=step.training):
                arrays = [named[name] for name in ("dx", "dgamma", "dbeta")] + [mean, variance]
                y = self.mxnet.nd.BatchNorm(*arrays, axis=step.axis[0], **options)
            out = {"y": y.asnumpy()}
            if step.training or step.dy is not None:
                y.backward(self.tensor(np.zeros_like(step.x) if step.dy is None else step.dy), train_mode=step.training)
            wanted = [] if step.dy is None else [name for name in named if name in step.gradients]
            out.update((name, named[name].grad.asnumpy()) for name in wanted)
            yield dict(out, moving_mean=mean.asnumpy(), moving_variance=variance.asnumpy())


IMPLEMENTATIONS = [BatchNorm]
