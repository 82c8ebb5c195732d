"""Calibration subjects: batch normalization in plain NumPy, of known numerical classes, to keep the bounds honest.

Nothing but NumPy is imported, so that the file can be read alone.
"""

import functools

import numpy as np

_LACKS = ("forward", "second order", "mask", "renorm", "virtual batch", "adjustment")
_LAYOUTS = ["C", "F", "strided", "channels_last", "offset", "reversed", "read_only"]
_INPUTS = ["stored", "int32", "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e5m2"]
_CITE = "this file: the sums are written out below"


def _statement(name, **numerics):
    return {
        "id": "numpy.%s" % name,
        "packages": ["numpy"],
        "documentation": "https://github.com/numpy/numpy (conformance/implementations/numpy.py)",
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {
            "dtype": ["float32", "float64"],
            "start": ["given", "own"],
            "misplaced": [False, True],
            "tracked": [True, False],
            "backward": ["each", "after_all", "twice", "together", "recomputed"],
            "updates": [True, False],
            "mapped": ["none", "dy", "x", "parameters", "both", "nested"] if name == "two_pass" else ["none"],
            "replicas": [False, "even", "uneven", "empty"] if name == "two_pass" else [False],
            "of": ["y", "statistics", "state"],
            "input": _INPUTS if name == "two_pass" else [i for i in _INPUTS if i != "complex64"],
            "scalars": ["number", "float64", "float32", "array"],
            "odd": [False, "momentum", "epsilon", "nan_epsilon", "channels", "statistics", "parameters", "shape"],
            "dy_layout": _LAYOUTS,
            "layer_layout": _LAYOUTS,
        },
        "lacks": dict.fromkeys(_LACKS, "a calibration subject: plain layers are enough to hold the bounds to"),
        "outputs": ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance", "mean", "variance"],
        "calibration": True,
        "keeps_inputs": True,
        "returned": "as_used",
        "rules": [
            {
                "semantics": {"stored_variance": "biased", "frozen": "train"},
                "numerics": dict({"sums": "serial"}, **numerics),
                "cite": _CITE,
            }
        ],
    }


def _with_renorm(statement):
    """Return the statement of a subject that does renorm too."""
    supports = dict(statement["supports"], renorm=[False, True])
    lacks = {name: why for name, why in statement["lacks"].items() if name != "renorm"}
    outputs = statement["outputs"] + ["moving_stddev", "renorm_mean", "renorm_stddev"]
    return dict(statement, supports=supports, lacks=lacks, outputs=outputs)


class TwoPass(object):
    """Two passes, direct: class A."""

    statement = _statement("two_pass", variance="two_pass", affine="direct")
    folded = False
    replicas = ()

    def __init__(self, device):
        if device != "cpu":
            raise ValueError("NumPy has no device %s" % device)

    @staticmethod
    def fitting(case, x):
        """Return an empty answer; raise if a batch has other channels, as NumPy would broadcast one over any number."""
        if len(set(case.axis)) < len(case.axis):
            raise ValueError("axis=%s names one axis twice" % (case.spec["axis"],))
        axes = case.spec["axis"] if isinstance(case.spec["axis"], list) else [case.spec["axis"]]
        if tuple(x.shape[axis] for axis in sorted(axis % x.ndim for axis in axes)) != case.kept:
            raise ValueError("the batch has shape %s, and %s values were kept" % (x.shape, case.kept))
        for array in (case.gamma, case.beta):
            if array is not None and len(case.axis) == 1 and array.shape != case.kept:
                raise ValueError("a parameter has shape %s, and %s values were kept" % (array.shape, case.kept))
        return {}

    def run(self, case):
        """Yield the outputs of each step with its gradients, taken when the case wants them: see later.py."""
        when = case.actions.get("backward", "each")
        if case.together:
            yield from self.together(case)
            return
        for out, take in _all(self.steps(case)) if when == "after_all" else self.steps(case):
            if when == "twice":
                take()
            yield dict(out, **take())

    def together(self, case):
        """Return the outputs of each step, with one gradient of all calls: gamma's and beta's are added up."""
        outs, last, sums = [], -1, {}
        for t, (out, take) in enumerate(list(self.steps(case))):
            found = take()
            last = t if found else last
            sums.update((n, sums.get(n, 0) + found.pop(n)) for n in ("dgamma", "dbeta") if n in found)
            outs.append(dict(out, **found))
        outs[last].update(sums)
        return outs

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        self.axes, number, self.replicas = case.reduced, np.dtype(case.dtypes["x"]).type, case.replicas
        layers = [self.parameters(case, member) + self.start(case) for member in range(case.members)]
        kept, flat = number(case.native["momentum"]), case.kept if len(case.kept) == 1 else layers[0][2].shape
        for step in case.steps:
            out = self.fitting(case, step.x)
            step.x = step.x if step.x.dtype.kind == "c" else step.x.astype(number, copy=False)
            gamma, beta, mean, variance = self.placed(step, *layers[step.member])
            m, v = self.moments(step.x) if step.by_batch else (mean, variance)
            if step.by_batch and step.update:
                mean, variance = kept * mean + (1 - kept) * m, kept * variance + (1 - kept) * v
            if step.by_batch:
                out.update(mean=m.reshape(flat), variance=v.reshape(flat))
            r = 1 / np.sqrt(v + number(case.native["epsilon"]))
            out["y"] = self.affine(step.x, m, r, gamma, beta)
            layers[step.member] = gamma, beta, mean, variance
            out.update(moving_mean=mean.reshape(flat), moving_variance=variance.reshape(flat))
            take = self.recomputed if step.recomputed else self.taken
            yield out, functools.partial(take, case, step, flat, m, r, gamma)

    def placed(self, step, *arrays):
        """Return arrays that broadcast against a step's input, which may have another rank than the last."""
        self.axes = step.reduced
        if len(step.axis) > 1:
            return arrays
        shape = [-1 if i in step.axis else 1 for i in range(step.rank)]
        return [array.reshape(shape) if array.ndim else array for array in arrays]

    def parameters(self, case, member=0):
        """Return a member's gamma and beta; 1 and 0 where the case has none."""
        one = np.ones((), case.dtypes["x"])
        gamma, beta = [case.of_member(name, member) for name in ("gamma", "beta")]
        gamma = one if gamma is None else self.spread(gamma, case)
        return gamma, 0 * one if beta is None else self.spread(beta, case)

    def start(self, case):
        """Return the initial moving statistics; 0 and 1 if none are given."""
        shape = [size if a in case.axis else 1 for a, size in enumerate(case.shape)]
        zero = np.zeros(shape, case.dtypes["x"])
        mean = zero if case.mean is None else self.spread(case.mean, case)
        return mean, zero + 1 if case.variance is None else self.spread(case.variance, case)

    def taken(self, case, step, flat, *values):
        """Return the gradients that the step asks for, of the input and of the parameters that exist."""
        if step.dy is None:
            return {}
        self.axes = step.reduced
        dx, dgamma, dbeta = self.gradients(step, *values)
        found = {"dx": self.returned(case, step, dx, values[0])}
        if case.spec["scale"]:
            found["dgamma"] = dgamma.reshape(flat)
        if case.spec["center"]:
            found["dbeta"] = dbeta.reshape(flat)
        return {name: gradient for name, gradient in found.items() if name in step.gradients}

    def recomputed(self, case, step, flat, mean, r, *values):
        """Return the gradients, made of statistics that are computed anew, which moves nothing."""
        self.axes = step.reduced
        if step.by_batch:
            mean, variance = self.moments(step.x)
            r = 1 / np.sqrt(variance + variance.dtype.type(case.native["epsilon"]))
        return self.taken(case, step, flat, mean, r, *values)

    @staticmethod
    def spread(array, case):
        """Return an array of the kept shape, shaped to broadcast against the input."""
        if len(case.axis) > 1:
            return array
        return array.reshape([-1 if i in case.axis else 1 for i in range(case.rank)])

    def total(self, array):
        """Return the sum over the averaged axes, kept with size 1. NumPy adds row by row along an outer axis."""
        rows = np.split(array, np.cumsum(self.replicas)[:-1]) if self.replicas else [array]
        return functools.reduce(np.add, [own.sum(self.axes, keepdims=True) for own in rows])  # of each replica its own

    def mean(self, array):
        """Return the mean over the averaged axes."""
        total = self.total(array)
        return total / array.dtype.type(array.size / max(total.size, 1))

    def moments(self, x):
        """Return mean and variance."""
        mean = self.mean(x)
        return mean, self.mean(np.square(np.abs(x - mean)))  # of complex numbers it is real

    def affine(self, x, mean, r, gamma, beta):
        """Return the normalized, scaled and shifted input."""
        if self.folded:
            scale = gamma * r
            return x * scale + (beta - mean * scale)
        return gamma * ((x - mean) * r) + beta

    def returned(self, case, step, dx, mean):
        """Return dx with what comes of the cotangents of the returned mean and variance, or of the moving ones."""
        given = {name: self.spread(c, case) for name, c in step.cotangents.items() if name != "y"}
        if "moving_mean" in given:
            entered = dx.dtype.type(1) - dx.dtype.type(case.native["momentum"])
            given = {name: given["moving_" + name] * (entered * step.update) for name in ("mean", "variance")}
        n = dx.dtype.type(max(np.prod([step.x.shape[axis] for axis in step.reduced]), 1))
        if "mean" in given:
            dx = dx + given["mean"] / n
        return dx + given["variance"] * (2 / n) * (step.x - mean) if "variance" in given else dx

    def gradients(self, step, mean, r, gamma):
        """Return dx, dgamma and dbeta."""
        z, dy = (step.x - mean) * r, step.dy
        dgamma, dbeta = self.total(dy * z), self.total(dy)
        if not step.by_batch:
            return gamma * r * dy, dgamma, dbeta
        n = dy.dtype.type(dy.size / max(dbeta.size, 1))
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


class Renorm(TwoPass):
    """Two passes, direct, with batch renormalization as in TF 1.15: class A, and the state that renorm keeps."""

    statement = _with_renorm(_statement("renorm", variance="two_pass", affine="direct"))

    def steps(self, case):
        """Return what each call gives, and a function that takes its gradients."""
        return self.renormalized(case) if case.spec["renorm"] else TwoPass.steps(self, case)

    def renormalized(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        self.axes, number = case.reduced, np.dtype(case.dtypes["x"]).type
        gamma, beta = self.parameters(case)
        kept, slow = number(case.native["momentum"]), number(case.spec["renorm_momentum"])
        self.epsilon, self.limits = number(case.native["epsilon"]), case.spec["renorm_clipping"] or {}
        mean, variance = self.start(case)
        flat = case.kept if len(case.kept) == 1 else mean.shape
        toward, spread = mean, np.sqrt(variance)
        scale = spread
        for step in case.steps:
            out, step.x = self.fitting(case, step.x), step.x.astype(number, copy=False)
            placed = self.placed(step, gamma, beta, mean, variance, toward, spread, scale)
            gamma, beta, mean, variance, toward, spread, scale = placed
            m = mean
            inverse, f, h = 1 / np.sqrt(variance + self.epsilon), number(1), number(0)
            if step.training:
                m, v = self.moments(step.x)
                s = np.sqrt(v + self.epsilon)
                inverse, (f, h) = 1 / s, self.correction(m, s, toward, scale)
                out.update(mean=m.reshape(flat), variance=v.reshape(flat))
            if step.training and step.update:
                toward, scale = slow * toward + (1 - slow) * m, slow * scale + (1 - slow) * s
                mean, spread = kept * mean + (1 - kept) * m, kept * spread + (1 - kept) * s
                variance = np.maximum(spread * spread - self.epsilon, 0)
            z = (step.x - m) * inverse
            out["y"] = gamma * (z * f + h) + beta
            out.update(moving_mean=mean.reshape(flat), moving_variance=variance.reshape(flat))
            out.update(moving_stddev=spread.reshape(flat), renorm_mean=toward.reshape(flat))
            out["renorm_stddev"] = scale.reshape(flat)
            yield out, functools.partial(self.taken, case, step, flat, m, inverse, gamma, f, h)

    def gradients(self, step, mean, r, gamma, f=None, h=None):
        """Return dx, dgamma and dbeta, where gamma multiplies f z + h; None: z."""
        dx, dz, dbeta = TwoPass.gradients(self, step, mean, r, gamma)
        return (dx, dz, dbeta) if f is None else (dx * f, f * dz + h * dbeta, dbeta)

    def correction(self, mean, stddev, toward, scale):
        """Return r and d, clipped."""
        scale = np.maximum(scale, np.sqrt(self.epsilon))
        r, d = stddev / scale, (mean - toward) / scale
        rmin, rmax, dmax = [self.limits.get(name) for name in ("rmin", "rmax", "dmax")]
        r = r if rmin is None else np.maximum(r, r.dtype.type(rmin))
        r = r if rmax is None else np.minimum(r, r.dtype.type(rmax))
        return r, d if dmax is None else np.clip(d, d.dtype.type(-dmax), d.dtype.type(dmax))


class Pairwise(TwoPass):
    """Two passes, direct, every sum a balanced tree: class A, grade T."""

    statement = _statement("pairwise", variance="two_pass", affine="direct", sums="tree")

    def total(self, array):
        """Return the sum, neighbours added to each other until one is left."""
        terms = self.rows(array)
        if not len(terms):
            return TwoPass.total(self, array)
        while len(terms) > 1:
            if len(terms) % 2:
                terms = np.concatenate([terms, np.zeros_like(terms[:1])])
            terms = terms[0::2] + terms[1::2]
        return self.kept(terms.sum(axis=0), array)  # of one row, or of none

    def rows(self, array):
        """Return the array as rows, one for each value that is averaged over."""
        inner = [size for i, size in enumerate(array.shape) if i not in self.axes]
        rows = int(np.prod([array.shape[i] for i in self.axes]))
        return np.moveaxis(array, self.axes, range(len(self.axes))).reshape([rows] + inner)

    def kept(self, row, array):
        """Return a row with the averaged axes of the array put back, with size 1."""
        return row.reshape([1 if i in self.axes else size for i, size in enumerate(array.shape)])


class Welford(Pairwise):
    """Welford's running mean and variance, value by value in each lane, lanes merged by Chan's rule: class A."""

    statement = _statement("welford", variance="stable", merge="moved", affine="direct")
    lanes = 1

    def total(self, array):
        """Return the sum, in NumPy's order."""
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
        mean, square, number = np.zeros_like(rows[:lanes]), np.zeros_like(rows[:lanes]), one - one
        whole = len(rows) // lanes * lanes
        for x in rows[:whole].reshape((whole // lanes,) + mean.shape):
            number += one
            deviation = x - mean
            mean += deviation / number
            square += deviation * (x - mean)
        count, last = np.full(lanes, number), rows[whole:]  # which may not fill the lanes
        count[: len(last)] += one
        deviation = last - mean[: len(last)]
        mean[: len(last)] += deviation / (number + one)
        square[: len(last)] += deviation * (last - mean[: len(last)])
        return count, mean, square

    @staticmethod
    def merged(count, mean, square):
        """Return half as many lanes, each of two neighbours; an odd one is merged with an empty lane."""
        if len(mean) % 2:
            count, mean, square = [np.concatenate([a, np.zeros_like(a[:1])]) for a in (count, mean, square)]
        together, apart = count[0::2] + count[1::2], mean[1::2] - mean[0::2]
        share = _column(count[1::2] / together, apart)
        square = square[0::2] + square[1::2] + apart * apart * _column(count[0::2], apart) * share
        return together, mean[0::2] + apart * share, square


class WelfordInLanes(Welford):
    """The same in 32 lanes side by side, as vectorized code has it."""

    statement = _statement("welford+lanes", variance="stable", merge="moved", affine="direct")
    lanes = 32


def _all(steps):
    """Yield the steps once all of them are made; those before one that raises, and then what it raised."""
    made = []
    try:
        made.extend(steps)
    finally:
        yield from made


def _column(counts, like):
    """Return one number per lane, shaped to broadcast against the lanes."""
    return counts.reshape([-1] + [1] * (like.ndim - 1))


IMPLEMENTATIONS = [TwoPass, Folded, Fast, Renorm, Pairwise, Welford, WelfordInLanes]
