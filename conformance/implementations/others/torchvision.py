"""torchvision: `torchvision.ops.misc.FrozenBatchNorm2d`, whose parameters and statistics are constants.

https://docs.pytorch.org/vision/stable/generated/torchvision.ops.FrozenBatchNorm2d.html
"""

import importlib

from . import modules

_DOCS = "https://docs.pytorch.org/vision/stable/generated/torchvision.ops.FrozenBatchNorm2d.html"
_SOURCE = "https://github.com/pytorch/vision/blob/v0.29.1/torchvision/ops/misc.py"


class FrozenBatchNorm2d(modules.Frozen):
    """The layer."""

    statement = modules.frozen(
        "torchvision.FrozenBatchNorm2d", ["torchvision", "torch"], _DOCS, _SOURCE + ": x * scale + bias"
    )

    def __init__(self, device):
        modules.Frozen.__init__(self, device)
        self.made = importlib.import_module("torchvision.ops.misc").FrozenBatchNorm2d

    def layer(self, case):
        """Return the layer of a case."""
        return self.made(case.kept[0], eps=case.native["epsilon"])


IMPLEMENTATIONS = [FrozenBatchNorm2d]
