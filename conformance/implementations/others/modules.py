"""Layers of other libraries that are `torch.nn.Module`s of rank-4 input, channels second."""

import importlib

import numpy as np

from . import said

_AFFINE = ("weight", "bias")


def trained(identity, packages, page, cite, activation="none"):
    """Return the statement of a layer that calls torch's own batch normalization, and an activation behind it."""
    rule = {
        "cite": cite,
        "semantics": {
            "stored_variance": "unbiased",
            "frozen": "train",
            "empty_batch": "keep",
            "zero_epsilon": "refused",
            "activation": activation,
        },
        "numerics": {"variance": "stable", "merge": "moved", "affine": "folded", "sums": "serial"},
    }
    refusal = {
        "when": {"n": ["1"], "mode": ["train"]},
        "error": ["ValueError"],
        "cite": "torch/nn/functional.py: Expected more than 1 value per channel when training",
    }
    return said.stated(identity, packages, page, "updated", [rule], _supports(), refusals=[refusal])


def frozen(identity, packages, page, cite, activation="none"):
    """Return the statement of a layer of constants."""
    rule = {
        "cite": cite,
        "semantics": {"frozen": "train", "average": "none", "activation": activation},
        "numerics": {"affine": "folded", "sums": "serial"},
    }
    lacks = {"train": "its parameters and statistics are constants"}
    return said.stated(
        identity, packages, page, "updated", [rule], _supports(), ["y", "dx"], modes=["infer"], lacks=lacks
    )


def _supports():
    return {
        "dtype": ["float32", "float64"],
        "rank": [4],
        "channel": ["second"],
        "affine": ["both"],
        "start": ["given", "own"],
    }


class Trained(object):
    """A layer with parameters and moving statistics. Subclasses make it."""

    def __init__(self, device):
        said.check(device)
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(1)

    def tensor(self, array):
        """Return a tensor."""
        return self.torch.from_numpy(np.array(array, order="C"))

    def loaded(self, case):
        """Return the layer with what is given loaded into it, in the case's dtype."""
        layer = self.layer(case).to(getattr(self.torch, case.dtypes["parameters"]))
        values = zip(_AFFINE + ("running_mean", "running_var"), (case.gamma, case.beta, case.mean, case.variance))
        with self.torch.no_grad():
            for name, array in values:
                if array is not None:
                    getattr(layer, name).copy_(self.tensor(array))
        return layer

    def run(self, case):
        """Yield the outputs of each step; nothing of training for a layer of constants."""
        layer = self.loaded(case)
        for step in case.steps:
            if step.training and "train" not in self.statement["modes"]:
                yield {}
                continue
            layer.train(step.training)
            x = self.tensor(step.x).requires_grad_()
            y = layer(x)
            named = {"dx": x, "dgamma": layer.weight, "dbeta": layer.bias}
            out = {"y": y, "moving_mean": layer.running_mean, "moving_variance": layer.running_var}
            asked = [] if step.dy is None else [n for n, t in named.items() if n in step.gradients and t.requires_grad]
            if asked:
                out.update(zip(asked, self.torch.autograd.grad(y, [named[n] for n in asked], self.tensor(step.dy))))
            out = {name: tensor.detach().numpy().copy() for name, tensor in out.items()}
            yield {name: array for name, array in out.items() if name in self.statement["outputs"]}


class Frozen(Trained):
    """A layer whose parameters and statistics are constants."""
