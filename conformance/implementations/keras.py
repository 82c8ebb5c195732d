"""Keras 3: the layer and the functions below it, on the backend that KERAS_BACKEND names when the process starts.

TensorFlow and PyTorch are eager, NumPy has no gradients; for JAX see keras_jax.py.
https://keras.io/api/layers/normalization_layers/batch_normalization/
"""

import functools
import importlib
import inspect
import os

import numpy as np

from . import ensembles, later
from . import tensorflow_common as common

_DOCS = "https://keras.io/api/layers/normalization_layers/batch_normalization/"
_OPS = "https://keras.io/api/ops/nn/#batchnormalization-function"
_SOURCE = "https://github.com/keras-team/keras/blob/v3.15.1/keras/src/"
_LAYER = _SOURCE + "layers/normalization/batch_normalization.py: call"
_NN = _SOURCE + "backend/%s/nn.py: moments, batch_normalization"
_ALL = common.TOGETHER + ["recomputed"]  # keras.RematScope; nothing is made once more for NumPy, which has no gradients
_BACKWARD = {"tensorflow": _ALL, "torch": _ALL, "numpy": common.TOGETHER, "jax": ["each"]}
_NUMERICS = {
    "tensorflow": {"variance": "two_pass", "affine": "folded", "sums": "serial"},
    "torch": {"variance": "fast", "affine": "direct", "sums": "serial"},
    "numpy": {"variance": "fast", "affine": "folded", "sums": "serial"},
    "jax": {"variance": "two_pass", "affine": "folded", "sums": "serial"},  # XLA's reductions add in any order
}
_MASKED = {
    "semantics": {"mask": "boolean", "mask_rank": "without_last", "mask_offset": 1e-7},
    "cite": _LAYER + " raises for a mask of the input's rank; _moments adds backend.epsilon()",
}
_MASKED_TWICE = {
    "when": {"mask": ["without_last"]},
    "numerics": {"variance": "two_pass"},
    "cite": _LAYER.replace("call", "_moments") + ": square(inputs - mean), on every backend",
}

_NO_ARRAY = {
    "when": {"scalars": ["array"]},
    "error": ["TypeError"],
    "cite": _OPS + ": epsilon is a small float; torch adds no NumPy array to a tensor",
}


def _ungraded(backend):
    columns = ("gradient", "forward", "second order") if backend == "numpy" else ()
    return dict.fromkeys(columns, "the NumPy backend has no gradients: https://keras.io/keras_3/")


def layer(backend, **more):
    """Return the layer's statement."""
    statement = {
        "id": "keras.BatchNormalization+" + backend,
        "packages": ["keras"] + [backend] * (backend != "numpy"),
        "keeps_inputs": True,
        "documentation": _DOCS,
        "conventions": {"momentum": "kept", "axis": "kept"},
        "supports": {
            "start": ["given", "own"],
            "input": common.INPUTS + ["complex64"] + common.FLOAT8,
            "scalars": common.SCALARS,
            "odd": common.ODD,
            "dtype": ["float32", "float64", "float16", "bfloat16"],
            "parameters": ["float32", "float64", "float16", "bfloat16"],
            "statistics": ["float32", "float64", "float16", "bfloat16"],
            "several_axes": [False],
            "mask": [False, "full", "spread", "without_last"],
            "renorm": [False, True],
            "misplaced": [False, True],
            "round_trip": ["none", "config", "state"] if backend != "jax" else ["none"],
            "flag": ["bool", "int", "numpy"] if backend != "jax" else ["bool"],
            "toggled": [False, True] if backend != "jax" else [False],
            "of": ["y"] if backend != "jax" else ["y", "state"],
            "backward": _BACKWARD[backend],
            "mapped": ["none"] if backend != "jax" else ensembles.MAPPED,
            "differentiation": common.DIFFERENTIATION[: 2 if backend == "numpy" else None],
        },
        "outputs": ["y"] + common.DERIVATIVES * (backend != "numpy") + common.STATE,
        "lacks": dict(common.without(*common.LACKS[2:]), **_ungraded(backend)),
        "rules": [
            {
                "semantics": {"stored_variance": "biased", "frozen": "infer", "reversed_clipping": "refused"},
                "cite": _LAYER + ", __init__",
            },
            _MASKED,
            {"numerics": _NUMERICS[backend], "cite": _NN % backend},
            _MASKED_TWICE,
            common.CUDA,
        ],
        "refusals": [common.another_rank(_LAYER + ", build: InputSpec(ndim=len(input_shape))")],
    }
    return dict(statement, **more)


def functions(backend, **more):
    """Return the functions' statement."""
    statement = {
        "id": "keras.ops.batch_normalization+" + backend,
        "packages": ["keras"] + [backend] * (backend != "numpy"),
        "keeps_inputs": True,
        "documentation": _OPS,
        "conventions": {"axis": "reduced"},
        "supports": {
            "start": ["given", "own"],
            "input": [i for i in common.INPUTS if (backend, i) != ("tensorflow", "uint8")] + ["complex64"],
            "scalars": common.SCALARS,
            "odd": common.ODD,
            "dtype": ["float32", "float64"],
            "parameters": ["float32", "float64"],
            "statistics": ["float32", "float64"],
            "several_axes": [False],
            "reranked": [False],
            "cumulative": [False, True],
            "updates": [True, False],
            "of": ["y", "statistics"],
            "backward": common.BACKWARD if backend != "jax" else ["each"],
            "mapped": ["none"] if backend != "jax" else ensembles.MAPPED,
            "differentiation": common.DIFFERENTIATION[: 2 if backend == "numpy" else None],
        },
        "outputs": ["y"] + common.DERIVATIVES * (backend != "numpy") + ["mean", "variance"],
        "lacks": dict(common.without(*common.LACKS), **_ungraded(backend)),
        "refusals": [_NO_ARRAY] * (backend == "torch"),
        "rules": [
            {
                "semantics": {"average": "none", "frozen": "train"},
                "numerics": _NUMERICS[backend],
                "cite": _NN % backend,
            },
            common.CUDA,
        ],
    }
    return dict(statement, **more)


class _Keras(object):
    """Keras on one backend; a mixin per backend has `backend`, `prepare(device)` and `derived`.

    Subclasses define `steps(case)`, which yields what each call gives and a function that takes its gradients.
    """

    def run(self, case):
        """Return the outputs of each step."""
        return self.together(case) if case.together else later.answers(case, self.steps(case))

    def __init__(self, device):
        os.environ.setdefault("KERAS_BACKEND", self.backend)
        self.prepare(device)
        self.keras = importlib.import_module("keras")
        found = self.keras.backend.backend()
        if found != self.backend:
            raise RuntimeError("keras runs on %s here; set KERAS_BACKEND=%s before it starts" % (found, self.backend))

    def tensor(self, array):
        """Return the backend's tensor."""
        return None if array is None else self.keras.ops.convert_to_tensor(array, dtype=array.dtype.name)

    def answered(self, call, x, gamma, beta, step):
        """Return the outputs of `call(x)` by name, and the derivatives with respect to x, gamma and beta."""
        named = (("dx", x), ("dgamma", gamma), ("dbeta", beta))
        sources = {name: tensor for name, tensor in named if tensor is not None}
        cotangents = {name: self.tensor(array) for name, array in step.cotangents.items()}
        asked = step.gradients, cotangents, self.tensor(step.tangent), step.forward, step.second, step.later
        return self.derived(call, sources, *asked)

    def arrays(self, out):
        """Return NumPy copies."""
        return {name: np.array(self.keras.ops.convert_to_numpy(a)) for name, a in out.items()}


class _Layer(_Keras):
    """`keras.layers.BatchNormalization`."""

    chosen = ()

    def narrower(self):
        """Return what older versions do not have: renorm, and a scope that computes twice."""
        return older(self.keras, self.statement["supports"])

    def build(self, case):
        """Return a layer with the case's parameters and moving statistics."""
        make = functools.partial(self.keras.layers.BatchNormalization, **dict(arguments(case), **dict(self.chosen)))
        if case.steps[0].recomputed:
            with self.keras.RematScope(mode="full"):
                layer = make()
        else:
            layer = make()
        layer.build(case.steps[0].x.shape)
        for name, array in common.initial(case).items():
            getattr(layer, name).assign(array)
        return common.round_trip(case, layer, make)

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients; of a frozen layer's variables too."""
        layer, names = self.build(case), common.STATE[: 5 if case.spec["renorm"] else 2]
        gamma, beta = [None if v is None else v.value for v in (layer.gamma, layer.beta)]
        for step in case.steps:
            if case.spec["trainable"] and layer.trainable != step.trainable:
                layer.trainable = step.trainable
            out = self.step(layer, step, gamma, beta)
            yield common.parted(dict(out, **{name: getattr(layer, name) for name in names}), self.arrays)

    def step(self, layer, step, gamma, beta):
        """Return the outputs of one call."""
        mask = self.tensor(step.mask)

        def call(x):
            return {"y": layer(x, training=step.flag, mask=mask)}

        return self.answered(call, self.tensor(step.x), gamma, beta, step)

    def together(self, case):
        """Return the outputs of each step: of a functional model in which the layer has a place for each."""
        layer, names = self.build(case), common.STATE[: 5 if case.spec["renorm"] else 2]
        variables = (("dgamma", layer.gamma), ("dbeta", layer.beta))
        learned = {name: variable.value for name, variable in variables if variable is not None}
        xs = [self.tensor(step.x) for step in case.steps]
        model = functional(self.keras, layer, [case.static(step) for step in case.steps])
        masks = [self.tensor(step.mask) for step in case.steps if step.mask is not None]
        ys, dxs, found = self.in_one(lambda xs: model(list(xs) + masks), xs, learned, case.differentiated)
        outs = [self.arrays({"y": y}) for y in ys]
        outs[-1].update(self.arrays({name: getattr(layer, name) for name in names}))
        return later.together(case, outs, [self.arrays({"dx": dx})["dx"] for dx in dxs], self.arrays(found))


def functional(keras, layer, steps):
    """Return a functional model in which the layer has a place for each step: of all inputs, and then all masks.

    steps: what is static about them.
    """

    def symbol(form):
        return None if form is None else keras.Input(batch_shape=form.shape, dtype=form.dtype)

    xs, masks = [symbol(step.x) for step in steps], [symbol(step.mask) for step in steps]
    ys = [layer(x, training=step.flag, mask=mask) for x, step, mask in zip(xs, steps, masks)]
    return keras.Model(xs + [mask for mask in masks if mask is not None], ys)


def older(keras, supports):
    """Return of what a layer supports the facts of which this version has fewer values, with those."""
    found, words = {}, inspect.signature(keras.layers.BatchNormalization.__init__).parameters
    if "renorm" not in words:
        found["renorm"] = [False]
    if not hasattr(keras, "RematScope"):
        found["backward"] = [how for how in supports["backward"] if how != "recomputed"]
    return found


def arguments(case):
    """Return the layer's arguments; parameters in the input's half precision need a policy of that name."""
    spec, same = case.spec, case.dtypes["x"] == case.dtypes["parameters"]
    given = {name: spec[name] for name in ("center", "scale", "trainable")}
    given.update(case.native, axis=spec["axis"] if isinstance(spec["axis"], int) else case.axis[0])
    if spec["renorm"]:  # which older versions do not have
        limits = spec["renorm_clipping"] or {}
        given.update(renorm=True, renorm_momentum=spec["renorm_momentum"])
        given["renorm_clipping"] = {name: limit for name, limit in limits.items() if limit is not None}
    policy = case.dtypes["x"] if same else "mixed_" + case.dtypes["x"]
    return dict(given, name="layer", dtype="complex64" if case.complex else policy)


class _Functions(_Keras):
    """`keras.ops.moments` and `keras.ops.batch_normalization`; inference by the case's own statistics."""

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients."""
        gamma, beta = [self.tensor(case.neutral(name)) for name in ("gamma", "beta")]
        one = np.ones(case.kept, case.dtypes["statistics"])
        mean = self.tensor(0 * one if case.mean is None else case.mean)
        variance = self.tensor(one if case.variance is None else case.variance)
        for step in case.steps:
            yield common.parted(self.step(case, step, gamma, beta, (mean, variance)), self.arrays)

    def step(self, case, step, gamma, beta, used):
        """Return the outputs of one call."""
        ops = self.keras.ops

        def call(x):
            mean, variance = ops.moments(x, case.native["axis"]) if step.training else used
            y = ops.batch_normalization(x, mean, variance, case.axis[0], beta, gamma, case.native["epsilon"])
            return dict({"mean": mean, "variance": variance} if step.training else {}, y=y)

        return self.answered(call, self.tensor(step.x), gamma, beta, step)


# --- backends -----------------------------------------------------------------------------------------------------


class _TensorFlow(object):
    """Eager TensorFlow, on the CPU and on one thread."""

    backend = "tensorflow"

    def prepare(self, device):
        """Import TensorFlow."""
        self.tf = common.tensorflow(device)

    def derived(self, call, sources, gradients, *asked):
        """Return the call's outputs and the derivatives."""
        return common.differentiated(self.tf, lambda: call(sources["dx"]), sources, gradients, *asked)

    def in_one(self, model, xs, learned, asked):
        """Return the y of each call, and of one gradient dx of those asked for, and what is learned by name."""
        return common.in_one(self.tf, model, xs, learned, asked)


class _Torch(object):
    """Eager PyTorch, on one thread."""

    backend = "torch"

    def tensor(self, array):
        """Return the tensor; one of eight bits is made of these, as torch knows no such dtype of NumPy's."""
        if array is None or not array.dtype.name.startswith("float8"):
            return _Keras.tensor(self, array)
        return self.torch.from_numpy(array.view(np.uint8)).view(getattr(self.torch, array.dtype.name))

    def prepare(self, device):
        """Import PyTorch; Keras takes the CPU where no CUDA device is visible."""
        importlib.import_module("keras")  # without which nothing can be said of it
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(1)
        there = "cuda" if self.torch.cuda.is_available() else "cpu"
        if device != there:
            error = RuntimeError if self.torch.version.cuda else later.NoDevice
            raise error("Keras runs on %s, as torch %s does, not on %s" % (there, self.torch.__version__, device))

    def derived(self, call, sources, gradients, cotangents, tangent, forward, second, postponed):
        """Return the call's outputs and the derivatives, those along the tangent by dual numbers."""
        for name, source in sources.items():
            source.requires_grad_(name in gradients)
        along = ["y"] * forward + ["dx", "dgamma"] * (second == "forward_over_reverse")
        if postponed:
            return self.postponed(call, sources, cotangents)
        if not along:
            return self.reverse(call, sources, cotangents, tangent if second else None)
        duals = self.torch.autograd.forward_ad
        with duals.dual_level():
            out = self.reverse(call, dict(sources, dx=duals.make_dual(sources["dx"], tangent)), cotangents, None)
            pairs = {name: duals.unpack_dual(out[name]) for name in along if name in out}
        out.update((name + "_tangent", _or_zeros(pair.tangent, pair.primal)) for name, pair in pairs.items())
        return out

    def postponed(self, call, sources, cotangents):
        """Return the call's outputs, and a function that takes the gradients as often as it is called."""
        out, free = call(sources["dx"]), {name: source for name, source in sources.items() if source.requires_grad}
        return dict(out, take=functools.partial(self.taken, out, free, cotangents))

    def in_one(self, model, xs, learned, asked):
        """Return the y of each call, and of one gradient dx of those asked for, and what is learned by name."""
        names, at = asked[0].gradients if asked else [], [step.index for step in asked]
        sources = [xs[t].requires_grad_() for t in at] if "dx" in names else []
        free = {name: tensor.requires_grad_(name in names) for name, tensor in learned.items()}
        free = {name: tensor for name, tensor in free.items() if name in names}
        ys = model(xs)
        if not (sources or free):
            return ys, [], {}
        cotangents = [self.tensor(step.dy) for step in asked]
        found = self.torch.autograd.grad([ys[t] for t in at], sources + list(free.values()), cotangents)
        return ys, found[: len(sources)], dict(zip(free, found[len(sources) :]))

    def taken(self, out, free, cotangents):
        """Return the gradients of an earlier call; a later one may have asked for none of what both have."""
        for source in free.values():
            source.requires_grad_()
        return self.gradients(out, free, cotangents, retain_graph=True)

    def gradients(self, out, sources, cotangents, **options):
        """Return the gradients by name of what requires one; nothing without a cotangent."""
        free = {name: source for name, source in sources.items() if source.requires_grad}
        given = {name: c for name, c in cotangents.items() if out[name].requires_grad}
        if not (free and given):
            return {}
        targets = [out[name] for name in given]
        return dict(zip(free, self.torch.autograd.grad(targets, list(free.values()), list(given.values()), **options)))

    def reverse(self, call, sources, cotangents, tangent):
        """Return the call's outputs and the gradients; where there is a tangent, those of <dx, tangent> too."""
        out, grad = call(sources["dx"]), self.torch.autograd.grad
        out.update(self.gradients(out, sources, cotangents, create_graph=tangent is not None))
        if tangent is not None:
            again = {name: source for name, source in sources.items() if name != "dbeta"}
            twice = [None] * len(again)
            if out["dx"].requires_grad:  # there is nothing but dy in it where a layer without gamma infers
                twice = grad(out["dx"], list(again.values()), tangent, allow_unused=True)
            out.update((n + "_tangent", _or_zeros(g, again[n])) for n, g in zip(again, twice))
        return out


def _or_zeros(tensor, like):
    """Return the derivative; zeros if it is None, as where nothing depends on its variable."""
    return like.detach() * 0 if tensor is None else tensor


class _NumPy(object):
    """NumPy, which has no gradients."""

    backend = "numpy"

    def prepare(self, device):
        """Refuse any other device."""
        if device != "cpu":
            raise ValueError("NumPy has no device %s" % device)

    def derived(self, call, sources, *_asked):
        """Return the call's outputs."""
        return call(sources["dx"])

    def in_one(self, model, xs, _learned, _asked):
        """Return the y of each call, and no gradients."""
        return model(xs), [], {}


def _made(name, backend, kind, statement):
    return type(name, (backend, kind), {"statement": statement(backend.backend), "__doc__": kind.__doc__})


TensorFlow = _made("TensorFlow", _TensorFlow, _Layer, layer)
TensorFlowFunctions = _made("TensorFlowFunctions", _TensorFlow, _Functions, functions)
Torch = _made("Torch", _Torch, _Layer, layer)
TorchFunctions = _made("TorchFunctions", _Torch, _Functions, functions)
NumPy = _made("NumPy", _NumPy, _Layer, layer)
NumPyFunctions = _made("NumPyFunctions", _NumPy, _Functions, functions)

IMPLEMENTATIONS = [TensorFlow, TensorFlowFunctions]  # in the process that has KERAS_BACKEND=tensorflow
