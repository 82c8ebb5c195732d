"""Calibration subjects: batch normalization in plain NumPy, of known numerical classes, to keep the bounds honest."""

import numpy as np

_CITE = "this file: the sums are written out below"


def _statement(name, **numerics):
    return {
        "id": "numpy.%s" % name,
        "packages": ["numpy"],
        "documentation": "https://github.com/numpy/numpy (conformance/implementations/numpy.py)",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {"dtype": ["float32", "float64"]},
        "outputs": ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance", "mean", "variance"],
        "calibration": True,
        "returned": "as_used",
        "rules": [
            {
                "semantics": {"stored_variance": "biased", "frozen": "train"},
                "numerics": dict({"sums": "serial"}, **numerics),
                "cite": _CITE,
            }
        ],
    }


class TwoPass(object):
    """Two passes, direct: class A."""

    statement = _statement("two_pass", variance="two_pass", affine="direct")
    folded = False

    def __init__(self, device):
        if device != "cpu":
            raise ValueError("NumPy has no device %s" % device)

    def run(self, case):
        """Yield the outputs of each step."""
        self.axes, one = case.reduced, np.ones((), case.steps[0].x.dtype)
        gamma = one if case.gamma is None else self.spread(case.gamma, case)
        beta = 0 * one if case.beta is None else self.spread(case.beta, case)
        start = np.zeros([case.steps[0].x.shape[a] if a in case.axis else 1 for a in range(case.rank)], one.dtype)
        mean = start if case.mean is None else self.spread(case.mean, case)
        variance = start + 1 if case.variance is None else self.spread(case.variance, case)
        kept, flat = one.dtype.type(case.native["momentum"]), case.kept if len(case.kept) == 1 else start.shape
        for step in case.steps:
            out = {}
            m, v = self.moments(step.x) if step.training else (mean, variance)
            if step.training:
                mean, variance = kept * mean + (1 - kept) * m, kept * variance + (1 - kept) * v
                out.update(mean=m.reshape(flat), variance=v.reshape(flat))
            r = 1 / np.sqrt(v + one.dtype.type(case.native["epsilon"]))
            out["y"] = self.affine(step.x, m, r, gamma, beta)
            out.update(moving_mean=mean.reshape(flat), moving_variance=variance.reshape(flat))
            if step.dy is not None:
                dx, dgamma, dbeta = self.gradients(step, m, r, gamma)
                out.update(dx=dx)
                if case.gamma is not None:
                    out["dgamma"] = dgamma.reshape(flat)
                if case.beta is not None:
                    out["dbeta"] = dbeta.reshape(flat)
            yield out

    @staticmethod
    def spread(array, case):
        """Return an array of the kept shape, shaped to broadcast against the input."""
        if len(case.axis) > 1:
            return array
        return array.reshape([-1 if i in case.axis else 1 for i in range(case.rank)])

    def moments(self, x):
        """Return mean and variance."""
        mean = x.mean(self.axes, keepdims=True)
        return mean, np.square(x - mean).mean(self.axes, keepdims=True)

    def affine(self, x, mean, r, gamma, beta):
        """Return the normalized, scaled and shifted input."""
        if self.folded:
            scale = gamma * r
            return x * scale + (beta - mean * scale)
        return gamma * ((x - mean) * r) + beta

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        z, dy = (step.x - mean) * r, step.dy
        dgamma, dbeta = (dy * z).sum(self.axes, keepdims=True), dy.sum(self.axes, keepdims=True)
        if not step.training:
            return gamma * r * dy, dgamma, dbeta
        n = dy.dtype.type(dy.size / dbeta.size)
        return gamma * r * (dy - dbeta / n - z * (dgamma / n)), dgamma, dbeta


class Folded(TwoPass):
    """Two passes, folded into x * scale + shift: class A′."""

    statement = _statement("folded", variance="stable", affine="folded")
    folded = True


class Fast(TwoPass):
    """One pass, E[x²] - E[x]², kept at 0 or above, direct: class B."""

    statement = _statement("fast", variance="fast", affine="direct", clamped=True)

    def moments(self, x):
        """Return mean and variance."""
        mean = x.mean(self.axes, keepdims=True)
        return mean, np.maximum(np.square(x).mean(self.axes, keepdims=True) - mean * mean, 0)


IMPLEMENTATIONS = [TwoPass, Folded, Fast]
