"""`torch.nn.SyncBatchNorm`, which takes no CPU tensors: asked in a process group of one process, over gloo.

It refuses before it communicates, whatever the number of processes, so that one is enough to meet it.
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
    "modes": ["train"],
    "lacks": dict.fromkeys(
        ("infer", "forward", "second order", "mask", "renorm", "virtual batch", "adjustment"),
        "it refuses every training step on a CPU",
    ),
    "rules": [{"cite": _PAGE, "semantics": {"stored_variance": "unbiased", "frozen": "train"}}],
    "refusals": [_REFUSED],
}


class SyncBatchNorm(object):
    """`torch.nn.SyncBatchNorm` in training."""

    statement = _STATEMENT
    devices = ("cpu",)  # on GPUs it needs a process for each

    def __init__(self, _device):
        self.torch = importlib.import_module("torch")
        self.processes = importlib.import_module("torch.distributed")

    def run(self, case):
        """Yield nothing: the first replica's call raises."""
        if not self.processes.is_initialized():
            self.processes.init_process_group("gloo", store=self.processes.HashStore(), rank=0, world_size=1)
        layer = self.torch.nn.SyncBatchNorm(case.kept[0], case.native["epsilon"], case.native["momentum"])
        for step in case.steps:
            layer(self.torch.from_numpy(replicas.pieces(case.replicas, step.x)[0]))
            raise NotImplementedError("torch %s takes CPU tensors: ask it over processes" % self.torch.__version__)
            yield


IMPLEMENTATIONS = [SyncBatchNorm]
