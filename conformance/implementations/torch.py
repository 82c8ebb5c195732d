"""PyTorch: `torch.nn.functional.batch_norm`, the modules built on it, and what compiles, exports and transforms it.

https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
"""

import importlib

import numpy as np

_DOCS = "https://docs.pytorch.org/docs/stable/"
_FUNCTIONAL = _DOCS + "generated/torch.nn.functional.batch_norm.html"
_MODULE = _DOCS + "generated/torch.nn.%s.html"
_ONE_VALUE = "https://github.com/pytorch/pytorch/issues/4534: Expected more than 1 value per channel when training"
_ALL = ["float32", "float64", "float16", "bfloat16"]
_WIDE = ["float32", "float64"]
_CUDA = {
    "when": {"device": ["cuda"]},
    "numerics": {"variance": "fast", "affine": "folded", "sums": "serial"},
    "cite": "not measured yet. aten/src/ATen/native/cuda/Normalization.cuh: Welford per thread, merged in a tree, and "
    "direct; where cuDNN is taken nothing is documented but accuracy losses (native/cudnn/BatchNorm.cpp), so that the "
    "least is promised. No epsilon floor: a smaller one than CUDNN_BN_MIN_EPSILON, 0.0 since cuDNN 8, goes elsewhere",
}


def _statement(entry, page, cite="", ranks=(2, 3, 4, 5), dtypes=_ALL, supports=(), **fields):
    cite = cite or page + ": the running variance is unbiased; numerics measured on CPU"
    semantics = dict({"stored_variance": "unbiased", "frozen": "train"}, **fields.pop("semantics", {}))
    numerics = dict({"variance": "stable", "affine": "folded", "sums": "serial"}, **fields.pop("numerics", {}))
    statement = {
        "id": "torch.%s" % entry,
        "packages": ["torch"],
        "documentation": page,
        "conventions": {"momentum": "updated", "axis": "fixed"},
        "supports": dict(
            {"rank": list(ranks), "dtype": dtypes, "channel": ["second"], "virtual": [False]}, **dict(supports)
        ),
        "rules": [{"semantics": semantics, "numerics": numerics, "cite": cite}, _CUDA],
        "refusals": _refusals("ValueError"),
    }
    return dict(statement, **fields)


def _refusals(error):
    return [{"when": {"n": ["1"], "mode": ["train"]}, "error": [error], "cite": _ONE_VALUE}]


class Functional(object):
    """`torch.nn.functional.batch_norm`, with running statistics passed in and updated in place."""

    statement = _statement("F.batch_norm", _FUNCTIONAL)

    def __init__(self, device):
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(1)
        if device == "cuda" and not self.torch.cuda.is_available():
            raise RuntimeError("torch %s finds no CUDA device" % self.torch.__version__)
        self.device = device
        self.batch_norm = self.prepared(self.torch.nn.functional.batch_norm)

    def about(self):
        """Return the GPU, and the versions and flags that decide what it computes."""
        if self.device == "cpu":
            return {}
        cudnn, name = self.torch.backends.cudnn, self.torch.cuda.get_device_name(0)
        found = {"gpu": name, "cuda": self.torch.version.cuda, "cudnn": cudnn.version(), "tf32": cudnn.allow_tf32}
        return {key: str(value) for key, value in found.items()}

    def prepared(self, function):
        """Return the function to call."""
        return function

    def tensor(self, array):
        """Return a torch tensor that shares the array's strides; NumPy's bfloat16 goes by its bits."""
        if array.dtype.name == "bfloat16":
            return self.torch.from_numpy(array.view(np.int16)).view(self.torch.bfloat16).to(self.device)
        return self.torch.from_numpy(array).to(self.device)

    def array(self, tensor):
        """Return a NumPy copy of a tensor."""
        if tensor is None:
            return None
        tensor = tensor.detach().cpu()
        if tensor.dtype == self.torch.bfloat16:
            return tensor.contiguous().view(self.torch.int16).numpy().copy().view(_bfloat16())
        return tensor.numpy().copy()

    def variables(self, case):
        """Return (gamma, beta, mean, variance); the last two are updated in place."""
        gamma, beta = [None if a is None else self.tensor(a).requires_grad_() for a in (case.gamma, case.beta)]
        like = self.torch.ones(case.kept, dtype=getattr(self.torch, case.dtypes["statistics"]), device=self.device)
        mean = like * 0 if case.mean is None else self.tensor(case.mean)
        return gamma, beta, mean, like if case.variance is None else self.tensor(case.variance)

    def build(self, case):
        """Return (call, gamma, beta, mean, variance); call gives the named outputs of a forward pass."""
        gamma, beta, mean, variance = self.variables(case)
        momentum, epsilon = case.native["momentum"], case.native["epsilon"]

        def call(x, training):
            return {"y": self.batch_norm(x, mean, variance, gamma, beta, training, momentum, epsilon)}

        return call, gamma, beta, mean, variance

    def run(self, case):
        """Yield the outputs of each step."""
        call, gamma, beta, mean, variance = self.build(case)
        for step in case.steps:
            x = self.tensor(step.x).requires_grad_(step.dy is not None)
            out = dict(call(x, step.training), moving_mean=mean, moving_variance=variance)
            if step.dy is not None:
                named = _present(dx=x, dgamma=gamma, dbeta=beta)
                grads = self.torch.autograd.grad(out["y"], list(named.values()), self.tensor(step.dy))
                out.update(zip(named, grads))
            yield {name: self.array(tensor) for name, tensor in out.items()}


def _present(**tensors):
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _bfloat16():
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


class Native(Functional):
    """`torch.native_batch_norm`, which also returns the batch's mean; it does not refuse a single value per channel."""

    statement = _statement(
        "native_batch_norm",
        "https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/native_functions.yaml",
        "aten/src/ATen/native/Normalization.cpp, batch_norm_cpu: returns (y, save_mean, save_invstd)",
        outputs=["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance", "mean"],
        refusals=[],
    )

    def build(self, case):
        """Return (call, gamma, beta, mean, variance)."""
        gamma, beta, mean, variance = self.variables(case)
        momentum, epsilon = case.native["momentum"], case.native["epsilon"]

        def call(x, training):
            args = (x, gamma, beta, mean, variance, training, momentum, epsilon)
            y, saved, _ = self.torch.native_batch_norm(*args)
            return _present(y=y, mean=saved if training else None)

        return call, gamma, beta, mean, variance


class Script(Functional):
    """`torch.nn.functional.batch_norm` compiled by TorchScript."""

    statement = _statement(
        "F.batch_norm+script", _DOCS + "generated/torch.jit.script.html", refusals=_refusals("Error")
    )

    def prepared(self, function):
        """Return the scripted function."""
        return self.torch.jit.script(function)


class Func(Functional):
    """`torch.nn.functional.batch_norm` under `torch.func.vjp`; the running statistics go in and come out as values."""

    statement = _statement("F.batch_norm+func", _DOCS + "generated/torch.func.vjp.html")

    def run(self, case):
        """Yield the outputs of each step."""
        gamma, beta, mean, variance = self.variables(case)
        constants = case.native["momentum"], case.native["epsilon"]
        for step in case.steps:
            named = _present(dx=self.tensor(step.x), dgamma=gamma, dbeta=beta)

            def forward(values, state=(mean, variance), training=step.training):
                m, v = [tensor.clone() for tensor in state]
                args = (values.get("dgamma"), values.get("dbeta"), training)
                return self.batch_norm(values["dx"], m, v, *(args + constants)), (m, v)

            values = {name: tensor.detach() for name, tensor in named.items()}
            y, pullback, (mean, variance) = self.torch.func.vjp(forward, values, has_aux=True)
            out = {"y": y, "moving_mean": mean, "moving_variance": variance}
            if step.dy is not None:
                out.update(pullback(self.tensor(step.dy))[0])
            yield {name: self.array(tensor) for name, tensor in out.items()}


class Compile(Functional):
    """`torch.nn.functional.batch_norm` compiled by inductor for each static signature and epsilon."""

    statement = _statement(
        "F.batch_norm+compile",
        _DOCS + "generated/torch.compile.html",
        "torch/_decomp/decompositions.py, native_batch_norm_helper: (x - mean) * rstd * weight + bias",
        numerics={"affine": "direct"},
        compiled=True,
        signatures=3,
        refusals=_refusals("TorchRuntimeError"),
    )

    def prepared(self, function):
        """Return the compiled function, which may never fall back to eager execution."""
        importlib.import_module("torch._dynamo").config.recompile_limit = 1000
        return self.torch.compile(function, fullgraph=True, dynamic=False)


class Export(Functional):
    """`torch.nn.functional.batch_norm` through `torch.export`, one program for each static signature and epsilon."""

    statement = _statement("F.batch_norm+export", _DOCS + "export.html", compiled=True)

    def prepared(self, function):
        """Return a function that runs the exported program of its arguments."""
        layers, programs = _layer(self.torch, function), {}

        def call(*tensors_and_constants):
            tensors, constants = tensors_and_constants[:5], tensors_and_constants[5:]
            key = tuple((t.shape, t.stride(), t.dtype) if t is not None else None for t in tensors) + constants
            if key not in programs:
                programs[key] = self.exported(layers(*constants), tensors)
            return programs[key](*tensors)

        return call

    def exported(self, layer, tensors):
        """Return the exported program as a module."""
        return self.torch.export.export(layer, tensors).module()


class Decomposed(Export):
    """The exported program after its decomposition into core ATen operators, made to run and not to train."""

    statement = _statement(
        "F.batch_norm+export+decomposed",
        _DOCS + "export.html",
        compiled=True,
        signatures=4,
        outputs=["y", "moving_mean", "moving_variance"],
    )

    def exported(self, layer, tensors):
        """Return the decomposed program as a module."""
        return self.torch.export.export(layer, tensors).run_decompositions().module()

    def run(self, case):
        """Yield the outputs of each step, without gradients."""
        for step in case.steps:
            step.dy = None
        return super(Decomposed, self).run(case)


def _layer(torch, function):
    """Return a module class that calls the function with the constants given to it."""

    class Layer(torch.nn.Module):
        def __init__(self, *constants):
            super().__init__()
            self.constants = constants

        def forward(self, x, mean, variance, gamma, beta):
            return function(x, mean, variance, gamma, beta, *self.constants)

    return Layer


# --- modules ------------------------------------------------------------------------------------------------------


class _Module(Functional):
    """A `torch.nn` module, its parameters and buffers set from the case."""

    def layer(self, case):
        """Return the module."""
        cls = getattr(self.torch.nn, self.statement["id"].split(".")[-1].split("+")[0])
        return cls(case.kept[0], **self.options(case))

    def options(self, case):
        """Return what the module is made with, but for its size."""
        options = {"eps": case.native["epsilon"], "momentum": case.native["momentum"], "affine": case.gamma is not None}
        return dict(options, dtype=getattr(self.torch, case.dtypes["statistics"]), device=self.device)

    def loaded(self, case):
        """Return the module with the case's parameters and statistics in it."""
        layer = self.layer(case)
        pairs = [(layer.weight, case.gamma), (layer.bias, case.beta)]
        pairs += [(layer.running_mean, case.mean), (layer.running_var, case.variance)]
        with self.torch.no_grad():
            for target, array in pairs:
                if target is not None and array is not None:
                    target.copy_(self.tensor(array))
        return layer

    def build(self, case):
        """Return (call, gamma, beta, mean, variance); the last two are the module's buffers."""
        layer = self.loaded(case)

        def call(x, training):
            return {"y": layer.train(training)(x)}

        return call, layer.weight, layer.bias, layer.running_mean, layer.running_var


class _Lazy(_Module):
    """A lazy module: a first input, which it infers from and keeps nothing of, tells it its size."""

    def layer(self, case):
        """Return the module, which has become an ordinary one."""
        layer = getattr(self.torch.nn, self.statement["id"].split(".")[-1])(**self.options(case)).eval()
        with self.torch.no_grad():
            layer(self.tensor(case.steps[0].x))
        return layer


class Folded(_Module):
    """`torch.nn.BatchNorm2d` folded into the 1x1 convolution before it, which is the identity; inference only."""

    statement = _statement(
        "nn.BatchNorm2d+eval_fold",
        _DOCS + "generated/torch.nn.utils.fuse_conv_bn_eval.html",
        "torch/nn/utils/fusion.py, fuse_conv_bn_weights: weight * gamma * r and (bias - mean) * r * gamma + beta",
        ranks=[4],
        dtypes=_WIDE,
        supports={"affine": ["both", "none"]},
        semantics={"average": "none"},
        modes=["infer"],
        outputs=["y", "dx"],
    )

    def run(self, case):
        """Yield the outputs of each step, nothing for training."""
        bn = self.loaded(case).eval()
        conv = self.torch.nn.Conv2d(case.kept[0], case.kept[0], 1, bias=False, dtype=bn.running_mean.dtype).eval()
        self.torch.nn.init.dirac_(conv.weight)
        layer = self.torch.nn.utils.fusion.fuse_conv_bn_eval(conv.to(self.device), bn)
        for step in case.steps:
            x = self.tensor(step.x).requires_grad_(step.dy is not None)
            out = {} if step.training else {"y": layer(x)}
            if out and step.dy is not None:
                (out["dx"],) = self.torch.autograd.grad(out["y"], [x], self.tensor(step.dy))
            yield {name: self.array(tensor) for name, tensor in out.items()}


def _module(base, entry, ranks):
    made = _statement("nn." + entry, _MODULE % entry, "", ranks, _WIDE, {"affine": ["both", "none"]})
    return type(entry, (base,), {"statement": made})


_RANKS = {"BatchNorm1d": [2, 3], "BatchNorm2d": [4], "BatchNorm3d": [5]}

IMPLEMENTATIONS = [Functional, Native, Script, Func, Export, Decomposed, Compile, Folded]
IMPLEMENTATIONS += [_module(_Module, entry, ranks) for entry, ranks in _RANKS.items()]
IMPLEMENTATIONS += [_module(_Lazy, "Lazy" + entry, ranks) for entry, ranks in _RANKS.items()]
