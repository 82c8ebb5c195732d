"""timm: `BatchNormAct2d` and `FrozenBatchNormAct2d`, with a ReLU behind them, as they are by default, and with nothing.

https://huggingface.co/docs/timm
"""

import importlib

from . import modules

_SOURCE = "https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/layers/norm_act.py"
_PACKAGES = ["timm", "torch"]


class BatchNormAct2d(modules.Trained):
    """The layer."""

    acts = True
    statement = modules.trained(
        "timm.BatchNormAct2d", _PACKAGES, _SOURCE, _SOURCE + ": F.batch_norm, then the activation, nn.ReLU", "relu"
    )

    def __init__(self, device):
        modules.Trained.__init__(self, device)
        self.made = importlib.import_module("timm.layers").BatchNormAct2d

    def layer(self, case):
        """Return the layer of a case."""
        number = case.native
        return self.made(case.kept[0], eps=number["epsilon"], momentum=number["momentum"], apply_act=self.acts)


class BatchNormWithoutAct(BatchNormAct2d):
    """The layer without its activation."""

    acts = False
    statement = modules.trained(
        "timm.BatchNormAct2d+no_act", _PACKAGES, _SOURCE, _SOURCE + ": F.batch_norm, apply_act=False"
    )


class FrozenBatchNormAct2d(modules.Frozen):
    """The layer whose parameters and statistics are constants."""

    acts = True
    statement = modules.frozen(
        "timm.FrozenBatchNormAct2d", _PACKAGES, _SOURCE, _SOURCE + ": x * scale + bias, in x's dtype, nn.ReLU", "relu"
    )

    def __init__(self, device):
        modules.Frozen.__init__(self, device)
        self.made = importlib.import_module("timm.layers").FrozenBatchNormAct2d

    def layer(self, case):
        """Return the layer of a case."""
        return self.made(case.kept[0], eps=case.native["epsilon"], apply_act=self.acts)


class FrozenBatchNormWithoutAct(FrozenBatchNormAct2d):
    """The layer of constants without its activation."""

    acts = False
    statement = modules.frozen(
        "timm.FrozenBatchNormAct2d+no_act", _PACKAGES, _SOURCE, _SOURCE + ": x * scale + bias, in x's dtype"
    )


IMPLEMENTATIONS = [BatchNormAct2d, BatchNormWithoutAct, FrozenBatchNormAct2d, FrozenBatchNormWithoutAct]
