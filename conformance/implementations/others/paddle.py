"""PaddlePaddle: `paddle.nn.functional.batch_norm`, with running statistics updated in place.

https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/nn/functional/batch_norm_en.html
"""

import importlib

import numpy as np

from . import said

_DOCS = "https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/nn/functional/batch_norm_en.html"
_KERNEL = "https://github.com/PaddlePaddle/Paddle/blob/v3.3.1/paddle/phi/kernels/cpu/batch_norm_kernel.cc"
_DOUBLE = "https://github.com/PaddlePaddle/Paddle/blob/v3.3.1/paddle/phi/kernels/cpu/batch_norm_grad_kernel.cc"
_FORMATS = {"second": ("NC", "NCL", "NCHW", "NCDHW"), "last": ("NC", "NLC", "NHWC", "NDHWC")}


class Functional(object):
    """The function. Gradients are those of `paddle.grad`."""

    statement = said.stated(
        "paddle.F.batch_norm",
        ["paddle"],
        _DOCS,
        "kept",
        [
            {
                "cite": _KERNEL + ": two passes, y = x * (inv_std * scale) + (bias - mean * inv_std * scale); "
                "epsilon and momentum are floats, for double too; one value per channel is copied to y",
                "semantics": {
                    "stored_variance": "biased",
                    "frozen": "train",
                    "fraction_dtype": "float32",
                    "fraction_rounded": "momentum",
                    "empty_batch": "keep",
                    "epsilon_dtype": "float32",
                    "single_value": "identity",
                },
                "numerics": {"variance": "two_pass", "affine": "folded", "shift": "apart", "sums": "serial"},
            },
            {
                "when": {"affine": ["scale"]},
                "absent": ["dgamma"],
                "cite": "measured: without a bias paddle.grad gives no gradient of the weight (conformance/others.md)",
            },
            {
                "when": {"affine": ["center"]},
                "absent": ["dbeta"],
                "cite": "measured: without a weight paddle.grad gives no gradient of the bias (conformance/others.md)",
            },
        ],
        {
            "dtype": ["float32", "float64"],
            "rank": [2, 3, 4, 5],
            "channel": ["second", "last"],
            "start": ["given", "own"],
            "differentiation": ["none", "reverse", "reverse_over_reverse"],
        },
        said.GRADIENTS + said.TANGENTS,
        refusals=[
            {
                "when": {"mode": ["infer"], "differentiation": ["reverse_over_reverse"]},
                "error": ["ValueError"],
                "cite": _DOUBLE + ": `is_test = True` CANNOT be used in train program",
            }
        ],
    )

    def __init__(self, device):
        said.check(device)
        self.paddle = importlib.import_module("paddle")
        self.paddle.set_device("cpu")

    def tensor(self, array, *, free=False):
        """Return a tensor, one to differentiate by where it is free."""
        made = self.paddle.to_tensor(np.ascontiguousarray(array))
        made.stop_gradient = not free
        return made

    def run(self, case):
        """Yield the outputs of each step."""
        parameters = [case.neutral(name) for name in ("gamma", "beta")]
        gamma, beta = [None if a is None else self.tensor(a, free=True) for a in parameters]
        one = np.ones(case.kept, case.dtypes["statistics"])
        mean = self.tensor(0 * one if case.mean is None else case.mean)
        variance = self.tensor(one if case.variance is None else case.variance)
        for step in case.steps:
            x = self.tensor(step.x, free=True)
            place = "second" if step.axis == (1,) else "last"
            shape, number = _FORMATS[place][step.rank - 2], case.native
            y = self.paddle.nn.functional.batch_norm(
                x, mean, variance, gamma, beta, step.training, number["momentum"], number["epsilon"], shape
            )
            out = {"y": y, "moving_mean": mean, "moving_variance": variance}
            named = {"dx": x, "dgamma": gamma, "dbeta": beta}
            out.update(self.gradients(y, {n: t for n, t in named.items() if t is not None}, step))
            yield {name: np.array(tensor.numpy()) for name, tensor in out.items()}

    def gradients(self, y, named, step):
        """Return the gradients that a step asks for, and their derivatives along its tangent."""
        if step.dy is None or not step.gradients:
            return {}
        free = {name: tensor for name, tensor in named.items() if name in step.gradients}
        again = bool(step.second)
        taken = self.paddle.grad(y, list(free.values()), self.tensor(step.dy), create_graph=again, allow_unused=True)
        found = {name: gradient for name, gradient in zip(free, taken) if gradient is not None}
        if again:
            named = {name: tensor for name, tensor in named.items() if name != "dbeta"}
            slope = (found["dx"] * self.tensor(step.tangent)).sum()
            rates = self.paddle.grad(slope, list(named.values()), allow_unused=True)
            found.update((name + "_tangent", t) for name, t in zip(named, rates) if t is not None)
        return found


IMPLEMENTATIONS = [Functional]
