"""`torch.nn.SyncBatchNorm`, which trains on no CPU tensors: asked in a process group of one process, over gloo.

It refuses before it communicates, whatever the number of processes, so that one is enough to meet it. It infers on a
CPU, where nothing is communicated: each replica for itself.
https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html
"""

import importlib

from . import replicas

_PAGE = "https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html"
_REFUSED = {
    "when": {"mode": ["train"]},
    "error": ["ValueError"],
    "cite": _PAGE + ": single GPU per process; forward: SyncBatchNorm expected input tensor to be on GPU or XPU",
}


_STATEMENT = {
    "id": "torch.nn.SyncBatchNorm",
    "packages": ["torch"],
    "documentation": _PAGE,
    "conventions": {"momentum": "updated", "axis": "fixed"},
    "supports": {
        "dtype": ["float32", "float64"],
        "channel": ["second"],
        "affine": ["both", "none"],
        "replicas": ["even", "uneven", "empty"],
    },
    "outputs": ["y", "dx", "dgamma", "dbeta", "moving_mean", "moving_variance"],
    "lacks": dict.fromkeys(
        ("forward", "second order", "mask", "renorm", "virtual batch", "adjustment"),
        "it refuses every training step on a CPU",
    ),
    "rules": [{"cite": _PAGE, "semantics": {"stored_variance": "unbiased", "frozen": "train"}}],
    "refusals": [_REFUSED],
}


class SyncBatchNorm(object):
    """`torch.nn.SyncBatchNorm`."""

    statement = _STATEMENT
    devices = ("cpu",)  # on GPUs it needs a process for each

    def __init__(self, _device):
        self.torch = importlib.import_module("torch")
        self.processes = importlib.import_module("torch.distributed")

    def run(self, case):
        """Yield the outputs of each step of inference; in training the first replica's call raises."""
        if not self.processes.is_initialized():
            self.processes.init_process_group("gloo", store=self.processes.HashStore(), rank=0, world_size=1)
        layer = self.layer(case)
        for step in case.steps:
            if step.training:
                layer.train()(self.torch.from_numpy(replicas.pieces(case.replicas, step.x)[0]))
                raise NotImplementedError("torch %s takes CPU tensors: ask it over processes" % self.torch.__version__)
            named = (("x", step.x), ("dy", step.dy))
            given = {name: replicas.pieces(case.replicas, array) for name, array in named if array is not None}
            found = [self.replica(layer.eval(), step, number, given) for number in range(len(case.replicas))]
            yield replicas.joined({name: [out[name] for out in found] for name in found[0]})

    def layer(self, case):
        """Return the layer with what the case gives."""
        affine, dtype = case.spec["scale"], getattr(self.torch, case.dtypes["statistics"])
        layer = self.torch.nn.SyncBatchNorm(case.kept[0], case.native["epsilon"], case.native["momentum"], affine)
        named = (("weight", case.gamma), ("bias", case.beta))
        state = (("running_mean", case.mean), ("running_var", case.variance))
        for name, array in named + state:
            if array is not None:
                getattr(layer, name).data = self.torch.tensor(array)
        return layer.to(dtype)

    def replica(self, layer, step, number, given):
        """Return what a replica answers about its piece."""
        own = {name: self.torch.tensor(pieces[number]) for name, pieces in given.items()}
        sources = {"dx": own["x"].requires_grad_(), "dgamma": layer.weight, "dbeta": layer.bias}
        y = layer(own["x"])
        asked = [name for name in step.gradients if "dy" in own and sources[name] is not None]
        found = self.torch.autograd.grad(y, [sources[name] for name in asked], own["dy"]) if asked else []
        out = {"y": y.detach(), "moving_mean": layer.running_mean, "moving_variance": layer.running_var}
        return {name: value.numpy() for name, value in list(out.items()) + list(zip(asked, found))}


IMPLEMENTATIONS = [SyncBatchNorm]
