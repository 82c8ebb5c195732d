"""A kernel of ours in Numba: batch normalization as a loop over channels, compiled by LLVM, without fastmath.

https://numba.readthedocs.io/en/stable/user/jit.html
"""

import importlib

import numpy as np

from . import said

_CITE = "this file: two passes, direct, sums from the first value to the last, as LLVM may not reorder them"


def _forward(x, gamma, beta, mean, variance, epsilon, training, y):
    """Fill y, and the batch's mean and variance where it trains; x, y: (rows, channels, pixels)."""
    rows, channels, pixels = x.shape
    for c in range(channels):
        if training:
            total = x.dtype.type(0)
            for i in range(rows):
                for j in range(pixels):
                    total += x[i, c, j]
            mean[c] = total / x.dtype.type(rows * pixels)
            total = x.dtype.type(0)
            for i in range(rows):
                for j in range(pixels):
                    total += (x[i, c, j] - mean[c]) * (x[i, c, j] - mean[c])
            variance[c] = total / x.dtype.type(rows * pixels)
        r = x.dtype.type(1) / np.sqrt(variance[c] + epsilon)
        for i in range(rows):
            for j in range(pixels):
                y[i, c, j] = gamma[c] * ((x[i, c, j] - mean[c]) * r) + beta[c]


def _backward(x, dy, gamma, mean, variance, epsilon, training, dx, dgamma, dbeta):
    """Fill the gradients."""
    rows, channels, pixels = x.shape
    n = x.dtype.type(rows * pixels)
    for c in range(channels):
        r = x.dtype.type(1) / np.sqrt(variance[c] + epsilon)
        for i in range(rows):
            for j in range(pixels):
                dgamma[c] += dy[i, c, j] * ((x[i, c, j] - mean[c]) * r)
                dbeta[c] += dy[i, c, j]
        for i in range(rows):
            for j in range(pixels):
                through = dy[i, c, j]
                if training:
                    z = (x[i, c, j] - mean[c]) * r
                    through = through - dbeta[c] / n - z * (dgamma[c] / n)
                dx[i, c, j] = gamma[c] * r * through


class BatchNorm(object):
    """The kernels, float32 and float64, channels second."""

    statement = said.stated(
        "numba.batch_norm",
        ["numba"],
        "https://numba.readthedocs.io/en/stable/user/jit.html",
        "kept",
        [
            {
                "cite": _CITE,
                "semantics": {"stored_variance": "biased", "frozen": "train"},
                "numerics": {"variance": "two_pass", "affine": "direct", "sums": "serial"},
            }
        ],
        {
            "dtype": ["float32", "float64"],
            "rank": [2, 3, 4, 5, 6],
            "channel": ["second"],
            "start": ["given", "own"],
            "n": ["1", "many"],
        },
        calibration=True,
    )

    def __init__(self, device):
        said.check(device)
        jit = importlib.import_module("numba").njit(error_model="numpy")
        self.forward, self.backward = jit(_forward), jit(_backward)

    def run(self, case):
        """Yield the outputs of each step."""
        one = np.ones(case.kept, case.dtypes["x"])
        gamma, beta = (one if case.gamma is None else case.gamma), (0 * one if case.beta is None else case.beta)
        mean, variance = (
            (0 * one if case.mean is None else case.mean),
            (one if case.variance is None else case.variance),
        )
        number = one.dtype.type
        kept, epsilon = number(case.native["momentum"]), number(case.native["epsilon"])
        for step in case.steps:
            if step.x.shape[1:2] != case.kept:
                raise ValueError("the batch has shape %s, and %s values are kept" % (step.x.shape, case.kept))
            flat = np.ascontiguousarray(step.x).reshape(step.x.shape[:2] + (-1,))
            used, spread, y = mean.copy(), variance.copy(), np.empty_like(flat)
            self.forward(flat, gamma, beta, used, spread, epsilon, step.training, y)
            out = {"y": y.reshape(step.x.shape)}
            if step.training:
                mean = kept * mean + (number(1) - kept) * used
                variance = kept * variance + (number(1) - kept) * spread
            if step.dy is not None:
                out.update(self.gradients(step, flat, gamma, used, spread, epsilon))
            yield dict(out, moving_mean=mean, moving_variance=variance)

    def gradients(self, step, flat, gamma, mean, variance, epsilon):
        """Return the gradients that a step asks for."""
        dy, dx = np.ascontiguousarray(step.dy).reshape(flat.shape), np.empty_like(flat)
        dgamma, dbeta = np.zeros_like(mean), np.zeros_like(mean)
        self.backward(flat, dy, gamma, mean, variance, epsilon, step.training, dx, dgamma, dbeta)
        found = {"dx": dx.reshape(step.x.shape), "dgamma": dgamma, "dbeta": dbeta}
        return {name: array for name, array in found.items() if name in step.gradients}


IMPLEMENTATIONS = [BatchNorm]
