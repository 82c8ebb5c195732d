"""timm: `BatchNormAct2d` and `FrozenBatchNormAct2d`, with an activation behind them, here none.

https://huggingface.co/docs/timm
"""

import importlib

from . import modules

_SOURCE = "https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/layers/norm_act.py"


class BatchNormAct2d(modules.Trained):
    """The layer without its activation."""

    statement = modules.trained(
        "timm.BatchNormAct2d+no_act", ["timm", "torch"], _SOURCE, _SOURCE + ": F.batch_norm, then the activation"
    )

    def __init__(self, device):
        modules.Trained.__init__(self, device)
        self.made = importlib.import_module("timm.layers").BatchNormAct2d

    def layer(self, case):
        """Return the layer of a case."""
        number = case.native
        return self.made(case.kept[0], eps=number["epsilon"], momentum=number["momentum"], apply_act=False)


class FrozenBatchNormAct2d(modules.Frozen):
    """The layer whose parameters and statistics are constants, without its activation."""

    statement = modules.frozen(
        "timm.FrozenBatchNormAct2d+no_act", ["timm", "torch"], _SOURCE, _SOURCE + ": x * scale + bias, in x's dtype"
    )

    def __init__(self, device):
        modules.Frozen.__init__(self, device)
        self.made = importlib.import_module("timm.layers").FrozenBatchNormAct2d

    def layer(self, case):
        """Return the layer of a case."""
        return self.made(case.kept[0], eps=case.native["epsilon"], apply_act=False)


IMPLEMENTATIONS = [BatchNormAct2d, FrozenBatchNormAct2d]
