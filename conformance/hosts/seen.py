"""The case as an adapter sees it.

Like `worker.py` read by Python 3.6, and importing nothing of the host.
"""

import json
import operator

import numpy as np

from . import wire

_WRT = ("x", "gamma", "beta")
_RETURNED = ("mean", "variance", "moving_mean", "moving_variance")
_FLAGS = {"bool": bool, "int": int, "numpy": np.bool_}
_SCALARS = {"float64": np.float64, "float32": np.float32, "array": np.float32}


class Step(object):
    """One call of the layer. Arrays that are not asked for are None.

    member: which layer of an ensemble it is a call of.
    training: whether it trains; flag: the same in the type that the layer is to be told it by.
    tracked: whether the layer keeps statistics of its own.
    update: whether the update ops run.
    site: which of the call sites makes the call.
    trainable: False where a trainable layer is frozen for this call.
    x, dy, mask: the input, the cotangent of y, the mask.
    tangent: the direction of x.
    direction: that of gamma and beta, by the names of their gradients; empty where derivatives are along x.
    everywhere: whether all inputs move at once for `y_tangent`: x, gamma, beta, and in inference the moving statistics,
        of which `directions` has the mean's and the variance's.
    moves: whether the new moving statistics' `moving_mean_tangent` and `moving_variance_tangent` are asked for too.
    cotangents: by output those of all that is differentiated: `dy` of y and, where asked for, those of the returned
        mean and variance of the batch, or of the new moving statistics.
    rank, axis, reduced: of this step's x, whose rank may differ from the first's.
    wrt: what gradients are asked with respect to, of "x", "gamma" and "beta"; no others are judged.
    gradients: the same by the names of what is to be taken, of "dx", "dgamma" and "dbeta": "dx" also where that is
        differentiated again.
    adjustment: what the adjustment callable returns, (scale, bias).
    recomputed: whether what gradients are made of is not kept, but computed anew by the call, made once more.
    later: whether gradients are taken otherwise than once and after each call (`actions` of the case: `backward`).
    forward: whether the derivative of y along the tangent is asked for, `y_tangent`.
    second: how the derivatives of dx and dgamma are taken, `dx_tangent` and `dgamma_tangent`: "reverse" (over reverse)
        or "forward_over_reverse"; empty if they are not asked for. Along `direction` they are those of dx and of y,
        `y_tangent`, which in reverse is the derivative of <dgamma, direction> and <dbeta, direction> by dy.
    forward_twice: whether `y_tangent2` is asked for, the derivative of `y_tangent`, forward over forward.
    third: whether `dx_tangent2` and `dgamma_tangent2` are asked for, the derivatives of the above, all in reverse.
    """

    def __init__(self, index, fields, case):
        self.index = index
        self.training = fields["mode"] == "train"
        self.tracked = case.spec.get("track", True)
        self.update = fields["update"]
        self.site = fields["site"]
        self.member = index % case.members
        self.trainable = fields.get("trainable", True)
        self.flag = _FLAGS[case.actions.get("flag", "bool")](self.training)
        self.recomputed = case.actions.get("backward") == "recomputed"
        self.later = case.actions.get("backward", "each") != "each" and not self.recomputed
        self.derivatives = fields["derivatives"]
        self.x = _laid_out(case.tensors["%d.x" % index], case.layout)
        self.rank = self.x.ndim
        self.axis = kept_axes(case.spec["axis"], self.rank)
        self.reduced = tuple(i for i in range(self.rank) if i not in self.axis)
        self.wrt = sorted({name for d in self.derivatives for name in d.get("wrt", _WRT)})
        self.dy, self.mask = case.own("%d.dy" % index, case.dy_layout), case.own("%d.mask" % index)
        self.tangent = case.own("%d.tangent" % index)
        along = [("d" + name, case.own("%d.%s_tangent" % (index, name))) for name in ("gamma", "beta")]
        self.along = sorted(name for name, array in along if array is not None)
        self.direction = {name: array for name, array in along if array is not None}
        self.everywhere = any(d.get("along") == "all" for d in self.derivatives)
        self.moves = self.everywhere and any("moving_mean" in d.get("of", ()) for d in self.derivatives)
        given = [case.own("%d.%s_tangent" % (index, name)) for name in ("mean", "variance")]
        self.directions = [array for array in given if array is not None]
        of = [name for name in _RETURNED for d in self.derivatives if name in d.get("of", ())]
        cotangents = [("y", self.dy)] + [(name, case.own("%d.d%s" % (index, name))) for name in of]
        self.cotangents = {name: array for name, array in cotangents if array is not None}
        scale, bias = (case.own("%d.adjustment_%s" % (index, name)) for name in ("scale", "bias"))
        self.adjustment = None if scale is None else (scale, bias)
        self.forward = any(d["order"] == 1 and d["mode"] == "forward" for d in self.derivatives)
        self.forward = self.forward and not self.everywhere
        self.second = "".join(d["mode"] for d in self.derivatives if d["order"] == 2 and d["mode"] != "forward")
        self.forward_twice = any(d["order"] == 2 and d["mode"] == "forward" for d in self.derivatives)
        self.third = any(d["order"] == 3 for d in self.derivatives)
        again = ["dx"] if self.second or self.third else []
        self.gradients = sorted(set(["d" + name for name in self.wrt] + again))

    @property
    def by_batch(self):
        """Whether the batch's own statistics normalize: in training, and where the layer keeps none."""
        return self.training or not self.tracked


class Case(object):
    """What is asked: a layer, and its steps.

    spec: a dict.
    axis: the kept axes, sorted and not negative.
    native: the spec by the statement's own conventions, its momentum and epsilon of the type that the case hands over.
    scalars: what that type is called.
    input: the dtype that x comes in, where it is not that of `dtypes`; `complex`: whether that is i x.
    gamma, beta, mean, variance: the initial arrays; None if the spec asks for none, or the layer starts with its own.
    batches: how many batches have entered the given moving statistics.
    members, mapped: how many layers an ensemble has, 1 if it is none, and what differs between them in a call: "dy",
        "x", "parameters", "both" or "nested".
    replicas: how many rows of each batch every replica gets, of copies that synchronize statistics; none: one layer.
    shape: that of the first input.
    steps: the calls.
    together: whether they are made in one graph, and one gradient is taken of all that `differentiated` names.
    given: the arrays that who `keeps_inputs` must not write to, by the names of their tensors.
    """

    def __init__(self, fields, tensors, statement):
        self.spec, self.dtypes, self.layout = fields["spec"], fields["dtypes"], fields["layout"]
        self.actions, self.batches = fields["actions"], fields.get("batches", 0)
        self.input = self.actions.get("input", "stored")
        self.complex = self.input == "complex64"
        self.tensors = _cast(tensors, self.input)
        self.scalars = self.actions.get("scalars", "number")
        self.members, self.mapped = self.actions.get("members", 1), self.actions.get("mapped", "none")
        self.replicas = tuple(self.actions.get("replicas", ()))
        self.rank, self.shape = tensors["0.x"].ndim, tensors["0.x"].shape
        self.axis = kept_axes(self.spec["axis"], self.rank)
        self.reduced = tuple(i for i in range(self.rank) if i not in self.axis)
        self.dy_layout, layout = fields.get("dy_layout", "C"), fields.get("layer_layout", "C")
        self.gamma = self.own("gamma", layout) if self.spec["scale"] else None
        self.beta = self.own("beta", layout) if self.spec["center"] else None
        self.mean, self.variance = self.own("moving_mean", layout), self.own("moving_variance", layout)
        self.together = self.actions.get("backward") == "together"
        self.kept = tuple(tensors["0.x"].shape[a] for a in self.axis if 0 <= a < self.rank)
        self.native = native(self, statement["conventions"])
        self.steps = [Step(t, step, self) for t, step in enumerate(fields["steps"])]
        given = {"gamma": self.gamma, "beta": self.beta}
        for step in self.steps:
            given.update(("%d.%s" % (step.index, n), getattr(step, n)) for n in ("x", "dy", "mask", "tangent"))
        self.given = {name: array for name, array in given.items() if array is not None}

    def own(self, name, layout="C"):
        """Return a copy, as an implementation may update it in place, and the case serves others afterwards.

        It is writable, unless its layout says that it is not.
        """
        return _laid_out(self.tensors[name], layout) if name in self.tensors else None

    def spoiled(self, t):
        """Return the names of what step t was given, moving statistics apart, that is not bit for bit as it was."""
        names = [name for name in sorted(self.given) if "." not in name or name.startswith("%d." % t)]
        return [name for name in names if _differ(self.given[name], self.tensors[name])]

    def turned(self, name, array):
        """Return what is answered about i x as an answer about x: -i times as much, of variances as much.

        Where another part of it is left, which must be 0, it is NaN.
        """
        if not self.complex:
            return array
        array = np.array(array)
        parts = (array.real, array.imag) if name.endswith("variance") else (array.imag, array.real)
        return np.where(parts[1] == 0, parts[0], parts[0].dtype.type(np.nan))

    @property
    def differentiated(self):
        """The steps that gradients are asked of."""
        return [step for step in self.steps if step.gradients and step.dy is not None]

    def neutral(self, name, member=0):
        """Return gamma or beta as a function gets it: the case's, or else 1 or 0; None if there is none."""
        given, asked = self.of_member(name, member), self.spec["scale" if name == "gamma" else "center"]
        if given is not None or not asked:
            return given
        return np.full(self.kept, name == "gamma", wire.dtype(self.dtypes["parameters"]))

    def of_member(self, name, member):
        """Return the gamma or beta of a member of an ensemble; None if there is none."""
        own = self.own("%d.%s" % (member, name))
        return getattr(self, name) if own is None else own

    def calls(self):
        """Return the steps of each call: one step, or one of each member of an ensemble."""
        return [self.steps[t : t + self.members] for t in range(0, len(self.steps), self.members)]

    def static(self, step=None, traced=()):
        """Return what a program kept for other cases may depend on: of a step's call, or of the layer."""
        return Static(self, step, traced)


class Static(object):
    """All of a case but the values of its arrays and what is `traced`, and the `key` to keep a program by.

    Nothing else can be read here, so that what is made of this alone serves every case with the same key.

    traced: the fields that are passed as arguments, or that nothing depends on. The arrays of a step, and the layer's
        adjustment, are here as their `Form`; a size that is unknown when the layer is built is None.
    """

    _OF_CASE = ("spec", "native", "actions", "dtypes", "layout", "batches", "axis", "reduced", "rank", "kept", "shape")
    _OF_CASE += ("input", "complex")
    _OF_CASE += ("scalars",)  # which JSON does not tell apart: a NumPy float64 is a float
    _OF_CASE += ("members", "mapped", "replicas")
    _OF_STEP = ("training", "flag", "update", "site", "trainable", "wrt", "gradients", "later", "recomputed")
    _OF_STEP += ("forward", "second", "forward_twice", "third", "along", "everywhere", "moves")

    def __init__(self, case, step, traced):
        told = {name: getattr(case, name) for name in self._OF_CASE}
        for name in ("spec", "native", "actions"):
            told[name] = {field: value for field, value in told[name].items() if field not in traced}
        if step is not None:
            told.update((name, getattr(step, name)) for name in self._OF_STEP)
            arrays = [("x", step.x), ("dy", step.dy), ("mask", step.mask), ("tangent", step.tangent)]
            arrays += [("d" + name, step.cotangents.get(name)) for name in _RETURNED]
            told.update((name, Form.of(array, case.actions["unknown_sizes"])) for name, array in arrays)
        pairs = [s.adjustment for s in case.steps if s.adjustment is not None]
        told["adjustment"] = [Form.of(array) for array in pairs[0]] if pairs else None
        told = {name: value for name, value in told.items() if name not in traced}
        self.key = json.dumps(told, sort_keys=True, default=repr)
        self.__dict__.update(told)


class Form(tuple):
    """What is known of an array before its values: its shape, and the name of its dtype."""

    __slots__ = ()
    shape, dtype = (property(operator.itemgetter(i)) for i in range(2))

    @classmethod
    def of(cls, array, unknown=()):
        """Return the form of an array; None for None."""
        if array is None:
            return None
        return cls((tuple(None if i in unknown else n for i, n in enumerate(array.shape)), array.dtype.name))


def kept_axes(axis, rank):
    """Return the kept axes of an input of this rank, sorted and not negative."""
    return tuple(sorted(a + rank if a < 0 else a for a in (axis if isinstance(axis, list) else [axis])))


def native(case, conventions):
    """Translate the neutral Spec by the statement's calling conventions."""
    kept = case.spec["momentum"]
    arguments = {"epsilon": case.spec["epsilon"], "momentum": kept}
    if conventions.get("momentum") == "updated" and kept is not None:
        arguments["momentum"] = 1.0 - kept
    arguments = {name: handed_over(value, case.scalars) for name, value in arguments.items()}
    arguments["axis"] = case.spec["axis"]
    if conventions.get("axis") == "reduced":
        arguments["axis"] = list(case.reduced)
    return arguments


def handed_over(number, scalars):
    """Return a number as the type that is called so; None for None."""
    if scalars == "number" or number is None:
        return number
    scalar = _SCALARS[scalars](number)
    return np.array(scalar) if scalars == "array" else scalar


def _cast(tensors, dtype):
    """Return tensors, their inputs in this dtype."""
    if dtype == "stored":
        return tensors
    return {name: _as(a, wire.dtype(dtype)) if name.endswith(".x") else a for name, a in tensors.items()}


def _as(array, dtype):
    """Return the array in another dtype; as a complex one it is i times as much."""
    made = np.zeros(array.shape, dtype)
    (made.imag if dtype.kind == "c" else made)[...] = array
    return made


def _differ(array, other):
    """Return whether two arrays differ in a bit."""
    bits = "u%d" % array.itemsize
    return not np.array_equal(array.view(bits), other.view(bits))


def _laid_out(array, layout):
    """Return a copy of the array in the memory layout that the case asks for; only `read_only` is not writable."""
    if layout == "F":
        return np.array(array, order="F")
    if layout == "channels_last" and array.ndim > 2:
        return np.moveaxis(np.array(np.moveaxis(array, 1, -1), order="C"), -1, 1)
    if layout == "strided" and array.ndim:
        wide = np.zeros(array.shape[:-1] + (2 * array.shape[-1],), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "offset":  # by one value, so that it is aligned for that alone
        moved = np.zeros(array.size + 1, array.dtype)[1:].reshape(array.shape)
        moved[...] = array
        return moved
    if layout == "reversed" and array.ndim:
        return np.array(array[..., ::-1], order="C")[..., ::-1]
    own = np.array(array, order="C")
    own.flags.writeable = layout != "read_only"
    return own
