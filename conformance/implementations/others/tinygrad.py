"""tinygrad: `tinygrad.nn.BatchNorm`, differentiated by `Tensor.gradient`.

https://docs.tinygrad.org/nn/#tinygrad.nn.BatchNorm
"""

import importlib

import numpy as np

from . import said

_DOCS = "https://docs.tinygrad.org/nn/#tinygrad.nn.BatchNorm"
_SOURCE = "https://github.com/tinygrad/tinygrad/blob/v0.14.0/tinygrad/nn/__init__.py, BatchNorm"


class BatchNorm(object):
    """The layer. Its mode is the context variable TRAINING."""

    statement = said.stated(
        "tinygrad.nn.BatchNorm",
        ["tinygrad"],
        _DOCS,
        "updated",
        [
            {
                "cite": _SOURCE
                + ": batch_var times numel / (numel - channels); d(var)/d(mean) = 0: the mean is detached",
                "semantics": {"stored_variance": "unbiased", "frozen": "train", "variance_mean": "stopped"},
                "numerics": {"variance": "two_pass", "affine": "direct", "sums": "serial"},
            }
        ],
        {
            "dtype": ["float32", "float64"],
            "rank": [2, 3, 4, 5, 6],
            "channel": ["second"],
            "affine": ["both", "none"],
            "start": ["given", "own"],
            "differentiation": ["none", "reverse", "reverse_over_reverse"],
        },
        said.GRADIENTS + said.TANGENTS,
        compiled=True,  # every kernel is a call of clang
        signatures=4,
        refusals=[
            {
                "when": {"n": ["1"], "mode": ["train"]},
                "error": ["ZeroDivisionError"],
                "cite": _SOURCE + ": numel / (numel - channels)",
            },
            {
                "when": {"dtype": ["float64"], "start": ["own"], "mode": ["train"]},
                "error": ["RuntimeError"],
                "cite": _SOURCE + ": its own statistics are float32; Tensor.assign: assign dtype mismatch",
            },
        ],
    )

    def __init__(self, device):
        said.check(device)
        self.tinygrad = importlib.import_module("tinygrad")
        self.layers = importlib.import_module("tinygrad.nn")
        self.context = importlib.import_module("tinygrad.helpers").Context
        self.tensor(np.ones(1, np.float32)).numpy()  # which says whether there is a compiler

    def tensor(self, array):
        """Return a tensor."""
        return self.tinygrad.Tensor(np.ascontiguousarray(array))

    def layer(self, case):
        """Return the layer of a case, with what is given loaded into it."""
        spec, own = case.native, bool(case.spec["scale"])
        layer = self.layers.BatchNorm(case.kept[0], spec["epsilon"], own, True, spec["momentum"])
        loaded = {"weight": case.neutral("gamma"), "bias": case.neutral("beta")}
        loaded.update(running_mean=case.mean, running_var=case.variance)
        for name, array in loaded.items():
            if array is not None:
                setattr(layer, name, self.tensor(array))
        return layer

    def run(self, case):
        """Yield the outputs of each step."""
        layer = self.layer(case)
        for step in case.steps:
            with self.context(TRAINING=int(step.training)):
                x = self.tensor(step.x)
                y = layer(x)
                out = {"y": y, "moving_mean": layer.running_mean, "moving_variance": layer.running_var}
                if step.gradients and step.dy is not None:
                    out.update(self.gradients(layer, x, y, step))
                yield {name: tensor.numpy() for name, tensor in out.items()}

    def gradients(self, layer, x, y, step):
        """Return the gradients that a step asks for, and their derivatives along its tangent."""
        sources = {"dx": x, "dgamma": layer.weight, "dbeta": layer.bias}
        sources = {name: t for name, t in sources.items() if name in step.gradients and t is not None}
        found = dict(zip(sources, y.gradient(*sources.values(), gradient=self.tensor(step.dy))))
        if step.second:
            free = {n: t for n, t in {"dx": x, "dgamma": layer.weight}.items() if t is not None}
            slope = (found["dx"] * self.tensor(step.tangent)).sum()
            again = slope.gradient(*free.values())
            found.update((name + "_tangent", tensor) for name, tensor in zip(free, again))
        return found


IMPLEMENTATIONS = [BatchNorm]
