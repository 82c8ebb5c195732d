"""PyTorch: `torch.nn.functional.batch_norm` and the modules built on it.

https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
"""

import importlib

import numpy as np

_DOCS = "https://docs.pytorch.org/docs/stable/generated/torch.nn.%s.html"
_ONE_VALUE = "https://github.com/pytorch/pytorch/issues/4534: Expected more than 1 value per channel when training"


def _statement(entry, page, ranks, supports):
    return {
        "id": "torch.%s" % entry,
        "packages": ["torch"],
        "documentation": _DOCS % page,
        "conventions": {"momentum": "updated", "axis": "fixed"},
        "supports": dict({"rank": ranks, "channel": ["second"], "virtual": [False]}, **supports),
        "rules": [
            {
                "semantics": {"stored_variance": "unbiased", "frozen": "train"},
                "numerics": {"variance": "stable", "affine": "folded", "sums": "serial"},
                "cite": (_DOCS % page) + ": the running variance is unbiased; numerics measured on CPU",
            }
        ],
        "refusals": [{"when": {"n": ["1"], "mode": ["train"]}, "error": ["ValueError"], "cite": _ONE_VALUE}],
    }


class Functional(object):
    """`torch.nn.functional.batch_norm`, with running statistics passed in and updated in place."""

    statement = _statement(
        "F.batch_norm", "functional.batch_norm", [2, 3, 4, 5], {"dtype": ["float32", "float64", "float16", "bfloat16"]}
    )

    def __init__(self, device):
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(1)
        if device == "cuda" and not self.torch.cuda.is_available():
            raise RuntimeError("torch %s finds no CUDA device" % self.torch.__version__)
        self.device = device

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

    def build(self, case):
        """Return (call, gamma, beta, mean, variance); the last two are updated in place."""
        gamma, beta = [None if a is None else self.tensor(a).requires_grad_() for a in (case.gamma, case.beta)]
        like = self.torch.ones(case.kept, dtype=getattr(self.torch, case.dtypes["statistics"]), device=self.device)
        mean = like * 0 if case.mean is None else self.tensor(case.mean)
        variance = like if case.variance is None else self.tensor(case.variance)
        momentum, epsilon = case.native["momentum"], case.native["epsilon"]

        def call(x, training):
            return self.torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, training, momentum, epsilon)

        return call, gamma, beta, mean, variance

    def run(self, case):
        """Yield the outputs of each step."""
        call, gamma, beta, mean, variance = self.build(case)
        for step in case.steps:
            x = self.tensor(step.x).requires_grad_(step.dy is not None)
            y = call(x, step.training)
            out = {"y": y, "moving_mean": mean, "moving_variance": variance}
            if step.dy is not None:
                named = [(n, v) for n, v in (("dx", x), ("dgamma", gamma), ("dbeta", beta)) if v is not None]
                grads = self.torch.autograd.grad(y, [v for _, v in named], self.tensor(step.dy))
                out.update(zip([n for n, _ in named], grads))
            yield {name: self.array(tensor) for name, tensor in out.items()}


class _Module(Functional):
    """A `torch.nn` module, its parameters and buffers set from the case."""

    def build(self, case):
        """Return (call, gamma, beta, mean, variance); the last two are the module's buffers."""
        affine = case.gamma is not None
        cls = getattr(self.torch.nn, self.statement["id"].split(".")[-1])
        layer = cls(
            case.kept[0],
            eps=case.native["epsilon"],
            momentum=case.native["momentum"],
            affine=affine,
            dtype=getattr(self.torch, case.dtypes["statistics"]),
            device=self.device,
        )
        with self.torch.no_grad():
            pairs = [(layer.weight, case.gamma), (layer.bias, case.beta)]
            pairs += [(layer.running_mean, case.mean), (layer.running_var, case.variance)]
            for target, array in pairs:
                if target is not None and array is not None:
                    target.copy_(self.tensor(array))

        def call(x, training):
            return layer.train(training)(x)

        return call, layer.weight, layer.bias, layer.running_mean, layer.running_var


def _module(entry, ranks):
    supports = {"dtype": ["float32", "float64"], "affine": ["both", "none"]}
    return type(entry, (_Module,), {"statement": _statement("nn." + entry, entry, ranks, supports)})


def _bfloat16():
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


BatchNorm1d = _module("BatchNorm1d", [2, 3])
BatchNorm2d = _module("BatchNorm2d", [4])
BatchNorm3d = _module("BatchNorm3d", [5])

IMPLEMENTATIONS = [Functional, BatchNorm1d, BatchNorm2d, BatchNorm3d]
