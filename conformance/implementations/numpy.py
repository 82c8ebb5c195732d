"""Calibration subjects: batch normalization in plain NumPy, of known numerical classes, to keep the bounds honest."""

import numpy as np

_LACKS = ("forward", "second order", "mask", "renorm", "virtual batch", "adjustment")
_CITE = "this file: the sums are written out below"


def _statement(name, **numerics):
    return {
        "id": "numpy.%s" % name,
        "packages": ["numpy"],
        "documentation": "https://github.com/numpy/numpy (conformance/implementations/numpy.py)",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {"dtype": ["float32", "float64"], "start": ["given", "own"]},
        "lacks": dict.fromkeys(_LACKS, "a calibration subject: plain layers are enough to hold the bounds to"),
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

    def total(self, array):
        """Return the sum over the averaged axes, which keep size 1; NumPy adds along an outer axis row by row."""
        return array.sum(self.axes, keepdims=True)

    def mean(self, array):
        """Return the mean over the averaged axes."""
        total = self.total(array)
        return total / array.dtype.type(array.size / total.size)

    def moments(self, x):
        """Return mean and variance."""
        mean = self.mean(x)
        return mean, self.mean(np.square(x - mean))

    def affine(self, x, mean, r, gamma, beta):
        """Return the normalized, scaled and shifted input."""
        if self.folded:
            scale = gamma * r
            return x * scale + (beta - mean * scale)
        return gamma * ((x - mean) * r) + beta

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        z, dy = (step.x - mean) * r, step.dy
        dgamma, dbeta = self.total(dy * z), self.total(dy)
        if not step.training:
            return gamma * r * dy, dgamma, dbeta
        n = dy.dtype.type(dy.size / dbeta.size)
        return gamma * r * (dy - dbeta / n - z * (dgamma / n)), dgamma, dbeta


class Folded(TwoPass):
    """Two passes, folded into x * scale + shift: class A′."""

    statement = _statement("folded", variance="two_pass", affine="folded")
    folded = True


class Fast(TwoPass):
    """One pass, E[x²] - E[x]², kept at 0 or above, direct: class B."""

    statement = _statement("fast", variance="fast", affine="direct", clamped=True)

    def moments(self, x):
        """Return mean and variance."""
        mean = self.mean(x)
        return mean, np.maximum(self.mean(np.square(x)) - mean * mean, 0)


class Pairwise(TwoPass):
    """Two passes, direct, every sum a balanced tree: class A, grade T."""

    statement = _statement("pairwise", variance="two_pass", affine="direct", sums="tree")

    def total(self, array):
        """Return the sum, neighbours added to each other until one is left."""
        terms = self.rows(array)
        while len(terms) > 1:
            if len(terms) % 2:
                terms = np.concatenate([terms, np.zeros_like(terms[:1])])
            terms = terms[0::2] + terms[1::2]
        return self.kept(terms.sum(axis=0), array)  # of one row, or of none

    def rows(self, array):
        """Return the array as rows, one for each value that is averaged over."""
        inner = [size for i, size in enumerate(array.shape) if i not in self.axes]
        return np.moveaxis(array, self.axes, range(len(self.axes))).reshape([-1] + inner)

    def kept(self, row, array):
        """Return a row with the averaged axes of the array, of size 1, in it again."""
        return row.reshape([1 if i in self.axes else size for i, size in enumerate(array.shape)])


class Welford(Pairwise):
    """Welford's running mean and variance, value by value in each lane, lanes merged by Chan's rule: class A."""

    statement = _statement("welford", variance="stable", affine="direct")
    lanes = 1

    def total(self, array):
        """Return the sum as NumPy makes it."""
        return TwoPass.total(self, array)

    def moments(self, x):
        """Return mean and variance."""
        rows = self.rows(x)
        if not len(rows):
            return TwoPass.moments(self, x)  # the mean of nothing
        counts, means, squares = self.running(rows)
        while len(means) > 1:
            counts, means, squares = self.merged(counts, means, squares)
        return self.kept(means[0], x), self.kept(squares[0] / x.dtype.type(len(rows)), x)

    def running(self, rows):
        """Return count, mean and sum of squared deviations of each lane; lane i has every lanes-th row from i on."""
        lanes, one = min(self.lanes, len(rows)), rows.dtype.type(1)
        mean, square, count = np.zeros_like(rows[:lanes]), np.zeros_like(rows[:lanes]), np.zeros(lanes, rows.dtype)
        for start in range(0, len(rows), lanes):
            x = rows[start : start + lanes]
            some = slice(len(x))  # the last rows may not fill the lanes
            count[some] += one
            deviation = x - mean[some]
            mean[some] += deviation / _column(count[some], x)
            square[some] += deviation * (x - mean[some])
        return count, mean, square

    @staticmethod
    def merged(count, mean, square):
        """Return half as many lanes, each of two neighbours; an odd one out is merged with nothing."""
        if len(mean) % 2:
            count, mean, square = [np.concatenate([a, np.zeros_like(a[:1])]) for a in (count, mean, square)]
        together, apart = count[0::2] + count[1::2], mean[1::2] - mean[0::2]
        share = _column(count[1::2] / together, apart)
        square = square[0::2] + square[1::2] + apart * apart * _column(count[0::2], apart) * share
        return together, mean[0::2] + apart * share, square


class WelfordInLanes(Welford):
    """The same in 32 lanes side by side, as vectorized code has it."""

    statement = _statement("welford+lanes", variance="stable", affine="direct")
    lanes = 32


def _column(counts, like):
    """Return one number per lane, shaped to broadcast against the lanes."""
    return counts.reshape([-1] + [1] * (like.ndim - 1))


IMPLEMENTATIONS = [TwoPass, Folded, Fast, Pairwise, Welford, WelfordInLanes]
