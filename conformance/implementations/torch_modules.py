"""PyTorch's modules: `torch.nn.BatchNorm1d` to 3d, the lazy ones, their TorchScript, and one folded into a convolution.

https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
"""

from . import torch as common

_DOCS = common.DOCS
_MODULE = _DOCS + "generated/torch.nn.%s.html"
_LINEAR = "a convolution is linear in x"
_TF32 = {
    "when": {"device": ["cuda"], "dtype": ["float32"]},
    "numerics": {"accumulate": "tf32"},
    "cite": _DOCS + "notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices: on by default for convolutions",
}
_CONSTANTS = (
    "https://github.com/pytorch/pytorch/blob/main/torch/jit/_recursive.py: a constant is a float, as NumPy's float64 "
    "is; its float32 is not"
)
_FROZEN = (
    _DOCS + "notes/autograd.html#setting-requires-grad: no gradient of what does not require it; buffers still move"
)


class _Module(common.Mapped):
    """A `torch.nn` module, its parameters and buffers set from the case."""

    def layer(self, case):
        """Return the module; only since torch 1.9 it could be made in a dtype."""
        layer = getattr(self.torch.nn, self.entry)(case.kept[0], **self.options(case))
        return layer.to(**self.placed(case))

    def options(self, case):
        """Return what the module is made with, but for its size."""
        options = {"eps": case.native["epsilon"], "momentum": case.native["momentum"], "affine": case.spec["scale"]}
        return dict(options, track_running_stats=case.spec.get("track", True))

    def placed(self, case):
        """Return the dtype of parameters and statistics, and where they are."""
        return {"dtype": getattr(self.torch, case.dtypes["statistics"]), "device": self.device}

    def loaded(self, case):
        """Return the module with the case's parameters and statistics in it."""
        layer = self.layer(case).requires_grad_(case.spec["trainable"])
        pairs = [(layer.weight, case.gamma), (layer.bias, case.beta)]
        pairs += [(layer.running_mean, case.mean), (layer.running_var, case.variance)]
        with self.torch.no_grad():
            for target, array in pairs:
                if target is not None and array is not None:
                    target.copy_(self.tensor(array))
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked.fill_(case.batches)
        return layer

    def layers(self, case):
        """Return what there is of gamma and beta, and the module's buffers, by name."""
        named, _ = super(_Module, self).layers(case)
        return named, dict(self.loaded(case).named_buffers())

    def applied(self, case, step):
        """Return a function of (x, gamma, beta, state) that gives y, and moves the state in place."""
        layer = self.layer(case).to("meta").train(step.training)

        def call(x, gamma, beta, state):
            return self.torch.func.functional_call(layer, dict(state, **common.present(weight=gamma, bias=beta)), (x,))

        return call

    def build(self, case):
        """Return (call, gamma, beta, mean, variance); the last two are the module's buffers."""
        layer, switched = self.loaded(case), not all(step.update for step in case.steps)

        def call(x, step):
            if switched:
                layer.track_running_stats = step.update  # which forward reads: training then gets no buffers
            return {"y": layer.train(step.training)(x)}

        return call, layer.weight, layer.bias, layer.running_mean, layer.running_var


class _Lazy(_Module):
    """A lazy module: a first input, which it infers from and keeps nothing of, tells it its size."""

    def layer(self, case):
        """Return the module, which has become an ordinary one."""
        layer = getattr(self.torch.nn, self.entry)(**dict(self.options(case), **self.placed(case))).eval()
        with self.torch.no_grad():
            layer(self.tensor(case.steps[0].x))
        return layer


class Folded(_Module):
    """`torch.nn.BatchNorm2d` folded into the 1x1 convolution before it, one for each channel; inference only."""

    statement = common.stated(
        "nn.BatchNorm2d+eval_fold",
        _DOCS + "generated/torch.nn.utils.fuse_conv_bn_eval.html",
        "torch/nn/utils/fusion.py, fuse_conv_bn_weights: weight * gamma * r and (bias - mean) * r * gamma + beta",
        ranks=[4],
        supports={
            "affine": ["both", "none"],
            "dtype": ["float32", "float64"],
            "backward": ["each", "after_all", "twice"],
            "input": ["stored"],
        },
        differentiation=common.ONCE,
        semantics={"average": "none"},
        numerics={"shift": "apart"},
        rules=[_TF32],
        modes=["infer"],
        refusals=[],
        first=[],
        lacks={"train": "what is folded only infers", **dict.fromkeys(("forward", "second order"), _LINEAR)},
        outputs=["y", "dx"],
    )
    entry = "BatchNorm2d"

    def steps(self, case):
        """Yield what each call gives, and a function that takes its gradients; nothing for training."""
        bn = self.loaded(case).eval()
        channels, dtype = case.kept[0], bn.running_mean.dtype
        conv = self.torch.nn.Conv2d(channels, channels, 1, groups=channels, bias=False, dtype=dtype).eval()
        self.torch.nn.init.ones_(conv.weight)  # the identity
        layer = self.torch.nn.utils.fusion.fuse_conv_bn_eval(conv.to(self.device), bn)
        for step in case.steps:
            x = self.tensor(step.x)
            nothing = {}, dict
            out, take = nothing if step.training else self.called(lambda x, _step: {"y": layer(x)}, step, x, {"dx": x})
            yield self.arrays(out), take


class _Scripted(_Module):
    """A module compiled by TorchScript."""

    def loaded(self, case):
        """Return the module with the case's parameters and statistics in it."""
        return self.torch.jit.script(super(_Scripted, self).loaded(case))


def _module(base, entry, ranks, variant="", error="ValueError"):
    supports = {"affine": ["both", "none"], "cumulative": [False, True], "begun": [False, True]}
    frozen = {"when": {"trainable": [False]}, "absent": ["dgamma", "dbeta"], "cite": _FROZEN}
    identity, page = "nn.%s%s" % (entry, variant), _MODULE % entry
    six = {"when": {"rank": [6]}, "error": [error], "cite": page + ": Shape; _check_input_dim"}
    one = dict(common.refusals(error)[0], when={"n": ["1"], "tracked": [False]})
    options = {"refusals": [six, one] + common.refusals(error), "rules": [frozen]}
    if base is _Scripted:
        options["first"] = [dict(common.NO_ARRAY, when={"scalars": ["array", "float32"]}, cite=_CONSTANTS)]
    made = common.untracked(common.stated(identity, page, "", ranks + [6], supports, **options))
    if base is _Scripted:
        made["supports"].update(updates=[True])  # TorchScript takes track_running_stats for a constant
    made = common.mapped(made) if base is _Module else made
    return type(entry, (base,), {"statement": made, "entry": entry})


_RANKS = {"BatchNorm1d": [2, 3], "BatchNorm2d": [4], "BatchNorm3d": [5]}

IMPLEMENTATIONS = [Folded]
IMPLEMENTATIONS += [_module(_Module, entry, ranks) for entry, ranks in _RANKS.items()]
IMPLEMENTATIONS += [_module(_Lazy, "Lazy" + entry, ranks) for entry, ranks in _RANKS.items()]
IMPLEMENTATIONS += [_module(_Scripted, entry, ranks, "+script", "Error") for entry, ranks in _RANKS.items()]
